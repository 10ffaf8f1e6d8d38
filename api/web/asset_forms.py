"""The forms of an asset: registered, changed, moved in its tree, given a picture."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, UploadFile
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.v1 import assets as v1
from api.v1 import locations as v1_locations
from api.web import by_code, forms, pages
from assets import listing, registry
from assets.models import Asset, Location, Site
from kernel import clock, files, i18n
from kernel.errors import Conflict, Invalid, NotFound, Stale
from people import scope
from people.models import Customer
from people.scope import Viewer

router = APIRouter()
Writer = Annotated[Viewer, needs("assets.write")]
CRITICALITIES = (
    (1, i18n.noop("1: stops the plant")),
    (2, i18n.noop("2: stops a line")),
    (3, i18n.noop("3: slows work down")),
    (4, i18n.noop("4: a convenience")),
)
STATUS_WORDS = {
    "planned": i18n.noop("Not yet in service"),
    "in_service": i18n.noop("In service"),
    "out_of_service": i18n.noop("Out of service"),
    "scrapped": i18n.noop("Scrapped"),
}
FIELDS = {
    "type_id": "type",
    "site_id": "place",
    "location_id": "place",
    "parent_id": "parent",
    "customer_id": "customer",
}
"""Where the form shows what a verb says about a column."""


class AssetForm(BaseModel):
    """The form of an asset as it is sent; ``place`` is ``site:3`` or ``location:12``."""

    code: str = ""
    name: str = ""
    name_zh: str = ""
    type: str = ""
    place: str = ""
    parent: str = ""
    customer: str = ""
    status: str = "in_service"
    criticality: str = "3"
    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    commissioned_on: str = ""
    warranty_until: str = ""
    version: str = ""


@router.get("/assets/new")
def new_asset(
    request: Request,
    db: Db,
    viewer: Writer,
    *,
    site: str = "",
    kind: Annotated[str, Query(alias="type")] = "",
    part_of: str = "",
) -> Response:
    """Show the form of a new asset, as a part of another one where ``part_of`` names its id."""
    form = AssetForm(type=kind, place=f"site:{site}" if site else "")
    above = forms.whole(part_of, "part_of")
    if above is not None:
        parent = scope.find(db, Asset, above, viewer, "assets.read")
        place = f"location:{parent.location_id}" if parent.location_id else f"site:{parent.site_id}"
        form = form.model_copy(update={"parent": parent.code, "place": place})
    return _form(request, db, viewer, form)


@router.post("/assets")
def register(request: Request, db: Db, viewer: Writer, form: Annotated[AssetForm, Form()]) -> Response:
    """Register an asset."""
    try:
        parent = by_code.asset(db, viewer, form.parent, field="parent_id")
        made = v1.add(db, viewer, _draft(db, viewer, form), parent.id if parent else None)
    except (Invalid, Conflict) as error:
        db.rollback()
        return _form(request, db, viewer, form, errors=forms.refused(request, error))
    return pages.go(f"/assets/{made.id}", notice=i18n.noop("{name} is registered."), name=made.name)


@router.get("/assets/{asset_id}/edit")
def edit_asset(request: Request, db: Db, viewer: Writer, asset_id: int) -> Response:
    """Show the form of an asset."""
    asset = _writable(db, viewer, asset_id)
    parent = db.get(Asset, asset.parent_id) if asset.parent_id else None
    return _form(request, db, viewer, _as_form(asset, parent), asset=asset)


@router.post("/assets/{asset_id}")
def change_asset(
    request: Request, db: Db, viewer: Writer, asset_id: int, form: Annotated[AssetForm, Form()]
) -> Response:
    """Change an asset, its place in the tree included."""
    asset, now = _writable(db, viewer, asset_id), clock.now()
    try:
        _require_version(asset, form)
        change = v1.AssetChange.model_validate(_draft_values(db, viewer, form))
        parent = by_code.asset(db, viewer, form.parent, field="parent_id")
        if parent is None or parent.id != asset.parent_id:
            # Taken out first, because a part cannot go to another site by itself.
            registry.move(db, asset, None, actor=viewer.actor, now=now)
        v1.change(db, viewer, asset, change, None)
        registry.move(db, asset, parent, actor=viewer.actor, now=now)
    except (Invalid, Conflict, Stale) as error:
        db.rollback()
        found = scope.find(db, Asset, asset_id, viewer, "assets.read")
        return _form(request, db, viewer, form, asset=found, errors=forms.refused(request, error))
    return pages.go(f"/assets/{asset_id}", notice=i18n.noop("Saved."))


@router.post("/assets/{asset_id}/photo")
def show_photo(db: Db, parts: Parts, viewer: Writer, asset_id: int, photo: UploadFile) -> Response:
    """Let an uploaded picture stand for an asset."""
    asset = _writable(db, viewer, asset_id)
    now = clock.now()
    kept = files.keep_picture(
        db,
        parts.files,
        photo.file,
        name=photo.filename or "photo",
        limit_bytes=parts.settings.upload_max_mb * 1_000_000,
        now=now,
        company_id=viewer.company_id,
    )
    registry.show_photo(db, asset, kept, actor=viewer.actor, now=now)
    return pages.go(f"/assets/{asset.id}", notice=i18n.noop("Saved."))


def _writable(db: Session, viewer: Viewer, asset_id: int) -> Asset:
    found = scope.find(db, Asset, asset_id, viewer, "assets.read")
    scope.require(db, viewer, "assets.write", found.unit_id)
    return found


def _require_version(asset: Asset, form: AssetForm) -> None:
    if forms.whole(form.version, "version") != asset.version:
        raise Stale("Somebody else changed this meanwhile. Load it again and repeat your change.")


def _form(
    request: Request,
    db: Session,
    viewer: Viewer,
    form: AssetForm,
    *,
    asset: Asset | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    named = {FIELDS.get(field, field): sentence for field, sentence in (errors or {}).items()}
    language = request.state.language
    sites = listing.sites(db, viewer)
    locations = listing.locations(db, viewer, limit=2000)
    customers = db.scalars(
        select(Customer).where(scope.visible(Customer, viewer, "assets.write")).order_by(Customer.name).limit(500)
    ).all()
    return pages.render(
        request,
        "assets/form.html",
        status=422 if errors else 200,
        form=form,
        asset=asset,
        errors=named,
        place_options=_places(sites, locations, language),
        types=forms.options(listing.all_types(db, viewer), language),
        customers=forms.options(customers, language),
        statuses=forms.translated(STATUS_WORDS.items(), language),
        criticalities=forms.translated(CRITICALITIES, language),
    )


def _places(sites: Sequence[Site], locations: Sequence[Location], language: str) -> list[tuple[str, str]]:
    """Return the options of "where": each site, and each location behind its site and the locations around it."""
    by_id = {location.id: location for location in locations}
    options = []
    for site in sites:
        options.append((f"site:{site.id}", site.called(language)))
        for location in locations:
            if location.site_id != site.id:
                continue
            line, step = [], by_id.get(location.id)
            while step is not None and step.called(language) not in line:
                line.append(step.called(language))
                step = by_id.get(step.parent_id) if step.parent_id else None
            options.append((f"location:{location.id}", " / ".join([site.called(language), *reversed(line)])))
    return options


def _as_form(asset: Asset, parent: Asset | None) -> AssetForm:
    return AssetForm(
        code=asset.code,
        name=asset.name,
        name_zh=asset.name_zh or "",
        type=str(asset.type_id),
        place=f"location:{asset.location_id}" if asset.location_id else f"site:{asset.site_id}",
        parent=parent.code if parent else "",
        customer=str(asset.customer_id or ""),
        status=asset.status,
        criticality=str(asset.criticality),
        manufacturer=asset.manufacturer or "",
        model=asset.model or "",
        serial=asset.serial or "",
        commissioned_on=str(asset.commissioned_on or ""),
        warranty_until=str(asset.warranty_until or ""),
        version=str(asset.version),
    )


def _draft(db: Session, viewer: Viewer, form: AssetForm) -> registry.AssetDraft:
    return registry.AssetDraft(**_draft_values(db, viewer, form))


def _draft_values(db: Session, viewer: Viewer, form: AssetForm) -> dict[str, Any]:
    kind, _, identity = form.place.partition(":")
    place = forms.whole(identity, "site_id")
    if place is None or kind not in {"site", "location"}:
        raise Invalid("Please choose.", field="site_id")
    location = _location(db, viewer, place) if kind == "location" else None
    type_id = forms.whole(form.type, "type_id")
    if type_id is None:
        raise Invalid("Please choose.", field="type_id")
    if form.status not in registry.STATUSES:
        raise Invalid("Please choose.", field="status")
    return {
        "code": form.code,
        "name": form.name,
        "name_zh": form.name_zh,
        "type_id": type_id,
        "site_id": location.site_id if location else place,
        "location_id": location.id if location else None,
        "customer_id": _customer(db, viewer, form.customer),
        "status": form.status,
        "criticality": forms.whole(form.criticality or "3", "criticality"),
        "manufacturer": form.manufacturer,
        "model": form.model,
        "serial": form.serial,
        "commissioned_on": forms.day(form.commissioned_on, "commissioned_on"),
        "warranty_until": forms.day(form.warranty_until, "warranty_until"),
    }


def _location(db: Session, viewer: Viewer, location_id: int) -> Location:
    try:
        return v1_locations.find(db, viewer, location_id)
    except NotFound as error:
        raise Invalid("There is no such location.", field="location_id") from error


def _customer(db: Session, viewer: Viewer, text: str) -> int | None:
    identity = forms.whole(text, "customer_id")
    if identity is None:
        return None
    try:
        return scope.find(db, Customer, identity, viewer, "assets.write").id
    except NotFound as error:
        raise Invalid("There is no such customer.", field="customer_id") from error
