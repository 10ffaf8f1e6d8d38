"""How long readings are kept: lifetimes as people set them, and the instants before which a store may forget.

Three tiers grow coarser with age: exact readings (*raw*), minutes and hours, each kept for its own time. What an
alarm cites is kept whatever its age. Pure; for the stores, and for whoever says what is to be kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from telemetry.readings import Int64s

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """For how many days each tier is kept. ``minute_days`` 0 makes no minutes."""

    raw_days: int
    minute_days: int
    hour_days: int

    def horizon(self, now_ms: int) -> "Horizon":
        """Return what may be forgotten now, at full hours: a coarser tier never goes before a finer one."""

        def before(days: int) -> int:
            return max((now_ms - days * DAY_MS) // HOUR_MS * HOUR_MS, 0)

        raw = before(self.raw_days)
        minute = min(before(self.minute_days), raw) if self.minute_days else raw
        return Horizon(raw, minute, min(before(self.hour_days), minute), has_minutes=self.minute_days > 0)


@dataclass(frozen=True, slots=True)
class Horizon:
    """The instants (ms since 1970) before which each tier may be forgotten: hour <= minute <= raw."""

    raw_ms: int
    minute_ms: int
    hour_ms: int
    has_minutes: bool = True

    @classmethod
    def everything(cls, before_ms: int) -> Self:
        """Return the horizon at which nothing older than an instant is left in any tier."""
        return cls(before_ms, before_ms, before_ms)


NEVER = Horizon(0, 0, 0)
"""Of what is under legal hold: nothing may be forgotten."""


@dataclass(frozen=True, slots=True, eq=False)
class Cited:
    """Spans of exact readings that something rests upon: parallel columns, ``[from_ms, to_ms)`` of each series."""

    series: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    from_ms: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    to_ms: Int64s = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """What a store may forget: one horizon for all series, another for some, and what is cited never.

    ``own``: series numbers by the horizon that they have instead of the default; each series at most once.
    """

    default: Horizon
    own: Mapping[Horizon, Int64s] = field(default_factory=dict)
    cited: Cited = field(default_factory=Cited)

    @property
    def oldest_raw_ms(self) -> int:
        """The instant before which no series needs its exact readings, for a store that cannot tell series apart."""
        horizons = [self.default.raw_ms, *(horizon.raw_ms for horizon in self.own)]
        return min([*horizons, *([int(self.cited.from_ms.min())] if len(self.cited) else [])])
