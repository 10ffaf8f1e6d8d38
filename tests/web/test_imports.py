"""Import of history from CSV: tried, looked at, started; over the API and on pages; once and again."""

import gzip
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from assets import derivations, measured, types
from assets.derivations import DerivedDraft
from assets.derived_tables import DirtySpan
from assets.models import AssetType, Binding, Device
from assets.types import MetricDraft
from ingest import history
from ingest.deriving import Deriving
from ingest.models import HistoryImport
from ingest.pipeline import Pipeline
from kernel import clock, db
from kernel.models import AuditEntry
from rules.models import Alarm
from telemetry import series
from telemetry.readings import Flag, Readings
from tests import factories
from tests.browser import faults, visit
from tests.factories import Company
from tests.waiting import until

T0 = datetime(2024, 3, 1, 7, 0, tzinfo=UTC)
T0_MS = clock.to_ms(T0)
GOOD = """device,ts,metric,value
{key},2024-03-01T08:00:00,temperature,21.5
{key},2024-03-01T08:05:00,temperature,22.5
{key},2024-03-01T08:10:00+01:00,temperature,400
{key},1709281500000,mode,auto
"""
FAULTY = (
    GOOD
    + """{key},2024-03-01T09:00:00,temperature,warm
nobody,2024-03-01T09:00:00,temperature,20
{key},yesterday,temperature,20
{key},2999-01-01T00:00:00Z,temperature,20
{key},,temperature,20
,2024-03-01T09:00:00,temperature,20
{key},2024-03-01T09:00:00,temperature
"""
)


@pytest.fixture
def device(database: sessionmaker[Session], company: Company) -> Device:
    """Return a device that was bound to its compressor a week ago."""
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour")
        made = factories.device(session, company, "harbour", on=asset)
        session.query(Binding).filter_by(device_id=made.id).update({"starts_at": clock.now() - timedelta(days=7)})
        return made


def sent(client: httpx.Client, text: str | bytes, **more: Any) -> dict[str, Any]:
    """Send a file and return the import once it has been tried."""
    made = client.post("/api/v1/telemetry/imports", json={"zone": "Europe/Berlin"} | more)
    assert made.status_code == 201, made.text
    number = made.json()["id"]
    put = client.put(
        f"/api/v1/telemetry/imports/{number}/file", content=text if isinstance(text, bytes) else text.encode()
    )
    assert put.status_code == 200, put.text
    return ended(client, number)


def ended(client: httpx.Client, number: int) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def is_over() -> bool:
        told.update(client.get(f"/api/v1/telemetry/imports/{number}").json())
        return told["state"] not in {"open", "queued", "running"}

    until(is_over, what="the import rests")
    return told


def imported(client: httpx.Client, text: str | bytes, **more: Any) -> dict[str, Any]:
    number = sent(client, text, **more)["id"]
    assert client.post(f"/api/v1/telemetry/imports/{number}/start").status_code == 200
    return ended(client, number)


def stored(runtime: Runtime, device: Device, metric: str) -> Readings:
    with runtime.sessions() as session:
        number = series.load(session, [device.id]).get((device.id, metric))
    return Readings.empty() if number is None else runtime.store.samples(number, 0, clock.now_ms() + 10**6, limit=10**6)


def test_a_file_is_tried_before_anything_is_stored_and_every_bad_line_is_named(
    client: httpx.Client, runtime: Runtime, device: Device
) -> None:
    found = sent(client, FAULTY.format(key=device.key))
    report = found["report"]
    assert (found["state"], found["is_trial"]) == ("checked", True)
    assert (report["rows"], report["readings"], report["refused"], report["bad"]) == (11, 4, 7, 1)
    assert [one["line"] for one in report["faults"]] == [6, 7, 8, 9, 10, 11, 12]
    assert "nobody" in report["faults"][1]["reason"]
    client.cookies.set("lang", "zh")
    told = client.get(f"/api/v1/telemetry/imports/{found['id']}").json()["report"]
    assert [one["code"] for one in told["faults"]] == [
        "wrong_type", "unknown_device", "bad_ts", "bad_ts", "bad_ts", "unknown_device", "bad_form"
    ]  # fmt: skip
    assert told["faults"][0]["reason"] == "temperature 是数值，而这里是文本。"
    assert told["faults"][2]["reason"].startswith("“yesterday”不是时间")
    assert report["sample"][0] == {
        "line": 2, "device": device.key, "asset": "", "ts_ms": T0_MS, "values": {"temperature": 21.5}
    }  # fmt: skip
    assert [(one["metric"], one["count"]) for one in report["series"]] == [("mode", 1), ("temperature", 3)]
    assert len(stored(runtime, device, "temperature")) == 0


def test_an_import_stores_what_was_tried_marks_what_is_impossible_and_changes_nothing_when_repeated(
    client: httpx.Client, runtime: Runtime, device: Device, database: sessionmaker[Session]
) -> None:
    text = FAULTY.format(key=device.key)
    done = imported(client, text)
    assert done["state"] == "done"
    assert (done["report"]["stored"], done["report"]["duplicate"], done["report"]["replaced"]) == (4, 0, 0)
    found = stored(runtime, device, "temperature")
    assert [((ts - T0_MS) // 60_000, value) for ts, value in zip(found.ts_ms, found.value, strict=True)] == [
        (0, 21.5), (5, 22.5), (10, 400)
    ]  # fmt: skip
    assert [bool(flags & Flag.BAD) for flags in found.flags] == [False, False, True]
    again = imported(client, text)["report"]
    assert (again["stored"], again["duplicate"], again["replaced"]) == (0, 4, 0)
    changed = imported(client, text.replace("22.5", "23.5"))["report"]
    assert (changed["stored"], changed["duplicate"], changed["replaced"]) == (0, 3, 1)
    with database() as session:
        told = session.scalars(select(AuditEntry).where(AuditEntry.action == "telemetry.import")).all()
    assert [one.after["stored"] for one in told if one.after] == [4, 0, 0]


def test_an_older_reading_touches_no_latest_value_and_rules_see_none_of_it(
    client: httpx.Client, runtime: Runtime, device: Device, company: Company, database: sessionmaker[Session]
) -> None:
    now_ms = clock.now_ms()
    with db.transaction(database) as session:
        number = series.ensure(session, [(device.id, "temperature")], now=clock.now())[device.id, "temperature"]
        factories.alarm_type(session, company, "harbour")
    runtime.store.write(Readings.of([number], [now_ms - 1000], [20.0]))
    imported(client, f"device,ts,temperature\n{device.key},{now_ms - 2000},240\n{device.key},{T0_MS},240\n")
    assert runtime.store.latest([number])[number].value == 20.0
    imported(client, f"device,ts,temperature\n{device.key},{now_ms - 500},240\n")
    assert runtime.store.latest([number])[number].value == 240.0
    pipeline = Pipeline(database, runtime.store)
    pipeline.load()
    with database() as session:
        assert session.scalars(select(Alarm)).all() == []


def test_the_history_of_a_device_is_that_of_its_asset_as_far_back_as_nothing_else_was_there(
    client: httpx.Client, runtime: Runtime, device: Device, database: sessionmaker[Session]
) -> None:
    text = GOOD.format(key=device.key)
    imported(client, text, backdates=False)
    with database() as session:
        asset_id = session.scalars(select(Binding.asset_id).where(Binding.device_id == device.id)).one()
        spans = measured.of_asset(session, asset_id, ["temperature"])
    assert len(measured.samples(runtime.store, spans, 0, clock.now_ms(), most=10) or ()) == 0
    imported(client, text)
    with database() as session:
        spans = measured.of_asset(session, asset_id, ["temperature"])
        told = session.scalars(select(AuditEntry.action).where(AuditEntry.action == "device.backdate")).all()
    assert len(measured.samples(runtime.store, spans, 0, clock.now_ms(), most=10) or ()) == 3
    assert len(told) == 1


def test_what_is_derived_is_worked_out_of_imported_history(
    client: httpx.Client, runtime: Runtime, device: Device, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        kind = session.query(AssetType).one()
        types.add_metric(session, kind, MetricDraft("pulses", "Pulses"), actor="system", now=clock.now())
        derivations.add(
            session, kind, DerivedDraft("used", "Used", "pulses", "counter"), actor="system", now=clock.now()
        )
    imported(client, f"device,ts,pulses\n{device.key},{T0_MS},10\n{device.key},{T0_MS + 3_600_000},25\n")
    with database() as session:
        assert session.scalars(select(DirtySpan)).all()
    deriving = Deriving(database, runtime.store, runtime.settings.model_copy(update={"retention_days": 3650}))
    while deriving.round(clock.now() + timedelta(minutes=1), lambda _readings, _fresh: None):
        pass
    assert stored(runtime, device, "used_total").value.tolist() == [0, 15]


def test_a_large_file_goes_in_pieces_and_one_that_was_interrupted_is_begun_again(
    company: Company, device: Device, database: sessionmaker[Session], runtime: Runtime, tmp_path: Path
) -> None:
    rows = "".join(f"{T0_MS + n * 1000},temperature,{n % 90}\n" for n in range(50_000))
    with db.transaction(database) as session:
        account = factories.account(session, company, "administrator", "company")
        row = history.ask(
            session, file_name="large.csv", zone="UTC", device_key=device.key, asset_code="", backdates=False,
            company_id=company.id, account_id=account.id, actor=f"account:{account.id}", now=clock.now(),
        )  # fmt: skip
        file = history.path(tmp_path, row.id)
        file.parent.mkdir(parents=True)
        row.size = file.write_text("ts,metric,value\n" + rows)
        row.state, row.is_trial = "queued", False
    stops = iter([False])
    paces: list[float] = []

    def run(is_stopping: Callable[[], bool]) -> bool:
        return history.run_next(
            database, runtime.store, tmp_path, most_bytes=10**9, is_stopping=is_stopping, pause=paces.append
        )

    assert not run(lambda: next(stops, True))
    assert 0 < len(stored(runtime, device, "temperature")) < 50_000
    assert run(lambda: False)
    with database() as session:
        done = session.get_one(HistoryImport, row.id)
    assert (done.state, done.report["readings"]) == ("done", 50_000)
    assert done.report["duplicate"] + done.report["stored"] == 50_000
    assert len(stored(runtime, device, "temperature")) == 50_000
    assert len(paces) >= 4


def test_a_file_that_cannot_be_read_fails_with_the_reason(client: httpx.Client, device: Device) -> None:
    files = {
        "first line": b"time;value\n1;2\n",
        "too long": b"ts,metric,value\n" + b"x" * 1_100_000,
        "UTF-8": b"ts,metric,value\n1,a,\xff\n",
        "ends before its end": gzip.compress(GOOD.encode())[:-10],
    }
    for said, content in files.items():
        made = client.post("/api/v1/telemetry/imports", json={"zone": "UTC", "device": device.key}).json()["id"]
        assert client.put(f"/api/v1/telemetry/imports/{made}/file", content=content).status_code == 200
        found = ended(client, made)
        assert found["state"] == "failed"
        assert said in found["trouble"]
        place = f"/imports/{made}"
        assert said in client.get(place).text
        client.cookies.set("lang", "zh")
        shown = client.get(f"/api/v1/telemetry{place}").json()["trouble"]
        assert re.search("[\u4e00-\u9fff]", shown), "a reader of Chinese has it in Chinese"
        assert shown in client.get(place).text
        client.cookies.delete("lang")


def test_TEL_8_a_gzipped_file_is_imported_as_what_it_holds_and_a_skipped_hour_is_read_with_the_offset_before(
    client: httpx.Client, runtime: Runtime, device: Device
) -> None:
    text = GOOD.format(key=device.key) + f"{device.key},2024-03-31T02:30:00,temperature,20\n"
    done = imported(client, gzip.compress(text.encode()), file_name="history.csv.gz")
    assert (done["state"], done["report"]["stored"], done["report"]["refused"]) == ("done", 5, 0)
    last = stored(runtime, device, "temperature").ts_ms[-1]
    assert clock.from_ms(int(last)) == datetime(2024, 3, 31, 1, 30, tzinfo=UTC)


def test_only_a_history_may_be_long_and_never_as_a_form(
    client: httpx.Client, stranger: httpx.Client, device: Device, runtime: Runtime
) -> None:
    made = client.post("/api/v1/telemetry/imports", json={"zone": "UTC", "device": device.key}).json()["id"]
    place = f"/api/v1/telemetry/imports/{made}/file"
    rows = runtime.settings.upload_max_mb * 1200
    long = b"ts,metric,value\n" + (b"1709281500000,mode," + b"x" * 900 + b"\n") * rows
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.put(place, content=long, headers=form).status_code == 413
    assert stranger.put(place, content=b"ts", headers={"Content-Type": "text/csv"}).status_code == 401
    assert client.put(place, content=long, headers={"Content-Type": "text/csv"}).status_code == 200
    assert ended(client, made)["report"]["readings"] == rows
    assert client.put(place, content=b"again").status_code == 409


def test_only_devices_within_reach_take_history_and_nobody_sees_anothers_import(
    client: httpx.Client, client_of: Any, device: Device
) -> None:
    stranger = client_of("administrator", "quarry")
    found = sent(stranger, GOOD.format(key=device.key))
    assert (found["report"]["readings"], found["report"]["refused"]) == (0, 4)
    assert client.get(f"/api/v1/telemetry/imports/{found['id']}").status_code == 404
    assert client_of("technician", "harbour").get("/imports").status_code == 403
    assert client.post("/api/v1/telemetry/imports", json={"zone": "Mars/Olympus"}).status_code == 422
    assert client.post("/api/v1/telemetry/imports", json={"zone": ""}).status_code == 422


def test_a_person_tries_looks_and_imports_on_pages_that_fit_a_phone(
    browser: Browser, client: httpx.Client, address: str, device: Device, runtime: Runtime
) -> None:
    file = {"file": ("past.csv", FAULTY.format(key=device.key).encode(), "text/csv")}
    refused = client.post("/imports", files=file, data={"zone": "Nowhere/City"})
    assert refused.status_code == 422
    assert client.post("/imports", files={"file": ("a.csv", b"")}, data={"zone": "UTC"}).status_code == 422
    asked = client.post("/imports", files=file, data={"zone": "Europe/Berlin", "backdates": "1"})
    assert asked.status_code == 303
    place = asked.headers["location"]
    number = int(place.rpartition("/")[2])
    ended(client, number)
    page = client.get(place).text
    assert "Some rows cannot be used." in page
    with visit(browser):
        for language, width in (("en", 1440), ("zh", 360)):
            context = browser.new_context(viewport={"width": width, "height": 900}, locale=language)
            cookies = [{"name": name, "value": value, "url": address} for name, value in client.cookies.items()]
            context.add_cookies([*cookies, {"name": "lang", "value": language, "url": address}])
            shown = context.new_page()
            for path in ("/imports", place):
                shown.goto(address + path)
                assert faults(shown) == [], path
                assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
    assert client.post(f"{place}/start").status_code == 303
    assert ended(client, number)["state"] == "done"
    assert "Imported" in client.get(place).text
    assert client.post(f"{place}/start").status_code == 409
    assert len(stored(runtime, device, "temperature")) == 3
    until(lambda: not (runtime.settings.data_dir / "imports" / str(number)).exists(), what="its file is removed")
