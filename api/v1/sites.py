"""Sites over JSON."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from assets import listing, places
from assets.models import Site
from kernel import clock
from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import rollup
from rules.rollup import Trouble

router = APIRouter(prefix="/sites", tags=["sites"])
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("assets.write")]


class SiteIn(BaseModel):
    """A site to be opened in an org unit."""

    unit_id: int = Field(description="The org unit whose members see the site.")
    name: str
    name_zh: str | None = None
    zone: str = Field(description="IANA time zone, e.g. Asia/Shanghai.")
    address: str = ""
    latitude: float | None = Field(None, description="WGS-84, degrees.")
    longitude: float | None = Field(None, description="WGS-84, degrees.")


class SiteChange(BaseModel):
    """What to change of a site; fields left out stay."""

    name: str | None = None
    name_zh: str | None = None
    zone: str | None = None
    address: str | None = None
    latitude: float | None = None
    longitude: float | None = None


class SiteOut(BaseModel):
    """A site."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    unit_id: int
    name: str
    name_zh: str | None
    zone: str
    address: str
    latitude: float | None
    longitude: float | None
    severity: str | None = Field(None, description="The worst of the open alarms on its assets.")
    open_alarms: int = 0


@router.get("")
def sites(
    db: Db, viewer: Reader, q: str = "", limit: paging.Limit = 100, cursor: paging.Cursor = None
) -> paging.Page[SiteOut]:
    """List sites in order of name."""
    after = paging.read(cursor, (str, int))
    rows = listing.sites(db, viewer, text=q.strip(), after=after, limit=limit + 1)
    page, following = paging.cut(rows, limit, lambda site: (site.name, site.id))
    trouble = rollup.of_sites(db, viewer)
    return paging.Page(items=[_shown(site, trouble) for site in page], next=following)


@router.post("", status_code=201)
def open_site(db: Db, viewer: Writer, body: SiteIn) -> SiteOut:
    """Open a site."""
    scope.require(db, viewer, "assets.write", body.unit_id)
    unit = db.get_one(OrgUnit, body.unit_id)
    draft = places.SiteDraft(**body.model_dump(exclude={"unit_id"}))
    return SiteOut.model_validate(places.open_site(db, draft, unit=unit, actor=viewer.actor, now=clock.now()))


@router.get("/{site_id}")
def site(db: Db, viewer: Reader, site_id: int) -> SiteOut:
    """Return one site."""
    return _shown(scope.find(db, Site, site_id, viewer, "assets.read"), rollup.of_sites(db, viewer))


def _shown(site: Site, trouble: Mapping[int, Trouble]) -> SiteOut:
    made = SiteOut.model_validate(site)
    if site.id in trouble:
        made.severity, made.open_alarms = trouble[site.id].severity, trouble[site.id].count
    return made


@router.patch("/{site_id}")
def change_site(db: Db, viewer: Writer, site_id: int, body: SiteChange) -> SiteOut:
    """Change a site."""
    found = scope.find(db, Site, site_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", found.unit_id)
    change(db, found, body, viewer)
    return SiteOut.model_validate(found)


def change(db: Session, found: Site, body: SiteChange, viewer: Viewer) -> None:
    """Apply a partial change: what was not sent stays as it is."""
    current = SiteOut.model_validate(found).model_dump(exclude={"id", "unit_id", "severity", "open_alarms"})
    wanted = current | body.model_dump(exclude_unset=True)
    wanted |= {name: wanted[name] or "" for name in ("name", "zone", "address")}
    places.change_site(db, found, places.SiteDraft(**wanted), actor=viewer.actor, now=clock.now())
