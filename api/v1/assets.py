"""Assets over JSON: listed, registered, changed, moved in their tree."""

from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import asset_history, paging, versions
from api.access import Db, needs
from assets import listing, registry
from assets.models import Asset, Site
from kernel import clock
from kernel.errors import Invalid, NotFound
from people import scope
from people.scope import Viewer
from rules import rollup
from rules.rollup import Trouble

router = APIRouter(prefix="/assets", tags=["assets"])
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("assets.write")]
Status = Literal["planned", "in_service", "out_of_service", "scrapped"]
Severity = Literal["critical", "major", "minor", "warning", "info"]


class AssetIn(BaseModel):
    """An asset to be registered. It belongs to the org unit of its site."""

    code: str
    name: str
    name_zh: str | None = None
    type_id: int
    site_id: int
    parent_id: int | None = Field(None, description="The asset it is a part of.")
    location_id: int | None = None
    customer_id: int | None = None
    status: Status = "in_service"
    criticality: int = Field(3, description="1 stops the plant, 4 is a convenience.")
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    commissioned_on: date | None = None
    warranty_until: date | None = None


class AssetChange(BaseModel):
    """What to change of an asset; fields left out stay. The place in the tree has its own verb."""

    code: str | None = None
    name: str | None = None
    name_zh: str | None = None
    type_id: int | None = None
    site_id: int | None = None
    location_id: int | None = None
    customer_id: int | None = None
    status: Status | None = None
    criticality: int | None = None
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    commissioned_on: date | None = None
    warranty_until: date | None = None


class Move(BaseModel):
    """Where an asset goes in the tree; null is the top of its site."""

    parent_id: int | None


class AssetOut(BaseModel):
    """An asset. ``severity`` and ``open_alarms`` include those of its parts."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    code: str
    name: str
    name_zh: str | None
    type_id: int
    site_id: int
    unit_id: int
    parent_id: int | None
    location_id: int | None
    customer_id: int | None
    path: str
    status: str
    criticality: int
    manufacturer: str | None
    model: str | None
    serial: str | None
    commissioned_on: date | None
    warranty_until: date | None
    created_at: datetime
    version: int
    severity: str | None = Field(None, description="The worst open alarm on it or its parts.")
    open_alarms: int = 0


class Filter(BaseModel):
    """The parameters of the list of assets."""

    q: str = Field("", max_length=100, description="A part of code, name or serial number.")
    type_id: int | None = Field(None, description="A type; those inheriting from it count.")
    site_id: int | None = None
    location_id: int | None = None
    parent_id: int | None = None
    within: int | None = Field(None, description="An asset; it and all its parts.")
    status: Status | None = None
    severity: Severity | None = Field(None, description="Has an open alarm at least that severe, parts included.")
    sort: Literal["code", "-code", "name", "-name"] = "code"
    limit: paging.Limit = 100
    cursor: paging.Cursor = None

    def asked(self) -> listing.Wanted:
        """Return the filter of the query."""
        return listing.Wanted(
            text=self.q.strip(),
            type_id=self.type_id,
            site_id=self.site_id,
            location_id=self.location_id,
            parent_id=self.parent_id,
            within=self.within,
            status=self.status,
        )


@router.get("")
def assets(
    db: Db,
    viewer: Reader,
    wanted: Annotated[Filter, Query()],
) -> paging.Page[AssetOut]:
    """List assets in order of code."""
    after = paging.read(wanted.cursor, (str, int))
    among = rollup.troubled(viewer, wanted.severity) if wanted.severity else None
    rows = listing.assets(
        db, viewer, wanted.asked(), sort=wanted.sort, after=after, limit=wanted.limit + 1, among=among
    )
    column = wanted.sort.removeprefix("-")
    page, following = paging.cut(rows, wanted.limit, lambda row: (getattr(row, column), row.id))
    trouble = rollup.of_assets(db, viewer, [row.id for row in page])
    return paging.Page(items=[shown(row, trouble.get(row.id)) for row in page], next=following)


@router.post("", status_code=201)
def register(db: Db, viewer: Writer, body: AssetIn, response: Response) -> AssetOut:
    """Register an asset."""
    made = add(db, viewer, registry.AssetDraft(**body.model_dump(exclude={"parent_id"})), body.parent_id)
    versions.give(response, made.version)
    return shown(made, None)


def add(db: Session, viewer: Viewer, draft: registry.AssetDraft, parent_id: int | None) -> Asset:
    """Register an asset for a viewer who may do so on its site.

    Raises:
        Invalid: a field does not fit, or the site or the parent is not the viewer's to see.
    """
    _may_write_on(db, viewer, draft.site_id)
    parent = _found(db, viewer, parent_id)
    return registry.register(
        db, draft, company_id=viewer.company_id, parent=parent, actor=viewer.actor, now=clock.now()
    )


@router.get("/{asset_id}")
def asset(db: Db, viewer: Reader, asset_id: int, response: Response) -> AssetOut:
    """Return one asset; its ``ETag`` is its version."""
    found = scope.find(db, Asset, asset_id, viewer, "assets.read")
    versions.give(response, found.version)
    return shown(found, rollup.of_assets(db, viewer, [found.id]).get(found.id))


class HappeningOut(BaseModel):
    """Something that happened to an asset; ``kind`` tells what ``id`` is of: alarm, order, part, bound, unbound."""

    at: datetime
    kind: Literal["alarm", "order", "part", "bound", "unbound"]
    id: int


@router.get("/{asset_id}/history")
def history(
    db: Db, viewer: Reader, asset_id: int, limit: paging.Limit = 100, cursor: paging.Cursor = None
) -> paging.Page[HappeningOut]:
    """List everything that happened to an asset, the newest first: alarms, orders, parts put in, devices bound."""
    found = scope.find(db, Asset, asset_id, viewer, "assets.read")
    after = paging.read(cursor, (datetime, int, int))
    rows = asset_history.read(db, viewer, found, after=after and (after[0], after[1], after[2]), limit=limit + 1)
    page, following = paging.cut(rows, limit, lambda row: row.key)
    return paging.Page(items=[HappeningOut(at=row.at, kind=row.kind, id=row.row.id) for row in page], next=following)


@router.patch("/{asset_id}")
def change_asset(
    db: Db, viewer: Writer, asset_id: int, body: AssetChange, version: versions.IfMatch, response: Response
) -> AssetOut:
    """Change an asset; with ``If-Match`` only if nobody else did since."""
    found = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", found.unit_id)
    change(db, viewer, found, body, version)
    versions.give(response, found.version)
    return shown(found, rollup.of_assets(db, viewer, [found.id]).get(found.id))


def change(db: Session, viewer: Viewer, found: Asset, body: AssetChange, version: int | None) -> None:
    """Apply a partial change: what was not sent stays as it is.

    Raises:
        Invalid: a field does not fit, or the new site is not the viewer's to see.
        Stale: somebody changed the asset since.
    """
    fields = registry.AssetDraft.__dataclass_fields__
    wanted = {name: getattr(found, name) for name in fields} | body.model_dump(exclude_unset=True)
    for name in ("type_id", "site_id", "status", "criticality"):
        if wanted[name] is None:
            wanted[name] = getattr(found, name)
    wanted |= {name: wanted[name] or "" for name in ("code", "name")}
    if wanted["site_id"] != found.site_id:
        _may_write_on(db, viewer, wanted["site_id"])
    registry.change(db, found, registry.AssetDraft(**wanted), version=version, actor=viewer.actor, now=clock.now())


@router.post("/{asset_id}/move")
def move(db: Db, viewer: Writer, asset_id: int, body: Move) -> AssetOut:
    """Put an asset, with all its parts, into another one or at the top of its site."""
    found = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", found.unit_id)
    registry.move(db, found, _found(db, viewer, body.parent_id), actor=viewer.actor, now=clock.now())
    return shown(found, rollup.of_assets(db, viewer, [found.id]).get(found.id))


def _may_write_on(db: Session, viewer: Viewer, site_id: int) -> None:
    try:
        site = scope.find(db, Site, site_id, viewer, "assets.read")
    except NotFound as error:
        raise Invalid("There is no such site.", field="site_id") from error
    scope.require(db, viewer, "assets.write", site.unit_id)


def _found(db: Session, viewer: Viewer, asset_id: int | None) -> Asset | None:
    if asset_id is None:
        return None
    try:
        return scope.find(db, Asset, asset_id, viewer, "assets.read")
    except NotFound as error:
        raise Invalid("There is no such asset.", field="parent_id") from error


def shown(asset: Asset, trouble: Trouble | None) -> AssetOut:
    """Return an asset as programs see it."""
    made = AssetOut.model_validate(asset)
    if trouble is not None:
        made.severity, made.open_alarms = trouble.severity, trouble.count
    return made
