"""What people are told on their own page: given, listed, read. For whoever has something to tell.

A notice is written in the transaction of the delivery that asks for it, so it is there once, whatever is killed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from people import shifts
from people.models import Account, Membership, Notice, OrgUnit, Role

KEPT: Final = timedelta(days=30)
MOST_COUNTED: Final = 100


def give(
    session: Session,
    account_ids: Collection[int],
    text: str,
    *,
    subject: str,
    href: str,
    at: datetime,
    values: Mapping[str, Any] | None = None,
) -> int:
    """Tell people something; ``text`` is English with placeholders. Return how many were told."""
    return give_all(session, [Word(account_ids, text, subject, href, values or {})], at=at)


@dataclass(frozen=True, slots=True)
class Word:
    """What ``give`` takes, for those who have much to tell."""

    account_ids: Collection[int]
    text: str
    subject: str
    href: str
    values: Mapping[str, Any]


def give_all(session: Session, words: Sequence[Word], *, at: datetime) -> int:
    """Tell people many things in one statement, in their order; return how many notices that were."""
    rows = [
        {"account_id": one, "at": at, "subject": word.subject, "text": word.text, "values": dict(word.values),
         "href": word.href}
        for word in words
        for one in sorted(set(word.account_ids))
    ]  # fmt: skip
    if rows:
        session.execute(insert(Notice), rows)
    return len(rows)


def on_shift(session: Session, role: str, unit_id: int, now: datetime) -> list[int]:
    """Return who of a role that reaches a unit works now, or all of them when nobody does: never silence."""
    path = session.scalar(select(OrgUnit.path).where(OrgUnit.id == unit_id)) or ""
    above = [int(step) for step in path.split("/") if step]
    holders = set(
        session.scalars(
            select(Account.id)
            .join(Membership, Membership.account_id == Account.id)
            .join(Role, Role.id == Membership.role_id)
            .where(Role.key == role, Membership.unit_id.in_(above), Account.is_active)
        )
    )
    working = shifts.working(session, holders, now, now + timedelta(seconds=1))
    return sorted(one for one in holders if working.get(one)) or sorted(holders)


def unread(session: Session, account_id: int) -> int:
    """Return how many notices a person has not read; what is more than a hundred is a hundred."""
    some = select(Notice.id).where(Notice.account_id == account_id, Notice.read_at.is_(None)).limit(MOST_COUNTED)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0


def listed(session: Session, account_id: int, *, before: int | None, limit: int) -> Sequence[Notice]:
    """Return a person's notices, the newest first; ``before`` is the last id seen."""
    rows = select(Notice).where(Notice.account_id == account_id)
    if before is not None:
        rows = rows.where(Notice.id < before)
    return session.scalars(rows.order_by(Notice.id.desc()).limit(limit)).all()


def read(session: Session, account_id: int, ids: Collection[int] | None, *, now: datetime) -> int:
    """Note that a person has read some of their notices, or with None all; return how many were new to them."""
    mine = update(Notice).where(Notice.account_id == account_id, Notice.read_at.is_(None))
    if ids is not None:
        mine = mine.where(Notice.id.in_(ids))
    return len(session.execute(mine.values(read_at=now).returning(Notice.id)).all())


def sweep(session: Session, now: datetime) -> None:
    """Forget notices of long ago."""
    session.execute(delete(Notice).where(Notice.at < now - KEPT))
