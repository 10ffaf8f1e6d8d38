"""Teams: who gets work together, and their week side by side."""

from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.web import forms, pages, week
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid
from people import accounts, directory, scope, teams
from people.models import Account, OrgUnit, Team
from people.scope import Viewer

router = APIRouter(prefix="/teams")
Reader = Annotated[Viewer, needs("people.read")]
Writer = Annotated[Viewer, needs("people.write")]
Text = Annotated[str, Form()]
MOST = 500
"""People a team is chosen from at most."""


@router.get("")
def list_teams(request: Request, db: Db, viewer: Reader) -> Response:
    """List teams with their members."""
    return _list(request, db, viewer)


@router.post("")
def create(request: Request, db: Db, viewer: Writer, name: Text, unit: Text, name_zh: Text = "") -> Response:
    """Make a team at a unit."""
    try:
        where = _unit(db, viewer, unit)
        scope.require(db, viewer, "people.write", where.id)
        made = teams.create(db, where, name=name, name_zh=name_zh or None, actor=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return _list(request, db, viewer, errors=forms.refused(request, error), status=422)
    return pages.go(f"/teams/{made.id}", notice=i18n.noop("The team is made. Now choose who is in it."))


@router.get("/{team_id}")
def team(request: Request, db: Db, viewer: Reader, team_id: int, on: str = "") -> Response:
    """Show one team: its members and their week; ``on`` is a day of the week to look at."""
    return _team(request, db, viewer, scope.find(db, Team, team_id, viewer, "people.read"), on=on)


@router.post("/{team_id}")
def change(
    request: Request,
    db: Db,
    viewer: Writer,
    team_id: int,
    *,
    name: Text,
    name_zh: Text = "",
    member: Annotated[list[int] | None, Form()] = None,
) -> Response:
    """Change a team's names and who is in it."""
    found = _changeable(db, viewer, team_id)
    try:
        members = list(db.scalars(select(Account).where(Account.id.in_(member or ()), accounts.visible(viewer))))
        # Whom the viewer cannot see they can neither add nor remove.
        members += [one for one in found.members if not _sees(db, viewer, one)]
        teams.change(
            db, found, name=name, name_zh=name_zh or None, members=members, actor=viewer.actor, now=clock.now()
        )
    except FixwrightError as error:
        db.rollback()
        return _team(request, db, viewer, found, errors=forms.refused(request, error), status=422)
    return pages.go(f"/teams/{team_id}", notice=i18n.noop("The changes are kept."))


@router.post("/{team_id}/remove")
def remove(db: Db, viewer: Writer, team_id: int) -> Response:
    """Remove a team that no order or plan names."""
    teams.remove(db, _changeable(db, viewer, team_id), actor=viewer.actor, now=clock.now())
    return pages.go("/teams", notice=i18n.noop("The team is removed."))


def _list(
    request: Request, db: Session, viewer: Viewer, *, errors: dict[str, str] | None = None, status: int = 200
) -> Response:
    found = teams.seen_by(db, viewer)
    places = {unit.id: unit for unit in directory.units_under(db, viewer, "people.read")}
    return pages.render(
        request,
        "teams/list.html",
        status=status,
        teams=[(team, places.get(team.unit_id)) for team in found],
        units=directory.units_under(db, viewer, "people.write"),
        errors=errors or {},
    )


def _team(
    request: Request,
    db: Session,
    viewer: Viewer,
    found: Team,
    *,
    on: str = "",
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    unit = db.get_one(OrgUnit, found.unit_id)
    zone = ZoneInfo(viewer.zone)
    today = clock.now().astimezone(zone).date()
    may_write = viewer.may_at("people.write", unit.path)
    seen = [one for one in found.members if _sees(db, viewer, one)]
    members = sorted(seen, key=lambda one: (one.name, one.id))
    return pages.render(
        request,
        "teams/team.html",
        status=status,
        team=found,
        unit=unit,
        members=members,
        candidates=directory.listed(db, viewer, directory.Wanted(), after=None, limit=MOST) if may_write else [],
        week=week.of(db, members, forms.day(on, "on") or today, zone),
        weekdays=week.DAYS,
        today=today,
        may_write=may_write,
        errors=errors or {},
    )


def _sees(db: Session, viewer: Viewer, account: Account) -> bool:
    return viewer.may_at("people.read", db.get_one(OrgUnit, account.home_unit_id).path)


def _changeable(db: Session, viewer: Viewer, team_id: int) -> Team:
    found = scope.find(db, Team, team_id, viewer, "people.read")
    scope.require(db, viewer, "people.write", found.unit_id)
    return found


def _unit(db: Session, viewer: Viewer, typed: str) -> OrgUnit:
    unit = db.get(OrgUnit, forms.whole(typed, "unit") or 0)
    if unit is None or not viewer.may_at("people.read", unit.path):
        raise Invalid("There is no such org unit.", field="unit")
    return unit
