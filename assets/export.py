"""Exports: readings of chosen assets over a range, exact or in buckets, into a file for other programs (TEL-8).

A person asks, within sight; a row says how far it is. It is carried out by a process that reads the telemetry
store and serves the files, claimed by a row lock, and begun again if that process died. The audit trail says who
took what, and how many rows.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import measured, types
from assets.keeping_tables import Export
from assets.measured import Span
from assets.models import Asset, Metric
from assets.sheets import BUCKETS, RAW, Format, Gathering, gathering
from kernel import audit, clock, db, jobs, log
from kernel.errors import FixwrightError, Invalid, NotFound
from telemetry import buckets, quality
from telemetry.buckets import Unit
from telemetry.readings import Int64s, Readings
from telemetry.store import TelemetryStore

KEPT: Final = timedelta(days=7)
MOST_ASSETS: Final = 500
MOST_OPEN: Final = 5
"""Exports of one person that wait or run."""
_AT_ONCE: Final = 200_000
_BUCKETS_AT_ONCE: Final = 20_000
Beat = Callable[[float], None]


class Interrupted(Exception):
    """The process that carries an export out is asked to stop."""


class Wanted(msgspec.Struct, frozen=True):
    """What is exported. ``step_ms`` or ``unit`` make buckets; neither gives exact readings. Zones are IANA's."""

    format: Format
    assets: list[int]
    start_ms: int
    end_ms: int
    zone: str
    metrics: list[str] = []
    step_ms: int | None = None
    unit: Unit | None = None


def ask(session: Session, wanted: Wanted, *, company_id: int, account_id: int, actor: str, now: datetime) -> Export:
    """Queue an export of assets that the asker may read.

    Raises:
        Invalid: nothing is chosen, too much is, or the range cannot be read.
    """
    if not wanted.assets:
        raise Invalid("Please choose at least one asset.", field="asset")
    if len(wanted.assets) > MOST_ASSETS:
        raise Invalid("At most {most} assets fit into one export.", field="asset", most=MOST_ASSETS)
    try:
        buckets.check_range(wanted.start_ms, wanted.end_ms)
        if wanted.step_ms or wanted.unit:
            _edges(wanted)
    except ValueError as error:
        raise Invalid("The range cannot be read: {reason}.", field="from", reason=str(error)) from error
    mine = select(Export.id).where(Export.account_id == account_id, Export.state.in_(("queued", "running")))
    if len(session.scalars(mine).all()) >= MOST_OPEN:
        raise Invalid("At most {most} exports run at once; please wait for one to end.", field="", most=MOST_OPEN)
    day = clock.from_ms(wanted.start_ms).astimezone(ZoneInfo(wanted.zone)).date().isoformat()
    row = Export(
        company_id=company_id,
        account_id=account_id,
        actor=actor,
        state="queued",
        wanted=msgspec.to_builtins(wanted),
        file_name=f"readings-{day}.{wanted.format}",
        asked_at=now,
    )
    session.add(row)
    session.flush()
    return row


def find(session: Session, identity: int, account_id: int) -> Export:
    """Return an export of one's own.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    row = session.scalars(select(Export).where(Export.id == identity, Export.account_id == account_id)).one_or_none()
    if row is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return row


def listed(session: Session, account_id: int, *, after: int | None, limit: int) -> Sequence[Export]:
    """Return one's own exports, the newest first."""
    query = select(Export).where(Export.account_id == account_id).order_by(Export.id.desc()).limit(limit)
    return session.scalars(query if after is None else query.where(Export.id < after)).all()


def path(folder: Path, export: Export) -> Path:
    """Return where the file of an export lies, which may be gone."""
    return folder / str(export.id) / f"readings.{export.wanted['format']}"


# Carrying out -----------------------------------------------------------------------------------------------------


def run_next(
    sessions: sessionmaker[Session], store: TelemetryStore, folder: Path, *, is_stopping: Callable[[], bool]
) -> bool:
    """Carry out the next export that waits, or whose runner died; False when there is none.

    One that is interrupted waits again, and is begun anew.
    """
    now = clock.now()
    with db.transaction(sessions) as session:
        row = jobs.take(session, Export, now)
        if row is None:
            return False
        row.percent = 0
        identity, wanted = row.id, msgspec.convert(row.wanted, Wanted)
        target = path(folder, row)
    try:
        rows = _carry_out(store, wanted, target, sessions, _beats(sessions, identity, is_stopping))
    except Interrupted:
        with db.transaction(sessions) as session:
            session.get_one(Export, identity).state = "queued"
        return False
    except Exception as error:  # noqa: BLE001 - the edge of an export: it ends as failed, and says why
        _fail(sessions, identity, error)
    else:
        _finish(sessions, identity, target, rows)
    return True


def sweep(sessions: sessionmaker[Session], folder: Path) -> None:
    """Remove files whose time is over."""
    with db.transaction(sessions) as session:
        over = session.scalars(select(Export).where(Export.state == "done", Export.expires_at < clock.now())).all()
        for row in over:
            row.state = "expired"
            shutil.rmtree(path(folder, row).parent, ignore_errors=True)


def _carry_out(store: TelemetryStore, wanted: Wanted, target: Path, sessions: sessionmaker[Session], beat: Beat) -> int:
    with db.transaction(sessions) as session:
        lines = list(_lines(session, wanted))
    is_exact = wanted.step_ms is None and wanted.unit is None
    with gathering(target.parent, RAW if is_exact else BUCKETS) as gathered:
        for number, line in enumerate(lines):
            beat(number / len(lines) * 80)
            gather = _exact if is_exact else _bucketed
            gather(store, wanted, line, gathered, lambda: beat(number / len(lines) * 80))  # noqa: B023 - called at once
        beat(80)
        draft = target.with_name(f".{target.name}")
        gathered.write(draft, wanted.format, lambda: beat(90))
        draft.replace(target)
        return gathered.rows


@dataclass(frozen=True, slots=True)
class _Line:
    """One metric of one asset, with what its rows are labelled."""

    labels: tuple[str, str, str, str]
    spans: tuple[Span, ...]
    described: Metric | None


def _lines(session: Session, wanted: Wanted) -> Iterator[_Line]:
    for asset in session.scalars(select(Asset).where(Asset.id.in_(wanted.assets)).order_by(Asset.code)):
        described: dict[str, Metric] = types.metrics(session, asset.company_id, [asset.type_id])[asset.type_id]
        by_metric: dict[str, list[Span]] = {}
        for span in measured.of_asset(session, asset.id, wanted.metrics or None):
            by_metric.setdefault(span.metric, []).append(span)
        for metric, spans in by_metric.items():
            known = described.get(metric)
            yield _Line((asset.code, asset.name, metric, known.unit if known else ""), tuple(spans), known)


def _exact(store: TelemetryStore, wanted: Wanted, line: _Line, gathered: Gathering, beat: Callable[[], None]) -> None:
    block = gathered.label(*line.labels)
    zone = ZoneInfo(wanted.zone)
    for span in line.spans:
        begin, end = max(wanted.start_ms, span.starts_ms), min(wanted.end_ms, span.ends_ms)
        while begin < end:
            some = store.samples(span.series, begin, end, limit=_AT_ONCE)
            if not len(some):
                break
            gathered.add(block, *_local(some.ts_ms, zone), _columns(some, line.described))
            beat()
            begin = int(some.ts_ms[-1]) + 1
            if len(some) < _AT_ONCE:
                break


def _columns(some: Readings, metric: Metric | None) -> dict[str, Any]:
    original = np.full(len(some), np.nan) if some.sent is None else some.sent
    unit = np.full(len(some), None, np.object_) if metric is None else metric.unit_of(original, some.value)
    return {
        "value": some.value,
        "text": np.array(some.text if some.text is not None else [None] * len(some), np.object_),
        "quality": quality.words(some.flags),
        "reason": quality.reasons(some.flags),
        "original": original,
        "original_unit": unit,
    }


def _bucketed(
    store: TelemetryStore, wanted: Wanted, line: _Line, gathered: Gathering, beat: Callable[[], None]
) -> None:
    block = gathered.label(*line.labels)
    zone = ZoneInfo(wanted.zone)
    edges = _edges(wanted)
    for first in range(0, len(edges) - 1, _BUCKETS_AT_ONCE):
        part = edges[first : first + _BUCKETS_AT_ONCE + 1]
        (curve,) = measured.bucketed(store, line.spans, part)
        full = curve.count > 0
        names = ("count", "min", "max", "mean", "sum", "first", "last")
        columns = {name: getattr(curve, name)[full] for name in names}
        ends, _ = _local(curve.end_ms[full], zone)
        gathered.add(block, *_local(curve.start_ms[full], zone), {"end": ends, **columns})
        beat()


def _edges(wanted: Wanted) -> Int64s:
    if wanted.unit is not None:
        return buckets.calendar(wanted.start_ms, wanted.end_ms, unit=wanted.unit, zone=ZoneInfo(wanted.zone))
    return buckets.even(wanted.start_ms, wanted.end_ms, step_ms=wanted.step_ms)


def _local(ts_ms: Int64s, zone: ZoneInfo) -> tuple[Int64s, Int64s]:
    """Return times by a zone's wall clock, and its distance from UTC in minutes: looked up once a quarter hour."""
    quarters, which = np.unique(ts_ms // 900_000, return_inverse=True)
    offsets = np.array([_offset_min(int(quarter) * 900_000, zone) for quarter in quarters.tolist()], np.int64)
    offset = offsets[which] if len(offsets) else which.astype(np.int64)
    return ts_ms + offset * 60_000, offset


def _offset_min(ms: int, zone: ZoneInfo) -> int:
    offset = clock.from_ms(ms).astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds() // 60)


def _beats(sessions: sessionmaker[Session], identity: int, is_stopping: Callable[[], bool]) -> Beat:
    """Return what notes how far an export is, once a second at most; it raises ``Interrupted`` when it is to stop."""
    last = clock.now()

    def beat(percent: float) -> None:
        nonlocal last
        if is_stopping():
            raise Interrupted
        now = clock.now()
        if now - last < timedelta(seconds=1):
            return
        last = now
        with db.transaction(sessions) as session:
            row = session.get_one(Export, identity)
            row.beat_at, row.percent = now, max(row.percent, int(percent))

    return beat


def _finish(sessions: sessionmaker[Session], identity: int, target: Path, rows: int) -> None:
    now = clock.now()
    with db.transaction(sessions) as session:
        row = session.get_one(Export, identity)
        row.state, row.percent, row.rows, row.size = "done", 100, rows, target.stat().st_size
        row.ended_at, row.expires_at = now, now + KEPT
        audit.record(
            session,
            "telemetry.export",
            subject=f"export:{row.id}",
            actor=row.actor,
            at=now,
            after={"filter": row.wanted, "rows": rows},
            company_id=row.company_id,
        )


def _fail(sessions: sessionmaker[Session], identity: int, error: Exception) -> None:
    log.of(__name__).warning("an export failed", export=identity, error=repr(error))
    told = str(error) if isinstance(error, (ValueError, FixwrightError)) else type(error).__name__
    with db.transaction(sessions) as session:
        row = session.get_one(Export, identity)
        row.state, row.trouble, row.ended_at = "failed", told[:300], clock.now()
