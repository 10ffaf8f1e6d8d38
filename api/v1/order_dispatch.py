"""Who has an order, over JSON: given by hand, offered in the grab pool, taken from it; candidates and decisions."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api import paging, versions
from api.access import Db, needs
from api.instants import Instant
from api.v1 import orders
from kernel import clock
from maintenance.dispatch import assign, pool
from maintenance.dispatch.models import Decision
from maintenance.orders import desk
from maintenance.orders.models import Order
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/orders", tags=["orders"])
Reader = Annotated[Viewer, needs("orders.read")]
Assigner = Annotated[Viewer, needs("orders.assign")]
Worker = Annotated[Viewer, needs("orders.work")]


class AssignIn(BaseModel):
    """Who is to have an order; a reason overrides a filter of dispatch."""

    account_id: int
    reason: str = Field("", max_length=500)
    planned_at: Instant | None = None


class OfferIn(BaseModel):
    """How long an order lies in the grab pool."""

    minutes: int = Field(15, ge=1, le=24 * 60)


class CandidateOut(BaseModel):
    """A person a decision considered: removed by a filter, or scored."""

    account_id: int
    name: str
    removed_by: str | None
    why: str | None
    scores: dict[str, float]
    total: float
    open_minutes: int


class DecisionOut(BaseModel):
    """A dispatch decision as it was stored, with what was known then."""

    id: int
    at: datetime
    mode: str
    by: str
    chosen_id: int | None
    reason: str
    is_override: bool
    inputs: dict[str, Any]
    candidates: list[CandidateOut]


@router.get("/pool")
def grab_pool(db: Db, viewer: Worker) -> paging.Page[orders.OrderOut]:
    """List the orders that you may take from the grab pool now."""
    now = clock.now()
    return paging.Page(items=[orders.shown(row, now) for row in pool.open_to(db, viewer, now)])


@router.get("/{order_id}/decisions")
def decisions(db: Db, viewer: Reader, order_id: int) -> paging.Page[DecisionOut]:
    """List the dispatch decisions about an order, the newest first, as they were stored."""
    found = scope.find(db, Order, order_id, viewer, "orders.read")
    return paging.Page(items=[_decision(row) for row in assign.decisions(db, found)])


@router.get("/{order_id}/candidates")
def candidates(db: Db, viewer: Assigner, order_id: int, planned_at: Instant | None = None) -> paging.Page[CandidateOut]:
    """Rank who could have an order now, or at a planned time, and say why others could not."""
    found = scope.find(db, Order, order_id, viewer, "orders.read")
    scope.require(db, viewer, "orders.assign", found.unit_id)
    _job, ranked = assign.consider(db, found, clock.now(), planned_at=planned_at)
    return paging.Page(items=[_candidate(assign.as_stored(one)) for one in ranked])


@router.post("/{order_id}/assign")
def assign_by_hand(
    db: Db, viewer: Assigner, order_id: int, body: AssignIn, response: Response, version: versions.IfMatch
) -> orders.OrderWhole:
    """Give an order to a person; one whom dispatch would filter out needs a reason."""
    assign.by_hand(
        db,
        order_id,
        body.account_id,
        viewer,
        now=clock.now(),
        reason=body.reason,
        planned_at=body.planned_at,
        version=version,
    )
    return orders.whole(db, viewer, order_id, response)


@router.post("/{order_id}/offer")
def offer(
    db: Db, viewer: Assigner, order_id: int, response: Response, body: OfferIn | None = None
) -> orders.OrderWhole:
    """Put an order into the grab pool for some minutes."""
    found = desk.locked(db, scope.find(db, Order, order_id, viewer, "orders.read").id)
    scope.require(db, viewer, "orders.assign", found.unit_id)
    open_for = timedelta(minutes=(body or OfferIn()).minutes)
    pool.offer(db, found, actor=viewer.actor, now=clock.now(), open_for=open_for)
    return orders.whole(db, viewer, order_id, response)


@router.post("/{order_id}/grab")
def grab(db: Db, viewer: Worker, order_id: int, response: Response) -> orders.OrderWhole:
    """Take an order from the grab pool; the first has it, others get 409."""
    assign.grab(db, order_id, viewer, now=clock.now())
    return orders.whole(db, viewer, order_id, response)


def _candidate(stored: dict[str, Any]) -> CandidateOut:
    why = stored["why"].format(**stored["why_values"]) if stored["why"] else None
    return CandidateOut.model_validate({**stored, "why": why})


def _decision(row: Decision) -> DecisionOut:
    return DecisionOut(
        id=row.id,
        at=row.at,
        mode=row.mode,
        by=row.by,
        chosen_id=row.chosen_id,
        reason=row.reason,
        is_override=row.is_override,
        inputs=row.inputs,
        candidates=[_candidate(one) for one in row.candidates["list"]],
    )
