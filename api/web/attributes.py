"""Attributes as a page: the values that rules may ask for, of an asset and of everything it belongs to."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import attributes as v1
from api.web import forms, pages
from assets import attributes
from assets.models import Asset, Attribute
from kernel import clock, i18n
from kernel.errors import Invalid, NotFound
from people import oversight, scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(prefix="/assets/{asset_id}/attributes")
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("assets.write")]
MOST = 200


class AttributeForm(BaseModel):
    """The form as it is sent; ``of`` is a level and a number, as in ``site/4``. An empty value takes it away."""

    of: str = ""
    name: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A thing that can have attributes for this asset, with those it has."""

    key: str
    level: str
    name: str
    rows: list[Attribute]
    may_write: bool


@router.get("")
def listed(request: Request, db: Db, viewer: Reader, asset_id: int) -> Response:
    """Show the attributes that count for an asset, the nearest level first."""
    return _page(request, db, viewer, asset_id, AttributeForm())


@router.post("")
def put(request: Request, db: Db, viewer: Writer, asset_id: int, form: Annotated[AttributeForm, Form()]) -> Response:
    """Set an attribute at one of the levels, or take it away."""
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    level, _, number = form.of.partition("/")
    try:
        if form.of not in {key for key, _, _ in _line(db, asset, request.state.language)}:
            raise Invalid("This is needed.", field="of")  # noqa: TRY301 - the page says it beside the field
        subject = v1.subject(db, viewer, level, int(number), "assets.write")
        attributes.put(db, subject, form.name.strip(), _read(form.value), actor=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return _page(request, db, viewer, asset_id, form, errors=forms.refused(request, error))
    return pages.go(f"/assets/{asset_id}/attributes", notice=i18n.noop("Saved. Rules that ask for it follow at once."))


def _read(typed: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return what was typed: a number, true or false, an object, else a text; None for nothing."""
    text = typed.strip()
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _line(db: Session, asset: Asset, language: str) -> list[tuple[str, str, str]]:
    """Return the places whose attributes count for an asset, the nearest first: key, level and name."""
    found = [(f"asset/{asset.id}", "asset", asset.called(language))]
    above = [int(step) for step in reversed(asset.path.split("/")) if step and int(step) != asset.id]
    parents = {one.id: one for one in db.scalars(select(Asset).where(Asset.id.in_(above)))}
    found += [(f"asset/{one}", "parent", parents[one].called(language)) for one in above if one in parents]
    found.append((f"site/{asset.site_id}", "site", asset.site.called(language)))
    if asset.customer is not None:
        found.append((f"customer/{asset.customer_id}", "customer", asset.customer.called(language)))
    steps = [int(step) for step in reversed(db.get_one(OrgUnit, asset.unit_id).path.split("/")) if step]
    units = {one.id: one for one in db.scalars(select(OrgUnit).where(OrgUnit.id.in_(steps)))}
    found += [(f"unit/{one}", "organisation", units[one].called(language)) for one in steps if one in units]
    return found


def _place(db: Session, viewer: Viewer, key: str, level: str, name: str) -> Place | None:
    """Return a place with its attributes; None where it lies outside the viewer's sight."""
    kind, _, number = key.partition("/")
    try:
        subject = v1.subject(db, viewer, kind, int(number), "assets.read")
    except NotFound:
        return None
    rows = list(attributes.listed(db, subject.level, subject.id, after="", limit=MOST))
    path = db.get_one(OrgUnit, subject.unit_id).path
    return Place(key, level, name, rows, viewer.may_at("assets.write", path))


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    asset_id: int,
    form: AttributeForm,
    *,
    errors: dict[str, str] | None = None,
) -> Response:
    asset = scope.find(db, Asset, asset_id, viewer, "assets.read")
    line = _line(db, asset, request.state.language)
    places = [place for one in line if (place := _place(db, viewer, *one)) is not None]
    return pages.render(
        request,
        "assets/attributes.html",
        status=422 if errors else 200,
        asset=asset,
        holders=places,
        writable=[(place.key, place.name) for place in places if place.may_write],
        names=oversight.names(db, viewer, [row.changed_by for place in places for row in place.rows]),
        shown=_shown,
        form=form,
        errors=errors or {},
    )


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """Return a value as it is typed."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
