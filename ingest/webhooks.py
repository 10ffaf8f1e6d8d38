"""Webhook sources: other systems that post to us, each with a secret of its own (ING-11).

What a source posts becomes a message under ``webhook/{name}``; payload mappings decide what it means. The secret is
shown once. It is not kept, because a signature cannot be checked against a hash: it is made again, each time, from
the installation's own key and a random word that a rotation replaces.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ingest.mapping import WEBHOOKS
from ingest.models import WebhookSource
from ingest.rejected import Reject
from kernel import audit, ids
from kernel.errors import Conflict, Invalid
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}", re.ASCII)
PROOFS: Final = ("token", "signature")
SIGNATURE_HEADER: Final = "X-Hub-Signature-256"
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,60}", re.ASCII)
_USED_EVERY: Final = timedelta(minutes=1)


def add(
    session: Session, name: str, *, proof: str, header: str = "", unit: OrgUnit, actor: str, now: datetime
) -> WebhookSource:
    """Add a source; ``header`` is where it puts its signature.

    Raises:
        Invalid: the name, the kind of proof or the header cannot be used.
        Conflict: the name is taken. Names stand in addresses and are therefore one for all companies.
    """
    if not NAME.fullmatch(name):
        raise Invalid("A name has 1 to 60 small letters, digits and hyphens.", field="name")
    if proof not in PROOFS:
        raise Invalid("Choose token or signature.", field="proof")
    header = (header or SIGNATURE_HEADER) if proof == "signature" else ""
    if header and not _HEADER.fullmatch(header):
        raise Invalid("A header has letters, digits and hyphens.", field="header")
    if session.scalar(select(WebhookSource.id).where(WebhookSource.name == name)) is not None:
        raise Conflict("The name {name} is taken. Please choose another.", field="name", name=name)
    source = WebhookSource(
        name=name, proof=proof, header=header, nonce=ids.token(), created_at=now,
        company_id=unit.company_id or unit.id, unit_id=unit.id,
    )  # fmt: skip
    session.add(source)
    session.flush()
    _record(session, source, "webhook.add", {"name": name, "proof": proof, "header": header}, actor, now)
    return source


def rotate(session: Session, source: WebhookSource, *, actor: str, now: datetime) -> None:
    """Give a source another secret; the one before is void from the commit on.

    Raises:
        Conflict: it is revoked.
    """
    if source.revoked_at is not None:
        raise Conflict("This source is revoked. Add another one in its place.")
    source.nonce = ids.token()
    _record(session, source, "webhook.rotate", {"name": source.name}, actor, now)


def revoke(session: Session, source: WebhookSource, *, actor: str, now: datetime) -> None:
    """Shut a source out for good; what it sent stays.

    Raises:
        Conflict: it is revoked already.
    """
    if source.revoked_at is not None:
        raise Conflict("This source is revoked already.")
    source.revoked_at = now
    _record(session, source, "webhook.revoke", {"name": source.name}, actor, now)


def listed(session: Session, viewer: Viewer, *, after: str | None = None, limit: int) -> Sequence[WebhookSource]:
    """Return sources within the viewer's sight by name; ``after`` is that of the one before."""
    query = select(WebhookSource).where(scope.visible(WebhookSource, viewer, "ingest.read"))
    if after is not None:
        query = query.where(WebhookSource.name > after)
    return session.scalars(query.order_by(WebhookSource.name).limit(limit)).all()


def named(session: Session, name: str) -> WebhookSource | None:
    """Return the source of a name, unless it is revoked: for whoever posts, who proves itself by its secret."""
    return session.scalars(
        select(WebhookSource).where(WebhookSource.name == name, WebhookSource.revoked_at.is_(None))
    ).one_or_none()


def secret_of(key: bytes, source: WebhookSource) -> str:
    """Return the secret of a source, of 256 bits, made from the installation's ``key``."""
    made = hmac.digest(key, f"webhook:{source.name}:{source.nonce}".encode(), "sha256")
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def is_signed(secret: str, body: bytes, signature: str) -> bool:
    """Return whether a signature is that of a body: HMAC-SHA256 in hex or base64, perhaps behind ``sha256=``."""
    made = hmac.digest(secret.encode(), body, hashlib.sha256)
    given = signature.strip().removeprefix("sha256=").encode()
    in_hex, in_base64 = made.hex().encode(), base64.b64encode(made)
    return hmac.compare_digest(given.lower(), in_hex) or hmac.compare_digest(given, in_base64)


def is_secret(secret: str, shown: str) -> bool:
    """Return whether what was shown is the secret; the time taken does not tell how much of it is right."""
    return hmac.compare_digest(secret.encode(), shown.encode())


def used(session: Session, source: WebhookSource, *, now: datetime) -> None:
    """Note that a source posted, at most once a minute."""
    if source.last_used_at is None or now - source.last_used_at > _USED_EVERY:
        session.execute(update(WebhookSource).where(WebhookSource.id == source.id).values(last_used_at=now))


def owned(session: Session, rejects: Sequence[tuple[int, Reject]]) -> list[tuple[int, Reject]]:
    """Return rejects with those of webhooks given to the org unit of their source: no other company sees them."""
    names = {one.topic.removeprefix(WEBHOOKS) for _, one in rejects if one.topic.startswith(WEBHOOKS)}
    if not names:
        return list(rejects)
    found = session.execute(
        select(WebhookSource.name, WebhookSource.unit_id).where(WebhookSource.name.in_(names))
    ).all()
    units = {f"{WEBHOOKS}{name}": unit_id for name, unit_id in found}
    return [
        (message, replace(one, unit_id=units.get(one.topic)) if one.unit_id is None else one)
        for message, one in rejects
    ]


def _record(
    session: Session, source: WebhookSource, action: str, after: dict[str, object], actor: str, now: datetime
) -> None:
    audit.record(
        session, action, subject=f"webhook:{source.id}", actor=actor, at=now, after=after, company_id=source.company_id
    )
