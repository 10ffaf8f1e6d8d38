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
