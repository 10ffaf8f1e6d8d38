"""What happened, over JSON: the events of the outbox that a viewer may hear of, e.g. for another system to follow."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import and_, false, or_, select

from api import paging
from api.access import Db, SignedIn
from api.live import RIGHT_OF
from kernel.models import Event
from people import scope

router = APIRouter(prefix="/events", tags=["events"])


class EventOut(BaseModel):
    """Something that happened to a thing, e.g. ``OrderAssigned`` to ``order:12``."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    kind: str
    subject: str
    at: datetime
    actor: str
    unit_id: int | None
    payload: dict[str, Any]


class Filter(BaseModel):
    """The parameters of the list of events."""

    subject: str | None = Field(None, max_length=60, description="A thing, e.g. `order:12`.")
    kind: list[str] = Field([], description="One or several kinds, e.g. `OrderAssigned`.")
    sort: Literal["-id", "id"] = Field("-id", description="`id` follows what happens: keep the last cursor.")
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


@router.get("")
def listed(db: Db, viewer: SignedIn, wanted: Annotated[Filter, Query()]) -> paging.Page[EventOut]:
    """List what happened to things within your sight, the newest first, or onwards with ``sort=id``."""
    heard = [
        and_(Event.subject.startswith(f"{kind}:"), Event.unit_id.in_(scope.units(viewer, right)))
        for kind, right in RIGHT_OF.items()
        if viewer.may(right)
    ]
    query = select(Event).where(or_(*heard) if heard else false())
    if wanted.subject is not None:
        query = query.where(Event.subject == wanted.subject)
    if wanted.kind:
        query = query.where(Event.kind.in_(wanted.kind))
    onwards = wanted.sort == "id"
    if (after := paging.read(wanted.cursor, (int,))) is not None:
        query = query.where(Event.id > after[0] if onwards else Event.id < after[0])
    rows = db.scalars(query.order_by(Event.id if onwards else Event.id.desc()).limit(wanted.limit + 1)).all()
    page, following = paging.cut(rows, wanted.limit, lambda row: (row.id,))
    if onwards and page:
        # Whoever follows needs a cursor on the last page too: what comes next has not happened yet.
        following = paging.write(page[-1].id)
    return paging.Page(items=[EventOut.model_validate(row) for row in page], next=following)
