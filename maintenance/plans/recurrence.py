"""When a plan is due: a subset of RFC 5545 recurrence rules, expanded in the wall time of the site (SEMANTICS M9).

Accepted: ``FREQ`` of DAILY, WEEKLY, MONTHLY or YEARLY with ``INTERVAL``, ``COUNT``, ``BYDAY``, ``BYMONTHDAY`` and
``BYMONTH``; ``WKST=MO`` may be written. ``BYDAY`` takes an ordinal (``1MO``, ``-1FR``) in monthly rules, and in yearly
ones that name months. Whatever else the RFC knows (``BYSETPOS``, ``BYWEEKNO``, ``BYYEARDAY``, times below a day, …) is
refused, because libraries read it differently and a plan must mean one thing.

Invalid dates are skipped (31 April is no date); a wall time that a DST change leaves out is read with the offset
before the gap, one that comes twice means the first.
"""

import re
from calendar import monthrange
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr

from kernel.errors import Invalid

FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
PARTS = {"FREQ", "INTERVAL", "COUNT", "BYDAY", "BYMONTHDAY", "BYMONTH", "WKST"}
HORIZON = timedelta(days=366 * 12)
"""A rule without a date in this time has ended: 29 February on a given weekday may take eleven years."""
_DAY = re.compile(r"^([+-]?[1-5])?(MO|TU|WE|TH|FR|SA|SU)$")
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A validated rule with its anchor: first day, wall time, zone, and the last day it may fall on."""

    rule: str
    starts_on: date
    at: time
    zone: str
    ends_on: date | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One due date: its key is the wall time (``2026-11-22T08:00``), ``due_at`` the instant in UTC."""

    key: str
    due_at: datetime


def parse(rule: str) -> str:
    """Return a rule in canonical spelling.

    Raises:
        Invalid: it is not of the accepted subset; the sentence names the part.
    """
    parts: dict[str, str] = {}
    for piece in rule.strip().upper().removeprefix("RRULE:").split(";"):
        name, _, value = piece.partition("=")
        if name not in PARTS or not value or name in parts:
            raise Invalid("The recurrence has a part that is not supported: {part}", field="rrule", part=piece)
        parts[name] = value
    if parts.get("FREQ") not in FREQUENCIES:
        raise Invalid("A recurrence needs FREQ=DAILY, WEEKLY, MONTHLY or YEARLY.", field="rrule")
    _check_numbers(parts)
    _check_days(parts)
    if parts.pop("WKST", "MO") != "MO":
        raise Invalid("Weeks begin on Monday: WKST must be MO.", field="rrule")
    return ";".join(
        f"{name}={parts[name]}"
        for name in ("FREQ", "INTERVAL", "COUNT", "BYMONTH", "BYMONTHDAY", "BYDAY")
        if name in parts
    )


def _check_numbers(parts: dict[str, str]) -> None:
    bounds = {"INTERVAL": (1, 999), "COUNT": (1, 9999), "BYMONTH": (1, 12), "BYMONTHDAY": (-31, 31)}
    for name, (low, high) in bounds.items():
        values = parts[name].split(",") if name in parts else []
        if name in {"INTERVAL", "COUNT"} and len(values) > 1:
            raise Invalid("{name} takes one number.", field="rrule", name=name)
        for value in values:
            if not re.fullmatch(r"[+-]?\d{1,4}", value) or not low <= int(value) <= high or int(value) == 0:
                raise Invalid("{name} must be between {low} and {high}.", field="rrule", name=name, low=low, high=high)
    if "BYMONTHDAY" in parts and parts["FREQ"] == "WEEKLY":
        raise Invalid("A weekly recurrence has no BYMONTHDAY.", field="rrule")


def _check_days(parts: dict[str, str]) -> None:
    has_ordinal = False
    for day in parts["BYDAY"].split(",") if "BYDAY" in parts else ():
        if not (match := _DAY.match(day)):
            raise Invalid("BYDAY takes days such as MO or -1FR.", field="rrule")
        has_ordinal = has_ordinal or match.group(1) is not None
    may_count = parts["FREQ"] == "MONTHLY" or (parts["FREQ"] == "YEARLY" and "BYMONTH" in parts)
    if has_ordinal and (not may_count or "BYMONTHDAY" in parts):
        raise Invalid("Counted weekdays such as 1MO belong to monthly recurrences.", field="rrule")
    if "BYDAY" in parts and not has_ordinal and parts["FREQ"] == "YEARLY" and "BYMONTH" not in parts:
        raise Invalid("A yearly recurrence by weekday must name its months.", field="rrule")


def targets(recurrence: Recurrence, *, after: datetime | None, until: datetime) -> Iterator[Target]:
    """Yield the due dates later than ``after`` and not later than ``until`` (aware instants), in order."""
    zone = ZoneInfo(recurrence.zone)
    for wall in _walls(recurrence, until.astimezone(zone).replace(tzinfo=None) + timedelta(days=1)):
        due_at = wall.replace(tzinfo=zone).astimezone(UTC)
        if due_at > until:
            return
        if after is None or due_at > after:
            yield Target(wall.isoformat(timespec="minutes"), due_at)


def following(recurrence: Recurrence, after: datetime | None) -> Target | None:
    """Return the first due date later than ``after``, or None when the series has ended."""
    anchor = datetime.combine(recurrence.starts_on, recurrence.at, ZoneInfo(recurrence.zone))
    return next(targets(recurrence, after=after, until=max(after or anchor, anchor) + HORIZON), None)


def _walls(recurrence: Recurrence, until: datetime) -> Iterator[datetime]:
    """Yield naive wall times of the rule, bounded so that a rule that never matches ends.

    dateutil looks at the bound where a date fits only, and follows what never fits to the year 9999. So days are
    counted by it and chosen here; of months and years it follows few.
    """
    if recurrence.ends_on:
        until = min(until, datetime.combine(recurrence.ends_on, time.max))
    parts = dict(part.split("=") for part in recurrence.rule.split(";"))
    count = int(parts.pop("COUNT", 0)) or None
    chosen = [_CHOICES[name](parts.pop(name)) for name in _CHOICES if name in parts and parts["FREQ"] == "DAILY"]
    plain = ";".join(f"{name}={value}" for name, value in parts.items())
    rule = rrulestr(plain, dtstart=datetime.combine(recurrence.starts_on, recurrence.at))
    if not isinstance(rule, rrule):
        raise Invalid("The recurrence cannot be read.", field="rrule")
    fitting = (wall for wall in rule.replace(until=until) if all(fits(wall) for fits in chosen))
    yield from islice(fitting, count)


def _in_month(value: str) -> Callable[[datetime], bool]:
    months = {int(month) for month in value.split(",")}
    return lambda wall: wall.month in months


def _on_day_of_month(value: str) -> Callable[[datetime], bool]:
    days = {int(day) for day in value.split(",")}
    return lambda wall: wall.day in days or wall.day - monthrange(wall.year, wall.month)[1] - 1 in days


def _on_weekday(value: str) -> Callable[[datetime], bool]:
    days = {_WEEKDAYS.index(day) for day in value.split(",")}
    return lambda wall: wall.weekday() in days


_CHOICES = {"BYMONTH": _in_month, "BYMONTHDAY": _on_day_of_month, "BYDAY": _on_weekday}
"""What chooses among the days of a daily rule."""
