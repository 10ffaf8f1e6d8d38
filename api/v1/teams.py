"""Teams over JSON."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from kernel import clock
from kernel.errors import Invalid
from people import accounts, scope, teams
from people.models import Account, OrgUnit, Team
from people.scope import Viewer

router = APIRouter(prefix="/teams", tags=["teams"])
Reader = Annotated[Viewer, needs("people.read")]
Writer = Annotated[Viewer, needs("people.write")]


class TeamOut(BaseModel):
    """A group of people that gets work together."""

    id: int
    name: str
    name_zh: str | None
    unit_id: int
    members: list[int]


class TeamIn(BaseModel):
    """A team to be made."""

    name: str = Field(max_length=200)
    name_zh: str | None = Field(None, max_length=200)
    unit_id: int
    members: list[int] = Field([], max_length=1000)


class TeamChange(BaseModel):
    """A team as it is to be: names and everybody in it."""

    name: str = Field(max_length=200)
    name_zh: str | None = Field(None, max_length=200)
    members: list[int] = Field(max_length=1000)


@router.get("")
def list_teams(db: Db, viewer: Reader) -> paging.Page[TeamOut]:
    """List teams in order of name; all of them, because there are few."""
    return paging.Page(items=[_out(team) for team in teams.seen_by(db, viewer)])


@router.post("", status_code=201)
def make_team(db: Db, viewer: Writer, body: TeamIn) -> TeamOut:
    """Make a team at a unit."""
    unit = db.get(OrgUnit, body.unit_id)
    if unit is None or not viewer.may_at("people.read", unit.path):
        raise Invalid("There is no such org unit.", field="unit_id")
    scope.require(db, viewer, "people.write", unit.id)
    now = clock.now()
    team = teams.create(db, unit, name=body.name, name_zh=body.name_zh, actor=viewer.actor, now=now)
    if body.members:
        members = _members(db, viewer, body.members)
        teams.change(db, team, name=body.name, name_zh=body.name_zh, members=members, actor=viewer.actor, now=now)
    return _out(team)


@router.get("/{team_id}")
def team(db: Db, viewer: Reader, team_id: int) -> TeamOut:
    """Return one team."""
    return _out(scope.find(db, Team, team_id, viewer, "people.read"))


@router.put("/{team_id}")
def change_team(db: Db, viewer: Writer, team_id: int, body: TeamChange) -> TeamOut:
    """Change a team's names and who is in it."""
    found = scope.find(db, Team, team_id, viewer, "people.read")
    scope.require(db, viewer, "people.write", found.unit_id)
    teams.change(
        db, found, name=body.name, name_zh=body.name_zh, members=_members(db, viewer, body.members),
        actor=viewer.actor, now=clock.now(),
    )  # fmt: skip
    return _out(found)


@router.delete("/{team_id}", status_code=204)
def remove_team(db: Db, viewer: Writer, team_id: int) -> None:
    """Remove a team that no order or plan names."""
    found = scope.find(db, Team, team_id, viewer, "people.read")
    scope.require(db, viewer, "people.write", found.unit_id)
    teams.remove(db, found, actor=viewer.actor, now=clock.now())


def _members(db: Session, viewer: Viewer, wanted: list[int]) -> list[Account]:
    rows = select(Account).where(Account.id.in_(wanted), accounts.visible(viewer))
    found = list(db.scalars(rows))
    if len(found) != len(set(wanted)):
        raise Invalid("One of these people does not exist.", field="members")
    return found


def _out(found: Team) -> TeamOut:
    members = sorted(account.id for account in found.members)
    return TeamOut(id=found.id, name=found.name, name_zh=found.name_zh, unit_id=found.unit_id, members=members)
