"""When alarms come faster than a person can take them in: floods within counts of ten minutes (ISA-18.2).

Pure. A flood begins with a span of ten minutes in which more than ten alarms were announced to one desk, and ends
with the first span of fewer than five.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

SPAN: Final = timedelta(minutes=10)
BEGINS_ABOVE: Final = 10
ENDS_BELOW: Final = 5


@dataclass(frozen=True, slots=True)
class Flood:
    """A flood over the spans numbered ``first`` to ``last``, both within, and how many alarms it held."""

    first: int
    last: int
    alarms: int

    @property
    def spans(self) -> int:
        """How many spans of ten minutes it lasted."""
        return self.last - self.first + 1


def floods(counts: Mapping[int, int]) -> list[Flood]:
    """Return the floods within counts of announced alarms by the number of their span, in order.

    A span that is missing had none.
    """
    found: list[Flood] = []
    current: Flood | None = None
    for span in sorted(counts):
        number = counts[span]
        if current is not None and (span > current.last + 1 or number < ENDS_BELOW):
            found.append(current)
            current = None
        if current is not None:
            current = Flood(current.first, span, current.alarms + number)
        elif number > BEGINS_ABOVE:
            current = Flood(span, span, number)
    return found if current is None else [*found, current]
