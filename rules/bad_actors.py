"""Alarms that say more about their rule than about the machine: fleeting, stale, chattering (EEMUA 191, ISA-18.2).

Each is a condition for a query of ``Alarm``, so that a figure and the list of alarms behind it are the same.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, func, literal_column, or_, select, union
from sqlalchemy.orm import aliased

from rules.models import Alarm, AlarmEntry

FLEETING: Final = timedelta(minutes=1)
STALE: Final = timedelta(hours=24)
CHATTER_PAIRS: Final = 3
CHATTER_WITHIN: Final = timedelta(minutes=1)
FLAGGED: Final = "flagged"
"""The kind of the line in an alarm's history that says so."""
KINDS: Final = ("fleeting", "stale", "chattering")


def fleeting() -> ColumnElement[bool]:
    """Return the condition of alarms that were over within a minute: nobody could have done anything."""
    return Alarm.ended_at - Alarm.raised_at < FLEETING


def stale(at: datetime) -> ColumnElement[bool]:
    """Return the condition of alarms that had stood for more than a day at an instant."""
    # That it was long follows from the rest; an index holds the long ones alone.
    was_long = Alarm.ended_at - Alarm.raised_at > literal_column("interval '1 day'")
    return (Alarm.raised_at < at - STALE) & or_(Alarm.ended_at.is_(None), and_(Alarm.ended_at > at, was_long))


def chattering(start: datetime, end: datetime) -> ColumnElement[bool]:
    """Return the condition of alarms noticed in a period that chattered.

    Those that were flagged so when their fault was raised for the third time, and stood as one from then on; and
    those with which three raise-clear pairs fell within a minute, each of them whole.
    """
    # One set of ids, small as it is: two conditions joined by OR would be tried on every alarm there is.
    return Alarm.id.in_(union(_third_in_a_minute(start, end), _flagged(start)))


def held_as_one(start: datetime, end: datetime | None = None) -> ColumnElement[bool]:
    """Return the condition of alarms that were flagged in a period for coming and going, and stood as one from then."""
    return Alarm.id.in_(_flagged(start, end))


def _flagged(start: datetime, end: datetime | None = None) -> Select[int]:
    flagged = select(AlarmEntry.alarm_id).where(
        AlarmEntry.kind == FLAGGED, AlarmEntry.at >= start, AlarmEntry.detail["flag"].astext == "chattering"
    )
    return flagged if end is None else flagged.where(AlarmEntry.at < end)


def _third_in_a_minute(start: datetime, end: datetime) -> Select[int]:
    one = aliased(Alarm)
    # The pairs before may lie outside of the period by as much as they may lie apart.
    earlier = func.lag(one.raised_at, CHATTER_PAIRS - 1).over(
        partition_by=(one.subject, one.type_key), order_by=(one.raised_at, one.id)
    )
    pairs = (
        select(one.id, one.detected_at, one.ended_at, earlier.label("first_at"))
        .where(one.detected_at >= start - CHATTER_WITHIN, one.detected_at < end)
        # As the index of brief alarms says it, along which they already stand in order.
        .where(one.ended_at - one.raised_at <= literal_column("interval '1 minute'"))
        .subquery()
    )
    return select(pairs.c.id).where(pairs.c.ended_at - pairs.c.first_at <= CHATTER_WITHIN, pairs.c.detected_at >= start)
