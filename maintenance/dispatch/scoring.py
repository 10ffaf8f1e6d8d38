"""Who gets the order? Decided from values, without a database: hard filters first, then scores (SEMANTICS D1-D5).

Filters remove, in a fixed order, and each says whom and why. Objectives rank only who is left, each from 0 to 1
with a printed weight. Ties go to the lowest open hours, then the longest since the last assignment, then the
smallest id, so the same input gives the same answer. Who does not qualify is never chosen, however near.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from kernel.i18n import noop
from people import hours
from people.hours import Pattern, Stretch

EARTH_RADIUS_KM: Final = 6371.0088
"""The mean radius of WGS-84 (IUGG)."""
POSITION_COUNTS_FOR: Final = timedelta(minutes=30)
FULL_LOAD_MINUTES: Final = 480
FAR_KM: Final = 100.0
HIGHEST_LEVEL: Final = 3
RESTED_AFTER: Final = timedelta(hours=24)
LOOK_AHEAD: Final = timedelta(days=14)

WEIGHTS: Final[Mapping[str, float]] = {
    "load": 0.35,
    "distance": 0.25,
    "slack": 0.15,
    "skill": 0.15,
    "fairness": 0.10,
}
OBJECTIVES: Final[Mapping[str, str]] = {
    "load": noop("Open hours"),
    "distance": noop("Distance"),
    "slack": noop("Time left until due"),
    "skill": noop("Skill level"),
    "fairness": noop("Time since the last assignment"),
}
FILTERS: Final[Mapping[str, str]] = {
    "account": noop("Account"),
    "skill": noop("Skill"),
    "shift": noop("Shift"),
    "area": noop("Area"),
    "refused": noop("Refused before"),
    "booked": noop("Other visit"),
}
"""Filters in the order in which they are asked."""
NOT_TO_OVERRIDE: Final = frozenset({"account", "area"})
"""Who fails these cannot even open the order, so a dispatcher's reason does not help."""


@dataclass(frozen=True, slots=True)
class Held:
    """A skill a person holds, valid for days in ``[valid_from, valid_until)``."""

    key: str
    level: int = 1
    valid_from: date | None = None
    valid_until: date | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a person was seen, WGS-84."""

    latitude: float
    longitude: float
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Everything a decision knows about one person."""

    id: int
    name: str
    is_active: bool = True
    may_work: bool = True
    """Holds the right to carry out orders somewhere in the company."""
    reaches_site: bool = True
    """That right covers the order's org unit."""
    skills: tuple[Held, ...] = ()
    shifts: tuple[Pattern, ...] = ()
    absences: tuple[Stretch, ...] = ()
    teams: frozenset[int] = frozenset()
    open_minutes: int = 0
    last_assigned_at: datetime | None = None
    position: Position | None = None
    visits: tuple[tuple[datetime, datetime, str], ...] = ()
    """Booked visits: start, end, order number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything a decision knows about the order."""

    at: datetime
    """When the work is to begin: the planned visit, or now."""
    now: datetime
    zone: str = "UTC"
    skill: str | None = None
    level: int = 1
    latitude: float | None = None
    longitude: float | None = None
    due_at: datetime | None = None
    estimated_minutes: int = 60
    team_id: int | None = None
    refused_by: frozenset[int] = frozenset()
    is_planned: bool = False
    """Whether ``at`` is a booked visit, which may not overlap another."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Why a person was taken out: the filter, a sentence with placeholders, and their values."""

    by: str
    why: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A person after the decision: removed by a filter, or scored."""

    person: Person
    removal: Removal | None
    scores: Mapping[str, float]
    total: float


def rank(job: Job, people: Iterable[Person]) -> tuple[Candidate, ...]:
    """Return all people: the survivors, best first, then the removed by filter and id."""
    candidates = [_judge(job, person) for person in people]
    order_of = {key: place for place, key in enumerate(FILTERS)}

    def place(one: Candidate) -> tuple[Any, ...]:
        if one.removal is not None:
            return (1, order_of[one.removal.by], one.person.id)
        last = one.person.last_assigned_at
        return (0, -one.total, one.person.open_minutes, last.timestamp() if last else -math.inf, one.person.id)

    return tuple(sorted(candidates, key=place))


def choice(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return who gets the order, or None: the queue then waits for a person, never for the unqualified (D5)."""
    first = next(iter(candidates), None)
    return first if first is not None and first.removal is None else None


def removal(job: Job, person: Person) -> Removal | None:
    """Return what speaks against a person: the first filter that removes them, or None."""
    for by, judge in _JUDGES.items():
        found = judge(job, person)
        if found is not None:
            return Removal(by, found[0], found[1])
    return None


def distance_km(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """Return the great-circle distance of two WGS-84 points in km (haversine on the mean sphere, within 0.6 %)."""
    a, b = math.radians(latitude), math.radians(to_latitude)
    half = math.sin((b - a) / 2) ** 2
    half += math.cos(a) * math.cos(b) * math.sin(math.radians(to_longitude - longitude) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half)))


def _judge(job: Job, person: Person) -> Candidate:
    found = removal(job, person)
    if found is not None:
        return Candidate(person, found, {}, 0.0)
    scores = {name: round(score(job, person), 4) for name, score in _SCORES.items()}
    total = round(sum(WEIGHTS[name] * score for name, score in scores.items()), 6)
    return Candidate(person, None, scores, total)


Found = tuple[str, dict[str, Any]] | None


def _account(_job: Job, person: Person) -> Found:
    if not person.is_active:
        return noop("The account is not active."), {}
    if not person.may_work:
        return noop("The role does not include carrying out work orders."), {}
    return None


def _skill(job: Job, person: Person) -> Found:
    if job.skill is None:
        return None
    day = job.at.astimezone(ZoneInfo(job.zone)).date()
    held = [one for one in person.skills if one.key == job.skill]
    if not held:
        return noop("Does not have the skill {skill}."), {"skill": job.skill}
    able = [one for one in held if one.level >= job.level]
    if not able:
        level = max(one.level for one in held)
        return noop("Has the skill {skill} at level {level}; {needed} is needed."), {
            "skill": job.skill,
            "level": level,
            "needed": job.level,
        }
    if any(_is_valid(one, day) for one in able):
        return None
    ended = max((one.valid_until for one in able if one.valid_until and one.valid_until <= day), default=None)
    if ended is not None:
        return noop("The certificate for {skill} ended on {day}."), {"skill": job.skill, "day": ended.isoformat()}
    return noop("The certificate for {skill} is not valid yet."), {"skill": job.skill}


def _is_valid(held: Held, day: date) -> bool:
    return (held.valid_from is None or held.valid_from <= day) and (held.valid_until is None or day < held.valid_until)


def _shift(job: Job, person: Person) -> Found:
    away = [until for since, until in person.absences if since <= job.at < until]
    if away:
        return noop("Absent until {time}."), {"time": _local(max(away), job.zone)}
    if hours.works_at(person.shifts, (), job.at):
        return None
    ahead = hours.stretches(person.shifts, person.absences, job.at, job.at + LOOK_AHEAD)
    if not ahead:
        return noop("Has no shift in the next two weeks."), {}
    return noop("Not on shift until {time}."), {"time": _local(ahead[0][0], job.zone)}


def _local(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"


def _area(job: Job, person: Person) -> Found:
    if not person.reaches_site:
        return noop("Does not work at this site."), {}
    if job.team_id is not None and job.team_id not in person.teams:
        return noop("Is not in the team of this order."), {}
    return None


def _refused(job: Job, person: Person) -> Found:
    return (noop("Refused this order before."), {}) if person.id in job.refused_by else None


def _booked(job: Job, person: Person) -> Found:
    if not job.is_planned:
        return None
    end = job.at + timedelta(minutes=job.estimated_minutes)
    for start, until, number in person.visits:
        if start < end and job.at < until:
            return noop("Is booked for {number} at that time."), {"number": number}
    return None


_JUDGES: Final[Mapping[str, Callable[[Job, Person], Found]]] = {
    "account": _account,
    "skill": _skill,
    "shift": _shift,
    "area": _area,
    "refused": _refused,
    "booked": _booked,
}


def _load(_job: Job, person: Person) -> float:
    """A day's work open counts as full; who has nothing open scores 1."""
    return 1 - min(person.open_minutes / FULL_LOAD_MINUTES, 1)


def _distance(job: Job, person: Person) -> float:
    """An unknown or stale position scores 0 and excludes nobody (D4)."""
    where = person.position
    if where is None or job.latitude is None or job.longitude is None or job.now - where.at > POSITION_COUNTS_FOR:
        return 0.0
    return 1 - min(distance_km(where.latitude, where.longitude, job.latitude, job.longitude) / FAR_KM, 1)


def _slack(job: Job, person: Person) -> float:
    """What is left of the time until due, once what the person has open and this order are done."""
    if job.due_at is None:
        return 1.0
    left = (job.due_at - job.at).total_seconds() / 60
    if left <= 0:
        return 0.0
    return min(max((left - person.open_minutes - job.estimated_minutes) / left, 0.0), 1.0)


def _level(job: Job, person: Person) -> float:
    if job.skill is None:
        return 1.0
    day = job.at.astimezone(ZoneInfo(job.zone)).date()
    level = max((one.level for one in person.skills if one.key == job.skill and _is_valid(one, day)), default=0)
    return min(level, HIGHEST_LEVEL) / HIGHEST_LEVEL


def _fairness(job: Job, person: Person) -> float:
    if person.last_assigned_at is None:
        return 1.0
    return min(max((job.now - person.last_assigned_at) / RESTED_AFTER, 0.0), 1.0)


_SCORES: Final[Mapping[str, Callable[[Job, Person], float]]] = {
    "load": _load,
    "distance": _distance,
    "slack": _slack,
    "skill": _level,
    "fairness": _fairness,
}
