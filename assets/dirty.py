"""The ledger of hours out of which something is to be worked out anew: who notes them, and who takes them up.

A live reading costs nothing here. Its hour is noted once, when it is over (``close``), for all series that anything is
derived from. Only a reading whose hour is over already is noted by itself (``mark_late``), after it is stored and
before it is acknowledged. Whoever works a span out reads the store later than the note was made, so it sees either
the reading or a newer note.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from assets.derived_tables import Derivation, DirtySpan, HoursClosed
from assets.models import Asset, AssetType, Binding, Metric
from kernel import clock
from telemetry.derived import hour_of
from telemetry.models import Series
from telemetry.readings import Int64s
from telemetry.retention import HOUR_MS

GRACE_MS: Final = 120_000
"""How long after its end an hour still takes readings without a note of each."""
SLACK_MS: Final = 30_000
"""How much later than that it is closed, so that clocks of several processes need not agree to the second."""
SETTLED: Final = timedelta(seconds=20)
"""A note is left alone for so long: who notes the same again within half of it need not, and late data mostly comes
in floods, which are then worked out once."""


@dataclass(frozen=True, slots=True)
class Span:
    """A note as it was read: device time ``[from_ms, to_ms)`` of a series."""

    series: int
    from_ms: int
    to_ms: int
    marked_at: datetime


def over_until(now_ms: int) -> int:
    """Return until when hours are over for good: a reading before it is late."""
    return hour_of(now_ms - GRACE_MS)


def is_anything_derived(session: Session) -> bool:
    """Return whether there is any recipe at all."""
    return bool(session.scalar(select(select(Derivation.metric_id).exists())))


def mark_late(session: Session, series: Int64s, hour_ms: Int64s, now: datetime) -> None:
    """Note the hours of late readings, pairs each given once, as far as anything is derived from their series."""
    late = (
        func.unnest(cast(series.tolist(), ARRAY(BigInteger)), cast(hour_ms.tolist(), ARRAY(BigInteger)))
        .table_valued("series_id", "from_ms", name="late")
        .render_derived()
    )
    rows = _concerned(late.c.series_id, late.c.from_ms, late.c.from_ms + HOUR_MS, now)
    _note(session, rows.join(late, late.c.series_id == Series.id))


def mark_series(session: Session, numbers: Iterable[int], from_ms: int, to_ms: int, now: datetime) -> None:
    """Note a span of some series, as far as anything is derived from them."""
    rows = _concerned(Series.id, literal(from_ms), literal(to_ms), now)
    _note(session, rows.where(Series.id.in_(list(numbers))))


def mark_device(session: Session, device_id: int, from_ms: int, to_ms: int, now: datetime) -> None:
    """Note a span of all that a device sends: it begins or ceases to speak for an asset."""
    rows = _concerned(Series.id, literal(from_ms), literal(to_ms), now)
    _note(session, rows.where(Series.device_id == device_id))


def mark_asset(
    session: Session, asset_id: int, from_ms: int, to_ms: int, now: datetime, *, metric: str | None = None
) -> None:
    """Note a span of all that is measured on an asset, or of one metric."""
    rows = _concerned(Series.id, literal(from_ms), literal(to_ms), now).where(Binding.asset_id == asset_id)
    _note(session, rows if metric is None else rows.where(Series.metric == metric))


def mark_types(session: Session, type_ids: Sequence[int], metric: str | None, now: datetime) -> None:
    """Note all there is of a metric on the assets of some types, of all metrics if None: a recipe has changed."""
    rows = _concerned(Series.id, literal(0), literal(over_until(clock.to_ms(now))), now)
    rows = rows.where(Asset.type_id.in_(type_ids))
    _note(session, rows if metric is None else rows.where(Series.metric == metric))


def close(session: Session, now: datetime) -> bool:
    """Note the hours that are over since the last time; return whether there were any."""
    until_ms = hour_of(clock.to_ms(now) - GRACE_MS - SLACK_MS)
    row = session.get(HoursClosed, 1, with_for_update=True)
    if row is None:
        # What came before the first time is noted with the recipe that asks for it.
        session.execute(upsert(HoursClosed).values(id=1, until_ms=until_ms).on_conflict_do_nothing())
        return False
    if row.until_ms >= until_ms:
        return False
    begin_ms, row.until_ms = row.until_ms, until_ms
    # Nobody has noted these hours one by one, and who takes them up need not wait for a flood to end.
    noted = now - SETTLED
    _note(session, _concerned(Series.id, literal(begin_ms), literal(until_ms), noted))
    return True


def take(session: Session, now: datetime, *, limit: int) -> list[Span]:
    """Return notes that are due, the oldest first. They stay until they are settled."""
    rows = session.scalars(
        select(DirtySpan).where(DirtySpan.marked_at <= now - SETTLED).order_by(DirtySpan.marked_at).limit(limit)
    )
    return [Span(row.series_id, row.from_ms, row.to_ms, row.marked_at) for row in rows]


def settle(session: Session, spans: Iterable[Span]) -> None:
    """Remove notes that were worked out, but for those that were made anew meanwhile."""
    keys = [(one.series, one.from_ms, one.to_ms, one.marked_at) for one in spans]
    if keys:
        made = tuple_(DirtySpan.series_id, DirtySpan.from_ms, DirtySpan.to_ms, DirtySpan.marked_at)
        session.query(DirtySpan).where(made.in_(keys)).delete(synchronize_session=False)


def _concerned(
    series: ColumnElement[int] | Any,  # noqa: ANN401 - a mapped attribute is a column too
    from_ms: ColumnElement[int],
    to_ms: ColumnElement[int],
    now: datetime,
) -> Select[Any]:
    """Return a query of spans of the series that anything is derived from, while they speak for their asset."""
    below = (
        select(Metric.type_id.label("type_id"), Derivation.source.label("source"))
        .join(Derivation, Derivation.metric_id == Metric.id)
        .cte("below", recursive=True)
    )
    below = below.union(select(AssetType.id, below.c.source).join(below, AssetType.parent_id == below.c.type_id))
    return (
        select(series, from_ms, to_ms, literal(now))
        .select_from(Series)
        .join(Binding, Binding.device_id == Series.device_id)
        .join(Asset, Asset.id == Binding.asset_id)
        .join(below, (below.c.type_id == Asset.type_id) & (below.c.source == Series.metric))
        .where(
            func.extract("epoch", Binding.starts_at) * 1000 < to_ms,
            Binding.ends_at.is_(None) | (func.extract("epoch", Binding.ends_at) * 1000 > from_ms),
        )
        .distinct()
    )


def _note(session: Session, rows: Select[Any]) -> None:
    written = upsert(DirtySpan).from_select(["series_id", "from_ms", "to_ms", "marked_at"], rows)
    session.execute(
        written.on_conflict_do_update(
            index_elements=["series_id", "from_ms"],
            set_={
                "to_ms": func.greatest(DirtySpan.to_ms, written.excluded.to_ms),
                "marked_at": func.greatest(DirtySpan.marked_at, written.excluded.marked_at),
            },
        )
    )
