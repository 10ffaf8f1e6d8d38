"""Open alarms seen from above: whose customers they trouble. Sites and assets carry their own sums."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api import paging
from api.access import Db, needs
from people.scope import Viewer
from rules import rollup

router = APIRouter(prefix="/alarms/customers", tags=["alarms"])
Reader = Annotated[Viewer, needs("alarms.read")]


class CustomerOut(BaseModel):
    """A customer on whose assets alarms are open, as far as the reader sees these alarms."""

    id: int
    name: str
    severity: str = Field(description="The worst of the open alarms.")
    open_alarms: int


@router.get("")
def customers(
    db: Db, viewer: Reader, limit: paging.Limit = 100, cursor: paging.Cursor = None
) -> paging.Page[CustomerOut]:
    """List customers with open alarms within sight, in order of name; who has none is not listed."""
    after = paging.read(cursor, (str, int))
    found = sorted(rollup.customers(db, viewer), key=lambda one: (one[0].name, one[0].id))
    rest = [one for one in found if after is None or (one[0].name, one[0].id) > after][: limit + 1]
    page, following = paging.cut(rest, limit, lambda one: (one[0].name, one[0].id))
    items = [
        CustomerOut(id=row.id, name=row.name, severity=trouble.severity, open_alarms=trouble.count)
        for row, trouble in page
    ]
    return paging.Page(items=items, next=following)
