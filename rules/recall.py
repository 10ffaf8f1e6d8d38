"""What series said before, read from the telemetry store for rules that look back (RUL-7, RUL-13).

Windows keep no memory of their own in the state of a rule: a reading is stored before it is evaluated, so the store
knows all that a window may hold, after a restart or at another worker.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import numpy as np

from rules import bad_values
from rules.histories import LONGEST_MS, History, Recall, Wanted
from rules.said import number_of
from telemetry.buckets import MAX_SPAN_MS
from telemetry.readings import Float64s, Int64s, Readings
from telemetry.store import TelemetryStore

_FIRST_MS: Final = 3_600_000
_TOGETHER: Final = 200
_AT_ONCE: Final = 500_000

_Columns = tuple[Int64s, Float64s]


Bad = Callable[[], Collection[int]]
"""Returns the series of which rules use bad values too."""


def _none() -> Collection[int]:
    return ()


def from_store(store: TelemetryStore, bad: Bad = _none) -> Recall:
    """Return what reads histories from a store; ``bad`` is asked each time."""

    def recall(wanted: Mapping[int, Wanted]) -> dict[int, History]:
        found: dict[int, History] = {}
        uses_bad = bad()
        ordered = sorted(wanted, key=lambda series: _begin_ms(wanted[series]))
        for at in range(0, len(ordered), _TOGETHER):
            some = ordered[at : at + _TOGETHER]
            for series, columns in _read_together(store, some, wanted, uses_bad).items():
                found[series] = _history(store, series, wanted[series], columns, uses_bad)
        return found

    return recall


def _begin_ms(wanted: Wanted) -> int:
    """Return where to begin to read; nobody knows how far apart samples are, so their number is a guess."""
    reach = wanted.reach
    return max(0, wanted.since_ms - max(reach.ms, _FIRST_MS if reach.samples else 0))


def _read_together(
    store: TelemetryStore, series: Sequence[int], wanted: Mapping[int, Wanted], uses_bad: Collection[int]
) -> dict[int, _Columns]:
    begin_ms = _begin_ms(wanted[series[0]])
    try:
        found = store.readings(series, begin_ms, begin_ms + MAX_SPAN_MS, limit=_AT_ONCE)
    except ValueError:
        # So many that they are better read one series after the other.
        return {
            one: _read(store, one, begin_ms, begin_ms + MAX_SPAN_MS, uses_bad)
            for one in series
            for begin_ms in [_begin_ms(wanted[one])]
        }
    numbers = _numbers(found, uses_bad)
    begins = np.searchsorted(found.series, series).tolist()
    ends = np.searchsorted(found.series, series, "right").tolist()
    parts = zip(series, begins, ends, strict=True)
    return {one: (found.ts_ms[begin:end], numbers[begin:end]) for one, begin, end in parts}


def _history(store: TelemetryStore, series: int, wanted: Wanted, found: _Columns, uses_bad: Collection[int]) -> History:
    reach, since_ms = wanted.reach, wanted.since_ms
    begin_ms = _begin_ms(wanted)
    # A number of samples is looked for further and further back.
    while _until(found, since_ms) < reach.samples and begin_ms > max(0, since_ms - LONGEST_MS):
        earlier_ms = max(0, since_ms - min(4 * max(since_ms - begin_ms, 1), LONGEST_MS))
        older = _read(store, series, earlier_ms, begin_ms, uses_bad)
        found = (np.concatenate([older[0], found[0]]), np.concatenate([older[1], found[1]]))
        begin_ms = earlier_ms
    history = History(*found)
    history.forget(since_ms, reach)
    return history


def _until(found: _Columns, since_ms: int) -> int:
    return int(np.count_nonzero((found[0] <= since_ms) & np.isfinite(found[1])))


def _read(store: TelemetryStore, series: int, begin_ms: int, end_ms: int, uses_bad: Collection[int]) -> _Columns:
    ts_ms, values = [np.empty(0, np.int64)], [np.empty(0, np.float64)]
    while begin_ms < end_ms:
        some = store.samples(series, begin_ms, end_ms, limit=_AT_ONCE)
        ts_ms.append(some.ts_ms)
        values.append(_numbers(some, uses_bad))
        if len(some) < _AT_ONCE:
            break
        begin_ms = int(some.ts_ms[-1]) + 1
    return np.concatenate(ts_ms), np.concatenate(values)


def _numbers(readings: Readings, uses_bad: Collection[int]) -> Float64s:
    """Return what rules see of readings: texts that read as numbers are numbers, what is bad or history is nothing.

    What is bad of the series ``uses_bad`` is seen too, as it was when it came.
    """
    values = readings.value.copy()
    if readings.text is not None:
        for row in np.flatnonzero(np.isnan(values)).tolist():
            said = readings.text[row]
            number = None if said is None else number_of(said)
            values[row] = np.nan if number is None else number
    values[~bad_values.is_used(readings, uses_bad)] = np.nan
    return values
