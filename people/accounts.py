"""Accounts: made, changed, let in by password, and switched off. For administrators and the sign-in page.

Guessing is slowed in three ways that leave the owner alone: by account and address, by address over all
accounts, and, when strangers guess at one account from everywhere, by letting unknown browsers try it only now
and then. A browser in which the owner has signed in before is counted by itself.
"""

import re
import unicodedata
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from kernel import audit, i18n, ids, limits
from kernel.db import Json
from kernel.errors import Conflict, Forbidden, Invalid, NotFound
from people import org, passwords, roles, sign_in
from people.models import Account, OrgUnit, Token
from people.scope import Viewer, operator, units
from people.shifts import known_zone

QUARTER = timedelta(minutes=15)
TRIES_BY_PLACE = 5
"""Wrong passwords for one account from one address, or one known browser, in a quarter of an hour."""
TRIES_BY_ADDRESS = 50
"""Wrong passwords from one address for any account in a quarter of an hour."""
TRIES_BY_ACCOUNT = 20
"""Wrong passwords for one account from unknown browsers in an hour; beyond it, one try each ``PAUSE``."""
PAUSE = timedelta(seconds=20)
_USERNAME = re.compile(r"[\w][\w.@+-]{1,59}")


def create(
    session: Session,
    home: OrgUnit,
    *,
    username: str,
    name: str,
    password: str | None = None,
    email: str | None = None,
    phone: str | None = None,
    language: str = "en",
    zone: str = "UTC",
    by: Viewer,
    now: datetime,
) -> Account:
    """Make an account whose home is a unit; without a password nobody can sign in with it yet.

    Raises:
        Invalid: the user name, the password, the language or the zone is not acceptable.
        Conflict: the user name is taken, here or in another company.
        Forbidden: ``by`` does not change people at this unit.
    """
    if not by.may_at("people.write", home.path):
        raise Forbidden("You cannot change people at this unit.")
    wanted = known_username(username)
    account = Account(
        company_id=home.company_id,
        home_unit_id=home.id,
        username=wanted,
        name=_named(name),
        email=_short(email, 200),
        phone=_short(phone, 40),
        language=_known_language(language),
        zone=known_zone(zone),
        password_hash=passwords.hashed(password, username=wanted) if password is not None else None,
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(account)
    except IntegrityError as error:
        raise Conflict("This user name is taken.", field="username") from error
    after = {"username": wanted, "name": account.name, "unit": home.id}
    _note(session, "account.create", account, actor=by.actor, now=now, after=after)
    return account


def change(
    session: Session,
    account: Account,
    *,
    name: str,
    email: str | None,
    phone: str | None,
    home: OrgUnit,
    by: Viewer,
    now: datetime,
) -> None:
    """Change who a person is and where they belong.

    Raises:
        Invalid: the name is empty, or the unit belongs to another company.
        Forbidden: ``by`` may not administer the account, or not at its new home.
    """
    roles.require_power(session, by, account)
    if home.company_id != account.company_id:
        raise Invalid("This unit belongs to another company.", field="unit")
    if not by.may_at("people.write", home.path):
        raise Forbidden("You cannot change people at this unit.")
    # Contact data stays out of the trail, which keeps what it is told for good.
    before = {"name": account.name, "unit": account.home_unit_id}
    account.name, account.home_unit_id = _named(name), home.id
    account.email, account.phone = _short(email, 200), _short(phone, 40)
    after = {"name": account.name, "unit": home.id}
    _note(session, "account.change", account, actor=by.actor, now=now, before=before, after=after)


def prefer(session: Session, account: Account, *, language: str, zone: str, now: datetime) -> None:
    """Change the language and the zone in which an account sees the product; its owner does this.

    Raises:
        Invalid: there is no such language or zone.
    """
    before = {"language": account.language, "zone": account.zone}
    account.language, account.zone = _known_language(language), known_zone(zone)
    after = {"language": account.language, "zone": account.zone}
    if before != after:
        actor = f"account:{account.id}"
        _note(session, "account.prefer", account, actor=actor, now=now, before=before, after=after)


def set_password(session: Session, account: Account, password: str, *, by: Viewer, now: datetime) -> None:
    """Give somebody else's account a new password and end all of its sign-ins.

    Raises:
        Invalid: the password is not acceptable.
        Forbidden: ``by`` may not administer the account.
    """
    roles.require_power(session, by, account)
    account.password_hash = passwords.hashed(password, username=account.username)
    account.failed_sign_ins = 0
    sign_in.end_all(session, account, actor=by.actor, now=now)
    _note(session, "account.set_password", account, actor=by.actor, now=now)


def change_password(
    session: Session, account: Account, *, old: str, new: str, keep_sign_in: int | None, address: str, now: datetime
) -> bool:
    """Change one's own password; every other sign-in ends. Return False when the old one is wrong.

    The caller commits also then, because the failure is counted.

    Raises:
        Invalid: the new one is not acceptable.
        TooMany: the old one was guessed at too often.
    """
    limits.spend(session, f"password/{account.id}/{address}", limit=TRIES_BY_PLACE, window=QUARTER, now=now)
    if not passwords.matches(old, account.password_hash):
        return False
    account.password_hash = passwords.hashed(new, username=account.username)
    actor = f"account:{account.id}"
    sign_in.end_all(session, account, but=keep_sign_in, actor=actor, now=now)
    _note(session, "account.change_password", account, actor=actor, now=now)
    return True


def authenticate(
    session: Session, username: str, password: str, *, address: str, device: str | None = None, now: datetime
) -> Account | None:
    """Return the active account these belong to, or None; which of the two is wrong cannot be told apart.

    The caller commits also when nobody is let in, because the failure is counted and written down.

    Raises:
        TooMany: too many were wrong before; nothing was compared.
    """
    wanted = _folded(username)
    account = session.scalars(select(Account).where(Account.username == wanted)).one_or_none()
    known = sign_in.known_device(session, account, device) if account is not None else None
    name = ids.fingerprint(wanted)[:24]
    failures = _watch(session, name, f"browser {known}" if known else address, address, now)
    if not known:
        _slow_down(session, name, now)
        failures.append((f"sign-in/{name}", timedelta(hours=1)))
    kept = account.password_hash if account is not None and account.is_active else None
    if passwords.matches(password, kept) and account is not None:
        account.failed_sign_ins = 0
        return account
    for key, window in failures:
        limits.count(session, key, window=window, now=now)
    _refuse(session, account, address, now)
    return None


def deactivate(session: Session, account: Account, *, by: Viewer, now: datetime) -> None:
    """Switch an account off: its sign-ins end and its tokens no longer open anything. What it did stays.

    Raises:
        Forbidden: ``by`` may not administer the account.
        Conflict: it is one's own, or the company would have nobody left who administers it.
    """
    roles.require_power(session, by, account)
    if account.id == by.account_id:
        raise Conflict("You cannot switch off your own account.")
    roles.keep_an_administrator(session, account.company_id, besides=account)
    account.is_active = False
    sign_in.end_all(session, account, actor=by.actor, now=now)
    for token in session.scalars(select(Token).where(Token.account_id == account.id, Token.revoked_at.is_(None))):
        token.revoked_at = now
    _note(session, "account.deactivate", account, actor=by.actor, now=now)


def reactivate(session: Session, account: Account, *, by: Viewer, now: datetime) -> None:
    """Switch an account on again; its roles are as they were, its tokens stay revoked.

    Raises:
        Forbidden: ``by`` may not administer the account.
    """
    roles.require_power(session, by, account)
    account.is_active = True
    _note(session, "account.reactivate", account, actor=by.actor, now=now)


def first_administrator(session: Session, now: datetime) -> tuple[Account, str] | None:
    """Make the account ``admin`` with a random password, and its company, where no account exists yet.

    Return both once, for the terminal; None on every later start.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext("first administrator"))))
    if session.scalar(select(exists(select(Account.id)))):
        return None
    roles.sync_builtin(session)
    company = session.scalars(select(OrgUnit).where(OrgUnit.parent_id.is_(None)).order_by(OrgUnit.id)).first()
    company = company or org.found(session, "My company", name_zh="我的公司", actor="system", now=now)
    password = passwords.invented()
    everything = operator(company)
    account = create(
        session, company, username="admin", name="Administrator", password=password, by=everything, now=now
    )
    roles.grant(session, account, roles.builtin(session, "administrator"), company, by=everything, now=now)
    return account, password


def visible(viewer: Viewer, right: str = "people.read") -> ColumnElement[bool]:
    """Return the condition that keeps a query of accounts to those whose home lies within the viewer's sight."""
    return Account.home_unit_id.in_(units(viewer, right))


def find(session: Session, identity: int, viewer: Viewer, right: str = "people.read") -> Account:
    """Return one account within the viewer's sight.

    Raises:
        NotFound: it does not exist or lies outside; the two cannot be told apart.
    """
    account = session.scalars(select(Account).where(Account.id == identity, visible(viewer, right))).one_or_none()
    if account is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return account


def known_username(username: str) -> str:
    """Return a user name as it is kept: NFKC, lower case.

    Raises:
        Invalid: it is too short or too long, or holds other than letters, digits and . @ + - _
    """
    folded = _folded(username)
    if not _USERNAME.fullmatch(folded):
        raise Invalid("Use 2 to 60 letters, digits or . @ + - _", field="username")
    return folded


def _folded(username: str) -> str:
    return unicodedata.normalize("NFKC", username).strip().casefold()


def _watch(session: Session, name: str, place: str, address: str, now: datetime) -> list[tuple[str, timedelta]]:
    """Make sure that another try is allowed; return the windows that a failure is counted in."""
    by_place, by_address = f"sign-in/{name}/{place}", f"sign-in from/{address}"
    limits.require_room(session, by_place, limit=TRIES_BY_PLACE, window=QUARTER, now=now)
    if not place.startswith("browser "):
        limits.require_room(session, by_address, limit=TRIES_BY_ADDRESS, window=QUARTER, now=now)
    return [(by_place, QUARTER), (by_address, QUARTER)]


def _slow_down(session: Session, name: str, now: datetime) -> None:
    if limits.used(session, f"sign-in/{name}", window=timedelta(hours=1), now=now) >= TRIES_BY_ACCOUNT:
        limits.spend(session, f"sign-in slowly/{name}", limit=1, window=PAUSE, now=now)


def _refuse(session: Session, account: Account | None, address: str, now: datetime) -> None:
    if account is not None:
        account.failed_sign_ins += 1
    # An unknown name is not written down: people type passwords into the wrong field.
    subject = f"account:{account.id}" if account is not None else "account:unknown"
    audit.record(
        session,
        "sign_in.refuse",
        subject=subject,
        actor="system",
        at=now,
        after={"address": address},
        company_id=account.company_id if account is not None else None,
    )


def _known_language(language: str) -> str:
    if language not in i18n.LANGUAGES:
        raise Invalid("Choose one of the languages offered.", field="language")
    return language


def _named(name: str) -> str:
    if not name.strip():
        raise Invalid("Please give it a name.", field="name")
    return name.strip()[:200]


def _short(text: str | None, length: int) -> str | None:
    return (text or "").strip()[:length] or None


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
