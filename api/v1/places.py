"""Places where parts lie, for programs: list, add, change."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.paging import Cursor, Limit, Page
from kernel import clock
from kernel.errors import Invalid
from maintenance.parts import places
from maintenance.parts.models import Place
from maintenance.parts.places import PlaceDraft
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(prefix="/places", tags=["places"])

Reader = Annotated[Viewer, needs("parts.read")]
Writer = Annotated[Viewer, needs("parts.write")]


class PlaceOut(BaseModel):
    """A place: a warehouse, a shelf, a bin or a van, perhaps inside another."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    code: str
    name: str
    name_zh: str | None
    kind: str
    unit_id: int
    parent_id: int | None


class PlaceIn(BaseModel):
    """A place as it is to be."""

    code: str = Field(min_length=1, max_length=40)
    name: str = Field(min_length=1, max_length=200)
    name_zh: str | None = Field(None, max_length=200)
    kind: Literal["warehouse", "shelf", "bin", "van"] = "warehouse"
    parent_id: int | None = Field(None, description="The place it lies in.")


class NewPlace(PlaceIn):
    """A place and the org unit it belongs to."""

    unit_id: int


def _draft(session: Session, viewer: Viewer, wanted: PlaceIn) -> PlaceDraft:
    parent = scope.find(session, Place, wanted.parent_id, viewer, "parts.read") if wanted.parent_id else None
    return PlaceDraft(code=wanted.code, name=wanted.name, name_zh=wanted.name_zh, kind=wanted.kind, parent=parent)


@router.get("")
def list_places(viewer: Reader, session: Db, *, limit: Limit = 100, cursor: Cursor = None) -> Page[PlaceOut]:
    """List places by code."""
    wanted = select(Place).where(scope.visible(Place, viewer, "parts.read")).order_by(Place.code, Place.id)
    if key := paging.read(cursor, (str, int)):
        wanted = wanted.where((Place.code > key[0]) | ((Place.code == key[0]) & (Place.id > key[1])))
    rows = session.scalars(wanted.limit(limit + 1)).all()
    shown, following = paging.cut(rows, limit, lambda place: (place.code, place.id))
    return Page(items=[PlaceOut.model_validate(place) for place in shown], next=following)


@router.post("", status_code=201)
def add_place(viewer: Writer, session: Db, wanted: NewPlace) -> PlaceOut:
    """Add a place."""
    unit = session.get(OrgUnit, wanted.unit_id)
    if unit is None or not viewer.may_at("parts.write", unit.path):
        raise Invalid("There is nothing of this number to choose.", field="unit_id")
    place = places.add(session, unit, _draft(session, viewer, wanted), actor=viewer.actor, now=clock.now())
    return PlaceOut.model_validate(place)


@router.get("/{place_id}")
def get_place(place_id: int, viewer: Reader, session: Db) -> PlaceOut:
    """Return one place."""
    return PlaceOut.model_validate(scope.find(session, Place, place_id, viewer, "parts.read"))


@router.put("/{place_id}")
def change_place(place_id: int, viewer: Writer, session: Db, wanted: PlaceIn) -> PlaceOut:
    """Change a place; what lies in it stays."""
    place = scope.find(session, Place, place_id, viewer, "parts.write")
    draft = _draft(session, viewer, wanted)
    return PlaceOut.model_validate(places.change(session, place, draft, actor=viewer.actor, now=clock.now()))
