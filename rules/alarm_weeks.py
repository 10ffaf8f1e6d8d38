"""The announced alarms of a period for the figures of the alarm system: a year of them in a moment, exact to the last.

What was announced to an org unit in a week is set aside as columns, 14 bytes an alarm, with a count of each fault.
Nothing about an alarm is final: it may be announced, acknowledged, made worse, cleared or moved long after. So the
database itself notes the week and unit of every alarm that comes to differ (``alarm_week_touched``), in the same
transaction. Whoever reads takes what was set aside where nothing is noted, and the alarms themselves where something
is; a tick sets aside anew. Both statements here see one snapshot, so an alarm counts once, whenever the tick runs.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Integer,
    LargeBinary,
    SmallInteger,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from rules import bad_actors
from rules.alarm_columns import FLEETING, UNTAKEN, WAITING
from rules.models import SEVERITIES, Alarm
from rules.week_tables import AlarmWeek, AlarmWeekFault, AlarmWeekTouched

WEEK: Final = timedelta(days=7)
MONDAY: Final = datetime(2001, 1, 1, tzinfo=UTC)
_ALONE: Final = 0x616C77
"""The advisory lock of whoever sets aside: of two at once, the one that looked first could write last."""
Units = Any  # a select of org units, usable in IN


def began(at: datetime) -> datetime:
    """Return when the week of an instant began."""
    return MONDAY + (at - MONDAY) // WEEK * WEEK


def records(session: Session, units: Units, start: datetime, end: datetime) -> dict[int, list[tuple[datetime, bytes]]]:
    """Return by unit the weeks that a period touches, each with the records of all its alarms."""
    touched = _touched(units, began(start), end)
    of_unit = (touched.c.unit_id, touched.c.began_at)
    kept = select(AlarmWeek.unit_id, AlarmWeek.began_at, AlarmWeek.records).where(
        AlarmWeek.unit_id.in_(units),
        AlarmWeek.began_at >= began(start),
        AlarmWeek.began_at < end,
        ~exists().where(of_unit[0] == AlarmWeek.unit_id, of_unit[1] == AlarmWeek.began_at),
    )
    fresh = (
        select(Alarm.unit_id, touched.c.began_at, _packed(touched.c.began_at))
        .join_from(touched, Alarm, and_(Alarm.unit_id == touched.c.unit_id, _within(touched.c.began_at)))
        .group_by(Alarm.unit_id, touched.c.began_at)
    )
    found: dict[int, list[tuple[datetime, bytes]]] = {}
    for unit_id, began_at, packed in session.execute(union_all(kept, fresh)):
        found.setdefault(unit_id, []).append((began_at, packed))
    return found


def most_frequent(
    session: Session, units: Units, start: datetime, end: datetime, held: ColumnElement[bool], *, limit: int
) -> Sequence[tuple[str, str, int, int, bool]]:
    """Return the faults announced most often: subject, type, latest alarm, number, and whether ``held`` is true of it.

    Those of which it is true come first, whatever was counted of them.
    """
    first, last = began(start + WEEK - timedelta(microseconds=1)), began(end)
    parts = [_each(Alarm.detected_at >= start, Alarm.detected_at < end, units=units)]
    if first < last:
        touched = _touched(units, first, last)
        of_unit = (touched.c.unit_id, touched.c.began_at)
        parts = [
            select(
                AlarmWeekFault.subject,
                AlarmWeekFault.type_key,
                func.max(AlarmWeekFault.latest_id).label("latest_id"),
                func.sum(AlarmWeekFault.number).label("number"),
            )
            .where(AlarmWeekFault.unit_id.in_(units), AlarmWeekFault.began_at >= first, AlarmWeekFault.began_at < last)
            .where(~exists().where(of_unit[0] == AlarmWeekFault.unit_id, of_unit[1] == AlarmWeekFault.began_at))
            .group_by(AlarmWeekFault.subject, AlarmWeekFault.type_key),
            _each(Alarm.detected_at >= start, Alarm.detected_at < first, units=units),
            _each(Alarm.detected_at >= last, Alarm.detected_at < end, units=units),
            _each(units=units).join(touched, and_(Alarm.unit_id == touched.c.unit_id, _within(touched.c.began_at))),
        ]
    # A quarter of a million counts are summed in memory; the usual 4 MB would have them sorted on disk first.
    session.execute(select(func.set_config("work_mem", "64MB", True)))
    one = union_all(*parts).subquery("one")
    fault, number = (one.c.subject, one.c.type_key), cast(func.sum(one.c.number), BigInteger)
    chatters = func.bool_or(tuple_(*fault).in_(select(Alarm.subject, Alarm.type_key).where(held)))
    rows = session.execute(
        select(*fault, func.max(one.c.latest_id), number, chatters)
        .group_by(*fault)
        .order_by(chatters.desc(), number.desc(), *fault)
        .limit(limit)
    )
    return [(subject, key, latest, count, bool(is_held)) for subject, key, latest, count, is_held in rows]


def set_aside(session: Session, _now: datetime) -> int:
    """Set one week aside anew, of every unit of which it is no longer what it was; return of how many."""
    if not session.scalar(select(func.pg_try_advisory_xact_lock(_ALONE))):
        return 0
    week = session.scalar(select(func.min(AlarmWeekTouched.began_at)))
    if week is None:
        return 0
    # Notes first, alarms after: what is committed in between is noted still, and merely looked at twice.
    gone = session.scalars(
        delete(AlarmWeekTouched).where(AlarmWeekTouched.began_at == week).returning(AlarmWeekTouched.unit_id)
    )
    units = sorted(set(gone))
    _set_records(session, week, units)
    _set_faults(session, week, units)
    return len(units)


def _set_records(session: Session, week: datetime, units: Sequence[int]) -> None:
    session.execute(delete(AlarmWeek).where(AlarmWeek.began_at == week, AlarmWeek.unit_id.in_(units)))
    session.execute(
        insert(AlarmWeek).from_select(
            ["company_id", "unit_id", "began_at", "records"],
            select(func.min(Alarm.company_id), Alarm.unit_id, literal(week), _packed(literal(week)))
            .where(_within(literal(week)), Alarm.unit_id.in_(units))
            .group_by(Alarm.unit_id),
        )
    )


def _set_faults(session: Session, week: datetime, units: Sequence[int]) -> None:
    """Write only what differs: a week under way is set aside every minute, and has thousands of faults."""
    fresh = (
        select(
            Alarm.unit_id,
            literal(week).label("began_at"),
            Alarm.subject,
            Alarm.type_key,
            func.count().label("number"),
            func.max(Alarm.id).label("latest_id"),
        )
        .where(_within(literal(week)), Alarm.unit_id.in_(units))
        .group_by(Alarm.unit_id, Alarm.subject, Alarm.type_key)
    )
    there = fresh.subquery("there")
    session.execute(
        delete(AlarmWeekFault).where(
            AlarmWeekFault.began_at == week,
            AlarmWeekFault.unit_id.in_(units),
            tuple_(AlarmWeekFault.unit_id, AlarmWeekFault.subject, AlarmWeekFault.type_key).not_in(
                select(there.c.unit_id, there.c.subject, there.c.type_key)
            ),
        )
    )
    written = insert(AlarmWeekFault).from_select([column.name for column in fresh.selected_columns], fresh)
    new = written.excluded
    session.execute(
        written.on_conflict_do_update(
            index_elements=["unit_id", "began_at", "subject", "type_key"],
            set_={"number": new.number, "latest_id": new.latest_id},
            where=or_(AlarmWeekFault.number != new.number, AlarmWeekFault.latest_id != new.latest_id),
        )
    )


def _touched(units: Units, start: datetime, end: datetime) -> CTE:
    return (
        select(AlarmWeekTouched.unit_id, AlarmWeekTouched.began_at)
        .where(AlarmWeekTouched.unit_id.in_(units), AlarmWeekTouched.began_at >= start, AlarmWeekTouched.began_at < end)
        .distinct()
        .cte("touched")
    )


def _within(week: ColumnElement[Any]) -> ColumnElement[bool]:
    return and_(
        Alarm.detected_at >= week,
        Alarm.detected_at < week + literal_column("interval '7 days'"),
        Alarm.announced_at.is_not(None),
    )


def _each(*conditions: ColumnElement[bool], units: Units) -> Any:  # noqa: ANN401 - a select of four columns
    return select(Alarm.subject, Alarm.type_key, Alarm.id.label("latest_id"), literal(1).label("number")).where(
        Alarm.announced_at.is_not(None), Alarm.unit_id.in_(units), *conditions
    )


def _packed(week: ColumnElement[Any]) -> ColumnElement[bytes]:
    """Return the records of all alarms of a group, as ``rules.alarm_columns.RECORD`` reads them."""
    at_ms = func.floor(func.extract("epoch", Alarm.detected_at - week) * 1000)
    what = (
        case({one: number for number, one in enumerate(SEVERITIES)}, value=Alarm.severity)
        + case((Alarm.is_acknowledged, 0), else_=WAITING)
        + case((bad_actors.fleeting(), FLEETING), else_=0)
    )
    took_us = func.coalesce(
        cast(func.extract("epoch", Alarm.acknowledged_at - Alarm.detected_at) * 1_000_000, BigInteger), UNTAKEN
    )
    record = (
        func.int4send(cast(at_ms, Integer), type_=LargeBinary)
        .op("||")(func.int2send(cast(what, SmallInteger), type_=LargeBinary))
        .op("||")(func.int8send(took_us, type_=LargeBinary))
    )
    return func.string_agg(record, literal_column("''::bytea"), type_=LargeBinary)
