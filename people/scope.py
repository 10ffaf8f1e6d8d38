"""Who is looking, and how far their sight reaches. Every query of the product passes through ``visible``.

A viewer's sight is a set of path prefixes of the org tree for each right. A record outside it does not
exist for them: pages and API answer 404, lists, counts, searches and exports leave it out.
"""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, false, or_, select
from sqlalchemy.orm import Session

from kernel.errors import Forbidden, NotFound
from people.models import Account, Membership, OrgUnit, Role, Scoped
from people.rights import RIGHTS

Found = TypeVar("Found", bound=Scoped)


@dataclass(frozen=True, slots=True)
class Viewer:
    """An account as it looks at the product: its rights, and for each the subtrees it reaches."""

    account_id: int
    company_id: int
    name: str
    username: str
    language: str
    zone: str
    reach: dict[str, tuple[str, ...]] = field(repr=False)
    """Right → path prefixes, e.g. ``{"orders.read": ("/1/4/",)}``."""

    @property
    def actor(self) -> str:
        """How events, audit entries and timelines name this account."""
        return f"account:{self.account_id}" if self.account_id else "system"

    def may(self, right: str) -> bool:
        """Return whether the right is held anywhere."""
        return bool(self.reach.get(right))

    def may_at(self, right: str, path: str) -> bool:
        """Return whether the right is held over the unit with this path."""
        return path.startswith(self.reach.get(right, ())) if self.reach.get(right) else False

    def limited_to(self, rights: frozenset[str]) -> "Viewer":
        """Return the same viewer with no more than these rights (a bearer token's scope)."""
        reach = {right: paths for right, paths in self.reach.items() if right in rights}
        return Viewer(self.account_id, self.company_id, self.name, self.username, self.language, self.zone, reach)


def viewer_of(session: Session, account: Account) -> Viewer:
    """Return an active account's viewer, its rights read now, so that a change of role counts at once."""
    reach: dict[str, set[str]] = {}
    held = (
        select(Role.rights, OrgUnit.path)
        .join_from(Membership, Role, Role.id == Membership.role_id)
        .join(OrgUnit, OrgUnit.id == Membership.unit_id)
        .where(Membership.account_id == account.id)
    )
    for rights, path in session.execute(held):
        for right in rights:
            reach.setdefault(right, set()).add(path)
    return Viewer(
        account_id=account.id,
        company_id=account.company_id,
        name=account.name,
        username=account.username,
        language=account.language,
        zone=account.zone,
        reach={right: tuple(sorted(paths)) for right, paths in reach.items()},
    )


def operator(company: OrgUnit) -> Viewer:
    """Return the viewer behind the command line: whoever runs it owns the machine, so every right over a company."""
    everywhere: dict[str, tuple[str, ...]] = dict.fromkeys(RIGHTS, (company.path,))
    return Viewer(0, company.id, "system", "", "en", "UTC", everywhere)


def units(viewer: Viewer, right: str) -> Any:  # noqa: ANN401 - a select usable in IN
    """Return the select of org unit ids over which the viewer holds a right."""
    prefixes = viewer.reach.get(right, ())
    reached = or_(*(OrgUnit.path.startswith(path, autoescape=True) for path in prefixes)) if prefixes else false()
    return select(OrgUnit.id).where(reached)


def visible(model: type[Scoped], viewer: Viewer, right: str) -> ColumnElement[bool]:
    """Return the condition that keeps a query of ``model`` within the viewer's sight."""
    return model.unit_id.in_(units(viewer, right))


def find(session: Session, model: type[Found], identity: int, viewer: Viewer, right: str) -> Found:
    """Return one record within the viewer's sight.

    Raises:
        NotFound: it does not exist or lies outside; the two cannot be told apart.
    """
    row = session.scalars(
        select(model).where(
            model.id == identity,
            visible(model, viewer, right),
        )
    ).one_or_none()
    if row is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return row


def require(session: Session, viewer: Viewer, right: str, unit_id: int) -> None:
    """Make sure a right reaches an org unit that was already found within the viewer's sight.

    Raises:
        Forbidden: the viewer sees it but may not do this there.
    """
    if not reaches(session, viewer, right, unit_id):
        raise Forbidden("You may see this but not change it.")


def reaches(session: Session, viewer: Viewer, right: str, unit_id: int) -> bool:
    """Return whether a right reaches an org unit."""
    path = session.scalar(select(OrgUnit.path).where(OrgUnit.id == unit_id))
    return path is not None and viewer.may_at(right, path)
