"""Tags: made, revoked, replaced, found by what was scanned, and each scan written down (QRC-3)."""

import re
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets.models import Asset
from kernel import audit, ids
from kernel.errors import Conflict, Gone, NotFound
from people.scope import Viewer
from qr.models import Scan, Tag

TOKEN_BITS = 160
CODE_LETTERS = 8
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,60}")
_ADDRESS = re.compile(r"/q/([A-Za-z0-9_-]+)")


def make(session: Session, asset: Asset, *, actor: str, now: datetime) -> Tag:
    """Make a tag for an asset; it may have several, e.g. one at each door of a machine."""
    tag = Tag(
        company_id=asset.company_id,
        unit_id=asset.unit_id,
        token=ids.token(TOKEN_BITS),
        code=ids.code(CODE_LETTERS),
        asset=asset,
        made_at=now,
    )
    session.add(tag)
    session.flush()
    _audit(session, tag, "make", actor, now)
    return tag


def of_asset(session: Session, asset: Asset, *, actor: str, now: datetime) -> Tag:
    """Return an asset's newest valid tag; one is made when it has none."""
    known = session.scalars(
        select(Tag).where(Tag.asset_id == asset.id, Tag.revoked_at.is_(None)).order_by(Tag.id.desc()).limit(1)
    ).one_or_none()
    return known or make(session, asset, actor=actor, now=now)


def revoke(session: Session, tag: Tag, *, actor: str, now: datetime) -> None:
    """Make a tag's page say no more than that the label is no longer valid.

    Raises:
        Conflict: it was revoked before.
    """
    if tag.revoked_at is not None:
        raise Conflict("This label was revoked already.")
    tag.revoked_at, tag.revoked_by = now, actor
    session.flush()
    _audit(session, tag, "revoke", actor, now)


def replace(session: Session, tag: Tag, *, actor: str, now: datetime) -> Tag:
    """Revoke a tag and make another for the same asset, e.g. when a label was copied.

    Raises:
        Conflict: it was revoked before, or is bound to nothing.
    """
    if tag.asset is None:
        raise Conflict("This label is not bound to anything.")
    revoke(session, tag, actor=actor, now=now)
    return make(session, tag.asset, actor=actor, now=now)


def by_token(session: Session, token: str) -> Tag:
    """Return the tag that a scanned address names.

    Raises:
        NotFound: no tag has this token, or it is bound to nothing yet.
        Gone: it was revoked.
    """
    is_one = _TOKEN.fullmatch(token) is not None
    tag = session.scalars(select(Tag).where(Tag.token == token)).one_or_none() if is_one else None
    if tag is None or tag.asset is None:
        raise NotFound("There is no such label.")
    if tag.revoked_at is not None:
        raise Gone("This label is no longer valid.")
    return tag


def by_scan(session: Session, text: str) -> Tag:
    """Return the tag that a reader names: by the address on its label, by its token, or by the code people type.

    Raises:
        NotFound: no tag has this code or token.
        Gone: it was revoked.
    """
    address = _ADDRESS.search(text)
    try:
        return by_token(session, address.group(1) if address else text.strip())
    except NotFound:
        return by_code(session, text)


def by_code(session: Session, typed: str) -> Tag:
    """Return the tag whose readable code somebody typed; blanks, hyphens and case do not matter.

    Raises:
        NotFound: no tag has this code.
        Gone: it was revoked.
    """
    plain = "".join(letter for letter in typed.upper() if letter.isalnum())[: 2 * CODE_LETTERS]
    code = "-".join(plain[start : start + 4] for start in range(0, len(plain), 4))
    token = session.scalar(select(Tag.token).where(Tag.code == code))
    if token is None:
        raise NotFound("There is no such label.")
    return by_token(session, token)


def scanned(session: Session, tag: Tag, *, viewer: Viewer | None, address: str, agent: str, now: datetime) -> None:
    """Write down that somebody opened a tag's page."""
    account_id = viewer.account_id if viewer else None
    session.add(Scan(tag_id=tag.id, at=now, account_id=account_id, address=address[:60], agent=agent[:200]))


def _audit(session: Session, tag: Tag, verb: str, actor: str, now: datetime) -> None:
    audit.record(
        session,
        f"tag.{verb}",
        subject=f"tag:{tag.id}",
        actor=actor,
        at=now,
        after={"code": tag.code, "asset": tag.asset_id},
        company_id=tag.company_id,
    )
