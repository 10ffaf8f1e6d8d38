"""Bearer tokens for programs: shown once, kept as a hash, limited to some of their owner's rights, expiring.

A token never reaches further than its owner does at that moment: rights that the owner loses, it loses too.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel import audit, ids
from kernel.errors import Forbidden, Invalid, NotFound
from people import scope
from people.models import Account, Token
from people.scope import Viewer

PREFIX = "fw_"
"""What every token begins with, so that a scanner of leaked secrets knows one."""
LONGEST = timedelta(days=730)


def create(
    session: Session,
    account: Account,
    *,
    name: str,
    expires_at: datetime,
    rights: Collection[str] | None = None,
    by: Viewer,
    now: datetime,
) -> tuple[Token, str]:
    """Make a token for an account and return it with its secret, which nobody can read again.

    ``rights`` None means all that the account holds at the time of each request.

    Raises:
        Invalid: it has no name, expires too late or already, or asks for a right the account does not hold.
        Forbidden: it is asked for somebody else's account, or with a token that is limited in its rights itself.
    """
    if by.account_id not in (account.id, 0):
        raise Forbidden("Everybody makes their own tokens.")
    if not name.strip():
        raise Invalid("Please give it a name.", field="name")
    if not now < expires_at <= now + LONGEST:
        raise Invalid("A token expires within two years.", field="expires_at")
    held = scope.viewer_of(session, account).reach.keys()
    wanted = None if rights is None else sorted(set(rights))
    if missing := sorted(set(wanted or ()) - held):
        raise Invalid("The account does not hold this right: {right}", field="rights", right=missing[0])
    if by.account_id and not (held if wanted is None else set(wanted)) <= by.reach.keys():
        raise Forbidden("A limited token cannot make one that may do more.")
    secret = PREFIX + ids.token(256)
    token = Token(
        account_id=account.id,
        name=name.strip()[:200],
        secret_hash=ids.fingerprint(secret),
        rights=wanted,
        created_at=now,
        expires_at=expires_at,
    )
    session.add(token)
    session.flush()
    after = {"name": token.name, "rights": wanted, "expires_at": expires_at}
    audit.record(session, "token.create", subject=f"token:{token.id}", actor=by.actor, at=now, after=after,
                 company_id=account.company_id)  # fmt: skip
    return token, secret


def of_account(session: Session, account: Account) -> list[Token]:
    """Return an account's tokens that are not revoked, newest first; expired ones are among them."""
    rows = select(Token).where(Token.account_id == account.id, Token.revoked_at.is_(None))
    return list(session.scalars(rows.order_by(Token.id.desc())))


def revoke(session: Session, account: Account, identity: int, *, actor: str, now: datetime) -> None:
    """Make a token of an account void from the next request on.

    Raises:
        NotFound: the account has no such token, or it is void already.
    """
    token = session.scalars(
        select(Token).where(Token.id == identity, Token.account_id == account.id, Token.revoked_at.is_(None))
    ).one_or_none()
    if token is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    token.revoked_at = now
    audit.record(session, "token.revoke", subject=f"token:{token.id}", actor=actor, at=now,
                 before={"name": token.name}, company_id=account.company_id)  # fmt: skip
