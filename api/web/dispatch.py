"""Who should have an order? The ranked list with the reasons, assigning by hand, and the grab pool."""

from datetime import datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.web import due, pages
from api.web.orders import said
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid
from maintenance.dispatch import assign, pool, scoring
from maintenance.orders import desk, worklist
from maintenance.orders.models import Order
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/orders")
Assigner = Annotated[Viewer, needs("orders.assign")]
Worker = Annotated[Viewer, needs("orders.work")]
NEEDS_REASON = i18n.noop("{name} does not fit. Give a reason to assign all the same.")


@router.get("/{order_id}/assign")
def candidates(request: Request, db: Db, viewer: Assigner, order_id: int) -> Response:
    """Show who could have an order, ranked, and why others could not."""
    return _candidates(request, db, viewer, order_id)


def _candidates(
    request: Request, db: Session, viewer: Viewer, order_id: int, error: str = "", status: int = 200
) -> Response:
    row = worklist.whole(db, order_id, viewer)
    scope.require(db, viewer, "orders.assign", row.unit_id)
    job, ranked = assign.consider(db, row, clock.now())
    return pages.render(
        request,
        "orders/assign.html",
        status=status,
        order=row,
        job=job,
        due=due.shown(row, clock.now(), request.state.language),
        ranked=ranked,
        weights=scoring.WEIGHTS,
        objectives=scoring.OBJECTIVES,
        filters=scoring.FILTERS,
        fixed=scoring.NOT_TO_OVERRIDE,
        error=error,
    )


@router.post("/{order_id}/assign")
def assign_by_hand(
    *,
    request: Request,
    db: Db,
    viewer: Assigner,
    order_id: int,
    account_id: Annotated[int, Form()],
    reason: Annotated[str, Form()] = "",
    planned: Annotated[str, Form()] = "",
) -> Response:
    """Give an order to a person."""
    try:
        planned_at = _local(planned, viewer.zone)
        assign.by_hand(db, order_id, account_id, viewer, now=clock.now(), reason=reason, planned_at=planned_at)
    except (Invalid, Conflict) as error:
        db.rollback()
        # The list below says why in the reader's language; the sentence of the error says it in one only.
        needs_reason = error.field == "reason"
        shown = Invalid(NEEDS_REASON, name=error.values.get("name", "")) if needs_reason else error
        return _candidates(request, db, viewer, order_id, next(iter(said(request, shown).values())), 422)
    return pages.go(f"/orders/{order_id}", notice=i18n.noop("Assigned."))


def _local(text: str, zone: str) -> datetime | None:
    """Return a local date and time of a form as an instant."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    except ValueError as error:
        raise Invalid("This is not a date and time.", field="planned") from error


@router.post("/{order_id}/offer")
def offer(db: Db, viewer: Assigner, order_id: int, minutes: Annotated[int, Form()] = 15) -> Response:
    """Put an order into the grab pool."""
    found = desk.locked(db, scope.find(db, Order, order_id, viewer, "orders.read").id)
    scope.require(db, viewer, "orders.assign", found.unit_id)
    pool.offer(db, found, actor=viewer.actor, now=clock.now(), open_for=timedelta(minutes=minutes))
    return pages.go(f"/orders/{order_id}", notice=i18n.noop("Offered to everybody who fits."))


@router.post("/{order_id}/grab")
def grab(db: Db, viewer: Worker, order_id: int) -> Response:
    """Take an order from the grab pool."""
    return taken(db, viewer, order_id)


def taken(db: Session, viewer: Viewer, order_id: int) -> Response:
    """Take an order from the grab pool and show it, or say that somebody was faster."""
    try:
        assign.grab(db, order_id, viewer, now=clock.now())
    except Conflict:
        db.rollback()
        return pages.go("/my", notice=i18n.noop("Somebody else was faster."), kind="warning")
    return pages.go(f"/jobs/{order_id}", notice=i18n.noop("It is yours."))
