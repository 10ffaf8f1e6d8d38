"""Whether people hear of an alarm: told, or held with the reason written on it. The one gate to ``AlarmAnnounced``.

Alarms come here when they were raised or got worse, and when what held them may have ended. What is held is left
with its marks; what is free is told, unless its desk is flooded: then one alarm stands for the many. A handful of
statements, however many alarms there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from kernel import events
from rules import floods, holding
from rules.episodes import Seen
from rules.events import AlarmFloodBegan
from rules.holding import Held

STALE_AFTER: Final = timedelta(hours=24)
"""An alarm that stands for longer has stopped to mean anything."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Which alarms are told, in order; and the floods that began or go on: their alarm, and whom it stands for."""

    told: Sequence[Held]
    floods: Sequence[tuple[Seen, Sequence[int]]] = field(default_factory=tuple)


def judge(session: Session, ids: Sequence[int], *, now: datetime) -> Judged:
    """Decide on alarms that were raised or got worse, and write their marks."""
    # What was raised and is over within one batch was raised all the same.
    return _decide(session, holding.of(session, ids), now, also_over=True)


def reconsider(session: Session, ids: Sequence[int], *, now: datetime, calmed: frozenset[int] = frozenset()) -> Judged:
    """Look again at what holds alarms; those that are free now and still stand are told, once.

    ``calmed`` were held for chattering until now. The alarms' rows must be locked.
    """
    found = holding.of(session, ids)
    news = [one for one in found if one.is_changed or one.id in calmed]
    return _decide(session, news, now)


def _decide(session: Session, found: Sequence[Held], now: datetime, *, also_over: bool = False) -> Judged:
    if not found:
        return Judged(())
    free = [one for one in found if not one.is_held and (one.is_active or also_over)]
    told, grouped = _by_desk(session, free, now)
    _write(session, found, {one.id for one in told}, {child for _, group in grouped for child in group}, now)
    return Judged(told, grouped)


def _by_desk(
    session: Session, free: Sequence[Held], now: datetime
) -> tuple[list[Held], list[tuple[Seen, Sequence[int]]]]:
    """Return what is told, and what is counted under the alarm of a flood."""
    told = [one for one in free if one.type_key == floods.FLOOD]
    desks: dict[int, list[Held]] = {}
    for one in free:
        if one.type_key != floods.FLOOD:
            desks.setdefault(one.unit_id, []).append(one)
    if not desks:
        return told, []
    standing = floods.open_at(session, desks)
    lately = floods.lately(session, desks, now=now)
    grouped: list[tuple[Seen, Sequence[int]]] = []
    for unit_id, waiting in desks.items():
        mine = {one.id for one in waiting}
        before = [one for one in lately.get(unit_id, ()) if one.id not in mine]
        parted = floods.split([one.share for one in waiting], before, standing.get(unit_id, {}))
        chosen = set(parted.told)
        told += [one for one in waiting if one.id in chosen]
        for subject, children in parted.groups.items():
            members = [one for one in waiting if one.id in children]
            grouped.append((floods.seen(members, subject, standing.get(unit_id, {}).get(subject), now), children))
        if parted.is_flooded and f"unit:{unit_id}" not in standing.get(unit_id, {}):
            floods.begin(session, waiting[0].company_id, unit_id, f"unit:{unit_id}", None, now=now)
            began = AlarmFloodBegan(unit_id, len(before) + len(parted.told))
            events.emit(session, began, subject=f"unit:{unit_id}", at=now, actor="system", unit_id=unit_id)
    return told, grouped


_WRITE: Final = text(
    """
UPDATE alarm SET
    is_shelved = new.shelved, is_out_of_service = new.out, suppressed_by = new.cause, parent_id = new.parent,
    is_latched = CASE WHEN is_active OR new.told THEN new.latches ELSE is_latched END, gateway_id = new.gateway,
    announced_at = CASE WHEN new.told THEN CAST(:now AS timestamptz) ELSE announced_at END,
    held_at = CASE WHEN new.told THEN held_at ELSE CAST(:now AS timestamptz) END,
    reminders = CASE WHEN new.told THEN 0 ELSE reminders END,
    escalated = CASE WHEN new.told THEN 0 ELSE escalated END,
    next_at = CASE WHEN NOT is_active THEN NULL WHEN is_chattering THEN next_at
                   WHEN new.told THEN CAST(:now AS timestamptz) ELSE CAST(:stale AS timestamptz) END
FROM unnest(CAST(:ids AS bigint[]), CAST(:shelved AS boolean[]), CAST(:out AS boolean[]), CAST(:causes AS text[]),
            CAST(:parents AS bigint[]), CAST(:latches AS boolean[]), CAST(:gateways AS bigint[]),
            CAST(:told AS boolean[])) AS new (id, shelved, out, cause, parent, latches, gateway, told)
WHERE alarm.id = new.id
"""
)


def _write(session: Session, found: Sequence[Held], told: set[int], children: set[int], now: datetime) -> None:
    session.execute(
        _WRITE,
        {
            "ids": [one.id for one in found],
            "shelved": [one.is_shelved for one in found],
            "out": [one.is_out_of_service for one in found],
            "causes": ["flood" if one.id in children else one.suppressed_by for one in found],
            "parents": [one.parent_id for one in found],
            "latches": [one.latches for one in found],
            "gateways": [one.gateway_id for one in found],
            "told": [one.id in told for one in found],
            "now": now,
            "stale": now + STALE_AFTER,
        },
    )
