"""Parts for programs: the catalogue with what lies where the viewer sees."""

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, Field

from api import paging
from api.access import Db, needs
from api.paging import Cursor, Limit, Page
from kernel import clock
from kernel.errors import Stale
from maintenance.parts import catalogue
from maintenance.parts.catalogue import Held, PartDraft
from maintenance.parts.models import Part
from people.scope import Viewer

router = APIRouter(prefix="/parts", tags=["parts"])

Reader = Annotated[Viewer, needs("parts.read")]
Writer = Annotated[Viewer, needs("parts.write")]


class PartOut(BaseModel):
    """A part and its stock in the places the viewer sees; ``value`` only with the right to see prices."""

    id: int
    number: str
    name: str
    name_zh: str | None
    unit: str
    category: str
    barcode: str | None
    reorder_level: Decimal | None
    reorder_quantity: Decimal | None
    on_hand: Decimal
    committed: Decimal
    available: Decimal
    is_low: bool
    value: Decimal | None
    version: int


class PartIn(BaseModel):
    """A part as it is to be."""

    number: str = Field(min_length=1, max_length=60)
    name: str = Field(min_length=1, max_length=200)
    name_zh: str | None = Field(None, max_length=200)
    unit: str = Field("pcs", max_length=20)
    category: str = Field("", max_length=60)
    barcode: str | None = Field(None, max_length=80)
    reorder_level: Decimal | None = Field(None, ge=0, max_digits=12, decimal_places=6)
    reorder_quantity: Decimal | None = Field(None, ge=0, max_digits=12, decimal_places=6)
    lead_days: int = Field(7, ge=0, le=3650)


def _out(held: Held, viewer: Viewer) -> PartOut:
    part = held.part
    return PartOut(
        id=part.id,
        number=part.number,
        name=part.name,
        name_zh=part.name_zh,
        unit=part.unit,
        category=part.category,
        barcode=part.barcode,
        reorder_level=part.reorder_level,
        reorder_quantity=part.reorder_quantity,
        on_hand=held.on_hand,
        committed=held.committed,
        available=held.available,
        is_low=held.is_low,
        value=held.value if viewer.may("parts.price") else None,
        version=part.version,
    )


def _held(session: Db, part: Part, viewer: Viewer) -> Held:
    rows = catalogue.balances(session, part, viewer)
    return Held(
        part,
        sum((row.on_hand for row in rows), Decimal(0)),
        sum((row.committed for row in rows), Decimal(0)),
        sum((row.on_hand * row.average_cost for row in rows), Decimal(0)),
    )


@router.get("")
def list_parts(
    viewer: Reader,
    session: Db,
    *,
    q: Annotated[str, Query(max_length=100)] = "",
    category: Annotated[str, Query(max_length=60)] = "",
    low: bool = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[PartOut]:
    """List parts by number."""
    key = paging.read(cursor, (str,))
    rows = catalogue.listed(
        session, viewer, text=q, category=category, low_only=low, after=key[0] if key else None, limit=limit + 1
    )
    shown, following = paging.cut(rows, limit, lambda held: (held.part.number,))
    return Page(items=[_out(held, viewer) for held in shown], next=following)


@router.post("", status_code=201)
def add_part(viewer: Writer, session: Db, wanted: PartIn) -> PartOut:
    """Add a part."""
    draft = PartDraft(**wanted.model_dump())
    part = catalogue.add(session, draft, company_id=viewer.company_id, actor=viewer.actor, now=clock.now())
    return _out(_held(session, part, viewer), viewer)


@router.get("/{part_id}")
def get_part(part_id: int, viewer: Reader, session: Db, response: Response) -> PartOut:
    """Return one part."""
    part = catalogue.find(session, part_id, viewer, "parts.read")
    response.headers["ETag"] = f'"{part.version}"'
    return _out(_held(session, part, viewer), viewer)


@router.put("/{part_id}")
def change_part(
    part_id: int, viewer: Writer, session: Db, wanted: PartIn, if_match: Annotated[str | None, Header()] = None
) -> PartOut:
    """Change a part; with ``If-Match`` only when it is still at that version."""
    part = catalogue.find(session, part_id, viewer, "parts.write")
    if if_match is not None and if_match.strip('"') != str(part.version):
        raise Stale("Somebody else changed this meanwhile. Load it again and repeat your change.")
    catalogue.change(session, part, PartDraft(**wanted.model_dump()), actor=viewer.actor, now=clock.now())
    return _out(_held(session, part, viewer), viewer)
