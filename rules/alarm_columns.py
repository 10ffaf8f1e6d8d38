"""Announced alarms as columns, and what the figures of an alarm system ask of them: pure, a million at a time.

An alarm is a record of 14 bytes, which the database makes (``rules.alarm_weeks``): when it was noticed, in ms since
its week began; how severe it is, whether it waits for somebody and whether it was over at once; and how long it took
until somebody took note.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from rules.models import SEVERITIES

WAITING: Final = 8
"""Beside the number of its severity: nobody has acknowledged it."""
FLEETING: Final = 16
UNTAKEN: Final = -(2**63)
RECORD: Final = np.dtype([("at", ">i4"), ("what", ">i2"), ("took", ">i8")])
_MS: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00Z")


@dataclass(frozen=True, slots=True)
class Announced:
    """Some alarms: when each was noticed (ms since 1970), what it is, and the µs until it was acknowledged."""

    at_ms: NDArray[np.int64]
    what: NDArray[np.int16]
    took_us: NDArray[np.int64]

    @classmethod
    def of(cls, weeks: Iterable[tuple[datetime, bytes]], start: datetime, end: datetime) -> Self:
        """Read the records of some weeks and keep those of [``start``, ``end``), both whole milliseconds."""
        whens, records = [], []
        for began_at, packed in weeks:
            found = np.frombuffer(packed, RECORD)
            records.append(found)
            whens.append(found["at"].astype(np.int64) + _ms(began_at))
        if not records:
            return cls(np.empty(0, np.int64), np.empty(0, np.int16), np.empty(0, np.int64))
        at_ms, all_of_them = np.concatenate(whens), np.concatenate(records)
        within = (at_ms >= _ms(start)) & (at_ms < _ms(end))
        kept = all_of_them[within]
        return cls(at_ms[within], kept["what"].astype(np.int16), kept["took"].astype(np.int64))

    def spans(self, start: datetime, end: datetime, width: timedelta) -> NDArray[np.int64]:
        """Return how many fall into each span of a period; the last one may be cut short."""
        number = -((start - end) // width)
        counts: NDArray[np.int64] = np.bincount((self.at_ms - _ms(start)) // (width // _MS), minlength=number)
        return counts

    def severities(self) -> NDArray[np.int64]:
        """Return how many there are of each of ``SEVERITIES``."""
        counts: NDArray[np.int64] = np.bincount(self.what & (WAITING - 1), minlength=len(SEVERITIES))
        return counts

    def number_of(self, flag: int) -> int:
        """Return how many are ``WAITING`` or ``FLEETING``."""
        return int(np.count_nonzero(self.what & flag))

    def taken_us(self) -> NDArray[np.int64]:
        """Return how long each took that was acknowledged."""
        taken: NDArray[np.int64] = self.took_us[self.took_us != UNTAKEN]
        return taken


def percentile(values: NDArray[np.int64], part: float) -> float | None:
    """Return the value below which a part of all lies, between the two nearest as SQL's ``percentile_cont`` does."""
    if not len(values):
        return None
    place = part * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    found = np.partition(values, (below, above))
    low, high = float(found[below]), float(found[above])
    return low + (place - below) * (high - low)


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // _MS
