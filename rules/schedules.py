"""When a rule is in force: windows by weekday or date in a zone, and the instants at which they open and close (A14).

Pure. A window is a span between two instants, so it is shorter or longer where clocks are changed; one that ends at or
before its start runs into the next day and belongs to the day on which it starts. A wall time that a spring change
skips lies behind the gap, one that an autumn change repeats is the first of the two (``people.hours``).
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints, field_validator, model_validator

from kernel import i18n
from people import hours
from rules.leaf import Node

_SPAN_DAYS: Final = (16, 400)
_DAY_MS: Final = 86_400_000
NEVER: Final = 2**62
"""An instant that does not come."""
_BEGIN: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_MS: Final = -50 * 366 * _DAY_MS
_LATEST_MS: Final = 8000 * 366 * _DAY_MS

Wall = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Weekday = Annotated[int, Field(ge=1, le=7)]
"""1 is Monday."""
EVERY_DAY: Final = (1, 2, 3, 4, 5, 6, 7)


def _checked(day: str) -> str:
    try:
        date.fromisoformat(day)
    except ValueError:
        raise ValueError(i18n.noop("There is no such date.")) from None
    return day


class Hours(Node):
    """A stretch of one day by the wall clock; ``00:00`` to ``00:00`` is all of it."""

    start: Wall
    end: Wall


class Window(Hours):
    """A stretch of some weekdays, of all unless named."""

    days: tuple[Weekday, ...] = Field(EVERY_DAY, min_length=1, max_length=7, strict=False)


class Exceptional(Node):
    """A date with hours of its own; none at all close it."""

    date: Day
    windows: tuple[Hours, ...] = Field((), max_length=24, strict=False)

    _exists = field_validator("date")(_checked)


class Workday(Node):
    """A date that counts as another weekday, Monday unless named: a make-up workday (调休补班)."""

    date: Day
    weekday: Weekday = 1

    _exists = field_validator("date")(_checked)


class Schedule(Node):
    """When a rule is in force. Of what is said of a date, an exception comes first, then a workday, then a holiday.

    ``zone`` is the site's unless named.
    """

    type: Literal["weekly"]
    windows: tuple[Window, ...] = Field((), max_length=100, strict=False)
    exceptions: tuple[Exceptional, ...] = Field((), max_length=1000, strict=False)
    workdays: tuple[Workday, ...] = Field((), max_length=1000, strict=False)
    holidays: tuple[Day, ...] = Field((), max_length=1000, strict=False)
    zone: str | None = None

    @field_validator("holidays")
    @classmethod
    def _exist(cls, days: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_checked, days))

    @model_validator(mode="after")
    def _zone_exists(self) -> Self:
        if self.zone is not None:
            try:
                ZoneInfo(self.zone)
            except (KeyError, ValueError, OSError):
                raise ValueError(i18n.noop("There is no such time zone.")) from None
        return self


@dataclass(frozen=True, slots=True)
class Opening:
    """A window as it lay in time: from its opening to its closing, both in ms, in a zone."""

    zone: str
    from_ms: int
    until_ms: int


class Openings:
    """A schedule in a zone: whether it is open at an instant, and when that changes next."""

    def __init__(self, schedule: Schedule, zone: str) -> None:
        self._zone = ZoneInfo(schedule.zone or zone)
        self._windows = schedule.windows
        self._exceptions = {date.fromisoformat(one.date): one.windows for one in schedule.exceptions}
        self._workdays = {date.fromisoformat(one.date): one.weekday for one in schedule.workdays}
        self._holidays = {date.fromisoformat(one) for one in schedule.holidays}
        # Edges between two instants, opening and closing in turn, beginning with an opening.
        self._from_ms = self._until_ms = 0
        self._edges: list[int] = []

    def is_open(self, at_ms: int) -> bool:
        """Return whether an instant lies in a window; a window does not hold its end."""
        return self._cover(at_ms, _SPAN_DAYS[0]) and bisect_right(self._edges, at_ms) % 2 == 1

    def opening(self, at_ms: int) -> "Opening | None":
        """Return the window an instant lies in, as the schedule has it for its day; None outside of all."""
        if not self.is_open(at_ms):
            return None
        today = (_BEGIN + timedelta(milliseconds=at_ms)).astimezone(self._zone).date()
        spans = [span for day in (today - timedelta(days=1), today) for span in self._of_day(day)]
        held = [(_ms(start), _ms(end)) for start, end in spans if _ms(start) <= at_ms < _ms(end)]
        return Opening(self._zone.key, *held[0]) if held else None

    def next_edge_ms(self, at_ms: int) -> int:
        """Return the next opening or closing after an instant, ``NEVER`` when there is none within 400 days."""
        for days in _SPAN_DAYS:
            if self._cover(at_ms, days):
                place = bisect_right(self._edges, at_ms)
                if place < len(self._edges) and self._edges[place] < self._until_ms:
                    return self._edges[place]
        return NEVER

    def _cover(self, at_ms: int, days: int) -> bool:
        """See to it that the edges from an instant on are known, for some days; return whether it has a date."""
        if not _EARLIEST_MS < at_ms < _LATEST_MS:
            return False
        if self._from_ms <= at_ms and at_ms + (days // 2) * _DAY_MS < self._until_ms:
            return True
        first = (_BEGIN + timedelta(milliseconds=at_ms)).astimezone(self._zone).date() - timedelta(days=1)
        last = first + timedelta(days=days)
        # A window of the day before may still run, and one that begins on the last day ends beyond it.
        spans = [span for offset in range(-1, days + 1) for span in self._of_day(first + timedelta(days=offset))]
        self._from_ms, self._until_ms = self._midnight_ms(first), self._midnight_ms(last)
        self._edges = [_ms(edge) for span in hours.merged(spans) for edge in span]
        return True

    def _midnight_ms(self, day: date) -> int:
        return _ms(hours.instant(day, time(0), self._zone))

    def _of_day(self, day: date) -> Iterator[hours.Stretch]:
        for one in self._hours_of(day):
            start, end = time.fromisoformat(one.start), time.fromisoformat(one.end)
            until = day if end > start else day + timedelta(days=1)
            yield hours.instant(day, start, self._zone), hours.instant(until, end, self._zone)

    def _hours_of(self, day: date) -> Iterator[Hours]:
        if day in self._exceptions:
            yield from self._exceptions[day]
            return
        if day in self._holidays and day not in self._workdays:
            return
        weekday = self._workdays.get(day, day.isoweekday())
        yield from (one for one in self._windows if weekday in one.days)


@lru_cache(maxsize=4096)
def openings(schedule: Schedule, zone: str) -> Openings:
    """Return a schedule in a zone; the same one again for the same."""
    return Openings(schedule, zone)


def parse(stored: Any) -> Schedule:  # noqa: ANN401 - whatever JSON holds
    """Read a schedule from decoded JSON.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return Schedule.model_validate(stored)


def _ms(moment: datetime) -> int:
    return round((moment - _BEGIN).total_seconds() * 1000)
