"""Exports as pages: choose assets, range and form of the file; see how far it is; fetch it."""

import re
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.v1 import exports as v1
from api.v1 import steps
from api.web import forms, pages
from assets import export, listing
from assets.models import Asset, Site
from kernel import clock, i18n
from kernel.errors import Invalid, NotFound
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/exports")
Reader = Annotated[Viewer, needs("telemetry.read")]
PAGE = 20
STEPS = (
    ("", i18n.noop("Every reading, exact")),
    ("1m", i18n.noop("Minute by minute")),
    ("15m", i18n.noop("Quarter hours")),
    ("hour", i18n.noop("By the hour")),
    ("day", i18n.noop("By the day")),
    ("week", i18n.noop("By the week")),
    ("month", i18n.noop("By the month")),
)
FORMATS = (("csv", "CSV"), ("xlsx", "Excel (XLSX)"), ("parquet", "Parquet"))
DAYS_BACK = 7
MOST_METRICS = 50


class ExportForm(BaseModel):
    """The form as it is sent; ``codes`` are asset codes, however they are separated."""

    codes: str = ""
    site: str = ""
    type: str = ""
    metrics: str = ""
    starts: str = ""
    ends: str = ""
    zone: str = ""
    step: str = ""
    format: str = "csv"


@router.get("")
def overview(
    request: Request,
    db: Db,
    viewer: Reader,
    *,
    asset: Annotated[int | None, Query()] = None,
    after: Annotated[str | None, Query()] = None,
) -> Response:
    """Show the form of an export, and one's own exports."""
    code = ""
    if asset is not None:
        code = scope.find(db, Asset, asset, viewer, "telemetry.read").code
    zone = steps.zone(viewer.zone)
    now_ms = clock.now_ms()
    starts = clock.from_ms(now_ms - DAYS_BACK * 86_400_000).astimezone(zone)
    form = ExportForm(
        codes=code,
        starts=f"{starts:%Y-%m-%d}T00:00",
        ends=f"{clock.from_ms(now_ms).astimezone(zone):%Y-%m-%dT%H:%M}",
        zone=viewer.zone,
    )
    return _page(request, db, viewer, form, after=after)


@router.post("")
def ask(request: Request, db: Db, viewer: Reader, form: Annotated[ExportForm, Form()]) -> Response:
    """Queue an export and show how far it is."""
    try:
        row = v1.queue(request, db, viewer, _asked(db, viewer, form))
    except (Invalid, NotFound) as error:
        db.rollback()
        return _page(request, db, viewer, form, errors=forms.refused(request, error))
    return pages.go(f"/exports/{row.id}")


@router.get("/{export_id}")
def one(request: Request, db: Db, viewer: Reader, export_id: int) -> Response:
    """Show how far an export is; the page looks again by itself while it runs."""
    row = export.find(db, export_id, viewer.account_id)
    assets = db.scalars(
        select(Asset)
        .where(Asset.id.in_(row.wanted["assets"]), scope.visible(Asset, viewer, "telemetry.read"))
        .order_by(Asset.code)
        .limit(PAGE)
    ).all()
    return pages.render(
        request,
        "exports/export.html",
        headers={"Refresh": "2"} if row.state in {"queued", "running"} else None,
        row=row,
        assets=assets,
        count=len(row.wanted["assets"]),
        starts=clock.from_ms(row.wanted["start_ms"]).astimezone(steps.zone(row.wanted["zone"])),
        ends=clock.from_ms(row.wanted["end_ms"]).astimezone(steps.zone(row.wanted["zone"])),
        size_mb=None if row.size is None else row.size / 1e6,
    )


@router.get("/{export_id}/file")
def file(request: Request, db: Db, viewer: Reader, export_id: int) -> Response:
    """Fetch the file."""
    return v1.file_of(request, export.find(db, export_id, viewer.account_id))


def _asked(db: Session, viewer: Viewer, form: ExportForm) -> v1.ExportIn:
    zone = steps.zone(form.zone or viewer.zone)
    starts, ends = forms.moment(form.starts, "starts", zone), forms.moment(form.ends, "ends", zone)
    if starts is None or ends is None or ends <= starts:
        raise Invalid("The end of the range must lie after its beginning.", field="ends")
    if form.format not in v1.MEDIA:
        raise Invalid("Please choose a format.", field="format")
    if form.step:
        steps.step(form.step)
    return v1.ExportIn.model_validate(
        {
            "format": form.format,
            "assets": _assets(db, viewer, form),
            "metrics": _words(form.metrics)[:MOST_METRICS],
            "from": str(clock.to_ms(starts)),
            "to": str(clock.to_ms(ends)),
            "step": form.step or None,
            "zone": zone.key,
        }
    )


def _assets(db: Session, viewer: Viewer, form: ExportForm) -> list[int]:
    """Return the assets that are named, or all of a site or type."""
    codes = _words(form.codes)
    site, kind = forms.whole(form.site, "site"), forms.whole(form.type, "type")
    if not codes and site is None and kind is None:
        raise Invalid("Please choose at least one asset.", field="codes")
    query = select(Asset.id, Asset.code).where(scope.visible(Asset, viewer, "telemetry.read"))
    if codes:
        query = query.where(Asset.code.in_(codes))
    if site is not None:
        query = query.where(Asset.site_id == site)
    if kind is not None:
        query = query.where(Asset.type_id == kind)
    found = db.execute(query.limit(export.MOST_ASSETS + 1)).all()
    missing = sorted(set(codes) - {row.code for row in found})
    if missing:
        raise Invalid("There is no asset {code} here.", field="codes", code=missing[0][:60])
    if len(found) > export.MOST_ASSETS:
        raise Invalid("At most {most} assets fit into one export.", field="codes", most=export.MOST_ASSETS)
    return [row.id for row in found]


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,;，；]+", text) if word]


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    form: ExportForm,
    *,
    errors: dict[str, str] | None = None,
    after: str | None = None,
) -> Response:
    key = paging.read(after, (int,))
    rows = export.listed(db, viewer.account_id, after=key[0] if key else None, limit=PAGE + 1)
    shown, following = paging.cut(rows, PAGE, lambda row: (row.id,))
    language = request.state.language
    sites = db.scalars(select(Site).where(scope.visible(Site, viewer, "assets.read"))).all()
    return pages.render(
        request,
        "exports/overview.html",
        status=422 if errors else 200,
        form=form,
        errors=errors or {},
        sites=forms.options(sites, language),
        kinds=forms.options(listing.all_types(db, viewer), language),
        steps=forms.translated(STEPS, language),
        formats=FORMATS,
        rows=shown,
        following=following,
        is_first=after is None,
    )
