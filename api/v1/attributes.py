"""Attributes over JSON: named values of devices, assets, sites, customers and org units, which rules may ask for."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from assets import attributes
from assets.attributes import Subject
from assets.models import Asset, Device, Site
from kernel import clock
from kernel.errors import NotFound
from people import scope
from people.models import Customer, OrgUnit, Scoped
from people.scope import Viewer

router = APIRouter(prefix="/attributes", tags=["assets"])
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("assets.write")]
Level = Literal["device", "asset", "site", "customer", "unit"]
_MODELS: Final[dict[str, type[Scoped]]] = {"device": Device, "asset": Asset, "site": Site, "customer": Customer}


class AttributeIn(BaseModel):
    """One attribute of one subject."""

    level: Level
    subject_id: int = Field(description="The device, asset, site, customer or org unit.")
    name: str
    value: Any = Field(None, description="A number, a text, true or false, or an object; null takes it away.")


class AttributeOut(BaseModel):
    """An attribute as it stands."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    value: Any
    changed_at: datetime
    changed_by: str


class Filter(BaseModel):
    """Whose attributes are listed."""

    level: Level
    subject_id: int
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


@router.get("")
def listed(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[AttributeOut]:
    """List the attributes that people gave a subject, in order of name."""
    whose = subject(db, viewer, wanted.level, wanted.subject_id, "assets.read")
    after = paging.read(wanted.cursor, (str,))
    name = after[0] if after else ""
    rows = attributes.listed(db, whose.level, whose.id, after=name, limit=wanted.limit + 1)
    page, following = paging.cut(rows, wanted.limit, lambda row: (row.name,))
    return paging.Page(items=[AttributeOut.model_validate(row) for row in page], next=following)


@router.put("", status_code=204)
def put(db: Db, viewer: Writer, body: AttributeIn) -> None:
    """Set an attribute, or take it away; rules that ask for it are evaluated again at once."""
    whose = subject(db, viewer, body.level, body.subject_id, "assets.write")
    attributes.put(db, whose, body.name, body.value, actor=viewer.actor, now=clock.now())


def subject(db: Session, viewer: Viewer, level: str, identity: int, right: str) -> Subject:
    """Return what is meant, if the viewer may see it and do this there."""
    if level == "unit":
        unit = db.scalars(
            select(OrgUnit).where(OrgUnit.id == identity, OrgUnit.id.in_(scope.units(viewer, "assets.read")))
        ).one_or_none()
        if unit is None:
            raise NotFound("There is nothing here, or it is not yours to see.")
        found = Subject(level, unit.id, unit.company_id or unit.id, unit.id)
    else:
        row = scope.find(db, _MODELS[level], identity, viewer, "assets.read")
        found = Subject(level, row.id, row.company_id, row.unit_id)
    scope.require(db, viewer, right, found.unit_id)
    return found
