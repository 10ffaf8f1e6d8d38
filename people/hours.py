"""When somebody works: shift patterns and absences become stretches of time. Pure; for dispatch and the week view.

A shift that ends at or before its start runs into the next day and belongs to the day on which it starts. Wall
times are read in the shift's zone: one that a spring change skips moves forward by the length of the gap, one
that an autumn change repeats is the first of the two.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

Stretch = tuple[datetime, datetime]
"""An aware time ``[start, end)`` in UTC."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Working hours that come again: weekdays (0 = Monday) and wall times in a zone.

    Valid for the days ``valid_from`` up to and including ``valid_until``; None is open-ended.
    """

    weekdays: frozenset[int]
    starts: time
    ends: time
    zone: str
    valid_from: date
    valid_until: date | None = None


def stretches(
    patterns: Iterable[Pattern], absences: Iterable[Stretch], start: datetime, end: datetime
) -> list[Stretch]:
    """Return when somebody works within ``[start, end)``: in order, without overlap, absences cut out."""
    working = [stretch for pattern in patterns for stretch in _of_pattern(pattern, start, end)]
    return without(merged(_clipped(working, start, end)), absences)


def works_at(patterns: Iterable[Pattern], absences: Iterable[Stretch], moment: datetime) -> bool:
    """Return whether somebody works at an instant."""
    return bool(stretches(patterns, absences, moment, moment + timedelta(microseconds=1)))


def merged(many: Iterable[Stretch]) -> list[Stretch]:
    """Return the same time as stretches in order that neither touch nor overlap."""
    joined: list[Stretch] = []
    for start, end in sorted(many):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        elif start < end:
            joined.append((start, end))
    return joined


def without(many: Sequence[Stretch], holes: Iterable[Stretch]) -> list[Stretch]:
    """Return ``many`` (in order, not overlapping) with the holes cut out."""
    left = list(many)
    for from_, until in merged(holes):
        cut: list[Stretch] = []
        for start, end in left:
            cut += [(a, b) for a, b in ((start, min(end, from_)), (max(start, until), end)) if a < b]
        left = cut
    return left


def _of_pattern(pattern: Pattern, start: datetime, end: datetime) -> list[Stretch]:
    zone = ZoneInfo(pattern.zone)
    # A night shift that began the day before may still run.
    day = max(start.astimezone(zone).date() - timedelta(days=1), pattern.valid_from)
    last = end.astimezone(zone).date()
    if pattern.valid_until is not None:
        last = min(last, pattern.valid_until)
    found = []
    while day <= last:
        if day.weekday() in pattern.weekdays:
            until = day if pattern.ends > pattern.starts else day + timedelta(days=1)
            found.append((instant(day, pattern.starts, zone), instant(until, pattern.ends, zone)))
        day += timedelta(days=1)
    return found


def instant(day: date, wall: time, zone: ZoneInfo) -> datetime:
    """Return the instant of a wall time; see above for those that a change skips or repeats."""
    # fold=0: before a change, so a skipped time lands behind the gap and a repeated one is the first.
    return datetime.combine(day, wall, zone).astimezone(UTC)


def _clipped(many: Iterable[Stretch], start: datetime, end: datetime) -> list[Stretch]:
    return [(max(a, start), min(b, end)) for a, b in many if a < end and b > start]
