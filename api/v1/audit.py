"""The audit trail over JSON."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api import paging
from api.access import Db, needs
from api.instants import Instant
from kernel import audit
from people import oversight
from people.scope import Viewer

router = APIRouter(prefix="/audit", tags=["audit"])
Reader = Annotated[Viewer, needs("audit.read")]


class EntryOut(BaseModel):
    """Who did what; `before` and `after` hold only what changed."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    seq: int | None
    at: datetime
    actor: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class BreakOut(BaseModel):
    """A place where the chain does not hold."""

    seq: int
    reason: str


class Verified(BaseModel):
    """What walking the chain found."""

    is_whole: bool
    breaks: list[BreakOut]


class Filter(BaseModel):
    """The parameters of the list of entries."""

    action: str = Field("", max_length=60, description="The beginning of an action, e.g. `order.`.")
    actor: str = Field("", max_length=80)
    subject: str = Field("", max_length=80, description="E.g. `order:12`.")
    since: Instant | None = None
    until: Instant | None = None
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


@router.get("")
def entries(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[EntryOut]:
    """List entries of the audit trail, newest first."""
    asked = oversight.Trail(wanted.action, wanted.actor, wanted.subject, wanted.since, wanted.until)
    after = paging.read(wanted.cursor, (int,))
    rows = oversight.trail(db, viewer, asked, before=after[0] if after else None, limit=wanted.limit + 1)
    page, following = paging.cut(rows, wanted.limit, lambda row: (row.id,))
    return paging.Page(items=[EntryOut.model_validate(row) for row in page], next=following)


@router.get("/verify")
def verify(db: Db, viewer: Reader) -> Verified:
    """Walk the whole chain and name every place at which it was altered."""
    oversight.require_whole_trail(viewer)
    breaks = [BreakOut(seq=place.seq, reason=place.reason) for place in audit.verify(db)]
    return Verified(is_whole=not breaks, breaks=breaks)
