"""The last hours of many series, read at once: what the works of one round would otherwise ask for one by one.

For ``ingest.deriving``. Whatever lies further back, or is too much to hold, is asked of the store as it comes.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import numpy as np

from telemetry.buckets import MAX_READINGS
from telemetry.readings import Buckets, Int64s, Readings
from telemetry.store import TelemetryStore

_AT_ONCE: Final = 100
"""Series in one question."""


class Reads(Protocol):
    """What is asked of a store, or of what was read ahead; see ``TelemetryStore``."""

    def samples(self, series: int, start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return readings of one series, oldest first."""

    def aggregate(self, series: Sequence[int], edges_ms: Int64s) -> Buckets:
        """Return the buckets between given edges."""


class Ahead:
    """A store of which ``[begin_ms, end_ms)`` of some series was read ahead, as far as that is not too much."""

    def __init__(self, store: TelemetryStore, numbers: Iterable[int], begin_ms: int, end_ms: int) -> None:
        self._store = store
        self._begin_ms, self._end_ms = begin_ms, end_ms
        self._held: dict[int, Readings] = {}
        ordered = sorted(set(numbers))
        for first in range(0, len(ordered), _AT_ONCE):
            some = ordered[first : first + _AT_ONCE]
            try:
                found = store.readings(some, begin_ms, end_ms, limit=MAX_READINGS)
            except ValueError:
                continue
            for number in some:
                begin, end = np.searchsorted(found.series, (number, number + 1)).tolist()
                self._held[number] = found.select(np.arange(begin, end))

    def samples(self, series: int, start_ms: int, end_ms: int, *, limit: int) -> Readings:
        """Return readings of one series, oldest first; see ``TelemetryStore.samples``."""
        held = self._held.get(series)
        if held is None or start_ms < self._begin_ms or end_ms > self._end_ms:
            return self._store.samples(series, start_ms, end_ms, limit=limit)
        begin, end = np.searchsorted(held.ts_ms, (start_ms, end_ms)).tolist()
        return held.select(np.arange(begin, min(end, begin + limit)))

    def aggregate(self, series: Sequence[int], edges_ms: Int64s) -> Buckets:
        """Return the buckets between given edges; see ``TelemetryStore.aggregate``."""
        return self._store.aggregate(series, edges_ms)
