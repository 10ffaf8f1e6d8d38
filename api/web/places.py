"""Sites and the locations inside them: opened, moved on the map, renamed."""

from collections.abc import Sequence
from typing import Annotated
from zoneinfo import available_timezones

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import locations as v1_locations
from api.web import forms, pages
from assets import listing, places, registry
from assets.models import Location, Site
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid, NotFound
from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import rollup

router = APIRouter()
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("assets.write")]


class SiteForm(BaseModel):
    """The form of a site as it is sent."""

    unit: str = ""
    name: str = ""
    name_zh: str = ""
    zone: str = ""
    address: str = ""
    latitude: str = ""
    longitude: str = ""

    def draft(self) -> places.SiteDraft:
        """Return the site it describes.

        Raises:
            Invalid: a field cannot be read.
        """
        return places.SiteDraft(
            name=self.name,
            name_zh=self.name_zh,
            zone=self.zone.strip(),
            address=self.address,
            latitude=forms.number(self.latitude, "latitude"),
            longitude=forms.number(self.longitude, "longitude"),
        )


class LocationForm(BaseModel):
    """The form of a location as it is sent."""

    location: str = ""
    location_zh: str = ""
    parent: str = ""


@router.get("/sites")
def sites(request: Request, db: Db, viewer: Reader) -> Response:
    """List the sites within sight."""
    return pages.render(
        request,
        "sites/list.html",
        sites=listing.sites(db, viewer),
        trouble=rollup.of_sites(db, viewer),
        counts=listing.counts_by_site(db, viewer),
        may_write=viewer.may("assets.write"),
    )


@router.get("/sites/new")
def new_site(request: Request, db: Db, viewer: Writer) -> Response:
    """Show the form of a new site."""
    return _new(request, db, viewer, SiteForm(zone=viewer.zone))


@router.post("/sites")
def open_site(request: Request, db: Db, viewer: Writer, form: Annotated[SiteForm, Form()]) -> Response:
    """Open a site."""
    try:
        unit_id = forms.whole(form.unit, "unit")
        unit = db.get(OrgUnit, unit_id) if unit_id else None
        if unit is None or not viewer.may_at("assets.write", unit.path):
            raise Invalid("Please choose.", field="unit")  # noqa: TRY301 - the page says it beside the field
        made = places.open_site(db, form.draft(), unit=unit, actor=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return _new(request, db, viewer, form, errors=forms.refused(request, error))
    return pages.go(f"/sites/{made.id}", notice=i18n.noop("Saved."))


@router.get("/sites/{site_id}")
def site(request: Request, db: Db, viewer: Reader, site_id: int) -> Response:
    """Show a site with its locations."""
    return _page(request, db, viewer, site_id)


@router.post("/sites/{site_id}")
def change_site(request: Request, db: Db, viewer: Writer, site_id: int, form: Annotated[SiteForm, Form()]) -> Response:
    """Change a site."""
    found = _mine(db, viewer, site_id)
    try:
        places.change_site(db, found, form.draft(), actor=viewer.actor, now=clock.now())
    except Invalid as error:
        return _again(request, db, viewer, site_id, error, form=form)
    return pages.go(f"/sites/{site_id}", notice=i18n.noop("Saved."))


@router.post("/sites/{site_id}/locations")
def add_location(
    request: Request, db: Db, viewer: Writer, site_id: int, form: Annotated[LocationForm, Form()]
) -> Response:
    """Add a location to a site."""
    found = _mine(db, viewer, site_id)
    try:
        places.add_location(
            db,
            found,
            name=form.location,
            name_zh=form.location_zh,
            parent=_parent(db, viewer, form.parent),
            actor=viewer.actor,
            now=clock.now(),
        )
    except Invalid as error:
        return _again(request, db, viewer, site_id, error, location=form)
    return pages.go(f"/sites/{site_id}#locations", notice=i18n.noop("Saved."))


@router.post("/sites/{site_id}/locations/{location_id}")
def change_location(
    request: Request,
    db: Db,
    viewer: Writer,
    site_id: int,
    location_id: int,
    form: Annotated[LocationForm, Form()],
) -> Response:
    """Rename a location or put it into another one."""
    _mine(db, viewer, site_id)
    location = v1_locations.find(db, viewer, location_id)
    if location.site_id != site_id:
        raise NotFound("There is nothing here, or it is not yours to see.")
    try:
        places.change_location(
            db,
            location,
            name=form.location,
            name_zh=form.location_zh,
            parent=_parent(db, viewer, form.parent),
            actor=viewer.actor,
            now=clock.now(),
        )
    except Invalid as error:
        return _again(request, db, viewer, site_id, error, location=form)
    return pages.go(f"/sites/{site_id}#locations", notice=i18n.noop("Saved."))


def _mine(db: Session, viewer: Viewer, site_id: int) -> Site:
    found = scope.find(db, Site, site_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", found.unit_id)
    return found


def _parent(db: Session, viewer: Viewer, text: str) -> Location | None:
    identity = forms.whole(text, "parent_id")
    if identity is None:
        return None
    try:
        return v1_locations.find(db, viewer, identity)
    except NotFound as error:
        raise Invalid("There is no such location.", field="parent_id") from error


def _new(
    request: Request, db: Session, viewer: Viewer, form: SiteForm, *, errors: dict[str, str] | None = None
) -> Response:
    units = db.scalars(
        select(OrgUnit).where(OrgUnit.id.in_(scope.units(viewer, "assets.write"))).order_by(OrgUnit.path)
    ).all()
    language = request.state.language
    return pages.render(
        request,
        "sites/new.html",
        status=422 if errors else 200,
        form=form,
        errors=errors or {},
        units=[(unit.id, unit.called(language)) for unit in units],
        zones=sorted(available_timezones()),
    )


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    site_id: int,
    *,
    errors: dict[str, str] | None = None,
    form: SiteForm | None = None,
    location: LocationForm | None = None,
) -> Response:
    found = scope.find(db, Site, site_id, viewer, "assets.read")
    rows = registry.locations_of(db, found.id)
    may_write = viewer.may_at("assets.write", db.get_one(OrgUnit, found.unit_id).path)
    return pages.render(
        request,
        "sites/site.html",
        status=422 if errors else 200,
        site=found,
        locations=_in_tree_order(rows, request.state.language),
        options=forms.options(rows, request.state.language),
        count=listing.counts_by_site(db, viewer).get(found.id, 0),
        trouble=rollup.of_sites(db, viewer).get(found.id),
        form=form or _form_of(found),
        location=location or LocationForm(),
        errors=errors or {},
        may_write=may_write,
        zones=sorted(available_timezones()),
    )


def _in_tree_order(rows: Sequence[Location], language: str) -> list[tuple[int, Location]]:
    """Return locations with their depth, each below the one it is in."""
    inside: dict[int | None, list[Location]] = {}
    for row in rows:
        inside.setdefault(row.parent_id, []).append(row)
    ordered: list[tuple[int, Location]] = []

    def walk(parent: int | None, depth: int) -> None:
        for row in sorted(inside.get(parent, ()), key=lambda one: one.called(language)):
            ordered.append((depth, row))
            walk(row.id, depth + 1)

    walk(None, 0)
    return ordered


def _again(
    request: Request,
    db: Session,
    viewer: Viewer,
    site_id: int,
    error: FixwrightError,
    *,
    form: SiteForm | None = None,
    location: LocationForm | None = None,
) -> Response:
    db.rollback()
    errors = forms.refused(request, error)
    if location is not None:
        names = {"name": "location", "name_zh": "location_zh", "parent_id": "parent"}
        errors = {names.get(field, field): sentence for field, sentence in errors.items()}
    return _page(request, db, viewer, site_id, errors=errors, form=form, location=location)


def _form_of(site: Site) -> SiteForm:
    return SiteForm(
        name=site.name,
        name_zh=site.name_zh or "",
        zone=site.zone,
        address=site.address,
        latitude="" if site.latitude is None else f"{site.latitude:.10g}",
        longitude="" if site.longitude is None else f"{site.longitude:.10g}",
    )
