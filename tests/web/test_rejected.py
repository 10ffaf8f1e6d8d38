"""Rejected messages over JSON and as pages: scope, safe bytes, trying again."""

import base64
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest import rejected
from ingest.models import RejectedMessage
from ingest.rejected import Reject
from kernel import db
from kernel.models import AuditEntry
from tests.factories import NOW, Company

SCRIPT = b'{"x": "<script>alert(1)</script>"'


@pytest.fixture
def kept(database: sessionmaker[Session], company: Company) -> dict[str, int]:
    """Set aside one message of the harbour, one of the quarry, one of nobody; return their ids by device."""
    harbour, quarry = company.units["harbour"].id, company.units["quarry"].id

    def reject(device: str | None, unit: int | None, payload: bytes, reason: str) -> Reject:
        return Reject(f"fw/v1/{device}/telemetry", payload, NOW, reason, "what is wrong", device, unit)

    with db.transaction(database) as session:
        rejected.keep(session, [reject("h", harbour, SCRIPT, "not_json"), reject("q", quarry, b"\xff\x00", "not_utf8")])
        rejected.keep(session, [reject("nobody", None, b"{}", "unknown_device")])
    with database() as session:
        return {str(row.device_key): row.id for row in session.scalars(select(RejectedMessage))}


def _items(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/rejected", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_the_list_shows_bytes_that_are_text_and_bytes_that_are_not(client: httpx.Client, kept: dict[str, int]) -> None:
    found = {item["device"]: item for item in _items(client)}
    assert set(found) == set(kept)
    assert found["h"]["payload"] == SCRIPT.decode()
    assert found["q"]["payload"] is None
    assert base64.b64decode(found["q"]["payload_base64"]) == b"\xff\x00"


def test_each_sees_their_own_sites_and_only_the_whole_company_sees_what_is_nobodys(
    client_of: Any, kept: dict[str, int]
) -> None:
    at_harbour = client_of("administrator", "harbour")
    assert [item["device"] for item in _items(at_harbour)] == ["h"]
    for hidden in ("q", "nobody"):
        assert at_harbour.get(f"/api/v1/rejected/{kept[hidden]}").status_code == 404
        assert at_harbour.post(f"/api/v1/rejected/{kept[hidden]}/replay").status_code == 404
    assert client_of("technician", "company").get("/api/v1/rejected").status_code == 403


def test_a_replay_is_asked_for_once_and_audited(
    client: httpx.Client, kept: dict[str, int], database: sessionmaker[Session]
) -> None:
    answer = client.post(f"/api/v1/rejected/{kept['h']}/replay")
    assert answer.status_code == 200
    assert answer.json()["replay_asked_at"] is not None
    with db.transaction(database) as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "rejected.replay")).one()
        assert entry.subject == f"rejected:{kept['h']}"
        rejected.settle(session, [kept["h"]], [], now=NOW)
    assert client.post(f"/api/v1/rejected/{kept['h']}/replay").status_code == 409
    assert [item["device"] for item in _items(client, state="replayed")] == ["h"]
    assert "h" not in {item["device"] for item in _items(client)}


def test_a_group_is_replayed_whole(client: httpx.Client, kept: dict[str, int]) -> None:  # noqa: ARG001 - rows
    answer = client.post("/api/v1/rejected/replay", json={"reason": "not_json", "device": "h"})
    assert answer.json() == {"asked": 1}
    groups = client.get("/api/v1/rejected/groups").json()
    assert {group["reason"] for group in groups} == {"not_json", "not_utf8", "unknown_device"}


def test_pages_show_groups_lists_and_bytes_and_run_nothing(client: httpx.Client, kept: dict[str, int]) -> None:
    overview = client.get("/rejected")
    assert overview.status_code == 200
    assert "Not JSON" in overview.text
    listed = client.get("/rejected/messages", params={"reason": "not_json", "device": "h"})
    assert listed.status_code == 200
    assert f"/rejected/{kept['h']}" in listed.text
    page = client.get(f"/rejected/{kept['h']}")
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert" in page.text
    assert "0000  ff 00" in client.get(f"/rejected/{kept['q']}").text
    file = client.get(f"/rejected/{kept['h']}/payload")
    assert file.content == SCRIPT
    assert file.headers["content-type"] == "application/octet-stream"
    assert file.headers["content-disposition"].startswith("attachment")
    assert file.headers["x-content-type-options"] == "nosniff"


def test_the_page_asks_for_a_replay_and_says_so(client: httpx.Client, kept: dict[str, int]) -> None:
    answer = client.post(f"/rejected/{kept['h']}/replay")
    assert answer.status_code == 303
    listed = client.get(answer.headers["location"])
    assert "Being tried again" in listed.text
    everything = client.post("/rejected/replay", data={"reason": "not_utf8", "device": "q"})
    assert everything.headers["location"] == "/rejected"
    client.cookies.set("lang", "zh")
    assert "拒收报文" in client.get("/rejected").text


def test_an_hour_at_the_ends_of_the_calendar_is_refused_in_the_readers_words(client: httpx.Client) -> None:
    for hour in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        told = client.get("/api/v1/rejected", params={"hour": hour})
        assert told.status_code == 422
        assert "years 1 to 9999" in told.json()["detail"]
        client.cookies.set("lang", "zh")
        page = client.get("/rejected/messages", params={"hour": hour})
        assert page.status_code == 422
        assert "网址或表单中有无法识别的内容：hour。" in page.text


def test_a_value_that_the_database_cannot_hold_is_refused_in_the_readers_words(client: httpx.Client) -> None:
    client.cookies.set("lang", "zh")
    page = client.get("/rejected/messages", params={"device": "a\x00b"})
    assert page.status_code == 422
    assert "超出了可保存的范围" in page.text
