"""A week of shifts as a table: people down, days across, what they work and where they are absent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel import i18n
from people import shifts
from people.models import Absence, Account

DAYS = (
    i18n.noop("Mon"),
    i18n.noop("Tue"),
    i18n.noop("Wed"),
    i18n.noop("Thu"),
    i18n.noop("Fri"),
    i18n.noop("Sat"),
    i18n.noop("Sun"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One day of one person: hours as ``08:00–17:00``, those that run into the next day with ``+1``."""

    hours: tuple[str, ...]
    is_absent: bool


@dataclass(frozen=True, slots=True)
class Week:
    """Seven days from a Monday, and what each person works on them."""

    days: tuple[date, ...]
    rows: tuple[tuple[Account, tuple[Cell, ...]], ...]

    @property
    def before(self) -> date:
        """A day of the week before."""
        return self.days[0] - timedelta(days=7)

    @property
    def after(self) -> date:
        """A day of the week after."""
        return self.days[-1] + timedelta(days=1)


def runs(weekdays: Sequence[int]) -> list[tuple[int, int]]:
    """Return days of the week as runs, first and last: Monday to Friday and Sunday is ``[(0, 4), (6, 6)]``."""
    found: list[tuple[int, int]] = []
    for day in sorted(set(weekdays)):
        if found and found[-1][1] == day - 1:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def of(session: Session, people: Sequence[Account], on: date, zone: ZoneInfo) -> Week:
    """Return the week that holds the day ``on``, in the wall time of a zone; three queries for any number of people."""
    monday = min(max(on, date(1970, 1, 5)), date(9000, 1, 1))
    monday -= timedelta(days=monday.weekday())
    days = tuple(monday + timedelta(days=step) for step in range(len(DAYS)))
    edges = [datetime.combine(day, time(), zone).astimezone(UTC) for day in (*days, days[-1] + timedelta(days=1))]
    # Hours belong to the day they start on: the last day's night runs on, and the night before Monday is not shown.
    around = edges[0] - timedelta(days=1), edges[-1] + timedelta(days=1)
    worked = shifts.working(session, [one.id for one in people], *around)
    away = _away(session, people, edges)
    rows = tuple(
        (
            one,
            tuple(
                Cell(_hours(worked[one.id], edges[step], edges[step + 1], zone), (one.id, step) in away)
                for step in range(len(DAYS))
            ),
        )
        for one in people
    )
    return Week(days, rows)


def _hours(
    worked: Sequence[tuple[datetime, datetime]], start: datetime, end: datetime, zone: ZoneInfo
) -> tuple[str, ...]:
    shown = []
    for first, last in worked:
        if start <= first < end:
            began, ended = first.astimezone(zone), last.astimezone(zone)
            shown.append(f"{began:%H:%M}–{ended:%H:%M}" + (" +1" if ended.date() > began.date() else ""))
    return tuple(shown)


def _away(session: Session, people: Sequence[Account], edges: Sequence[datetime]) -> set[tuple[int, int]]:
    rows = select(Absence).where(
        Absence.account_id.in_([one.id for one in people]), Absence.starts_at < edges[-1], Absence.ends_at > edges[0]
    )
    return {
        (absence.account_id, step)
        for absence in session.scalars(rows)
        for step in range(len(DAYS))
        if absence.starts_at < edges[step + 1] and absence.ends_at > edges[step]
    }
