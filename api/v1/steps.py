"""How a range is to be cut, filled and measured, as the parameters of ``/api/v1/telemetry`` say it.

For the API, and for exports, which are asked in the same words.
"""

import re
from dataclasses import dataclass
from typing import Final, cast, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kernel.errors import Invalid
from telemetry import buckets
from telemetry.buckets import Unit
from telemetry.readings import Int64s

_FIXED: Final = re.compile(r"([1-9][0-9]{0,7})(ms|s|m|h|d)", re.ASCII)
_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
PER_MS: Final = {"second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
MOST_BUCKETS: Final = 50_000
"""Buckets of a metric in one answer; an export may have more."""


@dataclass(frozen=True, slots=True)
class Step:
    """How wide a bucket is: ``ms``, or a ``unit`` of the calendar."""

    ms: int | None = None
    unit: Unit | None = None

    def edges(self, start_ms: int, end_ms: int, zone: ZoneInfo, *, most: int = MOST_BUCKETS) -> Int64s:
        """Return the edges of the buckets over a range.

        Raises:
            Invalid: the range is bad, or would be cut into more than ``most``.
        """
        try:
            if self.unit is not None:
                edges = buckets.calendar(start_ms, end_ms, unit=self.unit, zone=zone)
            else:
                edges = buckets.even(start_ms, end_ms, step_ms=self.ms)
        except ValueError as error:
            raise Invalid("The range cannot be read: {reason}.", field="step", reason=str(error)) from error
        if len(edges) - 1 > most:
            raise Invalid(
                "{n} buckets are more than {most}; please widen the step.", field="step", n=len(edges) - 1, most=most
            )
        return edges


def step(text: str) -> Step:
    """Read ``30s``, ``5m``, ``1h``, ``1d``: equally wide from the start on; or ``hour``, ``day``, ``week``, ``month``.

    Raises:
        Invalid: it is neither.
    """
    if text in get_args(Unit):
        return Step(unit=cast("Unit", text))
    found = _FIXED.fullmatch(text)
    if found is None:
        raise Invalid(
            "A step is a number and a unit, as in 30s, 5m, 1h or 1d, or one of hour, day, week and month.",
            field="step",
        )
    return Step(ms=int(found[1]) * _MS[found[2]])


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA data base.

    Raises:
        Invalid: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid("There is no time zone {name}.", field="zone", name=name[:60]) from error
