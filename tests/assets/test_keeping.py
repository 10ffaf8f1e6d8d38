"""How long readings are kept: types, holds and alarms put together, and what the store then still has."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import keeping, types
from assets.models import AssetType, Device
from assets.types import TypeDraft
from ingest import housekeeping
from kernel import clock, db, settings
from kernel.errors import Conflict, Invalid
from kernel.models import AuditEntry
from rules import cited
from telemetry import buckets
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from telemetry.readings import Readings
from telemetry.retention import DAY_MS, HOUR_MS, NEVER, Lifetimes
from tests import factories
from tests.factories import Company

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
NOW_MS = clock.to_ms(NOW)
DEFAULT = Lifetimes(730, 1825, 7300)


def numbers(session: Session, device: Device) -> dict[str, int]:
    return {row.metric: row.id for row in session.scalars(select(Series).where(Series.device_id == device.id))}


@pytest.fixture
def acme(session: Session) -> Company:
    return factories.company(session)


def keep(session: Session, kind: AssetType, wanted: Lifetimes | None, *, has_tiers: bool = True) -> None:
    keeping.state(session, kind, wanted, has_tiers=has_tiers, actor="account:1", now=NOW)


def test_TEL_5_a_type_states_its_own_lifetimes_and_those_below_inherit_them(session: Session, acme: Company) -> None:
    parent = factories.asset_type(session, acme)
    draft = TypeDraft("small", "Small", parent_id=parent.id)
    child = types.add(session, draft, company_id=acme.id, actor="account:1", now=NOW)
    keep(session, parent, Lifetimes(30, 90, 3650))
    found = keeping.lifetimes(session, acme.id, [parent.id, child.id])
    assert found == {identity: (Lifetimes(30, 90, 3650), parent.id) for identity in (parent.id, child.id)}
    keep(session, child, Lifetimes(7, 0, 365))
    assert keeping.lifetimes(session, acme.id, [child.id])[child.id] == (Lifetimes(7, 0, 365), child.id)
    keep(session, child, None)
    keep(session, parent, None)
    assert keeping.lifetimes(session, acme.id, [parent.id, child.id]) == {}
    told = session.scalars(select(AuditEntry.after).where(AuditEntry.action == "type.retention")).all()
    assert told == [
        {"raw_days": 30, "minute_days": 90, "hour_days": 3650},
        {"raw_days": 7, "minute_days": 0, "hour_days": 365},
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (Lifetimes(0, 0, 10), "raw_days"),
        (Lifetimes(10, 5, 10), "minute_days"),
        (Lifetimes(10, 20, 15), "hour_days"),
        (Lifetimes(10, 0, 9), "hour_days"),
        (Lifetimes(10, 0, 40_000), "hour_days"),
    ],
)
def test_lifetimes_that_make_no_sense_are_refused(
    session: Session, acme: Company, wanted: Lifetimes, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        keep(session, factories.asset_type(session, acme), wanted)
    assert refused.value.field == field


def test_TEL_10_a_server_that_keeps_all_alike_refuses_lifetimes_by_name(session: Session, acme: Company) -> None:
    with pytest.raises(Conflict, match="embedded store"):
        keep(session, factories.asset_type(session, acme), Lifetimes(30, 90, 3650), has_tiers=False)


def test_each_series_has_the_horizon_of_its_asset_and_a_hold_keeps_everything(session: Session, acme: Company) -> None:
    press = factories.asset_type(session, acme, "press")
    keep(session, press, Lifetimes(30, 90, 3650))
    plain, pressing, held = (
        factories.asset(session, acme),
        factories.asset(session, acme, type_id=press.id),
        factories.asset(session, acme, type_id=press.id),
    )
    devices = [factories.device(session, acme, on=asset) for asset in (plain, pressing, held)]
    keeping.hold(session, held, "insurance case 17", actor="account:1", now=NOW)
    found = keeping.own_horizons(session, DEFAULT, NOW_MS)
    by_horizon = {horizon: set(series.tolist()) for horizon, series in found.items()}
    assert by_horizon == {
        Lifetimes(30, 90, 3650).horizon(NOW_MS): set(numbers(session, devices[1]).values()),
        NEVER: set(numbers(session, devices[2]).values()),
    }
    with pytest.raises(Conflict):
        keeping.hold(session, held, "again", actor="account:1", now=NOW)
    keeping.release(session, held, actor="account:1", now=NOW)
    assert NEVER not in keeping.own_horizons(session, DEFAULT, NOW_MS)
    with pytest.raises(Conflict):
        keeping.release(session, held, actor="account:1", now=NOW)


def test_an_alarm_cites_its_metrics_on_the_device_that_spoke_then(session: Session, acme: Company) -> None:
    asset = factories.asset(session, acme)
    device = factories.device(session, acme, on=asset)
    series = numbers(session, device)
    began = NOW - timedelta(days=300)
    samples = [{"metric": "pressure", "ts_ms": 1, "value": 2.0}]
    factories.alarm(
        session, asset, metric="temperature", began_at=began, raised_at=began, ended_at=began + timedelta(hours=2),
        is_active=False, evidence={"samples": samples},
    )  # fmt: skip
    factories.alarm(session, factories.asset(session, acme), metric=None, began_at=began, raised_at=began)
    found = cited.spans(session)
    assert set(found.series.tolist()) == {series["temperature"], series["pressure"]}
    began_ms = clock.to_ms(began)
    assert set(found.from_ms.tolist()) == {began_ms - HOUR_MS}
    assert set(found.to_ms.tolist()) == {began_ms + 3 * HOUR_MS + 1}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    with closing(DuckDbStore(tmp_path / "t.duckdb", hot_rows=1000, fan_in=2)) as opened:
        yield opened


def test_TEL_5_after_expiry_the_alarm_of_last_year_still_shows_its_samples_and_the_hourly_tier_answers(
    database: sessionmaker[Session], store: DuckDbStore, tmp_path: Path
) -> None:
    began = NOW - timedelta(days=380)
    with db.transaction(database) as session:
        acme = factories.company(session)
        asset, held = factories.asset(session, acme), factories.asset(session, acme)
        series = numbers(session, factories.device(session, acme, on=asset))
        on_hold = numbers(session, factories.device(session, acme, on=held))
        factories.alarm(
            session, asset, metric="temperature", began_at=began, raised_at=began,
            ended_at=began + timedelta(hours=1), is_active=False,
        )  # fmt: skip
        keeping.hold(session, held, "a claim", actor="account:1", now=NOW)
    began_ms = clock.to_ms(began)
    first = began_ms // HOUR_MS * HOUR_MS - 12 * HOUR_MS
    minutes = first + np.arange(1440) * 60_000
    for number in (series["temperature"], on_hold["temperature"]):
        store.write(Readings.of(np.full(1440, number), minutes, np.arange(1440) % 50))
    short = settings.load(data_dir=tmp_path, retention_days=30, retention_minute_days=60, retention_hour_days=3650)
    housekeeping.forget(database, store, short, now=NOW)
    left = store.samples(series["temperature"], first, first + DAY_MS, limit=9999).ts_ms
    assert left.tolist() == [ts for ts in minutes.tolist() if began_ms - HOUR_MS <= ts <= began_ms + 2 * HOUR_MS]
    hours = store.aggregate([series["temperature"]], buckets.even(first, first + DAY_MS, step_ms=HOUR_MS))
    assert hours.count.tolist() == [[60] * 24]
    assert hours.max.max() == 49
    assert len(store.samples(on_hold["temperature"], first, first + DAY_MS, limit=9999)) == 1440
