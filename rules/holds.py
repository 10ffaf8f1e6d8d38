"""What people and their work keep from being announced: shelves, out of service, windows; begun and ended by rows.

Each hold is a row with its reason and its end, so that it ends by itself whatever was restarted in between. What it
holds is settled (``rules.alarms.settle``) by whoever begins or ends it: here, or the timers of ``rules.timers``.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import String, and_, cast, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from assets.models import Asset
from kernel import audit, events
from kernel.errors import Conflict, Invalid
from people.models import Membership, OrgUnit, Role
from rules import states
from rules.events import AlarmHoldBegan, AlarmHoldEnded
from rules.hold_tables import AlarmHold
from rules.models import Alarm

LONGEST_REASON: Final = 500
WORK_EXPIRES: Final = timedelta(hours=24)
"""Work whose order is forgotten holds the alarms of its asset for no longer than this."""


def on_fault(
    session: Session,
    alarm: Alarm,
    kind: str,
    *,
    reason: str,
    by: str,
    now: datetime,
    until: datetime | None = None,
    review_at: datetime | None = None,
    is_once: bool = False,
) -> AlarmHold:
    """Hold one fault, *shelved* or *out_of_service*, whatever alarms it has meanwhile."""
    hold = AlarmHold(
        company_id=alarm.company_id, unit_id=alarm.unit_id, kind=kind, state="live", subject=alarm.subject,
        type_key=alarm.type_key, cause="person", reason=_worded(reason), by=by, began_at=now, until=until,
        review_at=review_at, is_once=is_once, next_at=_next(until, review_at),
    )  # fmt: skip
    return _begun(session, hold, by=by, now=now)


def on_asset(
    session: Session,
    asset: Asset,
    kind: str,
    *,
    reason: str,
    by: str,
    now: datetime,
    began_at: datetime | None = None,
    until: datetime | None = None,
    review_at: datetime | None = None,
    cause: str = "person",
) -> AlarmHold:
    """Hold an asset with all its parts: *suppressed* for a window of maintenance, or *out_of_service*.

    One that begins later is planned and begins by itself.

    Raises:
        Invalid: it has no end and no date of review, or ends before it begins.
    """
    begins = began_at or now
    if until is None and review_at is None:
        raise Invalid("Say when it ends, or when somebody is to look at it again.", field="until")
    if until is not None and until <= max(begins, now):
        raise Invalid("The end lies in the past.", field="until")
    if review_at is not None and review_at <= now:
        raise Invalid("The end lies in the past.", field="review_at")
    is_planned = begins > now
    hold = AlarmHold(
        company_id=asset.company_id, unit_id=asset.unit_id, kind=kind, state="planned" if is_planned else "live",
        asset_id=asset.id, cause=cause, reason=_worded(reason), by=by, began_at=begins, until=until,
        review_at=review_at, is_once=False, next_at=begins if is_planned else _next(until, review_at),
    )  # fmt: skip
    return _begun(session, hold, by=by, now=now)


def for_work(
    session: Session, asset: Asset, cause: str, *, reason: str, by: str, until: datetime, now: datetime
) -> None:
    """Take an asset out of service for work such as ``order:12``, until the work ends; again changes nothing."""
    known = session.scalars(
        select(AlarmHold.id).where(AlarmHold.state == "live", AlarmHold.cause == cause, AlarmHold.asset_id == asset.id)
    ).first()
    if known is None:
        on_asset(session, asset, "out_of_service", reason=reason, by=by, until=until, cause=cause, now=now)


def of_work(session: Session, cause: str) -> list[AlarmHold]:
    """Return what work such as ``order:12`` holds now."""
    return list(session.scalars(select(AlarmHold).where(AlarmHold.state == "live", AlarmHold.cause == cause)))


def end_work(session: Session, cause: str, *, by: str, now: datetime) -> list[AlarmHold]:
    """End what work such as ``order:12`` holds; return it, for whoever settles its alarms."""
    held = session.scalars(
        select(AlarmHold).where(AlarmHold.state != "ended", AlarmHold.cause == cause).with_for_update()
    ).all()
    for hold in held:
        end(session, hold, by=by, now=now)
    return list(held)


def end(session: Session, hold: AlarmHold, *, by: str, now: datetime) -> None:
    """End a hold that is planned or live.

    Raises:
        Conflict: it has ended already.
    """
    if hold.state == "ended":
        raise Conflict("This has ended already.")
    hold.state, hold.ended_at, hold.ended_by, hold.next_at = "ended", now, by, None
    _told(session, hold, AlarmHoldEnded(hold.id, hold.kind), "alarm_hold.end", by=by, now=now)


def begin_planned(session: Session, hold: AlarmHold, *, now: datetime) -> None:
    """Let a planned hold begin."""
    hold.state, hold.next_at = "live", _next(hold.until, hold.review_at)
    _told(session, hold, AlarmHoldBegan(hold.id, hold.kind), "alarm_hold.begin", by="system", now=now)


def concerned_alarms(session: Session, holds: Sequence[AlarmHold]) -> list[int]:
    """Return the alarms whose marks change with some holds: on the desk, or over and still marked as shelved."""
    faults = [(Alarm.subject == one.subject) & (Alarm.type_key == one.type_key) for one in holds if one.subject]
    things = [one.asset_id for one in holds if one.asset_id is not None]
    parts = [
        Alarm.asset_id.in_(select(Asset.id).where(Asset.path.startswith(path, autoescape=True)))
        for path in session.scalars(select(Asset.path).where(Asset.id.in_(things)))
    ]
    if not faults and not parts:
        return []
    is_there = or_(Alarm.is_active, ~Alarm.is_acknowledged, Alarm.is_shelved)
    return list(session.scalars(select(Alarm.id).where(is_there, or_(*faults, *parts))))


def of_fault(session: Session, alarm: Alarm, kind: str) -> AlarmHold | None:
    """Return the live hold of an alarm's own fault, locked."""
    return session.scalars(
        select(AlarmHold)
        .where(
            AlarmHold.state == "live",
            AlarmHold.kind == kind,
            AlarmHold.subject == alarm.subject,
            AlarmHold.type_key == alarm.type_key,
        )
        .with_for_update()
    ).first()


def of_alarm(session: Session, alarm: Alarm) -> list[AlarmHold]:
    """Return what is live and concerns an alarm, for its page: of its fault, its asset and those above."""
    fault = and_(AlarmHold.subject == alarm.subject, AlarmHold.type_key == alarm.type_key)
    path = session.scalar(select(Asset.path).where(Asset.id == alarm.asset_id)) if alarm.asset_id else None
    line = [int(step) for step in (path or "").split("/") if step]
    return list(
        session.scalars(
            select(AlarmHold)
            .where(AlarmHold.state == "live", or_(fault, AlarmHold.asset_id.in_(line)))
            .order_by(AlarmHold.id)
        )
    )


def longest_shelf(session: Session, account_id: int, unit_id: int) -> timedelta:
    """Return for how long a person may shelve an alarm of a unit: by the most generous of their roles there."""
    path = session.scalar(select(OrgUnit.path).where(OrgUnit.id == unit_id)) or ""
    held = session.execute(
        select(Role.key, OrgUnit.path)
        .join_from(Membership, Role, Role.id == Membership.role_id)
        .join(OrgUnit, OrgUnit.id == Membership.unit_id)
        .where(Membership.account_id == account_id, Role.rights.contains(["alarms.act"]))
    )
    limits = [states.LONGEST_SHELF.get(key, states.SHORTEST_LIMIT) for key, above in held if path.startswith(above)]
    return max(limits, default=states.SHORTEST_LIMIT)


def end_once(session: Session, keys: Sequence[tuple[str, str]], *, now: datetime) -> None:
    """End the shelves of these faults that were to end with the alarm, which bears their mark no longer."""
    faults = func.unnest(
        cast([subject for subject, _ in keys], ARRAY(String)), cast([type_key for _, type_key in keys], ARRAY(String))
    )
    over = faults.table_valued("subject", "type_key", name="over").render_derived()
    session.execute(
        update(AlarmHold)
        .where(
            AlarmHold.state == "live",
            AlarmHold.is_once,
            AlarmHold.id.in_(
                select(AlarmHold.id).join(
                    over, (AlarmHold.subject == over.c.subject) & (AlarmHold.type_key == over.c.type_key)
                )
            ),
        )
        .values(state="ended", ended_at=now, ended_by="system", next_at=None)
        .execution_options(synchronize_session="fetch")
    )
    is_over = exists().where(over.c.subject == Alarm.subject, over.c.type_key == Alarm.type_key)
    is_still_shelved = exists().where(
        AlarmHold.state == "live",
        AlarmHold.kind == "shelved",
        AlarmHold.subject == Alarm.subject,
        AlarmHold.type_key == Alarm.type_key,
    )
    session.execute(
        update(Alarm)
        .where(Alarm.is_shelved, is_over, ~is_still_shelved)
        .values(is_shelved=False)
        .execution_options(synchronize_session="fetch")
    )


def _next(until: datetime | None, review_at: datetime | None) -> datetime | None:
    return min((one for one in (until, review_at) if one is not None), default=None)


def _worded(reason: str) -> str:
    reason = reason.strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        raise Invalid("Please say why, in at most {most} characters.", field="reason", most=LONGEST_REASON)
    return reason


def _begun(session: Session, hold: AlarmHold, *, by: str, now: datetime) -> AlarmHold:
    session.add(hold)
    session.flush()
    if hold.state == "live":
        _told(session, hold, AlarmHoldBegan(hold.id, hold.kind), "alarm_hold.begin", by=by, now=now)
    else:
        _note(session, hold, "alarm_hold.plan", by=by, now=now)
    return hold


def _told(session: Session, hold: AlarmHold, happening: object, act: str, *, by: str, now: datetime) -> None:
    session.flush()
    events.emit(session, happening, subject=f"alarm_hold:{hold.id}", at=now, actor=by, unit_id=hold.unit_id)
    _note(session, hold, act, by=by, now=now)


def _note(session: Session, hold: AlarmHold, act: str, *, by: str, now: datetime) -> None:
    what = {"kind": hold.kind, "subject": hold.subject, "type_key": hold.type_key, "asset_id": hold.asset_id}
    after = {**what, "reason": hold.reason, "until": hold.until, "review_at": hold.review_at, "is_once": hold.is_once}
    audit.record(
        session, act, subject=f"alarm_hold:{hold.id}", actor=by, at=now, after=after, company_id=hold.company_id
    )
