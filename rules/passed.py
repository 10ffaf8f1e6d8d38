"""Readings that one worker passes on to another, because a rule on an asset of that one looks at them (OPS-8).

Where several workers share the assets, a rule that looks at other assets may need what each of them hears. So it is
evaluated out of a ledger. Every worker enters what it hears of such a rule's series, of its own asset too, in the
transaction of its batch. Whoever evaluates the asset takes it up ``SETTLED`` later, in the order of device time. What
then is older than the rule has come to is late, and judged at its own time (A18). The newest reading taken of each
series stays in the ledger, so that the next owner of the asset goes on exactly where this one was.

Derived values come the same way, to all rules of their asset, because one worker works them out for all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import BigInteger, Boolean, ColumnElement, Float, Select, Text, cast, delete, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from assets.models import Binding
from kernel import clock
from rules.models import PassedReading
from rules.outcome import HeldColumns
from telemetry.models import Series
from telemetry.readings import Float64s, Int64s, Mask, Texts

SETTLED: Final = timedelta(seconds=1)
"""For so long readings of several workers are gathered before they are evaluated in order. It is also as long as a
store may take to show what was written."""
_MOST: Final = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """Entries as columns: for the rules of which asset, and the reading."""

    asset: Int64s
    series: Int64s
    ts_ms: Int64s
    value: Float64s
    text: Texts | None
    is_past: Mask
    is_derived: Mask

    def __len__(self) -> int:
        return len(self.asset)

    def at(self, rows: Int64s) -> "Passed":
        """Return some of the rows."""
        text = None if self.text is None else [self.text[row] for row in rows.tolist()]
        asset, series, ts_ms = self.asset[rows], self.series[rows], self.ts_ms[rows]
        return Passed(asset, series, ts_ms, self.value[rows], text, self.is_past[rows], self.is_derived[rows])


class Watchers:
    """Which assets have a rule that looks at a series and at other assets besides."""

    def __init__(self, assets_of: Mapping[int, Iterable[int]]) -> None:
        self._assets = {series: sorted(assets) for series, assets in assets_of.items()}
        self._series = np.array(sorted(self._assets), np.int64)

    def among(self, series: Int64s) -> Int64s:
        """Return the rows of those series that anybody looks at."""
        if not len(self._series):
            return np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(self._series, series), len(self._series) - 1)
        return np.flatnonzero(self._series[at] == series)

    def entries(self, series: Int64s, ts_ms: Int64s, value: Float64s, text: Texts | None, past: Mask | None) -> Passed:
        """Return what is to be entered of some readings; ``past``: which of them were sent as history."""
        rows = self.among(series).tolist()
        told = [(row, asset) for row in rows for asset in self._assets[int(series[row])]]
        at = np.array([row for row, _ in told], np.int64)
        return Passed(
            np.array([asset for _, asset in told], np.int64),
            series[at],
            ts_ms[at],
            value[at],
            None if text is None else [text[row] for row, _ in told],
            np.zeros(len(at), np.bool_) if past is None else past[at],
            np.zeros(len(at), np.bool_),
        )


# Entered ----------------------------------------------------------------------------------------------------------


def enter(session: Session, entries: Passed, *, now: datetime) -> None:
    """Enter readings. What was entered before changes nothing, unless it says something else now."""
    keys = np.stack([entries.asset, entries.series, entries.ts_ms, entries.is_derived.astype(np.int64)])
    # In one order for all workers, and of one batch the later of two readings with one key, as in the store.
    order = np.lexsort(keys[::-1])
    is_last = np.append((keys[:, order][:, 1:] != keys[:, order][:, :-1]).any(axis=0), True)[: len(order)]
    chosen = order[is_last]
    for begin in range(0, len(chosen), _MOST):
        _insert(session, entries.at(chosen[begin : begin + _MOST]), now, is_taken=False)


def _insert(session: Session, entries: Passed, now: datetime, *, is_taken: bool) -> None:
    columns: list[tuple[str, list[Any], Any]] = [
        ("asset_id", entries.asset.tolist(), BigInteger),
        ("series_id", entries.series.tolist(), BigInteger),
        ("ts_ms", entries.ts_ms.tolist(), BigInteger),
        ("is_derived", entries.is_derived.tolist(), Boolean),
        ("value", entries.value.tolist(), Float),
        ("text", list(entries.text or [None] * len(entries)), Text),
        ("is_past", entries.is_past.tolist(), Boolean),
    ]
    names = [name for name, _, _ in columns]
    rows = (
        func.unnest(*(cast(column, ARRAY(kind)) for _, column, kind in columns))
        .table_valued(*names, name="entered")
        .render_derived()
    )
    statement = upsert(PassedReading).from_select(
        [*names, "is_taken", "at"], select(*(rows.c[name] for name in names), literal(is_taken), literal(now))
    )
    fresh, known = statement.excluded, PassedReading.__table__.c
    session.execute(
        statement.on_conflict_do_update(
            index_elements=names[:4],
            set_={name: fresh[name] for name in ("value", "text", "is_past", "is_taken", "at")},
            where=or_(
                known.value.is_distinct_from(fresh.value), known.text.is_distinct_from(fresh.text), fresh.is_taken
            ),
        )
    )


def derived(session: Session, series: Int64s, ts_ms: Int64s, value: Float64s) -> Passed:
    """Return derived values as entries for the rules of the assets that they were worked out on."""
    numbers = np.unique(series).tolist()
    query = (
        select(Series.id, Binding.asset_id)
        .join(Binding, Binding.device_id == Series.device_id)
        .where(Series.id.in_(numbers), Binding.ends_at.is_(None))
    )
    assets = {number: asset for number, asset in session.execute(query)}  # noqa: C416 - rows are no pairs to mypy
    asset = np.array([assets.get(number, -1) for number in series.tolist()], np.int64)
    rows = asset >= 0
    none = np.zeros(int(np.count_nonzero(rows)), np.bool_)
    return Passed(asset[rows], series[rows], ts_ms[rows], value[rows], None, none, ~none)


# Taken ------------------------------------------------------------------------------------------------------------


def due(session: Session, mine: Select[int] | None, *, now: datetime) -> Passed:
    """Return what waits for the rules of some assets (None: of all) and has settled, the oldest entries first.

    It stays locked until it is settled, so that nothing entered meanwhile is lost with it.
    """
    query = (
        select(PassedReading)
        .where(~PassedReading.is_taken, PassedReading.at <= now - SETTLED)
        .order_by(PassedReading.at, PassedReading.ts_ms)
        .limit(_MOST)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if mine is not None:
        query = query.where(PassedReading.asset_id.in_(mine))
    return _columns(session.scalars(query).all())


def settle(session: Session, entries: Passed, evaluated: Mask, *, now: datetime) -> None:
    """Take entries out of the ledger; of those that were evaluated the newest of each series stay as taken."""
    keys = _rows(entries)
    session.execute(
        delete(PassedReading)
        .where(
            PassedReading.asset_id == keys.c.asset_id,
            PassedReading.series_id == keys.c.series_id,
            PassedReading.ts_ms == keys.c.ts_ms,
            PassedReading.is_derived == keys.c.is_derived,
        )
        .execution_options(synchronize_session=False)
    )
    rows = np.flatnonzero(evaluated)
    rows = rows[np.lexsort((entries.ts_ms[rows], entries.series[rows], entries.asset[rows]))]
    asset, series = entries.asset[rows], entries.series[rows]
    is_last = np.append((asset[1:] != asset[:-1]) | (series[1:] != series[:-1]), True)[: len(rows)]
    kept = entries.at(rows[is_last])
    if not len(kept):
        return
    older = _rows(kept)
    session.execute(
        delete(PassedReading)
        .where(
            PassedReading.asset_id == older.c.asset_id,
            PassedReading.series_id == older.c.series_id,
            PassedReading.is_taken,
            PassedReading.ts_ms <= older.c.ts_ms,
        )
        .execution_options(synchronize_session=False)
    )
    _insert(session, kept, now, is_taken=True)


def _rows(entries: Passed) -> Any:  # noqa: ANN401 - a table of four columns
    return (
        func.unnest(
            cast(entries.asset.tolist(), ARRAY(BigInteger)),
            cast(entries.series.tolist(), ARRAY(BigInteger)),
            cast(entries.ts_ms.tolist(), ARRAY(BigInteger)),
            cast(entries.is_derived.tolist(), ARRAY(Boolean)),
        )
        .table_valued("asset_id", "series_id", "ts_ms", "is_derived", name="named")
        .render_derived()
    )


def clear(session: Session) -> None:
    """Empty the ledger: one process evaluates all there is again."""
    session.execute(delete(PassedReading))


# Handed over ------------------------------------------------------------------------------------------------------


def taken_for(session: Session, assets: Iterable[int]) -> HeldColumns:
    """Return the newest readings that have been evaluated out of the ledger for some assets, sorted by time."""
    query = select(PassedReading).where(PassedReading.is_taken, PassedReading.asset_id.in_(sorted(assets)))
    found = session.scalars(query.order_by(PassedReading.ts_ms)).all()
    columns = _columns(found)
    said = {one.series_id: one.said for one in found if one.said is not None}
    arrived_ms = np.array([clock.to_ms(one.at) for one in found], np.int64)
    return HeldColumns(columns.series, columns.ts_ms, columns.value, arrived_ms, said)


def waiting_for(session: Session, assets: Iterable[int]) -> frozenset[int]:
    """Return the series of which something waits for the rules of some assets."""
    query = select(PassedReading.series_id).where(~PassedReading.is_taken, PassedReading.asset_id.in_(sorted(assets)))
    return frozenset(session.scalars(query.distinct()))


def waits_in(claimed: ColumnElement[bool]) -> Select[int]:
    """Return a query for the assets for whose rules something waits, as far as a condition on them holds."""
    return select(PassedReading.asset_id).where(~PassedReading.is_taken, claimed).distinct()


def _columns(found: Sequence[PassedReading]) -> Passed:
    text = [one.said for one in found]
    return Passed(
        np.array([one.asset_id for one in found], np.int64),
        np.array([one.series_id for one in found], np.int64),
        np.array([one.ts_ms for one in found], np.int64),
        np.array([one.value for one in found], np.float64),
        text if any(said is not None for said in text) else None,
        np.array([one.is_past for one in found], np.bool_),
        np.array([one.is_derived for one in found], np.bool_),
    )
