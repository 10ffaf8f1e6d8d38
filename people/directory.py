"""Who is here: the list of people a viewer sees, and the units they may choose from. For pages and the API."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, or_, select, tuple_
from sqlalchemy.orm import Session, joinedload, selectinload

from people import accounts
from people.models import Account, AccountSkill, Membership, OrgUnit
from people.scope import Viewer, units


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filter of a list of people."""

    text: str = ""
    """A part of a name or user name."""
    unit_id: int | None = None
    """Whose home is this unit or lies below it."""
    role_id: int | None = None
    team_id: int | None = None
    is_active: bool | None = True
    """None shows those that are switched off too."""


def listed(
    session: Session, viewer: Viewer, wanted: Wanted, *, after: tuple[str, int] | None, limit: int
) -> list[Account]:
    """Return people in order of name, with their roles, units and teams; ``after`` is the last (name, id) seen."""
    rows = (
        select(Account)
        .where(accounts.visible(viewer), *_conditions(wanted))
        .order_by(Account.name, Account.id)
        .limit(limit)
        .options(
            selectinload(Account.memberships).options(joinedload(Membership.role), joinedload(Membership.unit)),
            selectinload(Account.teams),
        )
    )
    if after is not None:
        rows = rows.where(tuple_(Account.name, Account.id) > after)
    return list(session.scalars(rows))


def found(session: Session, viewer: Viewer, identity: int) -> Account:
    """Return one person within the viewer's sight with all that their page shows.

    Raises:
        NotFound: they do not exist or live outside it.
    """
    account = accounts.find(session, identity, viewer)
    with_all = select(Account).where(Account.id == account.id).options(
        selectinload(Account.memberships).options(joinedload(Membership.role), joinedload(Membership.unit)),
        selectinload(Account.skills).joinedload(AccountSkill.skill),
        selectinload(Account.teams),
    )  # fmt: skip
    return session.scalars(with_all.execution_options(populate_existing=True)).one()


def units_under(session: Session, viewer: Viewer, right: str) -> list[OrgUnit]:
    """Return the units over which a viewer holds a right, each parent before its children."""
    rows = session.scalars(select(OrgUnit).where(OrgUnit.id.in_(units(viewer, right)))).all()
    names = {unit.id: unit.name.casefold() for unit in rows}
    # By the names along the path, so that a unit stands under its parent and among its siblings by name.
    return sorted(rows, key=lambda unit: [(names.get(int(step), ""), step) for step in unit.path.split("/")[1:-1]])


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[Any] = []
    if wanted.text.strip():
        part = wanted.text.strip()
        conditions.append(
            or_(Account.name.icontains(part, autoescape=True), Account.username.icontains(part, autoescape=True))
        )
    if wanted.unit_id is not None:
        above = select(OrgUnit.path).where(OrgUnit.id == wanted.unit_id).scalar_subquery()
        conditions.append(Account.home_unit_id.in_(select(OrgUnit.id).where(OrgUnit.path.startswith(above))))
    if wanted.role_id is not None:
        conditions.append(Account.memberships.any(Membership.role_id == wanted.role_id))
    if wanted.team_id is not None:
        conditions.append(Account.teams.any(id=wanted.team_id))
    if wanted.is_active is not None:
        conditions.append(Account.is_active.is_(wanted.is_active))
    return conditions
