"""Sign-ins: a browser's cookie, kept as a hash, listed and ended by its owner; and browsers known from before.

The cookie's secret and the anti-forgery token are new with every sign-in. A second, long-lived cookie marks a
browser in which the account has signed in before: when strangers guess at an account from everywhere, that
browser is not slowed down with them. It is void once the password changes.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from kernel import audit, ids
from kernel.db import Json
from kernel.errors import NotFound
from people.models import Account, SignIn


@dataclass(frozen=True, slots=True)
class Begun:
    """A new sign-in: the two secrets for the browser, which exist nowhere else."""

    secret: str
    csrf_token: str
    device: str


def begin(session: Session, account: Account, *, address: str, agent: str, lasts: timedelta, now: datetime) -> Begun:
    """Sign an authenticated account in and return what its browser keeps."""
    secret, csrf_token = ids.token(256), ids.token()
    row = SignIn(
        account_id=account.id,
        secret_hash=ids.fingerprint(secret),
        csrf_token=csrf_token,
        at=now,
        seen_at=now,
        expires_at=now + lasts,
        address=address[:60],
        agent=agent[:300],
    )
    session.add(row)
    session.flush()
    _note(session, "sign_in.begin", account, {"sign_in": row.id, "address": row.address}, actor=_self(account), now=now)
    return Begun(secret, csrf_token, _device(session, account, ids.token(128)))


def current(session: Session, secret: str, now: datetime) -> SignIn | None:
    """Return the living sign-in a cookie's secret belongs to."""
    row = session.scalars(select(SignIn).where(SignIn.secret_hash == ids.fingerprint(secret))).one_or_none()
    return row if row is not None and row.expires_at > now else None


def living(session: Session, account: Account, now: datetime) -> list[SignIn]:
    """Return where an account is signed in, last seen first."""
    rows = select(SignIn).where(SignIn.account_id == account.id, SignIn.expires_at > now)
    return list(session.scalars(rows.order_by(SignIn.seen_at.desc(), SignIn.id.desc())))


def end(session: Session, account: Account, identity: int, *, actor: str, now: datetime) -> None:
    """End one sign-in of an account; its browser's next request is a stranger's.

    Raises:
        NotFound: the account has no such sign-in.
    """
    gone = delete(SignIn).where(SignIn.id == identity, SignIn.account_id == account.id).returning(SignIn.id)
    if session.execute(gone).scalar_one_or_none() is None:
        raise NotFound("This sign-in has ended already.")
    _note(session, "sign_in.end", account, {"sign_in": identity}, actor=actor, now=now)


def end_all(session: Session, account: Account, *, but: int | None = None, actor: str, now: datetime) -> int:
    """End every sign-in of an account, except perhaps the one with the identity ``but``; return how many."""
    gone = delete(SignIn).where(SignIn.account_id == account.id, SignIn.id != (but or 0)).returning(SignIn.id)
    ended = list(session.scalars(gone))
    if ended:
        _note(session, "sign_in.end", account, {"sign_ins": sorted(ended)}, actor=actor, now=now)
    return len(ended)


def sweep(session: Session, now: datetime) -> None:
    """Forget sign-ins that have expired."""
    session.execute(delete(SignIn).where(SignIn.expires_at <= now))


def known_device(session: Session, account: Account, device: str | None) -> str | None:
    """Return the name of the browser a device cookie belongs to, if it is one of this account's."""
    nonce = (device or "").partition(".")[0]
    genuine = hmac.compare_digest((device or "").encode(), _device(session, account, nonce).encode())
    return nonce if genuine and nonce else None


def _device(session: Session, account: Account, nonce: str) -> str:
    key = hmac.digest(session.info["secret"], b"fixwright known browser", hashlib.sha256)
    seal = hmac.digest(key, f"{account.id}.{nonce}.{account.password_hash}".encode(), hashlib.sha256)
    return f"{nonce}.{seal.hex()}"


def _self(account: Account) -> str:
    return f"account:{account.id}"


def _note(session: Session, action: str, account: Account, after: Json, *, actor: str, now: datetime) -> None:
    audit.record(session, action, subject=_self(account), actor=actor, at=now, after=after,
                 company_id=account.company_id)  # fmt: skip
