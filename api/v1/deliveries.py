"""Events on their way to subscribers over JSON: what waits, what is stuck, and trying again."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api import paging
from api.access import Db, needs
from kernel import clock
from kernel.errors import NotFound
from people import oversight
from people.scope import Viewer

router = APIRouter(prefix="/deliveries", tags=["deliveries"])
Reader = Annotated[Viewer, needs("deliveries.read")]
Actor = Annotated[Viewer, needs("deliveries.act")]


class DeliveryOut(BaseModel):
    """One event on its way to one subscriber."""

    id: int
    state: str
    subscriber: str
    attempts: int
    next_at: datetime
    last_error: str | None
    event_id: int
    event: str
    subject: str
    at: datetime


class Retried(BaseModel):
    """How many deliveries were put back in line."""

    retried: int


class Filter(BaseModel):
    """The parameters of the list of deliveries."""

    state: Literal["waiting", "stuck", "done"] = "stuck"
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


class Which(BaseModel):
    """Which deliveries to try again."""

    ids: list[int] | None = Field(None, max_length=10_000, description="Left out: every stuck one.")


@router.get("")
def deliveries(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[DeliveryOut]:
    """List deliveries in a state, newest first."""
    after = paging.read(wanted.cursor, (int,))
    rows = oversight.deliveries(
        db, viewer, state=wanted.state, before=after[0] if after else None, limit=wanted.limit + 1
    )
    page, following = paging.cut(rows, wanted.limit, lambda row: (row[0].id,))
    items = [
        DeliveryOut(
            id=delivery.id,
            state=delivery.state,
            subscriber=delivery.subscriber,
            attempts=delivery.attempts,
            next_at=delivery.next_at,
            last_error=delivery.last_error,
            event_id=event.id,
            event=event.kind,
            subject=event.subject,
            at=event.at,
        )
        for delivery, event in page
    ]
    return paging.Page(items=items, next=following)


@router.post("/retry")
def retry_many(db: Db, viewer: Actor, body: Which) -> Retried:
    """Put stuck deliveries back in line."""
    return Retried(retried=oversight.retry(db, viewer, body.ids, clock.now()))


@router.post("/{delivery_id}/retry")
def retry(db: Db, viewer: Actor, delivery_id: int) -> Retried:
    """Put one stuck delivery back in line.

    Answers 404 when it is not stuck or not yours to see.
    """
    retried = oversight.retry(db, viewer, [delivery_id], clock.now())
    if not retried:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return Retried(retried=retried)
