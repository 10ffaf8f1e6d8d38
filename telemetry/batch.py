"""What the rows of a batch do to each other and to what is stored: repetition, correction, or news.

Pure; shared by every store, so that all of them count as if rows had been written one by one, in order.
"""

import numpy as np

from telemetry.readings import Int64s, Mask, Readings, Written, same

_INT64_ROOM = 2**62


class Batch:
    """A batch of n readings under its k distinct keys, which are sorted by series and time.

    ``final``: k readings, what the batch leaves behind for each key: the last row that has it.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._is_duplicate: Mask = np.zeros(len(readings), np.bool_)
        self._is_correction: Mask = np.zeros(len(readings), np.bool_)
        order = _by_key(readings)
        again = _repeats(readings, order)
        if again.any():
            # The fast sort leaves the order of equal keys open; only a batch that has some pays for a stable one.
            order = np.lexsort((readings.ts_ms, readings.series))
            rows = np.flatnonzero(again)
            self._mark(order[rows], same(readings.select(order[rows - 1]), readings.select(order[rows])))
        self._first = order[~again]
        self.final = readings.select(order[~np.append(again[1:], False)] if len(order) else order)

    def meet(self, keys: Int64s, stored: Readings, *, rtol: float = 0.0) -> Int64s:
        """Take note of what is stored under some keys (int64[m], each once), and return those to change, sorted.

        ``rtol`` is the relative difference that a store which rounds does not tell apart.
        """
        first = self._first[keys]
        self._mark(first, same(self._readings.select(first), stored, rtol=rtol))
        changed: Int64s = np.sort(keys[~same(self.final.select(keys), stored, rtol=rtol)])
        return changed

    def written(self) -> Written:
        """Return the outcome, once every key that the store holds has been met."""
        return Written.of(is_duplicate=self._is_duplicate, is_correction=self._is_correction)

    def _mark(self, rows: Int64s, is_equal: Mask) -> None:
        self._is_duplicate[rows[is_equal]] = True
        self._is_correction[rows[~is_equal]] = True


def last_of_each_series(series: Int64s) -> Int64s:
    """Return the row numbers that end a run of equal numbers: of rows sorted by series and time, the newest."""
    ends: Int64s = np.flatnonzero(np.append(series[1:] != series[:-1], True)) if len(series) else series
    return ends


def _by_key(readings: Readings) -> Int64s:
    if not len(readings):
        return np.empty(0, np.int64)
    series = readings.series - readings.series.min()
    ts_ms = readings.ts_ms - readings.ts_ms.min()
    width = int(ts_ms.max()) + 1
    if (int(series.max()) + 1) * width < _INT64_ROOM:
        return np.argsort(series * width + ts_ms)  # one key sorts several times as fast as two
    return np.lexsort((readings.ts_ms, readings.series))


def _repeats(readings: Readings, order: Int64s) -> Mask:
    again: Mask = np.zeros(len(order), np.bool_)
    series, ts_ms = readings.series[order], readings.ts_ms[order]
    again[1:] = (series[1:] == series[:-1]) & (ts_ms[1:] == ts_ms[:-1])
    return again
