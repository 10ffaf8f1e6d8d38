"""The ways for devices to come in, as pages: secrets of types, claim codes, trusted authorities, a CSV file."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, UploadFile
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, Parts, needs
from api.v1 import device_import
from api.v1 import enrolments as v1
from api.web import forms, pages
from assets import enrolment, listing
from assets.models import Asset, Enrolment
from kernel import clock, i18n
from kernel.errors import Conflict, FixwrightError, Invalid
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/devices")
Writer = Annotated[Viewer, needs("devices.write")]
A_PAGE = 50
SECRET = {"Cache-Control": "no-store"}
SAMPLE = """\
key,name,asset,site,gateway,client_id,certificate
press-7,Press 7 controller,PR-007,,,plc-7,
press-8,Press 8 controller,PR-008,,gateway-2,,
meter-1,Water meter,,Suzhou works,,,yes"""
FIELDS = {"type_id": "type", "site_id": "site", "asset_id": "asset"}


class OfferForm(BaseModel):
    """A new way in as its form sends it; the asset is named by its code."""

    type: str = ""
    site: str = ""
    asset: str = ""
    name: str = ""
    key: str = ""
    days: str = "14"
    certificate: str = ""
    needs_approval: str = ""


@router.get("/enrolments")
def listed(request: Request, db: Db, viewer: Writer, after: Annotated[str, Query()] = "") -> Response:
    """List the ways in, with the forms of new ones."""
    return _page(request, db, viewer, after=after)


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    *,
    after: str = "",
    form: OfferForm | None = None,
    kind: str = "",
    errors: dict[str, str] | None = None,
) -> Response:
    last = paging.read(after or None, (int,))
    rows = v1.shown(db, viewer, after=last[0] if last else None, limit=A_PAGE + 1)
    shown, following = paging.cut(rows, A_PAGE, lambda row: (row.id,))
    language = request.state.language
    return pages.render(
        request,
        "devices/enrolments.html",
        status=422 if errors else 200,
        rows=shown,
        following=following,
        after=after,
        kinds=enrolment.KINDS,
        sites=forms.options(listing.sites(db, viewer), language),
        types=forms.options(listing.all_types(db, viewer), language),
        form=form or OfferForm(),
        wrong=kind,
        errors={FIELDS.get(field, field): sentence for field, sentence in (errors or {}).items()},
    )


@router.post("/enrolments/secrets")
def offer_secret(
    request: Request, db: Db, parts: Parts, viewer: Writer, form: Annotated[OfferForm, Form()]
) -> Response:
    """Make the shared secret of a type and show it, this once."""
    try:
        body = v1.SecretIn(
            type_id=_needed(form.type, "type"),
            site_id=_needed(form.site, "site"),
            name=form.name or None,
            needs_approval=bool(form.needs_approval),
        )
        made, secret = v1.new_secret(db, viewer, body)
    except (Invalid, Conflict) as error:
        return _again(request, db, viewer, form, "secret", error)
    return _shown(request, made, secret, parts.settings.public_url)


@router.post("/enrolments/claims")
def offer_claim(request: Request, db: Db, parts: Parts, viewer: Writer, form: Annotated[OfferForm, Form()]) -> Response:
    """Make a claim code and show it, this once."""
    try:
        days = forms.whole(form.days, "days") or 0
        if not 1 <= days <= enrolment.LONGEST_CLAIM.days:
            raise Invalid("Choose at most {days} days.", field="days", days=90)  # noqa: TRY301 - beside the field
        body = v1.ClaimIn(
            asset_id=_asset(db, viewer, form.asset),
            site_id=forms.whole(form.site, "site"),
            key=form.key.strip() or None,
            name=form.name or None,
            days=days,
        )
        made, code = v1.new_claim(db, viewer, body)
    except (Invalid, Conflict) as error:
        return _again(request, db, viewer, form, "claim", error)
    return _shown(request, made, code, parts.settings.public_url)


@router.post("/enrolments/authorities")
def trust_authority(request: Request, db: Db, viewer: Writer, form: Annotated[OfferForm, Form()]) -> Response:
    """Let devices in whose certificates an authority has signed."""
    try:
        body = v1.AuthorityIn(
            certificate=form.certificate,
            site_id=_needed(form.site, "site"),
            type_id=forms.whole(form.type, "type"),
            name=form.name or None,
            needs_approval=bool(form.needs_approval),
        )
        v1.new_authority(db, viewer, body)
    except (Invalid, Conflict) as error:
        return _again(request, db, viewer, form, "chain", error)
    return pages.go("/devices/enrolments", notice=i18n.noop("Devices with its certificates come in from now on."))


@router.post("/enrolments/{enrolment_id}/close")
def close(request: Request, db: Db, viewer: Writer, enrolment_id: int) -> Response:
    """Let nobody in this way any more."""
    found = scope.find(db, Enrolment, enrolment_id, viewer, "devices.write")
    try:
        enrolment.close(db, found, actor=viewer.actor, now=clock.now())
    except Conflict as error:
        return _again(request, db, viewer, OfferForm(), "", error)
    return pages.go("/devices/enrolments", notice=i18n.noop("Closed. Nobody comes in this way any more."))


@router.get("/import")
def import_form(request: Request, viewer: Writer) -> Response:
    """Show how devices are brought in from a file."""
    del viewer
    return _import(request)


@router.post("/import")
def import_devices(request: Request, db: Db, viewer: Writer, file: UploadFile) -> Response:
    """Register the devices of a CSV file, or name every line that does not fit."""
    try:
        made, faults = device_import.bring_in(db, viewer, file.file.read())
    except Invalid as error:
        db.rollback()
        return _import(request, errors=forms.refused(request, error))
    if faults:
        db.rollback()
        return _import(request, faults=[device_import.said(request, fault) for fault in faults])
    lines = "\n".join(["key,password", *(f"{one.key},{one.password or ''}" for one in made)])
    return pages.render(request, "devices/imported.html", headers=SECRET, made=made, lines=lines)


def _import(
    request: Request,
    *,
    faults: list[device_import.FaultOut] | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    return pages.render(
        request,
        "devices/import.html",
        status=422 if faults or errors else 200,
        sample=SAMPLE,
        faults=faults or [],
        errors=errors or {},
    )


def _shown(request: Request, made: Enrolment, secret: str, base: str) -> Response:
    """Show a secret or code, which no later page can show again."""
    shown = f'{{"secret": "{secret}", "key": "press-7", "said": {{"serial": "SN-4711"}}}}'
    if made.kind == "claim":
        shown = f'{{"code": "{secret}", "key": "{made.device_key or "press-7"}"}}'
    command = f"curl -s {base}/api/v1/provision -H 'Content-Type: application/json' -d '{shown}'"
    return pages.render(
        request, "devices/enrolment_secret.html", headers=SECRET, made=made, secret=secret, command=command
    )


def _again(
    request: Request, db: Session, viewer: Viewer, form: OfferForm, kind: str, error: FixwrightError
) -> Response:
    db.rollback()
    return _page(request, db, viewer, form=form, kind=kind, errors=forms.refused(request, error))


def _needed(text: str, field: str) -> int:
    number = forms.whole(text, field)
    if number is None:
        raise Invalid("This is needed.", field=field)
    return number


def _asset(db: Session, viewer: Viewer, code: str) -> int | None:
    if not code.strip():
        return None
    found = db.scalar(select(Asset.id).where(Asset.code == code.strip(), scope.visible(Asset, viewer, "assets.read")))
    if found is None:
        raise Invalid("There is no asset with this code.", field="asset")
    return found
