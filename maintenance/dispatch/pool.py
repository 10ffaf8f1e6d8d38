"""The grab pool: an order lies open to everybody who fits, the first to take it has it, then dispatch decides.

Only those whom no filter of dispatch removes see an order here or may take it (SEMANTICS D6).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel import audit, events
from kernel.db import Json
from kernel.errors import Conflict, Forbidden, Invalid
from maintenance.dispatch import crowd, scoring
from maintenance.dispatch.scoring import Candidate
from maintenance.orders import timeline
from maintenance.orders.events import OrderNeedsDispatch, OrderOffered
from maintenance.orders.models import Order
from people import scope
from people.scope import Viewer

OPEN_FOR: Final = timedelta(minutes=15)
LONGEST: Final = timedelta(days=1)


def offer(session: Session, order: Order, *, actor: str, now: datetime, open_for: timedelta = OPEN_FOR) -> None:
    """Put a locked order that has nobody into the pool for some time.

    Raises:
        Conflict: somebody has it already, or it is in the pool.
        Invalid: the time is not between a minute and a day.
    """
    if order.phase != "new" or order.in_pool:
        raise Conflict("Only an order that nobody has can be offered.")
    if not timedelta(minutes=1) <= open_for <= LONGEST:
        raise Invalid("An order can be offered for one minute to one day.", field="minutes")
    order.in_pool, order.pool_until = True, now + open_for
    session.flush()
    until = order.pool_until.isoformat()
    detail: Json = {"what": "offered", "until": until}
    timeline.write(session, order, "dispatch", actor=actor, now=now, detail=detail)
    audit.record(
        session,
        "order.offer",
        subject=f"order:{order.id}",
        actor=actor,
        at=now,
        after={"until": until},
        company_id=order.company_id,
    )
    _emit(session, order, OrderOffered(order.id, until), actor, now)


def open_to(session: Session, viewer: Viewer, now: datetime) -> Sequence[Order]:
    """Return the orders that the viewer may take from the pool now, the most urgent first."""
    offered = session.scalars(
        select(Order)
        .where(Order.in_pool, Order.pool_until > now, scope.visible(Order, viewer, "orders.work"))
        .order_by(Order.priority, Order.id)
    ).all()
    if not offered:
        return ()
    people = crowd.gather(session, viewer.company_id, now, only=[viewer.account_id]).people
    if not people:
        return ()
    # The viewer's rights reach every order of the list already, so the person as gathered is the candidate.
    return [one for one in offered if scoring.removal(crowd.job_of(session, one, now), people[0]) is None]


def end_offers(session: Session, now: datetime, *, limit: int = 200) -> int:
    """Hand orders that nobody took in time to dispatch; return how many (run by a tick)."""
    rows = session.scalars(
        select(Order)
        .where(Order.in_pool, Order.pool_until <= now)
        .order_by(Order.pool_until)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for order in rows:
        # `pool_until` stays: it tells dispatch that the pool had its turn.
        order.in_pool = False
        _emit(session, order, OrderNeedsDispatch(order.id), "system", now)
    return len(rows)


def require_open(order: Order, now: datetime) -> None:
    """Make sure a locked order can still be taken.

    Raises:
        Conflict: it was never offered, or somebody was faster, or its time is over.
    """
    if not order.in_pool or order.pool_until is None or order.pool_until <= now:
        raise Conflict("This order is no longer in the grab pool.")


def require_fit(candidate: Candidate) -> None:
    """Make sure no filter speaks against a person.

    Raises:
        Forbidden: one does; the sentence says which.
    """
    if candidate.removal is not None:
        raise Forbidden(candidate.removal.why, **candidate.removal.values)


def _emit(session: Session, order: Order, happening: object, actor: str, now: datetime) -> None:
    events.emit(session, happening, subject=f"order:{order.id}", at=now, actor=actor, unit_id=order.unit_id)
