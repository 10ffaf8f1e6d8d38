"""What a person was told, over JSON: their own notices, read or not."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api import paging
from api.access import Db, SignedIn
from kernel import clock
from people import notices

router = APIRouter(prefix="/notices", tags=["notices"])


class NoticeOut(BaseModel):
    """A sentence with its values, in English, and where it leads."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    subject: str
    text: str
    values: dict[str, Any]
    href: str
    read_at: datetime | None


class Read(BaseModel):
    """Which notices were read; null: all."""

    ids: list[int] | None = Field(None, max_length=1000)


class Counted(BaseModel):
    """How many of them were new."""

    read: int


class Filter(BaseModel):
    """The parameters of the list."""

    limit: paging.Limit = 100
    cursor: paging.Cursor = None


@router.get("")
def list_notices(db: Db, viewer: SignedIn, wanted: Annotated[Filter, Query()]) -> paging.Page[NoticeOut]:
    """List the caller's own notices, the newest first."""
    after = paging.read(wanted.cursor, (int,))
    rows = notices.listed(db, viewer.account_id, before=after[0] if after else None, limit=wanted.limit + 1)
    page, following = paging.cut(rows, wanted.limit, lambda row: (row.id,))
    return paging.Page(items=[NoticeOut.model_validate(row) for row in page], next=following)


@router.post("/read")
def read_notices(db: Db, viewer: SignedIn, body: Read) -> Counted:
    """Note that the caller has read some of their notices, or all."""
    return Counted(read=notices.read(db, viewer.account_id, body.ids, now=clock.now()))
