"""What a worker that starts knows of its series: the value that was evaluated last of each, where that is known.

For ``rules.evaluation``. A kill between the commit of readings and their evaluation leaves values in the store that no
rule has seen. They come again and are evaluated then, so until they do a rule holds what it held before them: else a
rule over several metrics would judge the first of them beside the last, and miss what lay between (ADR 9).
"""

from collections.abc import Collection
from datetime import datetime
from typing import Final

import numpy as np

from kernel import clock
from rules import bad_values, marks
from rules.columns import Int64s
from rules.marks import Marks
from rules.outcome import LONG_AGO, HeldColumns
from telemetry import readings
from telemetry.readings import Readings
from telemetry.store import TelemetryStore

_TOGETHER: Final = 500
_SPAN_MS: Final = 60_000
_MOST_READS: Final = 200
"""A kill leaves one batch unseen, whose marks lie close together. Series whose marks lie far back are those of devices
that send only what is not judged; the nearest are read, and the others go on from their newest value."""
_AT_ONCE: Final = 500_000


def known(
    store: TelemetryStore, series: Int64s, kept: Marks, *, bad: Collection[int] = (), now: datetime
) -> tuple[HeldColumns, Int64s]:
    """Return what is held of series, each once, and up to when each was evaluated, ``LONG_AGO`` where nobody knows.

    Where what was evaluated last cannot be read any more, the newest stored value stands for it. ``bad``: series of
    which bad values are used too.
    """
    newest = store.newest(series)
    mark_ms = kept.of(newest.series)
    # What was evaluated had been stored; where it is not, readings or marks are those of another time.
    is_marked = (mark_ms != marks.NEVER) & (mark_ms <= newest.ts_ms)
    mark_ms = np.where(is_marked, mark_ms, LONG_AGO)
    behind = is_marked & (mark_ms < newest.ts_ms)
    evaluated = _read_back(store, newest.series[behind], mark_ms[behind], bad)
    is_used = bad_values.is_used(newest, bad)
    is_rest = is_used & ~(behind & np.isin(newest.series, evaluated.series))
    held = _held(readings.concatenate([newest.select(is_rest), evaluated]), now)
    order = np.argsort(newest.series, kind="stable")
    place = order[np.searchsorted(newest.series, held.series, sorter=order)]
    return held, mark_ms[place]


def _read_back(store: TelemetryStore, series: Int64s, mark_ms: Int64s, bad: Collection[int]) -> Readings:
    """Return the readings of series at their marks, those of the latest marks first, as many as can be read soon."""
    found: list[Readings] = []
    order = np.argsort(-mark_ms, kind="stable")
    begin = 0
    while begin < len(order) and len(found) < _MOST_READS:
        latest_ms = int(mark_ms[order[begin]])
        end = int(np.searchsorted(-mark_ms[order], _SPAN_MS - latest_ms, "right"))
        some = order[begin : min(end, begin + _TOGETHER)]
        begin += len(some)
        found.append(_at(store, series[some], mark_ms[some], bad))
    return readings.concatenate(found)


def _at(store: TelemetryStore, series: Int64s, mark_ms: Int64s, bad: Collection[int]) -> Readings:
    first_ms, end_ms = int(mark_ms.min()), int(mark_ms.max()) + 1
    try:
        some = store.readings(series.tolist(), first_ms, end_ms, limit=_AT_ONCE)
    except ValueError:
        # More than can be read at once: they go on from their newest value.
        return Readings.empty()
    order = np.argsort(series, kind="stable")
    wanted_ms = mark_ms[order[np.searchsorted(series, some.series, sorter=order)]]
    return some.select((some.ts_ms == wanted_ms) & bad_values.is_used(some, bad))


def _held(found: Readings, now: datetime) -> HeldColumns:
    told = zip(found.series.tolist(), found.text or (), strict=False)
    # When it arrived is not stored; a live device's readings arrive as they are measured.
    arrived_ms = np.minimum(found.ts_ms, clock.to_ms(now))
    said = {number: word for number, word in told if word is not None}
    return HeldColumns(found.series, found.ts_ms, found.value, arrived_ms, said)
