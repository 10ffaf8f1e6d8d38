"""Shifts and absences of people: written here, asked for by dispatch and shown as a week."""

from collections.abc import Collection, Iterable
from datetime import date, datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel import audit
from kernel.db import Json
from kernel.errors import Invalid
from people import hours
from people.hours import Pattern, Stretch
from people.models import Absence, Account, Shift


def give(
    session: Session,
    account: Account,
    *,
    weekdays: Collection[int],
    starts: time,
    ends: time,
    zone: str,
    valid_from: date,
    valid_until: date | None = None,
    actor: str,
    now: datetime,
) -> Shift:
    """Give a person working hours on weekdays (0 = Monday) from ``valid_from`` to ``valid_until``, both included.

    Raises:
        Invalid: no or unknown weekdays, an unknown zone, or an end before the beginning.
    """
    days = sorted(set(weekdays))
    if not days or not set(days) <= set(range(7)):
        raise Invalid("Choose at least one day of the week.", field="weekdays")
    if valid_until is not None and valid_until < valid_from:
        raise Invalid("The last day lies before the first.", field="valid_until")
    shift = Shift(
        account_id=account.id,
        weekdays=days,
        starts=starts,
        ends=ends,
        zone=known_zone(zone),
        valid_from=valid_from,
        valid_until=valid_until,
    )
    session.add(shift)
    session.flush()
    _note(session, "shift.give", account, actor=actor, now=now, after=_described(shift))
    return shift


def end(session: Session, shift: Shift, account: Account, *, last_day: date, actor: str, now: datetime) -> None:
    """Let working hours end after ``last_day``; hours that would never have begun are removed.

    What was worked stays, so that last month's plan remains readable.
    """
    before = _described(shift)
    if last_day < shift.valid_from:
        session.delete(shift)
    else:
        shift.valid_until = last_day
    _note(
        session, "shift.end", account, actor=actor, now=now, before=before, after={"valid_until": last_day.isoformat()}
    )


def excuse(
    session: Session,
    account: Account,
    *,
    starts_at: datetime,
    ends_at: datetime,
    reason: str = "",
    actor: str,
    now: datetime,
) -> Absence:
    """Write that a person does not work in ``[starts_at, ends_at)``, both aware.

    Raises:
        Invalid: it ends before it begins.
    """
    if ends_at <= starts_at:
        raise Invalid("The absence ends before it begins.", field="ends_at")
    absence = Absence(account_id=account.id, starts_at=starts_at, ends_at=ends_at, reason=reason[:200])
    session.add(absence)
    session.flush()
    # The reason may tell of an illness: it stays with the absence and out of the trail that nobody can erase.
    after = {"starts_at": starts_at, "ends_at": ends_at}
    _note(session, "absence.add", account, actor=actor, now=now, after=after)
    return absence


def unexcuse(session: Session, absence: Absence, account: Account, *, actor: str, now: datetime) -> None:
    """Take an absence back."""
    before = {"starts_at": absence.starts_at, "ends_at": absence.ends_at}
    session.delete(absence)
    _note(session, "absence.remove", account, actor=actor, now=now, before=before)


def working(session: Session, account_ids: Iterable[int], start: datetime, end: datetime) -> dict[int, list[Stretch]]:
    """Return when each account works within ``[start, end)``, in UTC; two queries for any number of people."""
    ids = list(account_ids)
    patterns: dict[int, list[Pattern]] = {one: [] for one in ids}
    absences: dict[int, list[Stretch]] = {one: [] for one in ids}
    for shift in session.scalars(select(Shift).where(Shift.account_id.in_(ids))):
        patterns[shift.account_id].append(pattern_of(shift))
    away = select(Absence).where(Absence.account_id.in_(ids), Absence.starts_at < end, Absence.ends_at > start)
    for absence in session.scalars(away):
        absences[absence.account_id].append((absence.starts_at, absence.ends_at))
    return {one: hours.stretches(patterns[one], absences[one], start, end) for one in ids}


def pattern_of(shift: Shift) -> Pattern:
    """Return a shift as the value that the hours are reckoned from."""
    return Pattern(frozenset(shift.weekdays), shift.starts, shift.ends, shift.zone, shift.valid_from, shift.valid_until)


def known_zone(zone: str) -> str:
    """Return the zone's IANA name.

    Raises:
        Invalid: there is no such zone.
    """
    try:
        return ZoneInfo(zone).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid("There is no time zone called {zone}.", field="zone", zone=zone) from error


def _described(shift: Shift) -> Json:
    return {
        "weekdays": list(shift.weekdays),
        "starts": shift.starts.isoformat(),
        "ends": shift.ends.isoformat(),
        "zone": shift.zone,
        "valid_from": shift.valid_from.isoformat(),
        "valid_until": shift.valid_until.isoformat() if shift.valid_until else None,
    }


def _note(
    session: Session,
    action: str,
    account: Account,
    *,
    actor: str,
    now: datetime,
    before: Json | None = None,
    after: Json | None = None,
) -> None:
    audit.record(
        session,
        action,
        subject=f"account:{account.id}",
        actor=actor,
        at=now,
        before=before,
        after=after,
        company_id=account.company_id,
    )
