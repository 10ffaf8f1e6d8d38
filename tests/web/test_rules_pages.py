"""Alarm rules as pages and as JSON, on the real application."""

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock, db
from rules import library
from rules.models import AlarmType, RuleOverride, RuleVersion
from tests import factories
from tests.factories import Company
from tests.web.test_alarms_pages import DEFINITION

ClientOf = Callable[..., httpx.Client]


@pytest.fixture
def machines(database: sessionmaker[Session], company: Company) -> dict[str, int]:
    with db.transaction(database) as session:
        near = factories.asset(session, company, "harbour", code="C-1")
        far = factories.asset(session, company, "quarry", code="C-2")
        return {"near": near.id, "far": far.id, "type": near.type_id}


def body(machines: dict[str, int], **change: Any) -> dict[str, Any]:
    return {
        "key": "overheat",
        "name": "Overheat",
        "asset_type_id": machines["type"],
        "definition": DEFINITION,
    } | change


@pytest.fixture
def rule(client: httpx.Client, machines: dict[str, int]) -> int:
    made = client.post("/api/v1/rules", json=body(machines))
    assert made.status_code == 201, made.text
    return int(made.json()["id"])


def test_RUL_14_a_new_version_leaves_the_old_one_and_a_lost_update_is_refused(client: httpx.Client, rule: int) -> None:
    address = f"/api/v1/rules/{rule}"
    etag = client.get(address).headers["etag"]
    hotter = json.loads(json.dumps(DEFINITION))
    hotter["create"]["critical"]["condition"]["limit"] = 97.0
    saved = client.post(f"{address}/versions", json={"definition": hotter}, headers={"If-Match": etag})
    assert (saved.status_code, saved.json()["number"]) == (201, 2)
    late = client.post(f"{address}/versions", json={"definition": DEFINITION}, headers={"If-Match": etag})
    assert late.status_code == 412
    versions = client.get(f"{address}/versions").json()["items"]
    assert [one["definition"]["create"]["critical"]["condition"]["limit"] for one in versions] == [97.0, 95.0]
    page = unescape(client.get(f"/rules/{rule}").text)
    assert "Temperature ≥ 97 °C" in page
    assert re.search(r'<del>-\s+"limit": 95', page)
    assert re.search(r'<ins>\+\s+"limit": 97', page)
    old = unescape(client.get(f"/rules/{rule}?version=1").text)
    assert "Temperature ≥ 95 °C" in old
    assert "no longer holds" in old


def of_metric(metric: str) -> dict[str, Any]:
    condition = {"type": "compare", "metric": metric, "operator": ">", "limit": 1.0}
    return {"schema": 1, "create": {"critical": {"condition": condition}}}


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("key", {"key": ""}),
        ("name", {"name": " "}),
        ("create", {"definition": {"schema": 1, "create": {}}}),
        ("create.critical.condition.metric", {"definition": of_metric("colour")}),
        ("asset_type_id", {"asset_type_id": None}),
        ("asset_id", {"asset_type_id": None, "asset_id": 10**9}),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_is_refused_under_its_field(
    client: httpx.Client, machines: dict[str, int], field: str, change: dict[str, Any]
) -> None:
    refused = client.post("/api/v1/rules", json=body(machines, **change))
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"][0]["field"] == field


def test_a_key_is_taken_once(client: httpx.Client, machines: dict[str, int], rule: int) -> None:
    assert rule
    assert client.post("/api/v1/rules", json=body(machines)).status_code == 409


def test_a_threshold_is_written_and_rewritten_by_the_form(
    client: httpx.Client, machines: dict[str, int], database: sessionmaker[Session]
) -> None:
    form = {
        "key": "hot", "name": "Too hot", "type": machines["type"], "metric": "temperature", "operator": ">=",
        "limit_critical": "95", "limit_major": "90,5", "limit_info": "0", "seconds": "60", "deadband": "5",
        "clear": "automatic", "off_delay_s": "10", "message": "Outlet ${temperature} °C", "order_from": "critical",
    }  # fmt: skip
    made = client.post("/rules", data=form)
    assert made.status_code == 303, made.text
    address = made.headers["location"]
    with database() as session:
        kind = session.scalars(select(AlarmType).where(AlarmType.key == "hot")).one()
        definition = session.scalars(select(RuleVersion.definition).where(RuleVersion.alarm_type_id == kind.id)).one()
    leaf = {"type": "compare", "metric": "temperature", "operator": ">=", "deadband": 5.0}
    held = {"type": "duration", "seconds": 60.0}
    assert client.get(f"/api/v1/rules/{kind.id}").json()["order_from"] == "critical"
    assert definition == {
        "schema": 1,
        "create": {
            "critical": {"condition": leaf | {"limit": 95.0}, "kind": held},
            "major": {"condition": leaf | {"limit": 90.5}, "kind": held},
            "info": {"condition": leaf | {"limit": 0.0}, "kind": held},
        },
        "clear": {"type": "automatic", "off_delay_s": 10.0},
        "message": "Outlet ${temperature} °C",
    }
    shown = client.get(f"{address}/edit").text
    expected = {
        "limit_critical": "95", "limit_major": "90.5", "limit_info": "0", "seconds": "60", "deadband": "5",
        "off_delay_s": "10", "after": "1",
    }  # fmt: skip
    values = {
        name: found[1]
        for name in (*expected, "limit_minor")
        if (found := re.search(rf'name="{name}"[^>]*?value="([^"]*)"', shown))
    }
    assert values == expected | {"limit_minor": ""}
    assert client.post(address, data=form | {"after": "1", "limit_major": "91"}).status_code == 303
    stale = client.post(address, data=form | {"after": "1", "limit_major": "92"})
    assert (stale.status_code, "Somebody else saved this rule" in stale.text) == (422, True)
    none = client.post(address, data=form | {"after": "2", "limit_critical": "", "limit_major": "", "limit_info": ""})
    assert (none.status_code, "at least one severity" in none.text) == (422, True)
    unknown = client.post("/rules", data=form | {"key": "other", "metric": "colour"})
    assert unknown.status_code == 422
    assert "There is no numeric metric colour." in unknown.text


def test_RUL_10_the_form_takes_numbers_from_attributes(
    client: httpx.Client, machines: dict[str, int], database: sessionmaker[Session]
) -> None:
    typed = {
        "limit_major": "90", "limit_major_from": "t_max", "seconds": "60", "seconds_from": "t_delay",
        "deadband_from": "t_band", "off_delay_s": "10", "off_delay_s_from": "t_calm",
    }  # fmt: skip
    form = typed | {
        "key": "hot", "name": "Too hot", "type": machines["type"], "metric": "temperature", "operator": ">=",
        "limit_critical": "95", "clear": "automatic", "order_from": "major",
    }  # fmt: skip
    address = client.post("/rules", data=form).headers["location"]
    with database() as session:
        (definition,) = session.scalars(select(RuleVersion.definition)).all()
    leaf = {"type": "compare", "metric": "temperature", "operator": ">="}
    leaf["deadband"] = {"attribute": "t_band", "default": 0.0}  # type: ignore[assignment]
    held = {"type": "duration", "seconds": {"attribute": "t_delay", "default": 60.0}}
    assert definition["create"] == {
        "critical": {"condition": leaf | {"limit": 95.0}, "kind": held},
        "major": {"condition": leaf | {"limit": {"attribute": "t_max", "default": 90.0}}, "kind": held},
    }
    assert definition["clear"]["off_delay_s"] == {"attribute": "t_calm", "default": 10.0}
    shown = client.get(f"{address}/edit").text
    for name, value in typed.items():
        assert re.search(rf'name="{name}"[^>]*?value="{value}"', shown), name
    told = client.get(address).text
    assert "t_max (otherwise 90 °C)" in told
    assert "deadband of t_band (otherwise 0 °C)" in told
    refused = client.post("/rules", data=form | {"key": "b", "limit_major": ""})
    assert "where the attribute is not set" in refused.text
    negative = client.post("/rules", data=form | {"key": "b", "deadband": "-1"})
    assert "The default is never negative here." in negative.text


def test_a_rule_that_says_more_than_the_form_is_edited_as_text(client: httpx.Client, machines: dict[str, int]) -> None:
    leaf = DEFINITION["create"]["critical"]["condition"]  # type: ignore[index]
    group = {
        "schema": 1,
        "create": {
            "major": {
                "condition": {
                    "type": "any",
                    "of": [leaf, {"type": "compare", "metric": "pressure", "operator": "<", "limit": 2.0}],
                }
            }
        },
    }
    made = client.post("/api/v1/rules", json=body(machines, definition=group)).json()
    page = unescape(client.get(f"/rules/{made['id']}").text)
    assert "Temperature ≥ 95 °C or Pressure < 2 bar" in page
    assert "ends only by hand" in page
    edit = client.get(f"/rules/{made['id']}/edit").text
    assert 'name="text"' in edit
    assert 'name="limit_major"' not in edit
    broken = client.post(f"/rules/{made['id']}", data={"text": "{", "after": "1", "order_from": "major"})
    assert (broken.status_code, "This is no JSON" in broken.text) == (422, True)
    text = json.dumps({**group, "clear": {"type": "automatic"}})
    assert (
        client.post(f"/rules/{made['id']}", data={"text": text, "after": "1", "order_from": "major"}).status_code == 303
    )


def test_AS_10_one_asset_may_differ_and_the_page_says_so(
    client: httpx.Client, machines: dict[str, int], rule: int, database: sessionmaker[Session]
) -> None:
    assert client.post(f"/rules/{rule}/overrides", data={"asset": "C-1", "critical": "99"}).status_code == 303
    with database() as session:
        patch = session.get_one(RuleOverride, (rule, machines["near"])).patch
    assert patch == {"limits": {"critical": 99.0}}
    page = unescape(client.get(f"/rules/{rule}").text)
    assert "Temperature ≥ 99 °C" in page
    unknown = client.post(f"/rules/{rule}/overrides", data={"asset": "C-1", "minor": "50"})
    assert unknown.status_code == 422
    assert client.post(f"/rules/{rule}/overrides/{machines['near']}/end").status_code == 303
    assert client.get(f"/api/v1/rules/{rule}/overrides").json()["items"] == []
    assert (
        client.put(f"/api/v1/rules/{rule}/overrides/{machines['far']}", json={"limits": {"critical": 90}}).status_code
        == 204
    )
    assert client.get(f"/api/v1/rules/{rule}/overrides").json()["items"][0]["asset_id"] == machines["far"]


def test_RUL_14_the_page_of_a_rule_leads_to_its_text_and_to_no_other_rules(
    client: httpx.Client, machines: dict[str, int], rule: int
) -> None:
    assert client.post("/api/v1/rules", json=body(machines, key="other")).status_code == 201
    address = f"/rules/text/download?rule={rule}"
    page = client.get(f"/rules/{rule}").text
    assert re.search(rf'<a href="{re.escape(address)}" download>Download as text</a>', page)
    file = client.get(address)
    assert file.headers["content-type"].startswith("application/yaml")
    assert re.findall(r"key: (\w+)", file.text) == ["overheat"]


def test_a_rule_is_switched_off_and_on(client: httpx.Client, rule: int) -> None:
    assert client.post(f"/rules/{rule}/switch", data={"on": "0"}).status_code == 303
    assert client.get(f"/api/v1/rules/{rule}").json()["is_enabled"] is False
    assert client.get("/api/v1/rules", params={"enabled": "true"}).json()["items"] == []
    assert (
        client.patch(f"/api/v1/rules/{rule}", json={"is_enabled": True, "order_from": None}).json()["order_from"]
        is None
    )


# Sight -------------------------------------------------------------------------------------------------------------


def test_a_rule_of_the_company_is_read_on_every_site_and_changed_only_from_above(
    client_of: ClientOf, machines: dict[str, int], rule: int
) -> None:
    planner = client_of("planner", "harbour")
    assert planner.get(f"/rules/{rule}").status_code == 200
    assert [one["id"] for one in planner.get("/api/v1/rules").json()["items"]] == [rule]
    assert planner.get(f"/rules/{rule}/edit").status_code == 403
    assert planner.post(f"/api/v1/rules/{rule}/versions", json={"definition": DEFINITION}).status_code == 403
    # Its own machines it may let differ, others it does not even see.
    override = f"/api/v1/rules/{rule}/overrides"
    assert planner.put(f"{override}/{machines['near']}", json={"limits": {"critical": 99}}).status_code == 204
    assert planner.put(f"{override}/{machines['far']}", json={"limits": {"critical": 99}}).status_code == 404
    assert [one["asset_id"] for one in planner.get(override).json()["items"]] == [machines["near"]]
    south = client_of("planner", "quarry")
    assert south.get(override).json()["items"] == []


def test_a_rule_of_one_site_or_of_another_company_does_not_exist_elsewhere(
    client: httpx.Client,
    client_of: ClientOf,
    company: Company,
    machines: dict[str, int],
    database: sessionmaker[Session],
) -> None:
    with db.transaction(database) as session:
        other = factories.company(session, "other", "Other Works")
    local = client.post("/api/v1/rules", json=body(machines, unit_id=company.units["harbour"].id)).json()["id"]
    own = client.post(
        "/api/v1/rules", json=body(machines, key="own", asset_type_id=None, asset_id=machines["near"])
    ).json()["id"]
    for stranger in (client_of("planner", "quarry"), client_of("administrator", "company", of=other)):
        for rule in (local, own):
            for path in (
                f"/rules/{rule}",
                f"/rules/text/download?rule={rule}",
                f"/api/v1/rules/{rule}",
                f"/api/v1/rules/{rule}/versions",
            ):
                assert stranger.get(path).status_code == 404, path
        assert stranger.get("/api/v1/rules").json()["items"] == []
        assert "Overheat" not in stranger.get("/rules").text
        assert "Overheat" not in stranger.get("/search?q=over").text.partition("<main")[2].partition("Found for")[0]
    assert {one["id"] for one in client_of("planner", "harbour").get("/api/v1/rules").json()["items"]} == {
        local,
        own,
    }
    assert client_of("technician", "harbour").get("/rules").status_code == 403


def test_the_list_pages_by_its_key(client: httpx.Client, machines: dict[str, int]) -> None:
    for number in range(5):
        assert client.post("/api/v1/rules", json=body(machines, key=f"rule-{number}")).status_code == 201
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get("/api/v1/rules", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [one["key"] for one in page["items"]]
        cursor = page["next"]
    assert seen == [f"rule-{number}" for number in range(5)]
    assert len(client.get("/api/v1/rules", params={"asset_id": machines["near"]}).json()["items"]) == 5
    assert client.get("/api/v1/rules", params={"q": "rule-3"}).json()["items"][0]["key"] == "rule-3"


def test_RUL_16_the_page_of_a_rule_tells_how_often_it_was_right_and_applies_nothing(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "harbour")
        draft = library.AlarmTypeDraft("too-hot", "Too hot", asset_type_id=machine.type_id)
        condition = {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 95.0}
        definition = {"schema": 1, "create": {"major": {"condition": condition}}, "clear": {"type": "automatic"}}
        unit = session.merge(company.units["company"])
        kind = library.add(session, draft, definition, unit=unit, actor="account:1", now=clock.now())
        limit = {"metric": "temperature", "operator": ">=", "limit": 95.0, "deadband": 0.0, "from": "type"}
        for finding, peak in [*(("real", 104.0 + n) for n in range(8)), ("false_alarm", 96.0), ("false_alarm", 97.0)]:
            alarm = factories.alarm(
                session, machine, alarm_type_id=kind.id, peak_value=peak, is_active=False, evidence={"limits": [limit]}
            )
            factories.order(session, company, machine, alarm_id=alarm.id, phase="done", finding=finding)
        factories.order(session, company, machine, phase="done", finding="false_alarm")
    client = client_of()
    told = client.get(f"/api/v1/rules/{kind.id}/precision").json()
    assert (told["real"], told["false_alarm"], told["nothing_found"], told["percent"]) == (8, 2, 0, 80.0)
    assert [(one["limit"], one["suggested"], one["spared"]) for one in told["suggestions"]] == [(95.0, 100.0, 2)]
    card = client.get(f"/rules/{kind.id}").text.partition('id="precision"')[2].partition("</section>")[0]
    assert "80" in card
    assert "8 real, 2 false, 0 with nothing found" in card
    assert "all 8 real alarms would still have come, and 2 of 2 false ones would not" in card
    assert client.get(f"/api/v1/rules/{kind.id}").json()["version"] == 1
