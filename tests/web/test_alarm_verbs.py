"""What people do about alarms, as pages and as JSON, on the real application: shelved, out of service, given, told."""

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock, db
from people import notices
from rules.hold_tables import AlarmHold
from rules.models import Alarm
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]


@pytest.fixture
def three(database: sessionmaker[Session], company: Company) -> list[int]:
    """Three alarms on one machine at the harbour."""
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "harbour", code="C-1", name="Compressor C")
        now = clock.now()
        return [factories.alarm(session, machine, announced_at=now).id for _ in range(3)]


def _csrf(page: httpx.Response) -> str:
    return page.text.split('name="csrf_token" value="', 1)[1].split('"', 1)[0]


def test_ALM_4_a_shelved_alarm_leaves_the_desk_and_comes_back(client_of: ClientOf, three: list[int]) -> None:
    client = client_of("technician")
    one = three[0]
    assert client.post(f"/api/v1/alarms/{one}/shelve", json={"reason": "Known"}).status_code == 422, "no end"
    too_long = client.post(f"/api/v1/alarms/{one}/shelve", json={"reason": "Known", "minutes": 481})
    assert too_long.status_code == 422
    whole = client.post(f"/api/v1/alarms/{one}/shelve", json={"reason": "Known", "minutes": 480}).json()
    assert (whole["state"], whole["is_shelved"], whole["history"][-1]["kind"]) == ("shelved", True, "shelved")
    assert client.post(f"/api/v1/alarms/{one}/shelve", json={"reason": "x", "minutes": 5}).status_code == 409
    assert one not in [row["id"] for row in client.get("/api/v1/alarms").json()["items"]]
    assert [row["id"] for row in client.get("/api/v1/alarms", params={"state": "held"}).json()["items"]] == [one]
    assert "Known" in client.get("/alarms/holds").text
    assert client.post(f"/api/v1/alarms/{one}/unshelve").json()["state"] == "unacknowledged"
    assert one in [row["id"] for row in client.get("/api/v1/alarms").json()["items"]]


def test_ALM_2_several_are_shelved_given_and_noted_at_once(
    client_of: ClientOf, three: list[int], company: Company, database: sessionmaker[Session]
) -> None:
    client = client_of("dispatcher")
    with db.transaction(database) as session:
        mine = factories.account(session, company, "dispatcher", "company").id
    noted = client.post("/api/v1/alarms/comment", json={"ids": three, "comment": "Fan ordered"})
    assert noted.json() == {"done": 3}
    body = {"ids": three[:2], "reason": "Known", "once": True}
    assert client.post("/api/v1/alarms/shelve", json=body).json() == {"done": 2}
    body["ids"] = three
    assert client.post("/api/v1/alarms/shelve", json=body).json() == {"done": 1}, "two are shelved already"
    given = client.post("/api/v1/alarms/assign", json={"ids": three, "account_id": mine})
    assert given.json() == {"done": 3}
    assert client.post("/api/v1/alarms/assign", json={"ids": three, "account_id": 10**9}).status_code == 422


def test_out_of_service_takes_a_right_of_its_own(client_of: ClientOf, three: list[int]) -> None:
    body = {"reason": "Valve out", "until": (clock.now() + timedelta(hours=4)).isoformat()}
    path = f"/api/v1/alarms/{three[0]}"
    assert client_of("technician").post(f"{path}/out-of-service", json=body).status_code == 403
    client = client_of("dispatcher")
    assert client.post(f"{path}/out-of-service", json={"reason": "Valve out"}).status_code == 422, "no end"
    assert client.post(f"{path}/out-of-service", json=body).json()["state"] == "out_of_service"
    assert client.post(f"{path}/put-back").json()["state"] == "unacknowledged"
    assert client.post(f"{path}/put-back").status_code == 409


def test_a_window_is_planned_and_ended(client_of: ClientOf, three: list[int], database: sessionmaker[Session]) -> None:
    client = client_of("dispatcher")
    with database() as session:
        asset_id = session.get_one(Alarm, three[0]).asset_id
    body = {"asset_id": asset_id, "reason": "Service", "until": (clock.now() + timedelta(hours=4)).isoformat()}
    hold = client.post("/api/v1/alarms/holds", json=body)
    assert (hold.status_code, hold.json()["state"]) == (201, "live")
    assert client.get(f"/api/v1/alarms/{three[0]}").json()["suppressed_by"] == "window"
    assert client.get("/api/v1/alarms").json()["items"] == []
    path = f"/api/v1/alarms/holds/{hold.json()['id']}/end"
    assert client.post(path).json()["state"] == "ended"
    assert client.post(path).status_code == 409
    assert len(client.get("/api/v1/alarms").json()["items"]) == 3


def test_work_isolates_a_machine(
    client_of: ClientOf, three: list[int], company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        alarm = session.get_one(Alarm, three[0])
        assert alarm.asset is not None
        order_id = factories.order(session, company, alarm.asset).id
    client = client_of("dispatcher")
    held = client.post("/api/v1/alarms/holds/work", json={"order_id": order_id, "why": "permit"})
    assert [one["cause"] for one in held.json()] == [f"order:{order_id}"]
    assert client.get(f"/api/v1/alarms/{three[0]}").json()["state"] == "out_of_service"


def test_the_verbs_work_as_forms(client_of: ClientOf, three: list[int], database: sessionmaker[Session]) -> None:
    client = client_of("dispatcher")
    one = three[0]
    page = client.get(f"/alarms/{one}")
    token = _csrf(page)
    refused = client.post(f"/alarms/{one}/shelve", data={"csrf_token": token, "minutes": "30", "reason": " "})
    assert refused.status_code == 422
    done = client.post(f"/alarms/{one}/shelve", data={"csrf_token": token, "minutes": "30", "reason": "Known"})
    assert done.status_code == 303
    shown = client.get(f"/alarms/{one}").text
    assert "Recorded, and nobody is told of it" in shown
    assert "Take it off the shelf" in shown
    assert client.post(f"/alarms/{one}/unshelve", data={"csrf_token": token}).status_code == 303
    out = {"csrf_token": token, "minutes": "1440", "ends": "review", "reason": "Valve out"}
    assert client.post(f"/alarms/{one}/out-of-service", data=out).status_code == 303
    several = {"csrf_token": token, "ids": [str(number) for number in three[1:]], "minutes": "once", "reason": "Known"}
    assert client.post("/alarms/shelve", data=several).status_code == 303
    with database() as session:
        assert sorted(session.scalars(select(AlarmHold.kind).where(AlarmHold.state == "live"))) == [
            "out_of_service", "shelved", "shelved",
        ]  # fmt: skip


def test_a_policy_is_made_changed_and_removed(client_of: ClientOf, company: Company) -> None:
    client = client_of("administrator")
    unit_id = company.units["harbour"].id
    steps = [{"after_min": 30, "role": "manager"}, {"after_min": 0, "role": "dispatcher"}]
    made = client.post(
        "/api/v1/alarms/policies",
        json={
            "unit_id": unit_id,
            "name": "Harbour",
            "severity": "major",
            "repeat_min": 10,
            "repeats": 2,
            "steps": steps,
        },
    )
    assert made.status_code == 201
    assert [one["after_min"] for one in made.json()["steps"]] == [0, 30], "in order of delay"
    path = f"/api/v1/alarms/policies/{made.json()['id']}"
    assert client.put(path, json={"name": "Harbour", "repeats": 1000}).status_code == 422
    assert client.put(path, json={"name": "Pier"}).json()["name"] == "Pier"
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


def test_the_bell_counts_what_was_not_read(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    client = client_of("dispatcher")
    with db.transaction(database) as session:
        account = factories.account(session, company, "dispatcher", "company")
        told = notices.give(
            session, [account.id], "Alarm: {message}", subject="alarm:1", href="/alarms/1", at=clock.now(),
            values={"message": "Compressor C is hot"},
        )  # fmt: skip
        assert told == 1
    assert [one["read_at"] for one in client.get("/api/v1/notices").json()["items"]] == [None]
    page = client.get("/notices")
    assert "Compressor C is hot" in page.text
    assert "Notices: 1 unread" in page.text
    assert client.post("/notices/read", data={"csrf_token": _csrf(page)}).status_code == 303
    assert "Notices: 0 unread" in client.get("/notices").text


def test_an_alarm_type_says_how_its_alarms_are_handled(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        kind_id = factories.alarm_type(session, company).id
    client = client_of("administrator")
    path = f"/api/v1/rules/{kind_id}/handling"
    assert client.get(path).json() == {"latches": False, "suppresses_below": False, "attribute": "", "values": []}
    wanted = {"latches": True, "suppresses_below": True, "attribute": "mode", "values": ["off", 0]}
    assert client.put(path, json=wanted).json() == wanted
    assert client.put(path, json={"attribute": "mode"}).status_code == 422
    assert client.get(path).json() == wanted
