"""People: who is here, and one person with what they may do where, their skills, shifts and absences."""

from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.web import forms, pages, week
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid, NotFound
from people import accounts, directory, passwords, roles, scope, sign_in, skills, teams
from people.models import Absence, Account, Membership, OrgUnit, Role, Shift, Skill
from people.scope import Viewer

router = APIRouter(prefix="/people")
Reader = Annotated[Viewer, needs("people.read")]
Writer = Annotated[Viewer, needs("people.write")]
Text = Annotated[str, Form()]
PAGE = 50


@router.get("")
def people(
    request: Request,
    db: Db,
    viewer: Reader,
    *,
    q: str = "",
    unit: str = "",
    role: str = "",
    team: str = "",
    state: str = "active",
    after: str | None = None,
) -> Response:
    """List people, filtered."""
    wanted = directory.Wanted(
        text=q,
        unit_id=forms.whole(unit, "unit"),
        role_id=forms.whole(role, "role"),
        team_id=forms.whole(team, "team"),
        is_active={"active": True, "off": False}.get(state),
    )
    rows = directory.listed(db, viewer, wanted, after=paging.read(after, (str, int)), limit=PAGE + 1)
    shown, following = paging.cut(rows, PAGE, lambda row: (row.name, row.id))
    return pages.render(
        request,
        "people/list.html",
        people=shown,
        following=following,
        after=after,
        units=directory.units_under(db, viewer, "people.read"),
        roles=roles.of_company(db, viewer.company_id),
        teams=teams.seen_by(db, viewer),
        wanted={"q": q, "unit": unit, "role": role, "team": team, "state": state},
        may_write=viewer.may("people.write"),
    )


@router.get("/new")
def new(request: Request, db: Db, viewer: Writer) -> Response:
    """Ask who the new person is."""
    return _new(request, db, viewer, typed={})


@router.post("")
def create(
    request: Request,
    db: Db,
    viewer: Writer,
    *,
    username: Text,
    name: Text,
    unit: Text,
    role: Text = "",
    email: Text = "",
    phone: Text = "",
    language: Text = "en",
    zone: Text = "UTC",
) -> Response:
    """Make a person, perhaps with a role at their home, and show the first password, this once."""
    password, now = passwords.invented(), clock.now()
    typed = {"username": username, "name": name, "unit": unit, "role": role, "email": email, "phone": phone}
    try:
        home = _unit(db, viewer, unit)
        account = accounts.create(
            db, home, username=username, name=name, password=password, email=email, phone=phone,
            language=language, zone=zone, by=viewer, now=now,
        )  # fmt: skip
        if role:
            roles.grant(db, account, _role(db, viewer, role), home, by=viewer, now=now)
    except FixwrightError as error:
        db.rollback()
        typed |= {"language": language, "zone": zone}
        return _new(request, db, viewer, typed=typed, errors=forms.refused(request, error), status=422)
    # Shown in the answer itself: behind a redirect it would have to be kept somewhere.
    return shown(request, db, viewer, account.id, status=201, password=password)


@router.get("/{person_id}")
def person(request: Request, db: Db, viewer: Reader, person_id: int, on: str = "") -> Response:
    """Show one person; ``on`` is a day of the week to look at."""
    return shown(request, db, viewer, person_id, on=forms.day(on, "on"))


@router.post("/{person_id}")
def change(
    request: Request,
    db: Db,
    viewer: Writer,
    person_id: int,
    *,
    name: Text,
    unit: Text,
    email: Text = "",
    phone: Text = "",
) -> Response:
    """Change who a person is and where they belong."""
    account = accounts.find(db, person_id, viewer)
    try:
        home = _unit(db, viewer, unit)
        accounts.change(db, account, name=name, email=email, phone=phone, home=home, by=viewer, now=clock.now())
    except Invalid as error:
        db.rollback()
        return shown(request, db, viewer, person_id, status=422, errors=forms.refused(request, error))
    return back(person_id, i18n.noop("The changes are kept."))


@router.post("/{person_id}/password")
def set_password(request: Request, db: Db, viewer: Writer, person_id: int) -> Response:
    """Give a person a new first password and show it, this once; all of their sign-ins end."""
    password = passwords.invented()
    accounts.set_password(db, accounts.find(db, person_id, viewer), password, by=viewer, now=clock.now())
    return shown(request, db, viewer, person_id, password=password)


@router.post("/{person_id}/sign-out")
def sign_out(db: Db, viewer: Writer, person_id: int) -> Response:
    """End all of a person's sign-ins."""
    account = accounts.find(db, person_id, viewer)
    roles.require_power(db, viewer, account)
    sign_in.end_all(db, account, actor=viewer.actor, now=clock.now())
    return back(person_id, i18n.noop("All of their browsers are signed out."))


@router.post("/{person_id}/deactivate")
def deactivate(db: Db, viewer: Writer, person_id: int) -> Response:
    """Switch an account off."""
    accounts.deactivate(db, accounts.find(db, person_id, viewer), by=viewer, now=clock.now())
    return pages.go(
        f"/people/{person_id}",
        notice=i18n.noop("The account is switched off. What it did stays."),
        undo=f"/people/{person_id}/reactivate",
    )


@router.post("/{person_id}/reactivate")
def reactivate(db: Db, viewer: Writer, person_id: int) -> Response:
    """Switch an account on again."""
    accounts.reactivate(db, accounts.find(db, person_id, viewer), by=viewer, now=clock.now())
    return back(person_id, i18n.noop("The account is switched on again."))


@router.post("/{person_id}/roles")
def grant(request: Request, db: Db, viewer: Writer, person_id: int, role: Text, at: Text) -> Response:
    """Give a person a role at a unit."""
    account = accounts.find(db, person_id, viewer)
    try:
        roles.grant(db, account, _role(db, viewer, role), _unit(db, viewer, at), by=viewer, now=clock.now())
    except Invalid as error:
        db.rollback()
        return shown(request, db, viewer, person_id, status=422, errors=forms.refused(request, error))
    return back(person_id, i18n.noop("The role counts from their next click on."))


@router.post("/{person_id}/roles/{membership_id}/withdraw")
def withdraw(db: Db, viewer: Writer, person_id: int, membership_id: int) -> Response:
    """Take a role at a unit from a person."""
    account = accounts.find(db, person_id, viewer)
    held = db.get(Membership, membership_id)
    if held is None or held.account_id != account.id:
        raise NotFound("There is nothing here, or it is not yours to see.")
    roles.withdraw(db, held, by=viewer, now=clock.now())
    return back(person_id, i18n.noop("The role is withdrawn."))


@router.post("/{person_id}/skills")
def hold_skill(
    request: Request,
    db: Db,
    viewer: Writer,
    person_id: int,
    *,
    skill: Text,
    level: Text = "1",
    until: Text = "",
) -> Response:
    """Write that a person holds a skill."""
    account = changeable(db, viewer, person_id)
    try:
        skills.hold(
            db,
            account,
            _skill(db, viewer, skill),
            level=forms.whole(level, "level") or 1,
            valid_until=forms.day(until, "until"),
            actor=viewer.actor,
            now=clock.now(),
        )
    except Invalid as error:
        db.rollback()
        return shown(request, db, viewer, person_id, status=422, errors=forms.refused(request, error))
    return back(person_id, i18n.noop("The skill is noted."))


@router.post("/{person_id}/skills/{skill_id}/drop")
def drop_skill(db: Db, viewer: Writer, person_id: int, skill_id: int) -> Response:
    """Write that a person no longer holds a skill."""
    skills.drop(db, changeable(db, viewer, person_id), skill_id, actor=viewer.actor, now=clock.now())
    return back(person_id, i18n.noop("The skill is removed."))


def _new(
    request: Request,
    db: Session,
    viewer: Viewer,
    *,
    typed: dict[str, str],
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    return pages.render(
        request,
        "people/new.html",
        status=status,
        units=directory.units_under(db, viewer, "people.write"),
        roles=roles.of_company(db, viewer.company_id),
        zones=sorted(available_timezones()),
        typed={"language": viewer.language, "zone": viewer.zone, **typed},
        errors=errors or {},
    )


def shown(
    request: Request,
    db: Session,
    viewer: Viewer,
    person_id: int,
    *,
    status: int = 200,
    errors: dict[str, str] | None = None,
    password: str = "",
    on: date | None = None,
) -> Response:
    """Return a person's page; also as the answer to a form that was refused."""
    db.flush()
    account, now = directory.found(db, viewer, person_id), clock.now()
    zone = ZoneInfo(account.zone)
    today = now.astimezone(zone).date()
    may_write = viewer.may_at("people.write", db.get_one(OrgUnit, account.home_unit_id).path)
    return pages.render(
        request,
        "people/person.html",
        status=status,
        headers={"Cache-Control": "no-store"},
        account=account,
        home=db.get_one(OrgUnit, account.home_unit_id),
        # A role held outside the viewer's sight is not theirs to know of.
        held=[one for one in account.memberships if viewer.may_at("people.read", one.unit.path)],
        units=directory.units_under(db, viewer, "people.write"),
        roles=roles.of_company(db, viewer.company_id),
        known_skills=skills.of_company(db, viewer.company_id),
        shifts=_shifts(db, account, today),
        absences=_absences(db, account, zone),
        weekdays=week.DAYS,
        runs=week.runs,
        zones=sorted(available_timezones()),
        week=week.of(db, [account], on or today, zone),
        today=today,
        may_write=may_write,
        is_self=account.id == viewer.account_id,
        errors=errors or {},
        password=password,
    )


def _shifts(db: Session, account: Account, today: date) -> list[Shift]:
    rows = select(Shift).where(
        Shift.account_id == account.id, Shift.valid_until.is_(None) | (Shift.valid_until >= today)
    )
    return list(db.scalars(rows.order_by(Shift.valid_from, Shift.starts, Shift.id)))


def _absences(db: Session, account: Account, zone: ZoneInfo) -> list[dict[str, Any]]:
    rows = select(Absence).where(Absence.account_id == account.id, Absence.ends_at > clock.now())
    return [
        {
            "id": row.id,
            "starts": row.starts_at.astimezone(zone),
            "ends": row.ends_at.astimezone(zone),
            "reason": row.reason,
        }
        for row in db.scalars(rows.order_by(Absence.starts_at, Absence.id))
    ]


def changeable(db: Session, viewer: Viewer, person_id: int) -> Account:
    """Return a person whose skills, shifts and absences the viewer may change.

    Raises:
        NotFound: they are not the viewer's to see.
        Forbidden: they are, but not to change.
    """
    account = accounts.find(db, person_id, viewer)
    scope.require(db, viewer, "people.write", account.home_unit_id)
    return account


def _unit(db: Session, viewer: Viewer, typed: str) -> OrgUnit:
    unit = db.get(OrgUnit, forms.whole(typed, "unit") or 0)
    if unit is None or not viewer.may_at("people.read", unit.path):
        raise Invalid("There is no such org unit.", field="unit")
    return unit


def _role(db: Session, viewer: Viewer, typed: str) -> Role:
    role = db.get(Role, forms.whole(typed, "role") or 0)
    if role is None or role.company_id not in (None, viewer.company_id):
        raise Invalid("There is no such role.", field="role")
    return role


def _skill(db: Session, viewer: Viewer, typed: str) -> Skill:
    skill = db.get(Skill, forms.whole(typed, "skill") or 0)
    if skill is None or skill.company_id != viewer.company_id:
        raise Invalid("There is no such skill.", field="skill")
    return skill


def back(person_id: int, notice: str) -> Response:
    """Lead back to a person's page with a word about what was done."""
    return pages.go(f"/people/{person_id}", notice=notice)
