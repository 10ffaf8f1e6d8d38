"""What alarms set off beside orders, as pages and as JSON, on the real application."""

from collections.abc import Callable

import httpx
import pytest
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]


@pytest.fixture
def rule(database: sessionmaker[Session], company: Company) -> int:
    with db.transaction(database) as session:
        return factories.alarm_type(session, company, "company").id


def test_RUL_17_actions_are_added_told_and_taken_away(client: httpx.Client, rule: int) -> None:
    page = f"/rules/{rule}/actions"
    for sent in (
        {"kind": "message", "role": "dispatcher", "severity": "major"},
        {"kind": "webhook", "url": "https://example.com/alarms", "occasion": "clear"},
        {"kind": "command", "method": "slow_down", "params": '{"percent": 50}'},
        {"kind": "attribute", "name": "tripped", "value": "true"},
    ):
        assert client.get(f"{page}?kind={sent['kind']}").status_code == 200
        assert client.post(page, data=sent).status_code == 303
    told = client.get(f"/api/v1{page}").json()["items"]
    assert [one["kind"] for one in told] == ["message", "webhook", "command", "attribute"]
    assert told[3]["settings"] == {"name": "tripped", "value": True, "device_id": None}
    assert told[1] | {"id": 0} == {
        "id": 0, "kind": "webhook", "occasion": "clear", "severity": "info", "signing_key": None,
        "settings": {"url": "https://example.com/alarms"},
    }  # fmt: skip
    assert "https://example.com/alarms" in client.get(page).text
    assert client.post(f"{page}/{told[0]['id']}/remove").status_code == 303
    assert client.delete(f"/api/v1{page}/{told[1]['id']}").status_code == 204
    assert client.delete(f"/api/v1{page}/{told[1]['id']}").status_code == 404
    assert len(client.get(f"/api/v1{page}").json()["items"]) == 2


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"kind": "webhook", "settings": {"url": "ftp://example.com"}}, "url"),
        ({"kind": "message", "settings": {"role": "nobody"}}, "role"),
        ({"kind": "command", "settings": {"method": "1x"}}, "method"),
        ({"kind": "attribute", "settings": {"name": "", "value": 1}}, "name"),
        ({"kind": "attribute", "settings": {"name": "a", "value": 1, "device_id": 10_000}}, "device_id"),
    ],
)
def test_an_action_that_does_not_fit_is_refused(
    client: httpx.Client, rule: int, sent: dict[str, object], field: str
) -> None:
    refused = client.post(f"/api/v1/rules/{rule}/actions", json=sent)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)


def test_who_may_not_speak_to_devices_lets_no_alarm_speak_to_them(client_of: ClientOf, rule: int) -> None:
    planner = client_of("planner", "company")
    command = {"kind": "command", "settings": {"method": "stop"}}
    assert planner.post(f"/api/v1/rules/{rule}/actions", json=command).status_code == 403
    assert planner.post(f"/rules/{rule}/actions", data={"kind": "command", "method": "stop"}).status_code == 403
    made = planner.post(
        f"/api/v1/rules/{rule}/actions", json={"kind": "webhook", "settings": {"url": "https://example.com"}}
    )
    assert made.status_code == 201
    assert len(made.json()["signing_key"]) == 64


def test_RUL_17_actions_are_put_in_another_order(client: httpx.Client, rule: int) -> None:
    page = f"/rules/{rule}/actions"
    ids = [
        client.post(
            f"/api/v1{page}", json={"kind": "webhook", "settings": {"url": f"https://example.com/{number}"}}
        ).json()["id"]
        for number in range(3)
    ]

    def order() -> list[int]:
        return [one["id"] for one in client.get(f"/api/v1{page}").json()["items"]]

    wanted = [ids[2], ids[0], ids[1]]
    told = client.put(f"/api/v1{page}/order", json={"ids": wanted}).json()["items"]
    assert [one["id"] for one in told] == order() == wanted
    assert client.put(f"/api/v1{page}/order", json={"ids": ids[:2]}).status_code == 409, "one is missing"
    assert client.post(f"{page}/{ids[1]}/move", data={"places": -1}).status_code == 303
    assert order() == [ids[2], ids[1], ids[0]]
    assert client.post(f"{page}/{ids[2]}/move", data={"places": -1}).status_code == 303, "it is the first already"
    assert client.post(f"{page}/{ids[2]}/move", data={"places": 1}).status_code == 303
    assert order() == [ids[1], ids[2], ids[0]]
    assert client.post(f"{page}/{ids[2]}/move", data={"places": 7}).status_code == 422
    seen = client.get("/api/v1/audit", params={"action": "rule.arrange_actions"}).json()["items"]
    assert len(seen) == 3, "what changed nothing is no change"


def test_RUL_17_actions_of_a_code_stand_with_its_entry(client: httpx.Client) -> None:
    entry = client.post("/api/v1/codes", json={"code": "E42", "name": "Motor overload"}).json()
    page = f"/codes/{entry['id']}/actions"
    assert client.post(page, data={"kind": "message", "role": "dispatcher", "severity": "major"}).status_code == 303
    assert client.post(page, data={"kind": "webhook", "url": "https://example.com/e42"}).status_code == 303
    first, second = client.get(f"/api/v1{page}").json()["items"]
    assert client.post(f"{page}/{second['id']}/move", data={"places": -1}).status_code == 303
    assert client.put(f"/api/v1{page}/order", json={"ids": [first["id"], second["id"]]}).status_code == 200
    assert "E42 · Motor overload" in client.get(page).text
    # They go where the entry goes, and end with it.
    moved = client.put(f"/api/v1/codes/{entry['id']}", json={"code": "E43", "name": "Motor overload"})
    assert moved.status_code == 200
    assert len(client.get(f"/api/v1{page}").json()["items"]) == 2
    assert client.delete(f"/api/v1{page}/{first['id']}").status_code == 204
    assert client.delete(f"/api/v1/codes/{entry['id']}").status_code == 204
    again = client.post("/api/v1/codes", json={"code": "E43", "name": "Motor overload"}).json()
    assert client.get(f"/api/v1/codes/{again['id']}/actions").json()["items"] == []
