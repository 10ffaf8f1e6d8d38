"""The alarm desk and one alarm, as pages and as JSON, on the real application."""

import re
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from assets.models import Asset
from kernel import clock, db
from rules import alarms, library
from rules.episodes import Fault, Seen
from rules.models import Alarm, AlarmType
from tests import factories
from tests.factories import Company
from tests.web.test_machines import counted

ClientOf = Callable[..., httpx.Client]
DEFINITION = {
    "schema": 1,
    "create": {
        "critical": {
            "condition": {
                "type": "compare",
                "metric": "temperature",
                "operator": ">=",
                "limit": 95.0,
                "deadband": 5.0,
            },
            "kind": {"type": "duration", "seconds": 60.0},
        }
    },
    "clear": {"type": "automatic"},
    "message": "Outlet ${temperature} °C",
}


@pytest.fixture
def overheated(database: sessionmaker[Session], company: Company) -> dict[str, int]:
    """A compressor at the harbour with an open alarm of a real rule, raised as the pipeline raises one."""
    now = clock.now()
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "harbour", code="C-1", name="Compressor C")
        unit = company.units["company"]
        draft = library.AlarmTypeDraft("overheat", "Overheat", "过热", asset_type_id=machine.type_id)
        kind = library.add(session, draft, DEFINITION, unit=session.merge(unit), actor="account:1", now=now)
        fault = Fault(
            f"asset:{machine.id}", "overheat", "rule", f"rule:{kind.id}", machine.company_id, machine.unit_id,
            machine.id, None, kind.id,
        )  # fmt: skip
        evidence = {
            "samples": [{"metric": "temperature", "series": 1, "ts_ms": clock.to_ms(now), "value": 96.5}],
            "limits": [
                {
                    "metric": "temperature",
                    "operator": ">=",
                    "limit": 95.0,
                    "deadband": 5.0,
                    "from": "override",
                }
            ],
            "rule_version": 1,
            "held_for_ms": 61_000,
        }
        seen = Seen(
            fault, "critical", began_at=now - timedelta(seconds=61), at=now, metric="temperature", value=96.5,
            peak=96.5, message="Outlet 96.5 °C", limit=95.0, rule_version=1, evidence=evidence,
        )  # fmt: skip
        alarm_id = alarms.raise_(session, seen, now=now)
        return {"machine": machine.id, "alarm": alarm_id, "rule": kind.id}


def listed(client: httpx.Client, **params: str) -> list[int]:
    return [item["id"] for item in client.get("/api/v1/alarms", params=params).json()["items"]]


# Sight -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/alarms/{alarm}", "/alarms/{alarm}/curve", "/api/v1/alarms/{alarm}"])
def test_an_alarm_outside_the_viewers_sight_does_not_exist(
    client_of: ClientOf, overheated: dict[str, int], path: str
) -> None:
    assert client_of("technician", "quarry").get(path.format(**overheated)).status_code == 404
    assert client_of("technician", "north").get(path.format(**overheated)).status_code == 200
    assert client_of("storekeeper", "company").get(path.format(**overheated)).status_code == 403


def test_nobody_acts_on_an_alarm_outside_their_sight(client_of: ClientOf, overheated: dict[str, int]) -> None:
    stranger, alarm = client_of("technician", "quarry"), overheated["alarm"]
    for verb, body in (("acknowledge", {}), ("comment", {"comment": "x"}), ("clear", {"reason": "x"})):
        assert stranger.post(f"/api/v1/alarms/{alarm}/{verb}", json=body).status_code == 404
        assert stranger.post(f"/alarms/{alarm}/{verb}", data=body).status_code == 404
    assert stranger.post("/api/v1/alarms/acknowledge", json={"ids": [alarm]}).json() == {"acknowledged": 0}
    assert "Compressor C" not in stranger.get("/alarms").text
    assert listed(stranger) == []


# The desk ----------------------------------------------------------------------------------------------------------


def test_ALM_13_the_desk_shows_the_worst_first_and_pages_through_all_once(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "mill")
        for severity in ("minor", "critical", "info", "major", "critical", "warning", "minor"):
            factories.alarm(session, machine, severity=severity)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get("/api/v1/alarms", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["severity"] for item in page["items"]]
        cursor = page["next"]
    assert seen == ["critical", "critical", "major", "minor", "minor", "warning", "info"]
    assert len(listed(client, severity="critical")) == 2
    newest = listed(client, sort="-id")
    assert newest == sorted(newest, reverse=True)


def test_the_desk_costs_the_same_number_of_queries_for_any_number_of_alarms(
    client: httpx.Client, company: Company, database: sessionmaker[Session], engine: Engine
) -> None:
    def more(times: int) -> None:
        with db.transaction(database) as session:
            for _ in range(times):
                machine = factories.asset(session, company, "mill")
                alarm = factories.alarm(session, machine)
                factories.order(session, company, machine, alarm_id=alarm.id)

    more(1)
    client.get("/alarms")
    with counted(engine) as few:
        client.get("/alarms")
    more(30)
    with counted(engine) as many:
        page = client.get("/alarms").text
    assert page.count('id="alarm-') == 31
    assert len(many) == len(few)


def test_ALM_2_a_cleared_alarm_stays_on_the_desk_until_somebody_takes_note(
    client: httpx.Client, overheated: dict[str, int]
) -> None:
    alarm = overheated["alarm"]
    assert client.post(f"/api/v1/alarms/{alarm}/clear", json={"reason": "filter changed"}).json()["is_active"] is False
    assert listed(client) == [alarm]
    assert "Cleared, not acknowledged" in client.get("/alarms").text
    assert client.post(f"/api/v1/alarms/{alarm}/acknowledge").json()["is_acknowledged"] is True
    assert listed(client) == []
    assert listed(client, state="all") == [alarm]
    assert "Nothing is wrong" in client.get("/alarms").text
    assert "Compressor C" in client.get("/alarms?state=all").text


def test_ALM_2_the_first_to_acknowledge_keeps_the_name(client_of: ClientOf, overheated: dict[str, int]) -> None:
    alarm = overheated["alarm"]
    first, second = client_of("technician", "harbour"), client_of("dispatcher", "company")
    name = first.post(f"/api/v1/alarms/{alarm}/acknowledge", json={"comment": "On my way."}).json()["acknowledged_by"]
    again = second.post(f"/api/v1/alarms/{alarm}/acknowledge").json()
    assert again["acknowledged_by"] == name
    assert [entry["text"] for entry in again["history"] if entry["kind"] == "comment"] == ["On my way."]
    assert second.post(f"/alarms/{alarm}/acknowledge").status_code == 303
    page = second.get(f"/alarms/{alarm}").text
    assert "Technician Harbour" in page
    assert "On my way." in page


def test_ALM_2_several_are_acknowledged_together(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "mill")
        ids = [factories.alarm(session, machine).id for _ in range(5)]
    done = client.post(
        "/alarms/acknowledge",
        data={"ids": [str(one) for one in ids[:3]], "back": "/alarms?severity=critical"},
    )
    assert (done.status_code, done.headers["location"]) == (303, "/alarms?severity=critical")
    with database() as session:
        assert set(session.scalars(select(Alarm.id).where(Alarm.is_acknowledged))) == set(ids[:3])
    assert client.post("/api/v1/alarms/acknowledge", json={"ids": ids}).json() == {"acknowledged": 2}
    away = client.post("/alarms/acknowledge", data={"back": "https://elsewhere.example/"})
    assert away.headers["location"] == "/alarms"


def test_clearing_by_hand_needs_a_reason_and_works_once(client: httpx.Client, overheated: dict[str, int]) -> None:
    alarm = overheated["alarm"]
    refused = client.post(f"/alarms/{alarm}/clear", data={"reason": "  "})
    assert (refused.status_code, "Please say why" in refused.text) == (422, True)
    assert client.post(f"/alarms/{alarm}/clear", data={"reason": "sensor was loose"}).status_code == 303
    assert client.post(f"/api/v1/alarms/{alarm}/clear", json={"reason": "again"}).status_code == 409
    assert client.post(f"/api/v1/alarms/{alarm}/comment", json={"comment": ""}).status_code == 422


# One alarm ---------------------------------------------------------------------------------------------------------


def test_ALM_9_an_alarm_still_shows_the_version_and_samples_that_raised_it_after_the_rule_was_edited(
    client: httpx.Client, overheated: dict[str, int], database: sessionmaker[Session]
) -> None:
    edited = {
        **DEFINITION,
        "create": {
            "critical": {"condition": {"type": "compare", "metric": "temperature", "operator": ">", "limit": 80.0}}
        },
    }
    with db.transaction(database) as session:
        kind = session.get_one(AlarmType, overheated["rule"])
        library.save(session, kind, edited, actor="account:1", now=clock.now())
        library.switch(session, kind, is_enabled=False, actor="account:1", now=clock.now())
    page = client.get(f"/alarms/{overheated['alarm']}").text
    for words in (
        "when Temperature ≥ 95 °C for 1 min",
        "ends by itself when Temperature &lt; 90 °C",
        "this asset&#39;s own limits",
        "96.5",
        "The condition had held for 61 s.",
        "Rule version 1",
    ):
        assert words in page, words
    assert "80" not in page.partition("Why")[2].partition("What has changed in the rule since")[0]
    whole = client.get(f"/api/v1/alarms/{overheated['alarm']}").json()
    assert whole["evidence"]["samples"][0]["value"] == 96.5
    assert whole["rule_version"] == 1


def test_RUL_10_the_alarm_says_where_ends_deadband_and_lengths_came_from(
    client: httpx.Client, overheated: dict[str, int], database: sessionmaker[Session]
) -> None:
    low = {
        "metric": "temperature",
        "operator": ">=",
        "limit": -2.0,
        "other": "pressure",
        "deadband": 0.0,
        "from": "type",
    }
    high = {"metric": "temperature", "operator": "<=", "limit": 90.0, "deadband": 1.5, "from": "t_max@site"}
    supplied = [
        {"of": "seconds", "value": 45.0, "from": "t_delay@device"},
        {"of": "clear.off_delay_s", "value": 30.0, "from": "t_calm@default"},
    ]
    with db.transaction(database) as session:
        limits = [low | {"deadband_other": "pressure"}, high | {"deadband_from": "t_band@organisation"}]
        machine = session.get_one(Asset, overheated["machine"])
        number = factories.alarm(session, machine, evidence={"limits": limits, "supplied": supplied}).id
    page = " ".join(client.get(f"/alarms/{number}").text.partition("Why")[2].split())
    for words in (
        "≥ Pressure − ",
        'an attribute of the site <span class="fw-code">t_max</span>',
        'an attribute of the organisation <span class="fw-code">t_band</span>',
        "It had to hold for 45 s · an attribute of the device",
        "It ends after a calm of 30 s · the default of the rule",
    ):
        assert words in page, words


def test_ALM_9_last_months_alarm_tells_its_version_and_samples_after_its_rule_was_edited_and_removed(
    client: httpx.Client, company: Company, overheated: dict[str, int], database: sessionmaker[Session]
) -> None:
    rule, alarm = overheated["rule"], overheated["alarm"]
    edited = {**DEFINITION, "message": "Too hot by far"}
    with db.transaction(database) as session:
        kind = session.get_one(AlarmType, rule)
        library.save(session, kind, edited, actor="account:1", now=clock.now())
        sister = factories.asset(session, company, "mill", name="Sister compressor")
        stranger = factories.asset(session, company, "mill", name="Strange pump", type_id=factories.asset_type(
            session, company, "pump").id)  # fmt: skip
        for other in (sister, stranger):
            factories.alarm(session, other, type_key="overheat")
    page = client.get(f"/alarms/{alarm}").text
    assert "Version 2 holds today." in page
    changed = page.partition('class="fw-diff')[2].partition("</pre>")[0]
    assert "Too hot by far" in changed
    assert "Outlet" in changed
    assert "Sister compressor" in page
    assert "Strange pump" not in page
    assert client.delete(f"/api/v1/rules/{rule}").status_code == 204
    assert client.get(f"/rules/{rule}").status_code == 404
    assert client.get(f"/api/v1/rules/{rule}").status_code == 404
    assert f"/rules/{rule}" not in client.get("/rules").text
    page = client.get(f"/alarms/{alarm}").text
    for words in ("when Temperature ≥ 95 °C for 1 min", "96.5", "Rule version 1", "The rule has been removed since."):
        assert words in page, words
    with db.transaction(database) as session:
        unit = session.merge(company.units["company"])
        machine = session.get_one(Asset, overheated["machine"])
        again = library.AlarmTypeDraft("overheat", "Overheat again", asset_type_id=machine.type_id)
        library.add(session, again, DEFINITION, unit=unit, actor="account:1", now=clock.now())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alarm SET evidence = '{}'",
        "UPDATE alarm SET evidence = jsonb_set(evidence, '{rule_version}', '7')",
        "UPDATE rule_version SET definition = '{}'",
        "DELETE FROM rule_version",
    ],
)
def test_ALM_9_the_database_itself_refuses_to_change_what_an_alarm_rests_on(
    overheated: dict[str, int], database: sessionmaker[Session], statement: str
) -> None:
    with database() as session:
        session.execute(text("UPDATE alarm SET count = count + 1, evidence = evidence"))
        with pytest.raises(DBAPIError):
            session.execute(text(statement))
        session.rollback()
        assert session.get_one(Alarm, overheated["alarm"]).evidence["samples"][0]["value"] == 96.5


def test_ALM_10_an_alarm_and_its_order_lead_to_each_other(
    client: httpx.Client, company: Company, overheated: dict[str, int], database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        machine = session.get_one(Asset, overheated["machine"])
        closed = factories.order(session, company, machine, alarm_id=overheated["alarm"], phase="closed")
        fault = f"asset:{machine.id}/overheat"
        order = factories.order(session, company, machine, fault_key=fault, alarm_id=overheated["alarm"])
        assert closed.id < order.id
    assert client.get(f"/api/v1/alarms/{overheated['alarm']}").json()["order_id"] == order.id
    for path in ("/alarms", f"/alarms/{overheated['alarm']}"):
        assert f'href="/orders/{order.id}"' in client.get(path).text


def test_the_curve_of_an_alarm_has_the_limits_it_was_raised_with(
    client: httpx.Client, company: Company, overheated: dict[str, int], runtime: Runtime
) -> None:
    from tests.web.test_machines import write

    with db.transaction(runtime.sessions) as session:
        machine = session.get_one(Asset, overheated["machine"])
        device = factories.device(session, company, "harbour", on=machine)
    now = clock.now_ms()
    write(runtime, device.id, "temperature", [now - 120_000, now - 60_000, now], [90.0, 96.0, 97.0])
    page = client.get(f"/alarms/{overheated['alarm']}").text
    src = re.search(r'data-plot="([^"]+)"', page)
    assert src is not None
    answer = client.get(
        src[1].replace("&amp;", "&"), params={"metric": "temperature", "from": now - 600_000, "to": now + 1}
    ).json()
    assert [value for _, value in answer["series"][0]["points"]] == [90.0, 96.0, 97.0]
    assert [(limit["value"], limit["severity"]) for limit in answer["limits"]] == [(95.0, "critical")]
    assert answer["marks"][0]["severity"] == "critical"
    assert [value for _, value in answer["series"][0]["samples"]] == [96.5]


def test_ALM_12_the_length_of_an_alarm_is_told_in_device_time(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    began = clock.now() - timedelta(days=2)
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "mill")
        alarm = factories.alarm(
            session, machine, began_at=began, raised_at=began, ended_at=began + timedelta(minutes=25), is_active=False,
            detected_at=clock.now(), cleared_at=clock.now(),
        )  # fmt: skip
    page = client.get(f"/alarms/{alarm.id}").text
    assert "25 min" in page
    assert "Noticed here" in page


def test_a_device_alarm_without_an_asset_has_a_page(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        device = factories.device(session, company, "mill", name="Lonely gateway")
        machine = factories.asset(session, company, "mill")
        alarm = factories.alarm(
            session, machine, asset_id=None, device_id=device.id, subject=f"device:{device.id}", origin="device",
            type_key="E42", metric=None, value=None, limit=None,
        )  # fmt: skip
    page = client.get(f"/alarms/{alarm.id}").text
    assert "Lonely gateway" in page
    assert "E42" in page
    assert "data-plot=" not in page
    assert "Lonely gateway" in client.get("/alarms").text
