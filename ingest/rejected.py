"""Messages that could not be used: kept whole with the reason, shown, and tried again when the cause is mended.

One message is kept once however often it comes; repetitions are counted. Trying again is the ingest process's
work, because the readings' store may belong to it alone: a person asks, and the row says when it was done.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, LargeBinary, func, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session, defer

from ingest.models import RejectedMessage
from kernel import audit
from kernel.errors import Conflict, NotFound
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

_LONGEST_TOPIC: Final = 1000
_LONGEST_DETAIL: Final = 400
_LONGEST_KEY: Final = 200


@dataclass(frozen=True, slots=True)
class Reject:
    """A message set aside. ``unit_id`` is None where the device is unknown."""

    topic: str
    payload: bytes
    received_at: datetime
    reason: str
    detail: str
    device_key: str | None
    unit_id: int | None
    times: int = 1
    """More than one where it stands for others that came with it and are not kept."""

    @property
    def digest(self) -> bytes:
        """What tells it from others: topic, payload and reason."""
        sha = hashlib.sha256(len(self.topic.encode()).to_bytes(4, "big"))
        sha.update(self.topic.encode())
        sha.update(self.reason.encode())
        sha.update(b"\0")
        sha.update(self.payload)
        return sha.digest()


def keep(session: Session, rejects: Sequence[Reject]) -> None:
    """Keep messages with their reasons; one that was kept before is counted, and is open again if it was replayed."""
    rows: dict[bytes, dict[str, object]] = {}
    for reject in rejects:
        digest = reject.digest
        if digest in rows:
            rows[digest]["repeats"] = int(str(rows[digest]["repeats"])) + reject.times
            continue
        rows[digest] = _row(reject) | {"digest": digest, "repeats": reject.times}
    if not rows:
        return
    statement = upsert(RejectedMessage)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[RejectedMessage.digest],
            set_={
                "repeats": RejectedMessage.repeats + statement.excluded.repeats,
                "received_at": statement.excluded.received_at,
                "detail": statement.excluded.detail,
                "unit_id": statement.excluded.unit_id,
                "replayed_at": None,
                "replayed_by": None,
            },
        ),
        [rows[digest] for digest in sorted(rows)],
    )


def _row(reject: Reject) -> dict[str, object]:
    return {
        "topic": _kept(reject.topic, _LONGEST_TOPIC),
        "payload": reject.payload,
        "first_at": reject.received_at,
        "received_at": reject.received_at,
        "reason": reject.reason,
        "detail": _kept(reject.detail, _LONGEST_DETAIL),
        "device_key": None if reject.device_key is None else reject.device_key[:_LONGEST_KEY],
        "unit_id": reject.unit_id,
    }


def _kept(text: str, longest: int) -> str:
    """Return what of a text can be kept: no database keeps a NUL, and one topic must not hold up its whole batch."""
    return text[:longest].replace("\0", "\N{REPLACEMENT CHARACTER}")


# For people -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """Open rejected messages of one device with one reason."""

    reason: str
    device_key: str | None
    messages: int
    repeats: int
    last_at: datetime
    newest_id: int


def groups(session: Session, viewer: Viewer, *, limit: int = 200) -> list[Group]:
    """Return what waits to be mended, by reason and device, the latest first."""
    rows = session.execute(
        select(
            RejectedMessage.reason,
            RejectedMessage.device_key,
            func.count(),
            func.sum(RejectedMessage.repeats),
            func.max(RejectedMessage.received_at),
            func.max(RejectedMessage.id),
        )
        .where(seen_by(session, viewer), RejectedMessage.replayed_at.is_(None))
        .group_by(RejectedMessage.reason, RejectedMessage.device_key)
        .order_by(func.max(RejectedMessage.received_at).desc(), func.max(RejectedMessage.id).desc())
        .limit(limit)
    )
    return [Group(reason, key, count, repeats, last, newest) for reason, key, count, repeats, last, newest in rows]


def listed(
    session: Session,
    viewer: Viewer,
    *,
    reason: str | None = None,
    device_key: str | None = None,
    is_open: bool | None = True,
    is_unknown: bool = False,
    hour: datetime | None = None,
    after: int | None = None,
    limit: int,
) -> Sequence[RejectedMessage]:
    """Return rejected messages within the viewer's sight, the newest first; ``after`` is the id of the one before.

    Their bytes are not read: a hundred of a megabyte each would be; see ``beginnings``.
    ``device_key`` "" asks for messages that name no device; ``is_open`` None for replayed ones as well; ``is_unknown``
    for those of devices that are not registered; ``hour`` for those that came within the hour that begins then, for the
    first time, the last, or one in between.
    """
    query = select(RejectedMessage).where(seen_by(session, viewer)).order_by(RejectedMessage.id.desc()).limit(limit)
    query = query.options(defer(RejectedMessage.payload))
    if reason is not None:
        query = query.where(RejectedMessage.reason == reason)
    if device_key is not None:
        query = query.where(RejectedMessage.device_key == (device_key or None))
    if is_open is not None:
        query = query.where(
            RejectedMessage.replayed_at.is_(None) if is_open else RejectedMessage.replayed_at.is_not(None)
        )
    if is_unknown:
        query = query.where(RejectedMessage.unit_id.is_(None))
    if hour is not None:
        query = query.where(RejectedMessage.first_at < hour + timedelta(hours=1), RejectedMessage.received_at >= hour)
    if after is not None:
        query = query.where(RejectedMessage.id < after)
    return session.scalars(query).all()


def beginnings(session: Session, rows: Sequence[RejectedMessage], most: int) -> dict[int, tuple[bytes, int]]:
    """Return of each message the first ``most`` bytes and how many there are."""
    found = session.execute(
        select(
            RejectedMessage.id,
            func.substring(RejectedMessage.payload, 1, most, type_=LargeBinary),
            func.octet_length(RejectedMessage.payload),
        ).where(RejectedMessage.id.in_([row.id for row in rows]))
    )
    return {identity: (begin, size) for identity, begin, size in found}


def find(session: Session, viewer: Viewer, identity: int, right: str = "ingest.read") -> RejectedMessage:
    """Return one rejected message within the viewer's sight.

    Raises:
        NotFound: it does not exist or lies outside.
    """
    row = session.scalars(
        select(RejectedMessage).where(RejectedMessage.id == identity, seen_by(session, viewer, right))
    ).one_or_none()
    if row is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return row


def seen_by(session: Session, viewer: Viewer, right: str = "ingest.read") -> ColumnElement[bool]:
    """Return the condition that keeps a query within the viewer's sight.

    A message of an unknown device belongs to nobody; only who holds the right over the whole company sees it.
    """
    own = RejectedMessage.unit_id.in_(scope.units(viewer, right))
    root = session.scalar(select(OrgUnit.path).where(OrgUnit.id == viewer.company_id))
    if root is not None and viewer.may_at(right, root):
        return or_(own, RejectedMessage.unit_id.is_(None))
    return own


def ask(session: Session, row: RejectedMessage, *, by: str, company_id: int, now: datetime) -> None:
    """Ask for a message to be tried again.

    Raises:
        Conflict: it was replayed already.
    """
    session.refresh(row, ["replayed_at", "replay_asked_at"], with_for_update=True)
    if row.replayed_at is not None:
        raise Conflict("This message has been replayed already.")
    row.replay_asked_at, row.replayed_by = now, by
    session.flush()
    audit.record(
        session,
        "rejected.replay",
        subject=f"rejected:{row.id}",
        actor=by,
        at=now,
        after={"topic": row.topic, "reason": row.reason},
        company_id=company_id,
    )


def ask_all(
    session: Session, viewer: Viewer, *, reason: str, device_key: str | None, now: datetime, limit: int = 1000
) -> int:
    """Ask for all open messages of one device with one reason to be tried again; return how many."""
    found = session.scalars(
        select(RejectedMessage)
        .where(
            seen_by(session, viewer, "ingest.act"),
            RejectedMessage.reason == reason,
            true() if device_key is None else RejectedMessage.device_key == (device_key or None),
            RejectedMessage.replayed_at.is_(None),
            RejectedMessage.replay_asked_at.is_(None),
        )
        .order_by(RejectedMessage.id)
        .limit(limit)
        .options(defer(RejectedMessage.payload))
    ).all()
    for row in found:
        ask(session, row, by=viewer.actor, company_id=viewer.company_id, now=now)
    return len(found)


# For the pipeline -----------------------------------------------------------------------------------------------


def asked(session: Session, *, limit: int) -> Sequence[int]:
    """Return the ids of the messages somebody asked to try again, the oldest first."""
    return session.scalars(
        select(RejectedMessage.id)
        .where(RejectedMessage.replay_asked_at.is_not(None))
        .order_by(RejectedMessage.id)
        .limit(limit)
    ).all()


def settle(session: Session, replayed: Iterable[int], refused: Sequence[tuple[int, Reject]], *, now: datetime) -> None:
    """Write what became of tried messages: used now, or refused again for a reason that may be another."""
    done = sorted(replayed)
    if done:
        session.execute(
            update(RejectedMessage)
            .where(RejectedMessage.id.in_(done), RejectedMessage.replay_asked_at.is_not(None))
            .values(replayed_at=now, replay_asked_at=None)
        )
    for identity, reject in refused:
        # Another row may say the same already; then this one has nothing to add and only ends its waiting.
        twin = session.scalar(
            select(RejectedMessage.id).where(RejectedMessage.digest == reject.digest, RejectedMessage.id != identity)
        )
        said = {} if twin is not None else {"reason": reject.reason, "detail": _kept(reject.detail, _LONGEST_DETAIL),
                                            "digest": reject.digest}  # fmt: skip
        session.execute(
            update(RejectedMessage)
            .where(RejectedMessage.id == identity)
            .values(replay_asked_at=None, replayed_by=None, **said)
        )
