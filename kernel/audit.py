"""Who did what, in a chain that cannot be altered unnoticed (promise P6).

``record`` writes an entry in the caller's transaction. As the last act before the commit the entries of the
transaction are numbered and sealed: seal = HMAC-SHA256(key, seal before it + the entry). The key is derived
from the installation's secret, which the database does not hold, so whoever owns the tables can neither
edit an entry nor rewrite the chain. The head row is sealed too, so a cut tail shows. Only entries that this
very transaction wrote are sealed: one that somebody else put into the table stays unsealed, and shows. An old copy
of the whole trail has genuine seals; that it was set back shows by the witness, a file outside of the database.

The price: transactions that change something queue at the head row for the length of one commit.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import BigInteger, ColumnElement, RowMapping, any_, event, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, SessionTransaction

from kernel import db, log
from kernel.db import Json
from kernel.i18n import noop
from kernel.models import AuditEntry, AuditHead

_GENESIS = bytes(32)
_SCAR = b"\xff" * 32


def record(
    session: Session,
    action: str,
    *,
    subject: str,
    actor: str,
    at: datetime,
    before: Json | None = None,
    after: Json | None = None,
    company_id: int | None = None,
) -> None:
    """Write that ``actor`` did ``action`` (e.g. ``order.accept``) to ``subject`` (e.g. ``order:12``).

    ``before`` and ``after`` hold only what changed; neither may hold a secret.
    """
    record_all(session, [Act(action, subject, actor, before, after, company_id)], at=at)


@dataclass(frozen=True, slots=True)
class Act:
    """What ``record`` takes, for those who have many."""

    action: str
    subject: str
    actor: str
    before: Json | None = None
    after: Json | None = None
    company_id: int | None = None


def record_all(session: Session, acts: Sequence[Act], *, at: datetime) -> None:
    """Write what happened at one instant in one statement, in its order."""
    if not acts:
        return
    rows = [
        {
            "action": act.action,
            "subject": act.subject,
            "actor": act.actor,
            "at": at,
            "before": msgspec.to_builtins(act.before),
            "after": msgspec.to_builtins(act.after),
            "company_id": act.company_id,
        }
        for act in acts
    ]
    written: Sequence[int]
    if len(rows) == 1:
        written = session.scalars(insert(AuditEntry).returning(AuditEntry.id), rows).all()
    else:
        written = db.draw_ids(session, AuditEntry, len(rows))
        session.execute(insert(AuditEntry), [row | {"id": one} for row, one in zip(rows, written, strict=True)])
    session.info.setdefault("unsealed", []).extend(written)


@event.listens_for(Session, "before_commit")
def _seal_before_commit(session: Session) -> None:
    # Also heard when a savepoint is released; the entries are sealed once, when all of them are certain.
    if session.info.get("unsealed") and not session.in_nested_transaction():
        session.flush()
        _seal(session, _key(session), session.info["unsealed"])


@event.listens_for(Session, "after_transaction_end")
def _forget(session: Session, transaction: SessionTransaction) -> None:
    # Only with the whole transaction: a savepoint that is rolled back leaves what was written before it.
    if transaction.parent is None:
        session.info["unsealed"] = []


def _seal(session: Session, key: bytes, written: list[int]) -> None:
    """Number and seal this transaction's entries; the head's row lock makes the chain one line."""
    head = session.execute(select(AuditHead.seq, AuditHead.seal).where(AuditHead.id == 1).with_for_update()).one()
    seq, link = _end(session, head.seq, head.seal, key)
    sealed = []
    # Those a savepoint took back are no longer there.
    mine = select(*_columns()).where(_among(written), AuditEntry.seq.is_(None)).order_by(AuditEntry.id)
    for entry in session.execute(mine).mappings():
        seq += 1
        link = _mac(key, link, {**entry, "seq": seq})
        sealed.append({"id": entry["id"], "seq": seq, "seal": link})
    if not sealed:
        return
    session.execute(update(AuditEntry), sealed)
    session.execute(update(AuditHead).where(AuditHead.id == 1).values(seq=seq, seal=_head_mac(key, seq, link)))


def _end(session: Session, seq: int, seal: bytes, key: bytes) -> tuple[int, bytes]:
    """Return number and seal of the last entry; where head or end were tampered with, what no entry can follow.

    Work does not stop then, but the chain keeps the scar: no later head can make it whole again.
    """
    newest = session.execute(
        select(AuditEntry.seq, AuditEntry.seal)
        .where(AuditEntry.seq.is_not(None))
        .order_by(AuditEntry.seq.desc())
        .limit(1)
    ).one_or_none()
    if newest is None and seq == 0:
        return 0, _GENESIS
    if newest is not None and newest.seq == seq and hmac.compare_digest(seal, _head_mac(key, seq, newest.seal or b"")):
        return seq, newest.seal
    log.of(__name__).error("the audit trail was altered", seq=seq)
    return max(seq, newest.seq if newest else 0), _SCAR


NEVER_SEALED = noop("an entry that nobody sealed")
ENTRY_MISSING = noop("an entry is missing")
ENTRY_ALTERED = noop("the entry does not match its seal")
HEAD_MISSING = noop("the head is missing")
HEAD_ALTERED = noop("the head does not match its seal")
TAIL_CUT = noop("the end of the chain was cut")
SET_BACK = noop("the chain was set back to an earlier state")


@dataclass(frozen=True, slots=True)
class Break:
    """A place where the chain does not hold: after which entry, and one of the reasons above."""

    seq: int
    reason: str


def verify(session: Session) -> Iterator[Break]:
    """Walk the whole chain and yield every place at which it was altered; nothing means it is whole.

    Work may go on meanwhile: the head is read first, and what was added since is checked against its own seals.
    """
    key = _key(session)
    head = session.execute(select(AuditHead.seq, AuditHead.seal).where(AuditHead.id == 1)).one_or_none()
    if head is None:
        yield Break(0, HEAD_MISSING)
    marks = {} if head is None else {head.seq: head.seal}
    seen = _witnessed(session)
    link, expected = _GENESIS, 0
    for entry in _entries(session):
        if entry["seq"] is None:
            yield Break(expected, NEVER_SEALED)
            continue
        expected += 1
        if entry["seq"] != expected:
            yield Break(expected, ENTRY_MISSING)
            expected = entry["seq"]
        yield from (Break(expected, reason) for reason in _wrong(key, entry, link, marks.get(expected), seen))
        link = entry["seal"] or b""
    if seen is not None and expected < seen.seq:
        yield Break(expected, SET_BACK)
    if head is not None and head.seq > expected:
        yield Break(expected, TAIL_CUT)
    elif head is not None and head.seq <= 0 < expected:
        yield Break(expected, HEAD_ALTERED)


def _entries(session: Session) -> Iterable[RowMapping]:
    """Return every entry but those this very transaction has yet to seal, the unsealed ones last."""
    rows = (
        select(*_columns(), AuditEntry.seq, AuditEntry.seal)
        .where(~_among(session.info.get("unsealed", [])))
        .order_by(AuditEntry.seq.nulls_last(), AuditEntry.id)
    )
    return session.execute(rows, execution_options={"yield_per": 2000}).mappings()


def _wrong(key: bytes, entry: RowMapping, before: bytes, head: bytes | None, seen: "Seen | None") -> Iterator[str]:
    """Yield what is wrong with one entry, given the seal before it and, where the head points here, the head's."""
    seal = entry["seal"] or b""
    should = _mac(key, before, {name: value for name, value in entry.items() if name != "seal"})
    if not hmac.compare_digest(seal, should):
        yield ENTRY_ALTERED
    if head is not None and not hmac.compare_digest(head, _head_mac(key, entry["seq"], seal)):
        yield HEAD_ALTERED
    if seen is not None and entry["seq"] == seen.seq and seal.hex() != seen.seal:
        yield SET_BACK


class Seen(msgspec.Struct, frozen=True):
    """How far the chain had come when it was last looked at: number and seal of its last entry."""

    seq: int
    seal: str


def witness(session: Session) -> None:
    """Write down, outside of the database, how far the chain has come; a chain that went back is not written down.

    Does nothing where the sessions were made without a ``witness`` file. Each machine has its own.
    """
    path: Path | None = session.info.get("witness")
    if path is None:
        return
    newest = select(AuditEntry.seq, AuditEntry.seal).where(AuditEntry.seq.is_not(None))
    row = session.execute(newest.order_by(AuditEntry.seq.desc()).limit(1)).one_or_none()
    before = _witnessed(session)
    if before is not None:
        same = session.scalar(select(AuditEntry.seal).where(AuditEntry.seq == before.seq))
        if row is None or (same or b"").hex() != before.seal:
            log.of(__name__).error("the audit trail was set back", seq=before.seq)
            return
    if row is not None and (before is None or row.seq > before.seq):
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(Seen(row.seq, row.seal.hex())))
        draft.replace(path)


def _witnessed(session: Session) -> Seen | None:
    path: Path | None = session.info.get("witness")
    if path is None or not path.exists():
        return None
    return msgspec.json.decode(path.read_bytes(), type=Seen)


def _among(identities: list[int]) -> ColumnElement[bool]:
    # One array, because a batch may have written more entries than a statement may have parameters.
    return AuditEntry.id == any_(literal(identities, ARRAY(BigInteger)))


def _columns() -> list[Any]:
    entry = AuditEntry
    return [
        entry.id, entry.at, entry.actor, entry.action, entry.subject, entry.company_id, entry.before, entry.after
    ]  # fmt: skip


def _key(session: Session) -> bytes:
    return hmac.digest(session.info["secret"], b"fixwright audit chain", hashlib.sha256)


def _mac(key: bytes, link: bytes, entry: Json) -> bytes:
    body = msgspec.json.encode(
        {
            name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
            for name, value in entry.items()
        },
        order="sorted",
    )
    return hmac.digest(key, link + body, hashlib.sha256)


def _head_mac(key: bytes, seq: int, link: bytes) -> bytes:
    return hmac.digest(key, b"head" + seq.to_bytes(8, "big", signed=True) + link, hashlib.sha256)
