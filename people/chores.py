"""What the operator of an installation does from the command line, by names instead of pages."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel.errors import NotFound
from people import accounts, passwords, roles, scope, tokens
from people.models import Account, OrgUnit, Role


def create_account(session: Session, *, username: str, name: str, role: str, unit_id: int | None, now: datetime) -> str:
    """Make an account that holds a role at an org unit, or at the company; return its first password, shown once.

    Raises:
        NotFound: there is no such role or unit.
        Invalid: the user name is not acceptable.
        Conflict: it is taken.
    """
    wanted = OrgUnit.id == unit_id if unit_id is not None else OrgUnit.parent_id.is_(None)
    unit = session.scalars(select(OrgUnit).where(wanted).order_by(OrgUnit.id).limit(1)).one_or_none()
    if unit is None:
        raise NotFound("There is no such org unit.")
    company = session.get_one(OrgUnit, unit.company_id)
    held = session.scalars(
        select(Role)
        .where(Role.key == role, (Role.company_id == company.id) | Role.company_id.is_(None))
        .order_by(Role.company_id.nulls_last())
        .limit(1)
    ).one_or_none()
    if held is None:
        raise NotFound("There is no role called {role}.", role=role)
    by = scope.operator(company)
    password = passwords.invented()
    account = accounts.create(session, unit, username=username, name=name, password=password, by=by, now=now)
    roles.grant(session, account, held, unit, by=by, now=now)
    return password


def create_token(
    session: Session,
    *,
    username: str,
    name: str,
    rights: Collection[str] | None,
    expires_at: datetime,
    now: datetime,
) -> str:
    """Make a bearer token for an account; return its secret, shown once.

    Raises:
        NotFound: there is no such account.
        Invalid: it expires too late, or asks for a right the account does not hold.
    """
    account = session.scalars(select(Account).where(Account.username == username.strip().casefold())).one_or_none()
    if account is None:
        raise NotFound("There is no account called {username}.", username=username)
    by = scope.operator(session.get_one(OrgUnit, account.company_id))
    _, secret = tokens.create(session, account, name=name, expires_at=expires_at, rights=rights, by=by, now=now)
    return secret
