"""How good the alarms themselves are, in the figures of EEMUA 191 and ISA-18.2, for whoever answers for a desk.

Everything is counted over the alarms announced in a period, within a viewer's sight and, if wanted, one unit with
all below it: that is the desk. Every figure can be repeated with plain SQL over the table of alarms, and the tests
do so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.orm import Session

from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import bad_actors, flood
from rules.flood import SPAN
from rules.models import SEVERITIES, Alarm

TOP: Final = 10
PRIORITIES: Final[Mapping[str, tuple[str, ...]]] = {
    "high": ("critical",),
    "medium": ("major",),
    "low": ("minor", "warning", "info"),
}
AIM: Final[Mapping[str, int]] = {"high": 5, "medium": 15, "low": 80}
"""Per cent of each priority that EEMUA 191 advises."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many alarms a desk was told of, and how they were spread. A flood's spans are numbered from the start."""

    announced: int
    average: float
    """In ten minutes."""
    peak: int
    peak_at: datetime | None
    """Beginning of the ten minutes that had most."""
    floods: Sequence[flood.Flood]
    flood_percent: float


@dataclass(frozen=True, slots=True)
class Actor:
    """One alarm type on one thing, and how much of all alarms it made."""

    subject: str
    type_key: str
    alarm_id: int
    """The latest of them."""
    count: int
    percent: float
    is_chattering: bool
    """Whether it was held as one for coming and going, so that ``count`` says far too little."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """How long it took until somebody took note, in seconds; None where nobody has."""

    acknowledged: int
    waiting: int
    median_s: float | None
    slow_s: float | None
    """Nine out of ten were faster."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one desk over [``start``, ``end``)."""

    start: datetime
    end: datetime
    load: Load
    desks: Sequence[tuple[int, Load]]
    """Org unit and its own load, the busiest first."""
    top: Sequence[Actor]
    top_percent: float
    severities: Mapping[str, int]
    priorities: Mapping[str, float]
    """Per cent of each of ``PRIORITIES``."""
    fleeting: int
    stale: int
    chattering: int
    reaction: Reaction

    def span_at(self, span: int) -> datetime:
        """Return when a span of ten minutes begins."""
        return self.start + span * SPAN


def measure(session: Session, viewer: Viewer, start: datetime, end: datetime, *, unit_id: int | None = None) -> Figures:
    """Return the figures of a period, which must not be empty."""
    desk = within(viewer, unit_id)
    period = announced_within(desk, start, end)
    by_unit, severities = _counted(session, period, start)
    everything: Counter[int] = Counter()
    for counts in by_unit.values():
        everything.update(counts)
    load = _load(everything, start, end)
    desks = [(unit, _load(counts, start, end)) for unit, counts in by_unit.items()]
    top = _top(session, period, bad_actors.held_as_one(start, end), load.announced)
    return Figures(
        start=start,
        end=end,
        load=load,
        desks=sorted(desks, key=lambda one: (-one[1].announced, one[0])),
        top=top,
        top_percent=_percent(sum(one.count for one in top), load.announced),
        severities=severities,
        priorities={
            priority: _percent(sum(severities[one] for one in of), load.announced)
            for priority, of in PRIORITIES.items()
        },
        fleeting=_count(session, *period, bad_actors.fleeting()),
        stale=_count(session, *desk, Alarm.announced_at.is_not(None), bad_actors.stale(end)),
        chattering=_count(session, *period, bad_actors.chattering(start, end)),
        reaction=_reaction(session, period),
    )


def within(viewer: Viewer, unit_id: int | None) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that keep a query of alarms to a desk: a viewer's sight, and a unit with all below it."""
    sight = scope.visible(Alarm, viewer, "alarms.read")
    if unit_id is None:
        return (sight,)
    path = select(OrgUnit.path).where(OrgUnit.id == unit_id).scalar_subquery()
    return sight, Alarm.unit_id.in_(select(OrgUnit.id).where(OrgUnit.path.startswith(path)))


def announced_within(
    desk: Sequence[ColumnElement[bool]], start: datetime, end: datetime
) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of the alarms of a period that people were told of, then or later.

    Each counts once, at the moment it was noticed here: that it was repeated or announced again makes it no second.
    """
    return *desk, Alarm.detected_at >= start, Alarm.detected_at < end, Alarm.announced_at.is_not(None)


def _counted(
    session: Session, period: Sequence[ColumnElement[bool]], start: datetime
) -> tuple[dict[int, Counter[int]], dict[str, int]]:
    """Return the alarms of each unit by span of ten minutes, and of all by severity; in one pass over the period."""
    span = func.date_bin(SPAN, Alarm.detected_at, start)
    rows = session.execute(
        select(Alarm.unit_id, span, Alarm.severity, func.count())
        .where(*period)
        .group_by(Alarm.unit_id, span, Alarm.severity)
    )
    by_unit: dict[int, Counter[int]] = {}
    severities = dict.fromkeys(SEVERITIES, 0)
    for unit_id, at, severity, number in rows:
        by_unit.setdefault(unit_id, Counter())[(at - start) // SPAN] += number
        severities[severity] += number
    return by_unit, severities


def _load(counts: Mapping[int, int], start: datetime, end: datetime) -> Load:
    announced, spans = sum(counts.values()), (end - start) / SPAN
    found = flood.floods(counts)
    busiest = max(counts, key=lambda span: (counts[span], -span), default=None)
    return Load(
        announced=announced,
        average=announced / spans,
        peak=counts[busiest] if busiest is not None else 0,
        peak_at=start + busiest * SPAN if busiest is not None else None,
        floods=found,
        flood_percent=_percent(sum(one.spans for one in found), spans),
    )


def _top(
    session: Session, period: Sequence[ColumnElement[bool]], held: ColumnElement[bool], announced: int
) -> list[Actor]:
    """Return what came most often; what was held as one for chattering comes first, whatever was counted of it."""
    number = func.count()
    fault = (Alarm.subject, Alarm.type_key)
    chatters = func.bool_or(tuple_(*fault).in_(select(*fault).where(held)))
    rows = session.execute(
        select(*fault, func.max(Alarm.id), number, chatters)
        .where(*period)
        .group_by(*fault)
        .order_by(chatters.desc(), number.desc(), *fault)
        .limit(TOP)
    )
    return [
        Actor(subject, key, latest, count, _percent(count, announced), is_chattering)
        for subject, key, latest, count, is_chattering in rows
    ]


def _count(session: Session, *conditions: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(Alarm).where(*conditions)) or 0


def _reaction(session: Session, period: Sequence[ColumnElement[bool]]) -> Reaction:
    took = func.extract("epoch", Alarm.acknowledged_at - Alarm.detected_at)
    row = session.execute(
        select(
            func.count(Alarm.acknowledged_at),
            func.count().filter(~Alarm.is_acknowledged),
            func.percentile_cont(0.5).within_group(took),
            func.percentile_cont(0.9).within_group(took),
        ).where(*period)
    ).one()
    median, slow = (None if value is None else float(value) for value in row[2:])
    return Reaction(row[0], row[1], median, slow)


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else 0.0


def last(days: int, now: datetime) -> tuple[datetime, datetime]:
    """Return the period of so many days that ends with the ten minutes that are under way."""
    end = datetime.fromtimestamp((now.timestamp() // SPAN.total_seconds() + 1) * SPAN.total_seconds(), now.tzinfo)
    return end - timedelta(days=days), end


def spread(
    session: Session, viewer: Viewer, start: datetime, end: datetime, width: timedelta, *, unit_id: int | None = None
) -> list[int]:
    """Return how many alarms each stretch of a period had, of one width, in order."""
    stretch = func.date_bin(width, Alarm.detected_at, start)
    rows = session.execute(
        select(stretch, func.count()).where(*announced_within(within(viewer, unit_id), start, end)).group_by(stretch)
    )
    counts = [0] * max(1, round((end - start) / width))
    for at, number in rows:
        counts[min(len(counts) - 1, round((at - start) / width))] += number
    return counts
