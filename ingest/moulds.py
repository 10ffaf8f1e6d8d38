"""The sets of metrics that come again and again: a message that fits one is read as a record, not as a dictionary.

For the decoder. Most devices say the same every time. A record of fixed fields is read in two thirds of the time of
a dictionary, and its names need not be looked up: the topic says which shape it is. What does not fit is read as ever.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from ingest.forms import TIME_BOUND, Scalar
from telemetry.readings import Int64s

ABSENT: Final = -(2**63)
"""The time of a message that gives none."""
NO_CAST: Final = -1

Metrics = tuple[str, ...]
Instant = Annotated[int, msgspec.Meta(gt=-TIME_BOUND, lt=TIME_BOUND)]

_SHAPE_BITS: Final = 32
_SHAPE: Final = (1 << _SHAPE_BITS) - 1
_AFTER: Final = 64
"""Messages with one set of metrics before it gets a mould."""
_MOST: Final = 256
_WIDEST: Final = 64
_REMEMBERED: Final = 10_000
_UNFIT: Final = frozenset('"\\')
"""A record's field cannot be called by a name with these."""


@dataclass(frozen=True, slots=True)
class Mould:
    """One set of metrics. ``read`` takes ``{"ts": …, "values": {…}}`` with these names and no others."""

    metrics: Metrics
    read: Callable[[bytes], Any]

    def values(self, records: Iterable[Any]) -> list[Scalar]:
        """Return the values of what was read, one record after the other, each in the order of ``metrics``."""
        return [*chain.from_iterable(map(msgspec.structs.astuple, map(attrgetter("values"), records)))]


class Moulds:
    """What each topic sent until now, where there is a mould for it. All of it is bounded, as shapes are."""

    def __init__(self) -> None:
        self._cast_of: dict[str, int] = {}
        """By topic, the number of its mould and that of its shape in one; NO_CAST where it varies."""
        self._moulds: list[Mould] = []
        self._number: dict[Metrics, int] = {}
        self._seen: Counter[Metrics] = Counter()

    def __contains__(self, topic: str) -> bool:
        return topic in self._cast_of

    def casts(self, topics: Sequence[str]) -> Int64s:
        """Return what to expect from topics, ``NO_CAST`` for nothing certain: int64."""
        return np.fromiter(map(self._cast_of.get, topics, repeat(NO_CAST)), np.int64, len(topics))

    def groups(self, casts: Int64s) -> Iterator[tuple[Mould, Int64s, Int64s]]:
        """Give each mould that is expected, the places where it is, and the shapes there."""
        numbers = casts >> _SHAPE_BITS
        for number in sorted(set(numbers.tolist()) - {NO_CAST}):
            places = np.flatnonzero(numbers == number)
            yield self._moulds[number], places, casts[places] & _SHAPE

    def learn(self, topic: str, metrics: Metrics, shape: int) -> None:
        """Take note of a message that was read as a dictionary."""
        number = self._number.get(metrics)
        if number is None:
            number = self._made(metrics)
        if number is not None:
            self._cast_of[topic] = number << _SHAPE_BITS | shape

    def misfit(self, topics: Iterable[str]) -> None:
        """Take note of topics that sent something else, to be read as dictionaries from now on."""
        self._cast_of |= dict.fromkeys(topics, NO_CAST)

    def _made(self, metrics: Metrics) -> int | None:
        if len(self._moulds) >= _MOST or len(metrics) > _WIDEST or any(map(_UNFIT.intersection, metrics)):
            return None
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[metrics] += 1
        if self._seen[metrics] < _AFTER:
            return None
        del self._seen[metrics]
        self._moulds.append(Mould(metrics, _reader(metrics)))
        self._number[metrics] = len(self._moulds) - 1
        return self._number[metrics]


def _reader(metrics: Metrics) -> Callable[[bytes], Any]:
    names = {f"m{number}": metric for number, metric in enumerate(metrics)}
    values = msgspec.defstruct(
        "Values", [(field, Scalar) for field in names], rename=names, forbid_unknown_fields=True, gc=False
    )
    record = msgspec.defstruct(
        "Record", [("values", values), ("ts", Instant, ABSENT)], forbid_unknown_fields=True, gc=False
    )
    return msgspec.json.Decoder(record).decode
