"""The one timeline of an order or a request: comments, moves, photos, parts, alarms, in one order of time.

Staff see all of it. A customer sees what is public; nothing internal ever leaves through ``for_customer``.
Moves are stored as data (verb, phases) and put into words where they are shown, in the reader's language.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select, tuple_
from sqlalchemy.orm import Session, joinedload

from kernel import audit, db, events
from kernel.db import Json
from kernel.errors import Invalid
from kernel.models import File
from maintenance.orders.events import OrderCommented
from maintenance.orders.models import Entry, Order, Request
from people.models import Account

LONGEST_COMMENT = 4000


def write(
    session: Session,
    on: Order | Request,
    kind: str,
    *,
    actor: str,
    now: datetime,
    text: str = "",
    detail: Json | None = None,
    is_public: bool = False,
    file: File | None = None,
) -> Entry:
    """Add a line to the timeline of an order or a request; ``detail`` of a public line is public too."""
    said = Line(on, kind, text=text, detail=detail or {}, is_public=is_public, file=file)
    return write_all(session, [said], actor=actor, now=now)[0]


@dataclass(frozen=True, slots=True)
class Line:
    """What ``write`` takes, for those who have many."""

    on: Order | Request
    kind: str
    text: str = ""
    detail: Json = field(default_factory=dict)
    is_public: bool = False
    file: File | None = None


def write_all(session: Session, lines: Sequence[Line], *, actor: str, now: datetime) -> Sequence[Entry]:
    """Add lines that somebody writes at one instant to their timelines, in their order."""
    name = name_of(session, actor)
    rows = [line(one, actor=actor, now=now, name=name) for one in lines]
    db.add_many(session, rows)
    session.flush()
    return rows


def line(of: Line, *, actor: str, now: datetime, name: str = "") -> Entry:
    """Return a line as a row that is yet to be added."""
    return Entry(
        order_id=of.on.id if isinstance(of.on, Order) else of.on.order_id,
        request_id=of.on.id if isinstance(of.on, Request) else None,
        kind=of.kind,
        at=now,
        actor=actor,
        actor_name=name,
        text=of.text,
        detail=of.detail,
        is_public=of.is_public,
        file=of.file,
    )


def last_of(session: Session, order_ids: Collection[int]) -> dict[int, Entry]:
    """Return the last line of each order that has any."""
    newest = select(func.max(Entry.id)).where(Entry.order_id.in_(order_ids)).group_by(Entry.order_id)
    found = session.scalars(select(Entry).where(Entry.id.in_(newest)))
    return {entry.order_id: entry for entry in found if entry.order_id is not None}


def name_of(session: Session, actor: str) -> str:
    """Return the name of an account that acts, or nothing for machines and strangers."""
    kind, _, identity = actor.partition(":")
    account = session.get(Account, int(identity)) if kind == "account" and identity.isdigit() else None
    return account.name if account else ""


def comment(session: Session, order: Order, text: str, *, actor: str, now: datetime, is_public: bool = False) -> Entry:
    """Say something about an order, to colleagues or, when public, to the customer too.

    Raises:
        Invalid: nothing was said, or more than 4000 characters.
    """
    text = text.strip()
    if not text:
        raise Invalid("Please write something.", field="text")
    if len(text) > LONGEST_COMMENT:
        raise Invalid("Please write at most {most} characters.", field="text", most=LONGEST_COMMENT)
    return tell(session, order, write(session, order, "comment", actor=actor, now=now, text=text, is_public=is_public))


def photo(
    session: Session, order: Order, file: File, *, actor: str, now: datetime, text: str = "", is_public: bool = False
) -> Entry:
    """Add a picture that was kept before (``kernel.files.keep_picture``)."""
    entry = write(session, order, "photo", actor=actor, now=now, text=text[:500], is_public=is_public, file=file)
    return tell(session, order, entry)


def tell(session: Session, order: Order, entry: Entry) -> Entry:
    """Let others know of a line that somebody added to an order, and write it into the audit trail."""
    audit.record(
        session,
        f"order.{entry.kind}",
        subject=f"order:{order.id}",
        actor=entry.actor,
        at=entry.at,
        after={"entry_id": entry.id, "is_public": entry.is_public},
        company_id=order.company_id,
    )
    events.emit(
        session,
        OrderCommented(order.id, entry.id, entry.is_public),
        subject=f"order:{order.id}",
        at=entry.at,
        actor=entry.actor,
        unit_id=order.unit_id,
    )
    return entry


def of_order(
    session: Session, order: Order, *, limit: int = 200, before: tuple[datetime, int] | None = None
) -> Sequence[Entry]:
    """Return the newest lines of an order, newest first; ``before`` is the (at, id) of the last line known."""
    return _newest(session, Entry.order_id == order.id, limit, before)


def of_request(session: Session, request: Request, *, limit: int = 200) -> Sequence[Entry]:
    """Return the lines of a request, newest first."""
    return _newest(session, Entry.request_id == request.id, limit, None)


def for_customer(session: Session, request: Request, *, limit: int = 200) -> Sequence[Entry]:
    """Return what the person who made a request may read, newest first.

    That is the public lines of the request and of its order, without what other people reported on the same order.
    """
    own = Entry.request_id == request.id
    on_order = (Entry.order_id == request.order_id) & Entry.request_id.is_(None)
    mine = own if request.order_id is None else or_(own, on_order)
    return _newest(session, Entry.is_public & mine, limit, None)


def _newest(
    session: Session, where: ColumnElement[bool], limit: int, before: tuple[datetime, int] | None
) -> Sequence[Entry]:
    wanted = select(Entry).where(where).order_by(Entry.at.desc(), Entry.id.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(tuple_(Entry.at, Entry.id) < before)
    return session.scalars(wanted.options(joinedload(Entry.file))).all()
