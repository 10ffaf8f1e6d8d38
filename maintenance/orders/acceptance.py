"""The customer's side of an order: following it, accepting or sending back, and the stars (CP-2, CP-4, FS-8).

Whoever holds a request's tracking token speaks for that request, and for nothing else. What they say is written
on the request, so that staff read it on the order and other reporters of the same fault do not.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from kernel import audit, events, ids
from kernel.db import Json
from kernel.errors import Conflict, Gone, Invalid, NotFound
from kernel.models import File
from maintenance.orders import desk, opening, requests, timeline
from maintenance.orders.events import OrderRated, RequestDecided
from maintenance.orders.models import Entry, Order, Request
from people.models import Account, Membership, OrgUnit, Role

ACTOR = "customer"
STARS = range(1, 6)
LOW = 2
"""At or below this many stars somebody calls the customer back."""
LONGEST_REMARK = 1000
FOLLOW_UP = "follow_up"
WITHDRAWN = "Withdrawn by the reporter 报修人已撤回"
"""Why an order was cancelled with its only report; kept in both languages because it is stored as a text."""
NOT_BEGUN = frozenset({"new", "assigned", "accepted"})
"""Phases of an order in which nobody has set out yet, so that a report can still be taken back."""


def by_token(session: Session, token: str, now: datetime) -> Request:
    """Return the request a tracking link belongs to.

    Raises:
        NotFound: there is none.
        Gone: the link has expired or was revoked.
    """
    request = session.scalars(select(Request).where(Request.track_hash == ids.fingerprint(token))).one_or_none()
    if request is None:
        raise NotFound("There is nothing here.")
    if request.track_revoked_at is not None or request.track_expires_at <= now:
        raise Gone("This link is no longer valid.")
    return request


def revoke(session: Session, request: Request, *, actor: str, now: datetime) -> None:
    """Let a tracking link open nothing any more, e.g. because it was posted where all can read it.

    Raises:
        Conflict: it was revoked before.
    """
    if request.track_revoked_at is not None:
        raise Conflict("This tracking link was revoked already.")
    request.track_revoked_at = now
    session.flush()
    _audit(session, request, "revoke_link", actor, now, {"number": request.number})


def write(session: Session, request: Request, text: str, *, now: datetime) -> Entry:
    """Add what the customer has to say; the technician and the desk read it.

    Raises:
        Invalid: nothing was said, or too much.
    """
    text = text.strip()
    if not text or len(text) > LONGEST_REMARK:
        raise Invalid("Please write between 1 and {most} characters.", field="text", most=LONGEST_REMARK)
    return _say(session, request, "comment", now, text=text)


def add_photos(session: Session, request: Request, photos: Sequence[File], *, now: datetime) -> None:
    """Add pictures to a report that was made."""
    for file in photos:
        _say(session, request, "photo", now, file=file)


def _say(
    session: Session, request: Request, kind: str, now: datetime, *, text: str = "", file: File | None = None
) -> Entry:
    entry = timeline.write(session, request, kind, actor=ACTOR, now=now, text=text, is_public=True, file=file)
    order = _order(session, request)
    return entry if order is None else timeline.tell(session, order, entry)


def withdraw(session: Session, request: Request, *, now: datetime) -> None:
    """Take a report back as long as nobody has set out for it.

    The order goes with it when nobody else reported the fault and no machine did.

    Raises:
        Conflict: somebody is on the way or at work already, or it was decided against before.
    """
    order = _order(session, request)
    if order is None:
        requests.withdraw(session, request, actor=ACTOR, now=now)
        return
    session.refresh(request, with_for_update=True)
    if not may_withdraw(request, order):
        raise Conflict("Somebody is on the way already. Please write a message instead.")
    request.state, request.decided_at, request.decided_by = "withdrawn", now, ACTOR
    session.flush()
    detail = {"verb": "withdrawn", "before": "accepted", "after": "withdrawn"}
    timeline.write(session, request, "move", actor=ACTOR, now=now, detail=detail, is_public=True)
    _audit(session, request, "withdrawn", ACTOR, now, {"order": order.number})
    gone = RequestDecided(request.id, "withdrawn")
    events.emit(session, gone, subject=f"request:{request.id}", at=now, actor=ACTOR, unit_id=request.unit_id)
    others = exists().where(Request.order_id == order.id, Request.state != "withdrawn")
    if order.alarm_id is None and not session.scalar(select(others)):
        desk.move(session, order, "cancel", actor=ACTOR, now=now, reason=WITHDRAWN)


def may_withdraw(request: Request, order: Order | None) -> bool:
    """Return whether a report can still be taken back."""
    if order is None:
        return request.state in requests.WAITING
    return request.state in {"accepted", "joined"} and order.phase in NOT_BEGUN


def accept(session: Session, request: Request, *, now: datetime) -> Order:
    """Say that the work is done: the order is verified by the customer. Saying it twice changes nothing.

    Raises:
        Conflict: there is nothing finished to accept.
    """
    order = _finished(session, request)
    if request.accepted_at is None:
        request.accepted_at = now
        if order.phase == "done":
            desk.move(session, order, "verify", actor=ACTOR, now=now)
        session.flush()
        _audit(session, request, "accept_work", ACTOR, now, {"order": order.number})
    return order


def send_back(session: Session, request: Request, reason: str, *, now: datetime) -> Order:
    """Say that the work is not done; it goes back to the technician and counts as rework.

    Raises:
        Conflict: there is nothing finished to send back, or it was accepted already.
        Invalid: no reason is given.
    """
    order = _finished(session, request)
    if request.accepted_at is not None:
        raise Conflict("The work was accepted already. Please report the fault again.")
    return desk.move(session, order, "send_back", actor=ACTOR, now=now, reason=reason)


def rate(session: Session, request: Request, stars: int, remark: str, *, now: datetime) -> bool:
    """Give the repair one to five stars, once; return False when it was rated already, which changes nothing.

    Two stars or less open a follow-up for a manager; a rated, verified order is closed.

    Raises:
        Invalid: there are not one to five stars, or the remark is too long.
        Conflict: the work is not finished.
    """
    if stars not in STARS:
        raise Invalid("Please give one to five stars.", field="stars")
    if len(remark) > LONGEST_REMARK:
        raise Invalid("Please write at most {most} characters.", field="remark", most=LONGEST_REMARK)
    order = _finished(session, request, may_be_closed=True)
    if request.rated_at is not None or order.rating is not None:
        return False
    request.rating, request.rating_text, request.rated_at = stars, remark.strip() or None, now
    order.rating = stars
    session.flush()
    timeline.write(
        session,
        request,
        "rating",
        actor=ACTOR,
        now=now,
        text=remark.strip(),
        detail={"rating": stars},
        is_public=True,
    )
    audit.record(
        session,
        "order.rate",
        subject=f"order:{order.id}",
        actor=ACTOR,
        at=now,
        after={"rating": stars},
        company_id=order.company_id,
    )
    rated = OrderRated(order.id, stars)
    events.emit(session, rated, subject=f"order:{order.id}", at=now, actor=ACTOR, unit_id=order.unit_id)
    if stars <= LOW:
        _follow_up(session, request, order, now)
    if order.phase == "verified":
        desk.move(session, order, "close", actor="system", now=now)
    return True


def _follow_up(session: Session, request: Request, order: Order, now: datetime) -> Order:
    """Open the task to call an unhappy customer back, for the nearest manager."""
    draft = opening.Draft(
        company_id=order.company_id,
        unit_id=order.unit_id,
        origin="rating",
        title=f"Call back: {order.number} got {request.rating} of 5",
        title_zh=f"回访：{order.number} 评价 {request.rating} 星",
        description=request.rating_text or "",
        kind=FOLLOW_UP,
        priority=2,
        asset=order.asset,
        previous_id=order.id,
        estimated_minutes=15,
    )
    task = opening.open_order(session, draft, actor="system", now=now)
    manager = _manager_of(session, order.unit_id)
    if manager is not None:
        desk.give(session, task, manager, "assign", actor="system", now=now, reason="nearest manager")
    return task


def _manager_of(session: Session, unit_id: int) -> Account | None:
    """Return the manager held at the unit or nearest above it; the smallest id among equals."""
    path = session.get_one(OrgUnit, unit_id).path
    above = [int(part) for part in path.strip("/").split("/")]
    managers = (
        select(Account)
        .join(Membership, Membership.account_id == Account.id)
        .join(Role, Role.id == Membership.role_id)
        .join(OrgUnit, OrgUnit.id == Membership.unit_id)
        .where(Role.key == "manager", Account.is_active, OrgUnit.id.in_(above))
    )
    return session.scalars(managers.order_by(OrgUnit.path.desc(), Account.id).limit(1)).one_or_none()


def _order(session: Session, request: Request) -> Order | None:
    return desk.locked(session, request.order_id) if request.order_id is not None else None


def _finished(session: Session, request: Request, *, may_be_closed: bool = False) -> Order:
    order = _order(session, request)
    phases = {"done", "verified", "closed"} if may_be_closed else {"done", "verified"}
    if order is None or order.phase not in phases:
        raise Conflict("The work is not finished yet.")
    session.refresh(request, with_for_update=True)
    return order


def _audit(session: Session, request: Request, verb: str, actor: str, now: datetime, after: Json) -> None:
    audit.record(
        session,
        f"request.{verb}",
        subject=f"request:{request.id}",
        actor=actor,
        at=now,
        after=after,
        company_id=request.company_id,
    )
