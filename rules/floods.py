"""When more alarms reach one desk than anybody can read, and what the many have in common (ALM-7).

A desk is an org unit. More than ten announcements in ten minutes are a flood, until fewer than five would be made.
Where more than ten are parts of one thing, behind one gateway or below one asset, the rest of them are held and one
alarm on that thing stands for all. Faults that share nothing but the desk stay faults of their own, each with its
order; only the messages are one then. The decisions are pure; the rows are read and written around them.
"""

from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, false, func, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from assets.models import Asset
from rules.episodes import Fault, Over, Seen
from rules.hold_tables import AlarmFlood
from rules.holding import Held, Share
from rules.models import SEVERITIES, Alarm

FLOOD: Final = "alarm_flood"
"""The type of the alarm that stands for the many."""
ABOVE: Final = 10
UNTIL_BELOW: Final = 5
WITHIN: Final = timedelta(minutes=10)
AT_LEAST_THINGS: Final = 3
"""A thing stands for a flood if alarms come from so many of its parts; one bad machine is no flood of its line."""
_LOOK_BACK: Final = 300
"""So many of the last announcements of a desk are looked at, however many there were."""


@dataclass(frozen=True, slots=True)
class Split:
    """What becomes of alarms of one desk that nothing else holds: told, or counted under what they share.

    ``groups``: subject → ids. ``is_flooded``: whether the desk as a whole hears too much.
    """

    told: Sequence[int]
    groups: Mapping[str, Sequence[int]]
    is_flooded: bool


def split(waiting: Sequence[Share], lately: Sequence[Share], standing: Container[str]) -> Split:
    """Decide for one desk. ``lately`` were announced within ten minutes; ``standing`` are subjects of open floods.

    The worst are told first, so that a flood begins after the ten that matter most of those that came together.
    """
    everybody = [*lately, *waiting]
    many = {name for name, n in Counter(name for one in everybody for name in one.above()).items() if n > ABOVE}
    things = {name: {one.subject for one in everybody if name in one.above()} for name in many}
    parents = {name for name in many if len(things[name]) >= AT_LEAST_THINGS}
    said = Counter(name for one in lately for name in one.above() if name in parents)
    told: list[int] = []
    groups: dict[str, list[int]] = {}
    for one in sorted(waiting, key=lambda one: (SEVERITIES.index(one.severity), one.id)):
        over = next((name for name in one.above() if name in standing or (name in parents and said[name] >= ABOVE)), "")
        if over:
            groups.setdefault(over, []).append(one.id)
        else:
            told.append(one.id)
            said.update(name for name in one.above() if name in parents)
    return Split(told, groups, len(lately) + len(told) > ABOVE)


def seen(members: Sequence[Held], subject: str, standing: Alarm | None, now: datetime) -> Seen:
    """Return the sighting of a flood: on what its members share, as severe as the worst that it ever had."""
    worst = _worst(one.severity for one in members)
    if standing is not None and standing.is_active:
        return Seen(fault_of(standing), _worst((worst, standing.severity)), now, now, times=len(members))
    kind, _, number = subject.partition(":")
    device_id, asset_id = (int(number), None) if kind == "device" else (None, int(number))
    fault = Fault(
        subject, FLOOD, "device", "system", members[0].company_id, members[0].unit_id, asset_id, device_id
    )  # fmt: skip
    words = f"More than {ABOVE} alarms of its parts within 10 minutes."
    return Seen(fault, worst, now, now, message=words, times=len(members))


def _worst(severities: Iterable[str]) -> str:
    return min(severities, key=SEVERITIES.index)


def is_over(recent: int, still_standing: int) -> bool:
    """Return whether a flood has ended: few new ones, and no more stand than may be told one by one."""
    return recent < UNTIL_BELOW and still_standing <= ABOVE


# Rows ---------------------------------------------------------------------------------------------------------------


def fault_of(alarm: Alarm) -> Fault:
    """Return what an alarm is about, for those who say more of it."""
    return Fault(
        alarm.subject, alarm.type_key, alarm.origin, "system", alarm.company_id, alarm.unit_id, alarm.asset_id,
        alarm.device_id, alarm.alarm_type_id,
    )  # fmt: skip


def open_at(session: Session, unit_ids: Collection[int]) -> dict[int, dict[str, Alarm | None]]:
    """Return the floods that go on at these desks: by subject the alarm that stands for the others, if one does."""
    rows = session.execute(
        select(AlarmFlood.unit_id, AlarmFlood.subject, Alarm)
        .outerjoin(Alarm, Alarm.id == AlarmFlood.alarm_id)
        .where(AlarmFlood.unit_id.in_(unit_ids), AlarmFlood.ended_at.is_(None))
    )
    found: dict[int, dict[str, Alarm | None]] = {}
    for unit_id, subject, alarm in rows:
        found.setdefault(unit_id, {})[subject] = alarm
    return found


def lately(session: Session, unit_ids: Collection[int], *, now: datetime) -> dict[int, list[Share]]:
    """Return what was announced last at these desks within ten minutes."""
    place = func.row_number().over(partition_by=Alarm.unit_id, order_by=Alarm.announced_at.desc())
    columns = (Alarm.id, Alarm.subject, Alarm.severity, Alarm.gateway_id, Alarm.asset_id, Alarm.unit_id)
    last = (
        select(*columns, place.label("place"))
        .where(Alarm.unit_id.in_(unit_ids), Alarm.announced_at > now - WITHIN, Alarm.type_key != FLOOD)
        .subquery()
    )
    rows = session.execute(
        select(last, Asset.path).outerjoin(Asset, Asset.id == last.c.asset_id).where(last.c.place <= _LOOK_BACK)
    )
    found: dict[int, list[Share]] = {}
    for row in rows:
        line = tuple(int(step) for step in (row.path or "").split("/") if step)
        found.setdefault(row.unit_id, []).append(Share(row.id, row.subject, row.severity, row.gateway_id, line))
    return found


def begin(
    session: Session, company_id: int, unit_id: int, subject: str, alarm_id: int | None, *, now: datetime
) -> None:
    """Write down that a flood began, or which alarm stands for one that goes on."""
    made = upsert(AlarmFlood).values(
        company_id=company_id, unit_id=unit_id, subject=subject, alarm_id=alarm_id, began_at=now
    )
    session.execute(
        made.on_conflict_do_update(
            index_elements=[AlarmFlood.unit_id, AlarmFlood.subject],
            index_where=AlarmFlood.ended_at.is_(None),
            set_={"alarm_id": made.excluded.alarm_id},
        )
    )


def adopt(session: Session, alarm_id: int, children: Sequence[int]) -> None:
    """Note under which alarm the children of a flood are counted."""
    table: Any = Alarm.__table__
    session.execute(table.update().where(table.c.id.in_(children)).values(parent_id=alarm_id))


def over(session: Session, *, now: datetime) -> tuple[list[Over], list[int], int]:
    """End the floods that are over, each once.

    Returns the ends of their alarms, the children that still stand, and how many floods ended.
    """
    floods = session.scalars(
        select(AlarmFlood).where(AlarmFlood.ended_at.is_(None)).with_for_update(skip_locked=True)
    ).all()
    ends: list[Over] = []
    released: list[int] = []
    ended = 0
    for flood in floods:
        child = _child(flood)
        is_recent = or_(_counts(flood) & (Alarm.announced_at > now - WITHIN), child & (Alarm.held_at > now - WITHIN))
        recent = session.scalar(
            select(func.count()).where(Alarm.unit_id == flood.unit_id, Alarm.type_key != FLOOD, is_recent)
        )
        standing = session.scalars(select(Alarm.id).where(child, Alarm.is_active).limit(ABOVE + 1)).all()
        if is_over(recent or 0, len(standing)):
            flood.ended_at = now
            ended += 1
            released += standing
            if flood.alarm_id is not None:
                ends.append(Over(fault_of(session.get_one(Alarm, flood.alarm_id)), now))
    session.flush()
    return ends, released, ended


def _child(flood: AlarmFlood) -> ColumnElement[bool]:
    return (Alarm.parent_id == flood.alarm_id) if flood.alarm_id is not None else false()


def _counts(flood: AlarmFlood) -> ColumnElement[bool]:
    """Return which announced alarms of the desk belong to a flood."""
    kind, _, number = flood.subject.partition(":")
    if kind == "device":
        return Alarm.gateway_id == int(number)
    if kind == "asset":
        below = select(Asset.id).where(Asset.path.contains(f"/{int(number)}/"))
        return Alarm.asset_id.in_(below) & (Alarm.asset_id != int(number))
    return Alarm.unit_id == flood.unit_id
