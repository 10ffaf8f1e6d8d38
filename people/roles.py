"""Roles: those the product comes with, those a company makes, and who holds which where.

Nobody can give what they do not have: a role is made, granted and withdrawn only by somebody who holds each of
its rights over the unit in question, and an account is administered only by somebody whose rights cover all of
its own. So a person who administers one site cannot become, or take over, the administrator of the company.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from kernel import audit, ids
from kernel.errors import Conflict, Forbidden, Invalid
from people import scope
from people.models import Account, Membership, OrgUnit, Role
from people.rights import RIGHTS, ROLES
from people.scope import Viewer


def sync_builtin(session: Session) -> None:
    """Bring the roles the product comes with to what this version says; run at every start."""
    for key, (name, rights) in ROLES.items():
        row = insert(Role).values(key=key, name=name, rights=sorted(rights), company_id=None)
        session.execute(
            row.on_conflict_do_update(
                index_elements=[Role.key, Role.company_id], set_={"name": name, "rights": sorted(rights)}
            )
        )


def builtin(session: Session, key: str) -> Role:
    """Return a role the product comes with, e.g. ``technician``."""
    return session.scalars(select(Role).where(Role.key == key, Role.company_id.is_(None))).one()


def of_company(session: Session, company_id: int) -> list[Role]:
    """Return the roles that can be granted in a company: the product's own first, then the company's by name."""
    known = session.scalars(select(Role).where(Role.company_id.is_(None) | (Role.company_id == company_id))).all()
    order = list(ROLES)
    return sorted(
        known, key=lambda role: (order.index(role.key) if role.key in order else len(order), role.name, role.id)
    )


def create(
    session: Session, company: OrgUnit, *, name: str, rights: Collection[str], by: Viewer, now: datetime
) -> Role:
    """Make a role of the company's own.

    Raises:
        Invalid: it has no name, or a right does not exist.
        Forbidden: ``by`` does not hold one of the rights over the whole company.
    """
    wanted = _known_rights(rights)
    _require_rights(by, {"people.write", *wanted}, company.path)
    role = Role(key=f"own-{ids.code(8).lower()}", name=_named(name), rights=wanted, company_id=company.id)
    session.add(role)
    session.flush()
    after = {"name": role.name, "rights": wanted}
    audit.record(session, "role.create", subject=_subject(role), actor=by.actor, at=now, after=after,
                 company_id=company.id)  # fmt: skip
    return role


def change(
    session: Session, role: Role, company: OrgUnit, *, name: str, rights: Collection[str], by: Viewer, now: datetime
) -> None:
    """Change a role of the company's own; whoever holds it has the new rights from the next request on.

    Raises:
        Conflict: the role comes with the product.
        Invalid: it has no name, or a right does not exist.
        Forbidden: ``by`` does not hold one of the old or new rights over the whole company.
    """
    _require_own(role, company)
    wanted = _known_rights(rights)
    _require_rights(by, {"people.write", *role.rights, *wanted}, company.path)
    before = {"name": role.name, "rights": list(role.rights)}
    role.name, role.rights = _named(name), wanted
    session.flush()
    _require_administrator(session, company.id)
    audit.record(session, "role.change", subject=_subject(role), actor=by.actor, at=now, before=before,
                 after={"name": role.name, "rights": wanted}, company_id=company.id)  # fmt: skip


def remove(session: Session, role: Role, company: OrgUnit, *, by: Viewer, now: datetime) -> None:
    """Remove a role of the company's own that nobody holds.

    Raises:
        Conflict: the role comes with the product, or somebody holds it.
        Forbidden: ``by`` does not administer the whole company.
    """
    _require_own(role, company)
    _require_rights(by, {"people.write", *role.rights}, company.path)
    before = {"name": role.name, "rights": list(role.rights)}
    try:
        with session.begin_nested():
            session.delete(role)
    except IntegrityError as error:
        raise Conflict("Somebody holds this role. Withdraw it from them first.") from error
    audit.record(session, "role.remove", subject=_subject(role), actor=by.actor, at=now, before=before,
                 company_id=company.id)  # fmt: skip


def grant(session: Session, account: Account, role: Role, unit: OrgUnit, *, by: Viewer, now: datetime) -> Membership:
    """Give an account a role at a unit: its rights over the unit and everything below.

    Raises:
        Invalid: the role or the unit belongs to another company.
        Forbidden: ``by`` does not hold each of the role's rights over the unit.
        Conflict: the account holds the role there already.
    """
    if unit.company_id != account.company_id:
        raise Invalid("This unit belongs to another company.", field="unit")
    if role.company_id not in (None, account.company_id):
        raise Invalid("This role belongs to another company.", field="role")
    _require_rights(by, {"people.write", *role.rights}, unit.path)
    membership = Membership(account_id=account.id, role_id=role.id, unit_id=unit.id)
    try:
        with session.begin_nested():
            session.add(membership)
    except IntegrityError as error:
        raise Conflict("This person has that role there already.") from error
    _note(session, "role.grant", account, role, unit, by=by, now=now)
    return membership


def withdraw(session: Session, membership: Membership, *, by: Viewer, now: datetime) -> None:
    """Take a role at a unit from an account; it counts from the account's next request on.

    Raises:
        Forbidden: ``by`` does not hold each of the role's rights over the unit.
        Conflict: the company would have nobody left who administers it.
    """
    account, role, unit = membership.account, membership.role, membership.unit
    _require_rights(by, {"people.write", *role.rights}, unit.path)
    session.delete(membership)
    session.flush()
    _require_administrator(session, account.company_id)
    _note(session, "role.withdraw", account, role, unit, by=by, now=now)


def require_power(session: Session, by: Viewer, account: Account) -> None:
    """Make sure that ``by`` may administer an account: its password, its sign-ins, its tokens, its end.

    Raises:
        Forbidden: ``by`` does not change people at the account's home, or the account has rights that ``by`` has not.
    """
    home = session.get_one(OrgUnit, account.home_unit_id)
    _require_rights(by, {"people.write"}, home.path)
    for right, paths in scope.viewer_of(session, account).reach.items():
        for path in paths:
            _require_rights(by, {right}, path)


def keep_an_administrator(session: Session, company_id: int, *, besides: Account) -> None:
    """Make sure that somebody other than one account administers the company.

    Raises:
        Conflict: there is nobody else.
    """
    _require_administrator(session, company_id, besides=besides.id)


def _require_administrator(session: Session, company_id: int, *, besides: int = 0) -> None:
    # The row lock makes two administrators who remove each other take turns, and the second one fails.
    session.execute(select(OrgUnit.id).where(OrgUnit.id == company_id).with_for_update())
    somebody = exists(
        select(Membership.id)
        .join(Role, Role.id == Membership.role_id)
        .join(Account, Account.id == Membership.account_id)
        .where(
            Membership.unit_id == company_id,
            Role.rights.contains(["people.write"]),
            Account.is_active,
            Account.id != besides,
        )
    )
    if not session.scalar(select(somebody)):
        raise Conflict("The company needs at least one active person who can change people.")


def _require_rights(by: Viewer, rights: Collection[str], path: str) -> None:
    for right in sorted(rights):
        if not by.may_at(right, path):
            raise Forbidden("You can only give or take rights that you hold there yourself: {right}", right=right)


def _require_own(role: Role, company: OrgUnit) -> None:
    if role.company_id != company.id:
        raise Conflict("This role comes with the product and cannot be changed. Make one of your own.")


def _known_rights(rights: Collection[str]) -> list[str]:
    if unknown := sorted(set(rights) - RIGHTS.keys()):
        raise Invalid("There is no such right: {right}", field="rights", right=unknown[0])
    return sorted(set(rights))


def _named(name: str) -> str:
    if not name.strip():
        raise Invalid("Please give it a name.", field="name")
    return name.strip()[:200]


def _subject(role: Role) -> str:
    return f"role:{role.id}"


def _note(
    session: Session, action: str, account: Account, role: Role, unit: OrgUnit, *, by: Viewer, now: datetime
) -> None:
    after = {"role": role.key, "unit": unit.id}
    audit.record(session, action, subject=f"account:{account.id}", actor=by.actor, at=now, after=after,
                 company_id=account.company_id)  # fmt: skip
