"""TEL-8: what an export holds, as another program reads it; its trail; its bounds; what becomes of it after a kill."""

import csv
import resource
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import openpyxl
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import export
from assets.export import Wanted
from assets.keeping_tables import Export
from assets.models import Metric
from kernel import clock, db
from kernel.errors import Invalid, NotFound
from kernel.models import AuditEntry
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from telemetry.readings import Flag, Readings, with_sent
from tests import factories

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
T0 = clock.to_ms(datetime(2026, 10, 25, 0, 30, tzinfo=UTC))  # Berlin turns the clock back at 01:00 UTC
MINUTE = 60_000
NAN = float("nan")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    with closing(DuckDbStore(tmp_path / "t.duckdb")) as opened:
        yield opened


@pytest.fixture
def press(database: sessionmaker[Session], store: DuckDbStore) -> dict[str, int]:
    """Return a press whose name looks like a formula, with four readings, two of them awkward."""
    with db.transaction(database) as session:
        acme = factories.company(session)
        asset = factories.asset(session, acme, "mill", code="P-1", name="=cmd|'/C calc'!A0")
        device = factories.device(session, acme, "mill", on=asset)
        by_key = {row.metric: row.id for row in session.scalars(select(Series).where(Series.device_id == device.id))}
        account = factories.account(session, acme, "manager", "company")
        made = {"asset": asset.id, "company": acme.id, "account": account.id, **by_key}
    values, text = [21.5, -3.0, NAN, float(2**53)], [None, None, "=1+1", str(2**53 + 1)]
    flags = [0, Flag.BAD, 0, Flag.EXACT]
    store.write(Readings.of([made["temperature"]] * 4, [T0 + n * 45 * MINUTE for n in range(4)], values, text, flags))
    return made


def exported(
    database: sessionmaker[Session], store: DuckDbStore, press: dict[str, int], folder: Path, **more: Any
) -> tuple[Path, Export]:
    asked: dict[str, Any] = {
        "format": "csv", "assets": [press["asset"]], "start_ms": T0, "end_ms": T0 + 180 * MINUTE,
        "zone": "Europe/Berlin", **more,
    }  # fmt: skip
    with db.transaction(database) as session:
        account = press["account"]
        identity = export.ask(
            session, Wanted(**asked), company_id=press["company"], account_id=account, actor=f"account:{account}",
            now=NOW,
        ).id  # fmt: skip
    assert export.run_next(database, store, folder, is_stopping=lambda: False)
    with database() as session:
        row = session.get_one(Export, identity)
        session.expunge(row)
    return export.path(folder, row), row


def test_TEL_8_a_csv_states_the_zone_keeps_digits_and_defuses_formulas(
    database: sessionmaker[Session], store: DuckDbStore, press: dict[str, int], tmp_path: Path
) -> None:
    path, row = exported(database, store, press, tmp_path / "out")
    assert (row.state, row.rows, row.percent, row.trouble) == ("done", 4, 100, None)
    assert row.size == path.stat().st_size
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [one["time"] for one in rows] == [
        "2026-10-25T02:30:00.000+02:00",
        "2026-10-25T02:15:00.000+01:00",
        "2026-10-25T03:00:00.000+01:00",
        "2026-10-25T03:45:00.000+01:00",
    ]
    assert [(one["value"], one["text"], one["quality"]) for one in rows] == [
        ("21.5", "", "good"),
        ("-3.0", "", "bad"),
        ("", "'=1+1", "good"),
        ("9007199254740992.0", "9007199254740993", "good"),
    ]
    assert {(one["asset"], one["asset_name"], one["unit"]) for one in rows} == {("P-1", "'=cmd|'/C calc'!A0", "°C")}


def test_TEL_4_TEL_6_an_export_holds_both_units_the_quality_and_what_makes_it_uncertain(
    database: sessionmaker[Session], store: DuckDbStore, press: dict[str, int], tmp_path: Path
) -> None:
    with db.transaction(database) as session:
        (metric,) = session.scalars(select(Metric).where(Metric.key == "temperature"))
        metric.sent_unit = "°F"
    sent = Readings.of(
        [press["temperature"]] * 4,
        [T0 + n for n in range(1, 5)],
        [100.0, 20.0, 21.0, 22.0],
        flags=[Flag.BAD, Flag.STUCK | Flag.CLOCK, Flag.CLOCK, Flag.UNCERTAIN],
    )
    # The third was converted when the metric was sent in kelvin: that it was 294.15 °F would be a lie.
    store.write(with_sent(sent, [212.0, 68.0, 294.15, NAN]))
    path, _ = exported(database, store, press, tmp_path / "out", metrics=["temperature"])
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:5]
    names = ("value", "unit", "quality", "reason", "original", "original_unit")
    assert [tuple(one[name] for name in names) for one in rows] == [
        ("21.5", "°C", "good", "", "", ""),
        ("100.0", "°C", "bad", "", "212.0", "°F"),
        ("20.0", "°C", "uncertain", "stuck", "68.0", "°F"),
        ("21.0", "°C", "uncertain", "clock", "294.15", ""),
        ("22.0", "°C", "uncertain", "", "", ""),
    ]


def test_TEL_8_a_cell_that_looks_like_a_formula_opens_as_text(
    database: sessionmaker[Session], store: DuckDbStore, press: dict[str, int], tmp_path: Path
) -> None:
    path, _ = exported(database, store, press, tmp_path / "out", format="xlsx")
    sheet = openpyxl.load_workbook(path).active
    assert sheet is not None
    heading = [cell.value for cell in sheet[1]]
    cells = {name: sheet.cell(4, column) for column, name in enumerate(heading, start=1)}
    assert (cells["text"].value, cells["text"].data_type) == ("=1+1", "s")
    assert (cells["asset_name"].value, cells["asset_name"].data_type) == ("=cmd|'/C calc'!A0", "s")
    assert cells["time"].value == datetime(2026, 10, 25, 3, 0)  # noqa: DTZ001 - a cell knows no zone
    assert cells["utc_offset_min"].value == 60
    assert sheet.max_row == 5


def test_TEL_8_a_parquet_file_holds_typed_columns(
    database: sessionmaker[Session], store: DuckDbStore, press: dict[str, int], tmp_path: Path
) -> None:
    path, _ = exported(database, store, press, tmp_path / "out", format="parquet", metrics=["temperature"])
    with duckdb.connect() as reader:
        rows = reader.execute("SELECT asset_name, value, text, quality FROM read_parquet(?)", [str(path)]).fetchall()
    assert rows[0] == ("=cmd|'/C calc'!A0", 21.5, None, "good")
    assert rows[2] == ("=cmd|'/C calc'!A0", None, "=1+1", "good")


def test_buckets_are_exported_by_the_clock_of_the_zone(
    database: sessionmaker[Session], store: DuckDbStore, press: dict[str, int], tmp_path: Path
) -> None:
    path, row = exported(database, store, press, tmp_path / "out", unit="day")
    with path.open(newline="", encoding="utf-8") as file:
        (day,) = csv.DictReader(file)
    assert (day["time"], day["end"]) == ("2026-10-25T00:00:00.000+02:00", "2026-10-26T00:00:00.000")
    # The bad one is in no bucket.
    assert (day["count"], day["min"], row.rows) == ("2", "21.5", 1)


def test_TEL_8_the_audit_row_holds_user_filter_and_count(
    database: sessionmaker[Session], store: DuckDbStore, press: dict[str, int], tmp_path: Path
) -> None:
    _, row = exported(database, store, press, tmp_path / "out")
    with database() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "telemetry.export")).one()
    assert (entry.actor, entry.subject) == (f"account:{press['account']}", f"export:{row.id}")
    assert entry.after == {"filter": row.wanted, "rows": 4}


def test_what_cannot_be_exported_is_refused_before_it_is_queued(session: Session, press: dict[str, int]) -> None:
    whose = {"company_id": press["company"], "account_id": press["account"], "actor": "account:1", "now": NOW}
    for wanted in (
        Wanted("csv", [], 0, 1, "UTC"),
        Wanted("csv", list(range(501)), 0, 1, "UTC"),
        Wanted("csv", [press["asset"]], 5, 5, "UTC"),
        Wanted("csv", [press["asset"]], 0, 10**12, "UTC", step_ms=1),
    ):
        with pytest.raises(Invalid):
            export.ask(session, wanted, **whose)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        export.find(session, 1, press["account"])


def test_an_export_whose_process_was_killed_or_stopped_is_begun_again(
    database: sessionmaker[Session], store: DuckDbStore, press: dict[str, int], tmp_path: Path
) -> None:
    path, row = exported(database, store, press, tmp_path / "out")
    path.unlink()
    with db.transaction(database) as session:
        again = session.get_one(Export, row.id)
        again.state, again.beat_at = "running", clock.now()
    assert not export.run_next(database, store, tmp_path / "out", is_stopping=lambda: False)
    with db.transaction(database) as session:
        session.get_one(Export, row.id).beat_at = clock.now() - timedelta(minutes=3)
    assert not export.run_next(database, store, tmp_path / "out", is_stopping=lambda: True)
    with database() as session:
        assert session.get_one(Export, row.id).state == "queued"
    assert export.run_next(database, store, tmp_path / "out", is_stopping=lambda: False)
    assert path.exists()


def test_a_file_is_removed_when_its_time_is_over(
    database: sessionmaker[Session], store: DuckDbStore, press: dict[str, int], tmp_path: Path
) -> None:
    path, row = exported(database, store, press, tmp_path / "out")
    export.sweep(database, tmp_path / "out")
    assert path.exists()
    with db.transaction(database) as session:
        session.get_one(Export, row.id).expires_at = clock.now() - timedelta(seconds=1)
    export.sweep(database, tmp_path / "out")
    assert not path.parent.exists()
    with database() as session:
        assert session.get_one(Export, row.id).state == "expired"


@pytest.mark.torture
def test_TEL_8_ten_million_points_stream_with_bounded_memory(
    database: sessionmaker[Session], store: DuckDbStore, press: dict[str, int], tmp_path: Path
) -> None:
    points = 10_000_000
    start = clock.to_ms(NOW) - points * 1000 // 2
    for first in range(0, points, 500_000):
        rows = start + (first + np.arange(500_000)) * 500
        store.write(Readings.of(np.full(500_000, press["pressure"]), rows, (rows % 977) / 7))
    while store.compact():
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    span = {"start_ms": start, "end_ms": start + points * 500, "metrics": ["pressure"]}
    for kind in ("csv", "parquet"):
        path, row = exported(database, store, press, tmp_path / "out", format=kind, **span)
        assert (row.state, row.rows) == ("done", points)
        with duckdb.connect() as reader:
            assert reader.execute(f"SELECT count(*) FROM read_{kind}(?)", [str(path)]).fetchall() == [(points,)]  # noqa: S608
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 900_000, "kB"
    _, row = exported(database, store, press, tmp_path / "out", format="xlsx", **span)
    assert row.state == "failed"
    assert "choose CSV" in (row.trouble or "")
