"""Readings over HTTP, as a device or a gateway posts them (ING-11)."""

import base64
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api import intake_server
from api.app import create
from api.runtime import Runtime
from assets import devices
from assets.models import Device
from ingest.models import AlarmReport
from kernel import clock, db, settings
from rules.models import Alarm
from tests.conftest import SECRET
from tests.intake.conftest import PASSWORD, Intake
from tests.serving import served
from tests.waiting import until

NOW_MS = clock.now_ms() - 600_000
ALL = {"duplicate": 0, "rejected": 0, "rejects": []}


def test_ING_11_each_json_form_stores_the_same_reading(intake: Intake) -> None:
    client = intake.client()
    forms: list[Any] = [
        {"ts": NOW_MS, "values": {"a": 21.5}},
        {"values": {"b": 21.5}},
        {"c": 21.5},
        [{"ts": NOW_MS, "values": {"d": 21.5}}, {"ts": NOW_MS + 1, "values": {"d": 22}}],
    ]
    for form in forms:
        answer = client.post("/telemetry", json=form)
        assert (answer.status_code, answer.json()) == (200, {"received": 1, "stored": 1, **ALL})
    found = intake.readings()
    assert [found["a"], found["d"]] == [[(NOW_MS, 21.5)], [(NOW_MS, 21.5), (NOW_MS + 1, 22.0)]]
    assert [[value for _, value in found[name]] for name in "bc"] == [[21.5], [21.5]]


def test_ING_11_a_thousand_lines_with_seven_bad_ones(intake: Intake) -> None:
    bad = {17: "nonsense", 100: "t value=abc", 101: "t value=1 noon", 500: "t value=NaN", 700: "t,x value=1",
           701: 't value="open', 1000: "t value=1,value=2"}  # fmt: skip
    text = "\n".join(bad.get(n, f"temperature value={n} {NOW_MS + n}") for n in range(1, 1001))
    client = intake.client()
    answer = client.post("/lines", params={"precision": "ms"}, content=text).json()
    assert (answer["received"], answer["stored"], answer["rejected"]) == (1000, 993, 7)
    assert {reject["line"]: reject["reason"] for reject in answer["rejects"]} == {
        17: "bad_form", 100: "bad_form", 101: "bad_ts", 500: "not_finite", 700: "bad_form", 701: "bad_form",
        1000: "duplicate_key",
    }  # fmt: skip
    assert len(intake.readings()["temperature"]) == 993

    again = client.post("/lines", params={"precision": "ms"}, content=gzip.compress(text.encode()),
                        headers={"Content-Encoding": "gzip"}).json()  # fmt: skip
    assert (again["stored"], again["duplicate"], again["rejected"]) == (0, 993, 7)
    assert len(intake.readings()["temperature"]) == 993
    assert {bytes(row.payload).decode(): row.repeats for row in intake.rejects()} == dict.fromkeys(bad.values(), 2)
    assert intake.ledger() == (2000, 993, 993, 14)


def test_ING_11_csv_names_its_bad_rows_and_twice_is_once(intake: Intake) -> None:
    text = f"ts,metric,value\n{NOW_MS},t,1\n{NOW_MS},p,x\nnoon,t,2\n{NOW_MS + 1},t,3\n"
    client = intake.client()
    first = client.post("/csv", content=text).json()
    assert (first["stored"], first["rejects"][0]["line"], first["rejects"][0]["reason"]) == (3, 4, "bad_ts")
    assert client.post("/csv", content=text).json()["duplicate"] == 3
    wide = "ts;speed;mode\n2026-11-22 03:49:50;5;auto\n"
    assert client.post("/csv", params={"zone": "Asia/Shanghai"}, content=wide).json()["stored"] == 1
    assert intake.readings()["speed"] == [(1_795_290_590_000, 5.0)]
    refused = client.post("/csv", content="no,header\n1,2\n")
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert client.post("/csv", params={"zone": "Mars/Olympus"}, content=text).status_code == 422


def test_ING_11_alarms_and_attributes_are_committed_before_the_answer(
    intake: Intake, database: sessionmaker[Session]
) -> None:
    client = intake.client()
    body = {"seq": 7, "code": "E42", "severity": "critical", "state": "raised", "ts": NOW_MS}
    assert client.post("/alarm", json=body).json()["stored"] == 1
    with database() as session:
        assert session.scalars(select(AlarmReport.seq)).all() == [7]
        assert session.scalars(select(Alarm.is_active)).all() == [True]
    assert client.post("/alarm", json=body).json()["duplicate"] == 1
    assert client.post("/attributes", json={"firmware": "1.2"}).json()["stored"] == 1
    with database() as session:
        assert session.get_one(Device, intake.works.devices[0].id).attributes["firmware"] == "1.2"


def test_ING_11_what_cannot_be_used_at_all_is_a_problem_and_kept(intake: Intake) -> None:
    answer = intake.client().post("/telemetry", content="{")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["rejects"] == [
        {"line": None, "device": "dev-0", "reason": "not_json", "detail": answer.json()["rejects"][0]["detail"]}
    ]
    assert [(row.topic, row.reason) for row in intake.rejects()] == [("fw/v1/dev-0/telemetry", "not_json")]
    assert intake.client().post("/lines", content="# nothing\n").status_code == 422
    assert intake.client().post("/telemetry", content=b" " * 300_000).status_code == 413
    assert intake.client().post("/lines", content=b"x", headers={"Content-Encoding": "gzip"}).status_code == 422


def test_ING_11_a_gateway_posts_for_the_devices_behind_it_and_no_other(intake: Intake) -> None:
    gateway = intake.client()
    assert gateway.post("/telemetry", params={"device": "dev-1"}, json={"t": 1}).json()["stored"] == 1
    assert gateway.post("/telemetry", params={"device": "dev-2"}, json={"t": 1}).status_code == 403
    assert intake.client("dev-1").post("/telemetry", params={"device": "dev-0"}, json={"t": 1}).status_code == 403
    many = gateway.post("/gateway/telemetry", json={"dev-1": {"t": 2}, "dev-2": {"t": 2}, "dev-0x": {"t": 2}}).json()
    assert (many["received"], many["stored"], many["rejected"]) == (3, 1, 2)
    assert {reject["device"]: reject["reason"] for reject in many["rejects"]} == {
        "dev-2": "unknown_child", "dev-0x": "unknown_child",
    }  # fmt: skip
    lines = gateway.post(
        "/lines", content="t,device=dev-1 value=3\nt,device=dev-2 value=3\nt,device=a/b value=3"
    ).json()
    assert (lines["stored"], [(one["line"], one["reason"]) for one in lines["rejects"]]) == (
        1, [(2, "unknown_child"), (3, "bad_device_key")],
    )  # fmt: skip
    assert [value for _, value in intake.readings(1)["t"]] == [1.0, 2.0, 3.0]
    assert intake.readings(2) == {}


def test_ING_11_only_the_devices_own_secret_opens_and_guessing_is_slowed(
    intake: Intake, database: sessionmaker[Session]
) -> None:
    url = f"{intake.address}/api/v1/intake/telemetry"

    def post(authorization: str) -> int:
        return httpx.post(url, json={"t": 1}, headers={"Authorization": authorization}).status_code

    assert post(f"Bearer dev-0~{PASSWORD}") == 200
    wrong = base64.b64encode(b"dev-0:wrong").decode()
    for one in (f"Basic {wrong}", "Basic ?", "Bearer x", f"Bearer dev-9~{PASSWORD}", "Digest x", ""):
        assert post(one) == 401
    with db.transaction(database) as session:
        devices.revoke(session, session.get_one(Device, intake.works.devices[3].id), actor="account:1", now=clock.now())
    until(lambda: post(f"Bearer dev-3~{PASSWORD}") == 401, what="a revoked device is refused")
    until(lambda: post(f"Basic {wrong}") == 429, what="guessing has to wait")
    assert post(f"Bearer dev-0~{PASSWORD}") == 429


def test_ING_11_many_small_requests_share_commits_and_each_is_answered_for_itself(intake: Intake) -> None:
    def one(number: int) -> int:
        body = json.dumps({"ts": NOW_MS + number, "values": {"t": number}}) if number % 10 else "{"
        with httpx.Client(auth=("dev-0", PASSWORD)) as client:
            return client.post(f"{intake.address}/api/v1/intake/telemetry", content=body, timeout=60).status_code

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(one, range(100)))
    assert answers == [200 if number % 10 else 422 for number in range(100)]
    assert len(intake.readings()["t"]) == 90
    assert intake.ledger() == (100, 90, 0, 10)


def test_ING_11_web_without_ingest_says_where_to_post(intake: Intake) -> None:
    for bind, named in ((None, "FIXWRIGHT_INTAKE_BIND"), ("10.0.0.5:8001", "http://10.0.0.5:8001/"),
                        ("0.0.0.0:8001", "port 8001")):  # fmt: skip
        own = settings.load(data_dir=intake.runtime.settings.data_dir, intake_bind=bind)
        parts = intake.runtime
        apart = Runtime(own, parts.engine, parts.sessions, parts.store, SECRET)
        with served(create(apart)) as address:
            answer = httpx.post(f"{address}/api/v1/intake/telemetry", json={}, auth=("dev-0", PASSWORD))
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert named in answer.json()["detail"]


def test_ING_11_the_intake_alone_serves_nothing_else(intake: Intake) -> None:
    assert httpx.get(f"{intake.address}/health/ready").json() == {"status": "ready"}
    assert httpx.get(f"{intake.address}/api/v1/devices").status_code == 404
    intake.ingest.stop()
    assert httpx.get(f"{intake.address}/health/ready").status_code == 503
    assert intake.client().post("/telemetry", json={"t": 1}).status_code == 503


def test_the_setting_may_be_left_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIXWRIGHT_INTAKE_BIND", "")
    assert settings.load().intake_bind is None
    assert intake_server.STOP_S > 0
