"""Import of history on pages: choose a file, see what it would do, start it, see how far it is."""

from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request, UploadFile
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api import access, paging
from api.access import Db, needs
from api.bodies import FILES_A_FORM
from api.v1 import imports as v1
from api.v1 import steps
from api.web import forms, pages
from assets.models import Asset, Device
from ingest import history
from kernel import clock, i18n
from kernel.errors import Invalid
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/imports")
Writer = Annotated[Viewer, needs("devices.write")]
PAGE: Final = 20
_MOVING: Final = {"queued", "running"}
SAMPLE: Final = """device,ts,metric,value
pump-1,2024-03-01T08:00:00+01:00,temperature,21.5
pump-1,2024-03-01T08:05:00+01:00,temperature,21.7"""
SAMPLE_OF_ASSETS: Final = """asset,ts,temperature,pressure
P-101,2024-03-01T08:00:00+01:00,21.5,2.31
P-101,2024-03-01T08:05:00+01:00,21.7,2.34"""


class ImportForm(BaseModel):
    """The form as it is sent, but for its file."""

    zone: str = ""
    device: str = ""
    asset: str = ""
    backdates: str = "1"


@router.get("")
def overview(
    request: Request,
    db: Db,
    viewer: Writer,
    *,
    device: Annotated[int | None, Query()] = None,
    asset: Annotated[int | None, Query()] = None,
    after: Annotated[str | None, Query()] = None,
) -> Response:
    """Show the form of an import, and one's own imports."""
    key = "" if device is None else scope.find(db, Device, device, viewer, "devices.write").key
    code = "" if asset is None else scope.find(db, Asset, asset, viewer, "assets.read").code
    return _page(request, db, viewer, ImportForm(zone=viewer.zone, device=key, asset=code), after=after)


@router.post("")
def ask(  # noqa: PLR0917 - one a field of the form
    request: Request,
    db: Db,
    viewer: Writer,
    file: UploadFile,
    zone: Annotated[str, Form()] = "",
    device: Annotated[str, Form()] = "",
    asset: Annotated[str, Form()] = "",
    backdates: Annotated[str, Form()] = "",
) -> Response:
    """Take a file and try it."""
    form = ImportForm(zone=zone, device=device, asset=asset, backdates=backdates)
    importer = v1.importer_of(request)
    try:
        row = history.ask(
            db,
            file_name=file.filename or "",
            zone=zone,
            device_key=device,
            asset_code=asset,
            backdates=bool(backdates),
            company_id=viewer.company_id,
            account_id=viewer.account_id,
            actor=viewer.actor,
            now=clock.now(),
        )
        history.received(db, row, size=v1.keep(importer, row.id, file.file))
    except Invalid as error:
        db.rollback()
        return _page(request, db, viewer, form, errors=forms.refused(request, error))
    importer.wake()
    return pages.go(f"/imports/{row.id}")


@router.get("/{import_id}")
def one(request: Request, db: Db, viewer: Writer, import_id: int) -> Response:
    """Show what a file holds and how far its import is; the page looks again by itself while it runs."""
    row = history.find(db, import_id, viewer.account_id)
    zone = steps.zone(row.zone)
    found = v1.shown(request, row)
    return pages.render(
        request,
        "imports/import.html",
        headers={"Refresh": "2"} if row.state in _MOVING else None,
        row=row,
        report=found.report,
        trouble=found.trouble,
        at=lambda ms: clock.from_ms(ms).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %z"),
        size_mb=row.size / 1e6,
    )


@router.post("/{import_id}/start")
def start(request: Request, db: Db, viewer: Writer, import_id: int) -> Response:
    """Import what was tried."""
    history.start(db, history.find(db, import_id, viewer.account_id))
    v1.importer_of(request).wake()
    return pages.go(f"/imports/{import_id}")


@router.post("/{import_id}/discard")
def discard(db: Db, viewer: Writer, import_id: int) -> Response:
    """Leave an import."""
    history.discard(db, history.find(db, import_id, viewer.account_id), now=clock.now())
    return pages.go("/imports", notice=i18n.noop("Discarded. What was stored of it stays."))


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    form: ImportForm,
    *,
    errors: dict[str, str] | None = None,
    after: str | None = None,
) -> Response:
    key = paging.read(after, (int,))
    rows = history.listed(db, viewer.account_id, after=key[0] if key else None, limit=PAGE + 1)
    shown, following = paging.cut(rows, PAGE, lambda row: (row.id,))
    return pages.render(
        request,
        "imports/overview.html",
        status=422 if errors else 200,
        form=form,
        errors=errors or {},
        rows=shown,
        following=following,
        is_first=after is None,
        samples=(SAMPLE, SAMPLE_OF_ASSETS),
        most_mb=access.runtime(request).settings.upload_max_mb * FILES_A_FORM,
    )
