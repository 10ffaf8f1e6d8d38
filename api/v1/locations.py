"""Locations inside sites over JSON."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from assets import listing, places
from assets.models import Location, Site
from kernel import clock
from kernel.errors import Invalid, NotFound
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/locations", tags=["locations"])
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("assets.write")]


class LocationIn(BaseModel):
    """A location to be added to a site, inside another one or at its top."""

    site_id: int
    parent_id: int | None = None
    name: str
    name_zh: str | None = None


class LocationChange(BaseModel):
    """What to change of a location; fields left out stay."""

    parent_id: int | None = None
    name: str | None = None
    name_zh: str | None = None


class LocationOut(BaseModel):
    """A hall, a line, a room."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    site_id: int
    parent_id: int | None
    name: str
    name_zh: str | None


@router.get("")
def locations(
    db: Db, viewer: Reader, site_id: int | None = None, limit: paging.Limit = 100, cursor: paging.Cursor = None
) -> paging.Page[LocationOut]:
    """List locations in order of name."""
    after = paging.read(cursor, (str, int))
    rows = listing.locations(db, viewer, site_id=site_id, after=after, limit=limit + 1)
    page, following = paging.cut(rows, limit, lambda row: (row.name, row.id))
    return paging.Page(items=[LocationOut.model_validate(row) for row in page], next=following)


@router.post("", status_code=201)
def add_location(db: Db, viewer: Writer, body: LocationIn) -> LocationOut:
    """Add a location."""
    site = scope.find(db, Site, body.site_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", site.unit_id)
    parent = _parent(db, viewer, body.parent_id)
    row = places.add_location(
        db, site, name=body.name, name_zh=body.name_zh, parent=parent, actor=viewer.actor, now=clock.now()
    )
    return LocationOut.model_validate(row)


@router.get("/{location_id}")
def location(db: Db, viewer: Reader, location_id: int) -> LocationOut:
    """Return one location."""
    return LocationOut.model_validate(find(db, viewer, location_id))


@router.patch("/{location_id}")
def change_location(db: Db, viewer: Writer, location_id: int, body: LocationChange) -> LocationOut:
    """Rename a location, or put it into another one."""
    found = find(db, viewer, location_id)
    scope.require(db, viewer, "assets.write", db.get_one(Site, found.site_id).unit_id)
    wanted = LocationOut.model_validate(found).model_dump() | body.model_dump(exclude_unset=True)
    places.change_location(
        db,
        found,
        name=wanted["name"] or "",
        name_zh=wanted["name_zh"],
        parent=_parent(db, viewer, wanted["parent_id"]),
        actor=viewer.actor,
        now=clock.now(),
    )
    return LocationOut.model_validate(found)


def find(db: Session, viewer: Viewer, location_id: int) -> Location:
    """Return a location of a site within the viewer's sight.

    Raises:
        NotFound: there is none, or its site lies outside.
    """
    found = db.scalars(
        select(Location)
        .join(Site, Site.id == Location.site_id)
        .where(Location.id == location_id, scope.visible(Site, viewer, "assets.read"))
    ).one_or_none()
    if found is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def _parent(db: Session, viewer: Viewer, parent_id: int | None) -> Location | None:
    if parent_id is None:
        return None
    try:
        return find(db, viewer, parent_id)
    except NotFound as error:
        raise Invalid("There is no such location.", field="parent_id") from error
