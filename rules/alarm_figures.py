"""How good the alarms themselves are, in the figures of EEMUA 191 and ISA-18.2, for whoever answers for a desk.

Everything is counted over the alarms announced in a period, within a viewer's sight and, if wanted, one unit with
all below it: that is the desk. Every figure can be repeated with plain SQL over the table of alarms, and the tests
do so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session, aliased

from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import alarm_weeks, bad_actors, flood
from rules.alarm_columns import FLEETING, WAITING, Announced, percentile
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
    spans: Sequence[int]
    """How many alarms each span of ten minutes had; the last may be cut short."""
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
    """Return the figures of a period, which must not be empty and begins and ends with whole milliseconds."""
    desk, units = within(viewer, unit_id), _units(viewer, unit_id)
    period = announced_within(desk, start, end)
    by_unit = {
        unit: Announced.of(weeks, start, end) for unit, weeks in alarm_weeks.records(session, units, start, end).items()
    }
    spans = {unit: alarms.spans(start, end, SPAN) for unit, alarms in by_unit.items() if len(alarms.at_ms)}
    every = sum(spans.values(), start=np.zeros(-((start - end) // SPAN), np.int64))
    load = _load(every, start, end)
    severities = dict(zip(SEVERITIES, _total(one.severities() for one in by_unit.values()), strict=True))
    held = bad_actors.held_as_one(start, end)
    top = [
        Actor(subject, key, latest, count, _percent(count, load.announced), is_chattering)
        for subject, key, latest, count, is_chattering in alarm_weeks.most_frequent(
            session, units, start, end, held, limit=TOP
        )
    ]
    return Figures(
        start=start,
        end=end,
        load=load,
        spans=every.tolist(),
        desks=sorted(
            ((unit, _load(counts, start, end)) for unit, counts in spans.items()),
            key=lambda one: (-one[1].announced, one[0]),
        ),
        top=top,
        top_percent=_percent(sum(one.count for one in top), load.announced),
        severities=severities,
        priorities={
            priority: _percent(sum(severities[one] for one in of), load.announced)
            for priority, of in PRIORITIES.items()
        },
        fleeting=sum(one.number_of(FLEETING) for one in by_unit.values()),
        stale=_count(session, *desk, Alarm.announced_at.is_not(None), bad_actors.stale(end)),
        chattering=_count(session, *period, bad_actors.chattering(start, end)),
        reaction=_reaction(list(by_unit.values())),
    )


def within(viewer: Viewer, unit_id: int | None) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that keep a query of alarms to a desk: a viewer's sight, and a unit with all below it."""
    sight = scope.visible(Alarm, viewer, "alarms.read")
    return (sight,) if unit_id is None else (sight, Alarm.unit_id.in_(_below(unit_id)))


def _units(viewer: Viewer, unit_id: int | None) -> Select[int]:
    """Return the select of the org units of a desk."""
    sight: Select[int] = scope.units(viewer, "alarms.read")
    return sight if unit_id is None else sight.where(OrgUnit.id.in_(_below(unit_id)))


def _below(unit_id: int) -> Select[int]:
    above = aliased(OrgUnit)
    path = select(above.path).where(above.id == unit_id).scalar_subquery()
    below = aliased(OrgUnit)
    return select(below.id).where(below.path.startswith(path))


def announced_within(
    desk: Sequence[ColumnElement[bool]], start: datetime, end: datetime
) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of the alarms of a period that people were told of, then or later.

    Each counts once, at the moment it was noticed here: that it was repeated or announced again makes it no second.
    """
    return *desk, Alarm.detected_at >= start, Alarm.detected_at < end, Alarm.announced_at.is_not(None)


def _load(counts: NDArray[np.int64], start: datetime, end: datetime) -> Load:
    announced, spans = int(counts.sum()), (end - start) / SPAN
    # A span that ends a flood does so whether it is missing or small, so only the others are walked through.
    many = np.flatnonzero(counts >= flood.ENDS_BELOW)
    found = flood.floods(dict(zip(many.tolist(), counts[many].tolist(), strict=True)))
    busiest = int(counts.argmax())
    return Load(
        announced=announced,
        average=announced / spans,
        peak=int(counts[busiest]),
        peak_at=start + busiest * SPAN if announced else None,
        floods=found,
        flood_percent=_percent(sum(one.spans for one in found), spans),
    )


def _count(session: Session, *conditions: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(Alarm).where(*conditions)) or 0


def _reaction(alarms: Sequence[Announced]) -> Reaction:
    took = np.concatenate([np.empty(0, np.int64), *(one.taken_us() for one in alarms)])
    median, slow = (None if us is None else us / 1e6 for us in (percentile(took, 0.5), percentile(took, 0.9)))
    return Reaction(len(took), sum(one.number_of(WAITING) for one in alarms), median, slow)


def _total(counts: Iterable[NDArray[np.int64]]) -> list[int]:
    total: list[int] = sum(counts, start=np.zeros(len(SEVERITIES), np.int64)).tolist()
    return total


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else 0.0


def last(days: int, now: datetime) -> tuple[datetime, datetime]:
    """Return the period of so many days that ends with the ten minutes that are under way."""
    end = datetime.fromtimestamp((now.timestamp() // SPAN.total_seconds() + 1) * SPAN.total_seconds(), now.tzinfo)
    return end - timedelta(days=days), end


def spread(found: Figures, columns: int) -> list[int]:
    """Return how many alarms each of so many equal stretches of a period had; each is of whole spans."""
    counts: list[int] = np.asarray(found.spans).reshape(columns, -1).sum(axis=1).tolist()
    return counts
