"""Working hours of one person as forms: shifts given and ended, absences noted and taken back."""

from datetime import datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from api.access import Db
from api.web import forms, people
from api.web.people import Text, Writer
from kernel import clock, i18n
from kernel.errors import Invalid, NotFound
from people import shifts
from people.models import Absence, Account, Shift

router = APIRouter(prefix="/people")


@router.post("/{person_id}/shifts")
def give_shift(
    request: Request,
    db: Db,
    viewer: Writer,
    person_id: int,
    *,
    starts: Text,
    ends: Text,
    zone: Text,
    valid_from: Text,
    valid_until: Text = "",
    weekday: Annotated[list[int] | None, Form()] = None,
) -> Response:
    """Give a person working hours."""
    account = people.changeable(db, viewer, person_id)
    try:
        shifts.give(
            db,
            account,
            weekdays=weekday or (),
            starts=_time(starts, "starts"),
            ends=_time(ends, "ends"),
            zone=zone,
            valid_from=forms.day(valid_from, "valid_from") or clock.now().date(),
            valid_until=forms.day(valid_until, "valid_until"),
            actor=viewer.actor,
            now=clock.now(),
        )
    except Invalid as error:
        db.rollback()
        return people.shown(request, db, viewer, person_id, status=422, errors=forms.refused(request, error))
    return people.back(person_id, i18n.noop("The shift is kept."))


@router.post("/{person_id}/shifts/{shift_id}/end")
def end_shift(db: Db, viewer: Writer, person_id: int, shift_id: int) -> Response:
    """Let working hours end with yesterday, so that today's are gone and last month's remain."""
    account = people.changeable(db, viewer, person_id)
    shift = db.get(Shift, shift_id)
    if shift is None or shift.account_id != account.id:
        raise NotFound("There is nothing here, or it is not yours to see.")
    now = clock.now()
    yesterday = now.astimezone(ZoneInfo(shift.zone)).date() - timedelta(days=1)
    shifts.end(db, shift, account, last_day=yesterday, actor=viewer.actor, now=now)
    return people.back(person_id, i18n.noop("The shift has ended."))


@router.post("/{person_id}/absences")
def excuse(
    request: Request, db: Db, viewer: Writer, person_id: int, *, starts_at: Text, ends_at: Text, reason: Text = ""
) -> Response:
    """Write that a person does not work for a time, given in the person's own zone."""
    account = people.changeable(db, viewer, person_id)
    try:
        first, last = _moment(starts_at, "starts_at", account), _moment(ends_at, "ends_at", account)
        shifts.excuse(db, account, starts_at=first, ends_at=last, reason=reason, actor=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return people.shown(request, db, viewer, person_id, status=422, errors=forms.refused(request, error))
    return people.back(person_id, i18n.noop("The absence is noted."))


@router.post("/{person_id}/absences/{absence_id}/remove")
def unexcuse(db: Db, viewer: Writer, person_id: int, absence_id: int) -> Response:
    """Take an absence back."""
    account = people.changeable(db, viewer, person_id)
    absence = db.get(Absence, absence_id)
    if absence is None or absence.account_id != account.id:
        raise NotFound("There is nothing here, or it is not yours to see.")
    shifts.unexcuse(db, absence, account, actor=viewer.actor, now=clock.now())
    return people.back(person_id, i18n.noop("The absence is removed."))


def _time(typed: str, field: str) -> time:
    try:
        return time.fromisoformat(typed.strip()).replace(tzinfo=None)
    except ValueError as error:
        raise Invalid("This must be a time of day, for example 08:00.", field=field) from error


def _moment(typed: str, field: str, account: Account) -> datetime:
    moment = forms.moment(typed, field, ZoneInfo(account.zone))
    if moment is None:
        raise Invalid("This must be a date and time.", field=field)
    return moment
