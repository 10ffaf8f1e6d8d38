"""What people do about an alarm besides taking note: shelve it, take it out of service, give it to somebody, reset it.

Each verb locks the alarm, asks ``rules.states`` whether it fits, writes history and audit trail, and lets the gate
look at what is held now.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel import audit, events
from kernel.errors import Conflict, Invalid
from people.models import Account, Membership, OrgUnit, Role
from rules import alarms, holds, states
from rules.events import AlarmAssigned, AlarmReset
from rules.hold_tables import AlarmHold
from rules.models import Alarm, AlarmEntry
from rules.states import Marks


def marks_of(alarm: Alarm) -> Marks:
    """Return an alarm's marks, as its row has them."""
    return Marks(
        is_active=alarm.is_active,
        is_acknowledged=alarm.is_acknowledged,
        is_latched=alarm.is_latched,
        shelved="timed" if alarm.is_shelved else None,
        suppressed_by=alarm.suppressed_by,
        is_out_of_service=alarm.is_out_of_service,
        is_chattering=alarm.is_chattering,
    )


def shelve(
    session: Session,
    alarm: Alarm,
    *,
    until: datetime | None,
    is_once: bool = False,
    reason: str,
    longest: timedelta,
    by: str,
    now: datetime,
) -> None:
    """Keep an alarm quiet until an instant, or until it clears; ``longest`` is what ``by`` may decide.

    Raises:
        Invalid: without an end, for too long, or without a reason.
        Conflict: it is shelved already, or over.
    """
    ends = states.shelf(until=until, is_once=is_once, longest=longest, now=now)
    _locked(session, alarm, "shelve")
    holds.on_fault(session, alarm, "shelved", reason=reason, by=by, until=ends, is_once=is_once, now=now)
    _done(session, alarm, "shelved", by=by, now=now, words=reason.strip(), detail={"until": ends, "is_once": is_once})


def unshelve(session: Session, alarm: Alarm, *, by: str, now: datetime) -> None:
    """Take an alarm off the shelf before its time; it is announced if it still stands.

    Raises:
        Conflict: it is not shelved.
    """
    _locked(session, alarm, "unshelve")
    hold = _end(session, alarm, "shelved", by=by, now=now)
    _done(session, alarm, "unshelved", by=by, now=now, hold=hold)


def take_out(
    session: Session,
    alarm: Alarm,
    *,
    until: datetime | None = None,
    review_at: datetime | None = None,
    reason: str,
    by: str,
    now: datetime,
) -> None:
    """Take an alarm out of service, until an instant or with a date at which somebody is to look again.

    Raises:
        Invalid: neither is given or it lies in the past, or there is no reason.
        Conflict: it is out of service already, or over.
    """
    if until is None and review_at is None:
        raise Invalid("Say when it ends, or when somebody is to look at it again.", field="until")
    for name, instant in (("until", until), ("review_at", review_at)):
        if instant is not None and instant <= now:
            raise Invalid("The end lies in the past.", field=name)
    _locked(session, alarm, "take_out")
    holds.on_fault(
        session, alarm, "out_of_service", reason=reason, by=by, until=until, review_at=review_at, now=now
    )  # fmt: skip
    detail = {"until": until, "review_at": review_at}
    _done(session, alarm, "taken_out", by=by, now=now, words=reason.strip(), detail=detail)


def put_back(session: Session, alarm: Alarm, *, by: str, now: datetime) -> None:
    """Put an alarm back into service; it is announced if it still stands.

    Raises:
        Conflict: it is in service, or its asset is out of service, which ends there.
    """
    _locked(session, alarm, "put_back")
    hold = _end(session, alarm, "out_of_service", by=by, now=now)
    _done(session, alarm, "put_back", by=by, now=now, hold=hold)


def reset(session: Session, alarm: Alarm, *, by: str, now: datetime) -> None:
    """Reset a latched alarm that has cleared.

    Raises:
        Conflict: it is not latched, or still stands.
    """
    _locked(session, alarm, "reset")
    alarm.is_latched = False
    _done(session, alarm, "reset", by=by, now=now)
    events.emit(session, AlarmReset(alarm.id), subject=f"alarm:{alarm.id}", at=now, actor=by, unit_id=alarm.unit_id)


def assign(session: Session, alarm: Alarm, account: Account | None, *, by: str, now: datetime) -> None:
    """Give an alarm to somebody who may act on it, or to nobody.

    Raises:
        Invalid: they may not act on alarms of its unit.
    """
    if account is not None and account.id not in {one.id for one in may_act(session, alarm)}:
        raise Invalid("They may not act on this alarm.", field="account")
    _locked(session, alarm, "assign")
    if alarm.assignee_id == (account.id if account else None):
        return
    alarm.assignee_id = account.id if account else None
    detail = {"account": f"account:{account.id}" if account else None, "name": account.name if account else None}
    _done(session, alarm, "assigned", by=by, now=now, detail=detail)
    happening = AlarmAssigned(alarm.id, alarm.assignee_id)
    events.emit(session, happening, subject=f"alarm:{alarm.id}", at=now, actor=by, unit_id=alarm.unit_id)


def may_act(session: Session, alarm: Alarm, *, limit: int = 200) -> list[Account]:
    """Return the people who may act on an alarm, by name."""
    path = session.scalar(select(OrgUnit.path).where(OrgUnit.id == alarm.unit_id)) or ""
    above = [int(step) for step in path.split("/") if step]
    ids = (
        select(Membership.account_id)
        .join(Role, Role.id == Membership.role_id)
        .where(Membership.unit_id.in_(above), Role.rights.contains(["alarms.act"]))
    )
    chosen = select(Account).where(Account.id.in_(ids), Account.is_active, Account.company_id == alarm.company_id)
    return list(session.scalars(chosen.order_by(Account.name, Account.id).limit(limit)))


def _locked(session: Session, alarm: Alarm, verb: str) -> None:
    session.refresh(alarm, with_for_update={"of": Alarm})
    states.after(marks_of(alarm), verb)


def _end(session: Session, alarm: Alarm, kind: str, *, by: str, now: datetime) -> AlarmHold:
    hold = holds.of_fault(session, alarm, kind)
    if hold is None:
        raise Conflict("It is its asset that is out of service, not this alarm.")
    holds.end(session, hold, by=by, now=now)
    return hold


def _done(
    session: Session,
    alarm: Alarm,
    kind: str,
    *,
    by: str,
    now: datetime,
    words: str = "",
    detail: dict[str, Any] | None = None,
    hold: AlarmHold | None = None,
) -> None:
    """Write down what was done, and settle what holds the alarm now, with others of its fault where a hold ended."""
    told = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in (detail or {}).items()}
    session.add(AlarmEntry(alarm_id=alarm.id, at=now, actor=by, kind=kind, text=words[:2000], detail=told))
    session.flush()
    audit.record(
        session, f"alarm.{kind}", subject=f"alarm:{alarm.id}", actor=by, at=now,
        after={**told, **({"reason": words} if words else {})}, company_id=alarm.company_id,
    )  # fmt: skip
    concerned = {alarm.id, *(holds.concerned_alarms(session, [hold]) if hold else ())}
    alarms.settle(session, sorted(concerned), now=now)
    session.refresh(alarm)
