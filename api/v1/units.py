"""The org tree over JSON: regions and sites below the company."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from kernel import clock
from kernel.errors import Invalid, NotFound
from people import directory, org, scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(prefix="/units", tags=["units"])
Reader = Annotated[Viewer, needs("people.read")]
Writer = Annotated[Viewer, needs("people.write")]


class UnitOut(BaseModel):
    """A company, a region or a site of the org tree."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    kind: str
    name: str
    name_zh: str | None
    parent_id: int | None
    path: str = Field(description="The identities from the company down to this unit, e.g. `/1/4/9/`.")


class UnitIn(BaseModel):
    """A unit to be added."""

    parent_id: int
    kind: Literal["region", "site"]
    name: str = Field(max_length=200)
    name_zh: str | None = Field(None, max_length=200)


class Names(BaseModel):
    """What a unit is called."""

    name: str = Field(max_length=200)
    name_zh: str | None = Field(None, max_length=200)


class Move(BaseModel):
    """Where a unit goes."""

    parent_id: int


@router.get("")
def units(db: Db, viewer: Reader) -> paging.Page[UnitOut]:
    """List the units one sees people of, each parent before its children."""
    rows = directory.units_under(db, viewer, "people.read")
    return paging.Page(items=[UnitOut.model_validate(unit) for unit in rows])


@router.post("", status_code=201)
def add_unit(db: Db, viewer: Writer, body: UnitIn) -> UnitOut:
    """Add a region or a site below a unit."""
    parent = _named(db, viewer, body.parent_id)
    scope.require(db, viewer, "people.write", parent.id)
    made = org.add(
        db, parent, kind=body.kind, name=body.name, name_zh=body.name_zh, actor=viewer.actor, now=clock.now()
    )
    return UnitOut.model_validate(made)


@router.get("/{unit_id}")
def unit(db: Db, viewer: Reader, unit_id: int) -> UnitOut:
    """Return one unit."""
    return UnitOut.model_validate(_found(db, viewer, unit_id))


@router.put("/{unit_id}")
def rename_unit(db: Db, viewer: Writer, unit_id: int, body: Names) -> UnitOut:
    """Give a unit other names."""
    found = _found(db, viewer, unit_id)
    scope.require(db, viewer, "people.write", found.id)
    org.rename(db, found, name=body.name, name_zh=body.name_zh, actor=viewer.actor, now=clock.now())
    return UnitOut.model_validate(found)


@router.post("/{unit_id}/move")
def move_unit(db: Db, viewer: Writer, unit_id: int, body: Move) -> UnitOut:
    """Hang a unit and all below it under another one of the company."""
    found, to = _found(db, viewer, unit_id), _named(db, viewer, body.parent_id)
    for touched in (found, to):
        scope.require(db, viewer, "people.write", touched.id)
    org.move(db, found, to, actor=viewer.actor, now=clock.now())
    return UnitOut.model_validate(found)


@router.delete("/{unit_id}", status_code=204)
def remove_unit(db: Db, viewer: Writer, unit_id: int) -> None:
    """Remove a unit that nothing belongs to."""
    found = _found(db, viewer, unit_id)
    scope.require(db, viewer, "people.write", found.id)
    org.remove(db, found, actor=viewer.actor, now=clock.now())


def _found(db: Session, viewer: Viewer, unit_id: int) -> OrgUnit:
    found = db.get(OrgUnit, unit_id)
    if found is None or not viewer.may_at("people.read", found.path):
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def _named(db: Session, viewer: Viewer, unit_id: int) -> OrgUnit:
    try:
        return _found(db, viewer, unit_id)
    except NotFound as error:
        raise Invalid("There is no such org unit.", field="parent_id") from error
