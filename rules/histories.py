"""What a series said lately, as far back as windows and differences reach: for instances that look at more than now.

A history mirrors the telemetry store, which holds a sample before it is evaluated, and is looked at only up to the
instant that is evaluated. So it may know samples that are still to be judged, the same sample twice changes nothing,
and after a restart it is read from the store again instead of being kept with the state.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rules.leaf import LONGEST_WINDOW_S, MOST_SAMPLES

LONGEST_MS: Final = 1000 * LONGEST_WINDOW_S
_NOTHING_MS: Final = np.empty(0, np.int64)
_NOTHING: Final = np.empty(0, np.float64)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back somebody looks: over a length of time, or over a number of samples, whichever is further."""

    ms: int = 0
    samples: int = 0

    def __or__(self, other: "Reach") -> "Reach":
        return Reach(max(self.ms, other.ms), max(self.samples, other.samples))

    def __bool__(self) -> bool:
        return bool(self.ms or self.samples)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be recalled of a series: what the reach takes in, seen from ``since_ms``, and all that followed."""

    reach: Reach
    since_ms: int


class History:
    """The numbers of one series in order of device time; texts and unknown values are not among them."""

    __slots__ = ("_count", "_ts_ms", "_values")

    def __init__(self, ts_ms: NDArray[np.int64] = _NOTHING_MS, values: NDArray[np.float64] = _NOTHING) -> None:
        order = np.argsort(ts_ms, kind="stable")
        ts_ms, values = ts_ms[order], values[order]
        stays = np.append(ts_ms[1:] != ts_ms[:-1], True)[: len(ts_ms)] & np.isfinite(values)
        self._ts_ms, self._values = ts_ms[stays], values[stays]
        self._count = len(self._ts_ms)

    def __len__(self) -> int:
        return self._count

    def note(self, ts_ms: int, value: float) -> None:
        """Take a sample in; another value for the same time replaces the one known, and NaN removes it."""
        count = self._count
        if count and ts_ms <= self._ts_ms[count - 1]:
            self._note_inside(ts_ms, value)
        elif value == value:  # noqa: PLR0124 - NaN
            if count == len(self._ts_ms):
                self._ts_ms = np.concatenate([self._ts_ms[:count], np.empty(count + 16, np.int64)])
                self._values = np.concatenate([self._values[:count], np.empty(count + 16, np.float64)])
            self._ts_ms[count], self._values[count] = ts_ms, value
            self._count = count + 1

    def _note_inside(self, ts_ms: int, value: float) -> None:
        at = self._end(ts_ms - 1)
        is_known = self._ts_ms[at] == ts_ms
        if value != value:  # noqa: PLR0124 - NaN
            if is_known:
                self._ts_ms = np.delete(self._ts_ms[: self._count], at)
                self._values = np.delete(self._values[: self._count], at)
                self._count -= 1
        elif is_known:
            self._values[at] = value
        else:
            self._ts_ms = np.insert(self._ts_ms[: self._count], at, ts_ms)
            self._values = np.insert(self._values[: self._count], at, value)
            self._count += 1

    def before(self, ts_ms: int) -> tuple[int, float] | None:
        """Return time and value of the newest sample before an instant."""
        end = self._end(ts_ms - 1)
        return (int(self._ts_ms[end - 1]), float(self._values[end - 1])) if end else None

    def within(self, ts_ms: int, length_ms: int) -> NDArray[np.float64]:
        """Return the values of a length of time that ends at an instant, both ends included; the newest 100,000."""
        end = self._end(ts_ms)
        return self._values[max(self._end(ts_ms - length_ms - 1), end - MOST_SAMPLES) : end]

    def newest(self, ts_ms: int, count: int) -> NDArray[np.float64] | None:
        """Return the last ``count`` values up to an instant, None where the last 30 days hold fewer."""
        end = self._end(ts_ms)
        if end < count or self._ts_ms[end - count] < ts_ms - LONGEST_MS:
            return None
        return self._values[end - count : end]

    def forget(self, ts_ms: int, reach: Reach) -> None:
        """Forget what nobody looks at any more who stands at ``ts_ms`` or later."""
        end = self._end(ts_ms)
        begin = min(self._end(ts_ms - reach.ms - 1), max(0, end - reach.samples))
        begin = max(begin, end - MOST_SAMPLES)
        # Moving everything up costs its length, so it is done once in as many samples.
        if begin > 16 + (self._count - begin):
            self._ts_ms = self._ts_ms[begin : self._count].copy()
            self._values = self._values[begin : self._count].copy()
            self._count -= begin

    def _end(self, ts_ms: int) -> int:
        """Return how many samples are as old as an instant or older."""
        count = self._count
        if count and self._ts_ms[count - 1] <= ts_ms:
            return count
        return int(self._ts_ms[:count].searchsorted(ts_ms, "right"))


Recall = Callable[[Mapping[int, Wanted]], Mapping[int, History]]
"""Reads the histories of series, by number, from where readings are kept."""


def nothing(wanted: Mapping[int, Wanted]) -> dict[int, History]:
    """Return empty histories, where there is nothing to read them from."""
    return {series: History() for series in wanted}
