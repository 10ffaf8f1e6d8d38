"""Alarms that people ended: whose rules have to begin afresh, because the table is right and not the engine (A20)."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from rules import standing
from rules.models import Alarm


def instances(session: Session, alarm_ids: Iterable[int]) -> set[int]:
    """Return the instances of the rules whose alarms were ended; where another was raised since, that one stands."""
    ended = set(alarm_ids)
    if not ended:
        return set()
    newer = aliased(Alarm)
    stands = (
        select(newer.id)
        .where(newer.is_active, newer.subject == Alarm.subject, newer.type_key == Alarm.type_key)
        .exists()
    )
    found = session.execute(
        select(Alarm.alarm_type_id, Alarm.asset_id).where(
            Alarm.id.in_(ended), Alarm.alarm_type_id.is_not(None), Alarm.asset_id.is_not(None), ~stands
        )
    )
    return {standing.instance_id(kind or 0, thing or 0) for kind, thing in found}
