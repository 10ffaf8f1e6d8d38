"""Teams: groups of people that get work together."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from kernel import audit
from kernel.db import Json
from kernel.errors import Conflict, Invalid
from people.models import Account, OrgUnit, Team
from people.scope import Viewer, visible


def create(
    session: Session, unit: OrgUnit, *, name: str, name_zh: str | None = None, actor: str, now: datetime
) -> Team:
    """Make a team without members at a unit.

    Raises:
        Invalid: it has no name.
    """
    team = Team(company_id=unit.company_id, unit_id=unit.id, name=_named(name), name_zh=name_zh, members=[])
    session.add(team)
    session.flush()
    _note(session, "team.create", team, actor=actor, now=now, after={"name": team.name, "unit": unit.id})
    return team


def change(
    session: Session,
    team: Team,
    *,
    name: str,
    name_zh: str | None,
    members: Collection[Account],
    actor: str,
    now: datetime,
) -> None:
    """Change a team's names and who is in it.

    Raises:
        Invalid: it has no name, or a member belongs to another company.
    """
    if any(account.company_id != team.company_id for account in members):
        raise Invalid("This person belongs to another company.", field="members")
    before = {"name": team.name, "members": sorted(account.id for account in team.members)}
    team.name, team.name_zh, team.members = _named(name), name_zh, list(members)
    after = {"name": team.name, "members": sorted(account.id for account in members)}
    _note(session, "team.change", team, actor=actor, now=now, before=before, after=after)


def remove(session: Session, team: Team, *, actor: str, now: datetime) -> None:
    """Remove a team that no order or plan names.

    Raises:
        Conflict: an order or a plan names it.
    """
    before = {"name": team.name, "members": sorted(account.id for account in team.members)}
    try:
        with session.begin_nested():
            session.delete(team)
    except IntegrityError as error:
        raise Conflict("Orders or plans still name this team.") from error
    _note(session, "team.remove", team, actor=actor, now=now, before=before)


def seen_by(session: Session, viewer: Viewer) -> list[Team]:
    """Return the teams within a viewer's sight with their members, by name."""
    rows = select(Team).where(visible(Team, viewer, "people.read")).options(selectinload(Team.members))
    return list(session.scalars(rows.order_by(Team.name, Team.id)))


def _named(name: str) -> str:
    if not name.strip():
        raise Invalid("Please give it a name.", field="name")
    return name.strip()[:200]


def _note(
    session: Session,
    action: str,
    team: Team,
    *,
    actor: str,
    now: datetime,
    before: Json | None = None,
    after: Json | None = None,
) -> None:
    audit.record(session, action, subject=f"team:{team.id}", actor=actor, at=now, before=before, after=after,
                 company_id=team.company_id)  # fmt: skip
