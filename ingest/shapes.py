"""What the decoder remembers between batches: the lane of each topic, and the metrics each topic sends.

A message names its metrics anew each time. Here every set of them is a *shape*: a number that stands for a
run of (source, metric) pairs in one long array, found by one look-up however many metrics it holds.
"""

from array import array
from typing import Final

import numpy as np

from ingest import forms
from ingest.decoded import Int32s, SeriesNames, Source
from ingest.moulds import Moulds
from ingest.topics import Kind, Understood
from telemetry.readings import Int64s

OVERSIZE, REPORT, WRAPPED, BARE, OTHER = range(5)
"""How a message will be read. Telemetry topics remember the lane of their latest form."""
BAD_SHAPE: Final = -1
AHEAD_MS: Final = 5 * 60 * 1000
"""A device whose clock is further ahead of ours than this is not believed (ING-5)."""
OLDEST_MS: Final = 3_653 * 86_400_000
"""A device whose time lies more than ten years back is not believed either."""

_SHAPES: Final = 500_000
_PAIRS: Final = 4_000_000


class Lanes(dict[str, int]):
    """The lane of each topic: by its kind, and for telemetry by the form of its latest message."""

    def __init__(self, understood: Understood) -> None:
        super().__init__()
        self._understood = understood

    def __missing__(self, name: str) -> int:
        if len(self) >= _SHAPES:
            self.clear()
        lane = self[name] = WRAPPED if self._understood[name].kind is Kind.TELEMETRY else REPORT
        return lane


class Shapes:
    """Shapes by (topic, names of the metrics). ``of`` answers for those already met, ``learn`` for new ones."""

    def __init__(self, names: SeriesNames | None = None) -> None:
        self.names = names or SeriesNames()
        self.moulds = Moulds()
        self.of: dict[tuple[str, tuple[str, ...]], int] = {}
        self._start, self._length, self._source, self._pairs = (array("i") for _ in range(4))
        self._last_ms: Int64s = np.zeros(0, np.int64)

    def with_room(self) -> "Shapes":
        """Return these shapes, or fresh ones when a bound is reached: what is alive is soon learnt again."""
        if len(self.names.pairs) >= _PAIRS:
            return Shapes()
        if len(self.of) >= _SHAPES or len(self._pairs) >= _PAIRS:
            return Shapes(self.names)
        return self

    def learn(self, label: str, source: Source, metrics: tuple[str, ...]) -> int:
        """Return the number of a shape seen for the first time, or ``BAD_SHAPE`` where it holds a bad name."""
        if not metrics or not all(map(forms.is_metric, metrics)):
            self.of[label, metrics] = BAD_SHAPE
            return BAD_SHAPE
        number = self.of[label, metrics] = len(self._start)
        source_number = self.names.source(source)
        self._start.append(len(self._pairs))
        self._length.append(len(metrics))
        self._source.append(source_number)
        self._pairs.extend(self.names.pair(source_number, metric) for metric in metrics)
        return number

    def length(self, shapes: Int64s) -> Int64s:
        """Return how many metrics each shape has: int64."""
        lengths: Int64s = np.frombuffer(self._length, np.int32)[shapes].astype(np.int64)
        return lengths

    def pair(self, shapes: Int64s) -> Int32s:
        """Return the pairs of all shapes, one run after the other: int32."""
        starts = np.frombuffer(self._start, np.int32)[shapes]
        pairs: Int32s = np.frombuffer(self._pairs, np.int32)[runs(starts, self.length(shapes))]
        return pairs

    def spread(self, shapes: Int64s, received_ms: Int64s) -> Int64s:
        """Return times for measurements that came without one: that of reception, one ms apart per source.

        Messages that waited in a broker arrive within the same millisecond; under one key they would replace
        each other. The price is that a backlog seems to have been measured up to five minutes late.
        """
        source = np.frombuffer(self._source, np.int32)[shapes]
        if len(self._last_ms) < len(self.names.sources):
            room = np.zeros(2 * len(self.names.sources), np.int64)
            room[: len(self._last_ms)] = self._last_ms
            self._last_ms = room
        order = np.argsort(source, kind="stable")
        grouped = source[order]
        rank = np.arange(len(grouped)) - np.searchsorted(grouped, grouped)
        at_least = np.maximum(received_ms[order], self._last_ms[grouped] + 1)
        # Within a source each time is the larger of its own and one more than the one before: a running
        # maximum once the rank is taken off. An offset for each group, larger than any span, keeps them apart.
        apart = np.cumsum(rank == 0) * (np.ptp(at_least) + len(rank) + 1)
        spread = np.maximum.accumulate(at_least - rank + apart) + rank - apart
        spread = np.minimum(spread, received_ms[order] + AHEAD_MS)
        self._last_ms[grouped] = spread
        times: Int64s = np.empty_like(spread)
        times[order] = spread
        return times


def runs(starts: Int64s | Int32s, lengths: Int64s) -> Int64s:
    """Return the indexes of runs one after the other: starts[0] … starts[0] + lengths[0] - 1, then the next."""
    before = np.cumsum(lengths) - lengths
    indexes: Int64s = np.repeat(np.asarray(starts, np.int64) - before, lengths) + np.arange(int(lengths.sum()))
    return indexes
