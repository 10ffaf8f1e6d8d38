"""The newest reading of every series, in memory: what ``latest`` answers from and what tells late rows from new ones.

Columns indexed by series number, so that a batch is compared and taken over without a loop in Python. A series
costs 17 bytes, and 8 more once any series has sent a text, or a number in a unit that is converted.
"""

import threading
from collections.abc import Iterable

import numpy as np

from telemetry.batch import last_of_each_series
from telemetry.readings import MAX_SERIES, Float64s, Int64s, Latest, Readings

NEVER = -1
"""The time of a series without a reading; device times are never negative."""


class Newest:
    """The newest reading of each series by device time. Safe to read from any thread while one writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ts_ms = np.full(1024, NEVER, np.int64)
        self._value = np.full(1024, np.nan)
        self._flags = np.zeros(1024, np.uint8)
        self._text: np.ndarray[tuple[int], np.dtype[np.object_]] | None = None
        self._sent: Float64s | None = None

    def ts_ms(self, series: Int64s) -> Int64s:
        """Return the newest time of each row's series, ``NEVER`` where there is none: int64[n]."""
        with self._lock:
            if len(series) and int(series.max()) >= len(self._ts_ms):
                self._grow(int(series.max()))
            return self._ts_ms[series]

    def advance(self, readings: Readings) -> None:
        """Take over what is as new as, or newer than, what is known. Rows are sorted by series and time, keys once."""
        rows = last_of_each_series(readings.series)
        rows = rows[readings.ts_ms[rows] >= self.ts_ms(readings.series[rows])]
        series = readings.series[rows]
        with self._lock:
            self._ts_ms[series] = readings.ts_ms[rows]
            self._value[series] = readings.value[rows]
            self._flags[series] = readings.flags[rows]
            if readings.text is not None:
                if self._text is None:
                    self._text = np.full(len(self._ts_ms), None, np.object_)
                self._text[series] = [readings.text[row] for row in rows]
            elif self._text is not None:
                self._text[series] = None
            if readings.sent is not None and self._sent is None:
                self._sent = np.full(len(self._ts_ms), np.nan)
            if self._sent is not None:
                self._sent[series] = np.nan if readings.sent is None else readings.sent[rows]

    def latest(self, series: Iterable[int]) -> dict[int, Latest]:
        """Return the newest reading of each series that has one."""
        found = {}
        with self._lock:
            for number in series:
                if 0 <= number < len(self._ts_ms) and self._ts_ms[number] != NEVER:
                    found[number] = Latest(
                        number,
                        int(self._ts_ms[number]),
                        float(self._value[number]),
                        None if self._text is None else self._text[number],
                        int(self._flags[number]),
                        self._sent_of(number),
                    )
        return found

    def readings(self, series: Int64s) -> Readings:
        """Return the newest reading of each series that has one, as columns."""
        with self._lock:
            series = series[series < len(self._ts_ms)]
            series = series[self._ts_ms[series] != NEVER]
            return self._of(series)

    def snapshot(self) -> Readings:
        """Return a copy of all newest readings, one row a series, by series."""
        with self._lock:
            return self._of(np.flatnonzero(self._ts_ms != NEVER))

    def _sent_of(self, number: int) -> float | None:
        if self._sent is None or np.isnan(self._sent[number]):
            return None
        return float(self._sent[number])

    def _of(self, series: Int64s) -> Readings:
        text = None if self._text is None else list(self._text[series])
        if text is not None and all(entry is None for entry in text):
            text = None
        sent = None if self._sent is None else self._sent[series]
        if sent is not None and np.isnan(sent).all():
            sent = None
        return Readings(series, self._ts_ms[series], self._value[series], text, self._flags[series], sent)

    def _grow(self, highest: int) -> None:
        room = min(max(highest + 1, 2 * len(self._ts_ms)), MAX_SERIES) - len(self._ts_ms)
        self._ts_ms = np.concatenate([self._ts_ms, np.full(room, NEVER, np.int64)])
        self._value = np.concatenate([self._value, np.full(room, np.nan)])
        self._flags = np.concatenate([self._flags, np.zeros(room, np.uint8)])
        if self._text is not None:
            self._text = np.concatenate([self._text, np.full(room, None, np.object_)])
        if self._sent is not None:
            self._sent = np.concatenate([self._sent, np.full(room, np.nan)])
