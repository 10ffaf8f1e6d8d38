"""Exports over JSON: ask for a file of readings, see how far it is, fetch it."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.exporter import Exporter
from api.v1 import steps
from api.v1.telemetry import interval, zone_of
from assets import export
from assets.export import Wanted
from assets.keeping_tables import Export
from assets.models import Asset
from kernel import clock
from kernel.errors import NotFound
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/telemetry/exports", tags=["telemetry"])
Reader = Annotated[Viewer, needs("telemetry.read")]
MEDIA = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
}


class ExportIn(BaseModel):
    """What to export."""

    format: Literal["csv", "xlsx", "parquet"] = "csv"
    assets: list[int] = Field(max_length=export.MOST_ASSETS)
    metrics: list[str] = Field(default=[], max_length=50, description="All of them when left out.")
    from_: str | None = Field(default=None, alias="from", description="A day before `to` when left out.")
    to: str | None = Field(default=None, description="Now when left out.")
    step: str | None = Field(default=None, max_length=20, description="As of a range; exact readings when left out.")
    zone: str | None = Field(default=None, max_length=60, description="That of the first asset's site when left out.")


class ExportOut(BaseModel):
    """An export and how far it is."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    state: str = Field(description="queued, running, done, failed or expired.")
    percent: int
    rows: int
    size: int | None
    file_name: str
    trouble: str | None
    asked_at: datetime
    ended_at: datetime | None
    expires_at: datetime | None


@router.post("", status_code=202)
def ask(request: Request, db: Db, viewer: Reader, body: ExportIn) -> ExportOut:
    """Queue an export; its state tells when the file can be fetched."""
    return ExportOut.model_validate(queue(request, db, viewer, body))


def queue(request: Request, db: Session, viewer: Viewer, body: ExportIn) -> Export:
    """Queue an export of assets within sight.

    Raises:
        NotFound: one of the assets is not.
        Invalid: what is asked for cannot be read, or is too much.
    """
    visible = select(Asset.id).where(Asset.id.in_(body.assets), scope.visible(Asset, viewer, "telemetry.read"))
    found = db.scalars(visible).all()
    if set(found) != set(body.assets):
        raise NotFound("There is nothing here, or it is not yours to see.")
    start_ms, end_ms = interval(body.from_, body.to)
    step = steps.Step() if body.step is None else steps.step(body.step)
    zone = zone_of(db, body.zone, body.assets[0] if body.assets else None, None)
    wanted = Wanted(
        format=body.format,
        assets=sorted(found),
        start_ms=start_ms,
        end_ms=end_ms,
        zone=zone.key,
        metrics=body.metrics,
        step_ms=step.ms,
        unit=step.unit,
    )
    row = export.ask(
        db, wanted, company_id=viewer.company_id, account_id=viewer.account_id, actor=viewer.actor, now=clock.now()
    )
    exporter_of(request).wake()
    return row


def exporter_of(request: Request) -> Exporter:
    """Return what carries exports out in this process."""
    found: Exporter = request.app.state.exporter
    return found


@router.get("")
def own(db: Db, viewer: Reader, limit: paging.Limit = 50, cursor: paging.Cursor = None) -> paging.Page[ExportOut]:
    """List one's own exports, the newest first."""
    after = paging.read(cursor, (int,))
    rows = export.listed(db, viewer.account_id, after=after[0] if after else None, limit=limit + 1)
    shown, following = paging.cut(rows, limit, lambda row: (row.id,))
    return paging.Page(items=[ExportOut.model_validate(row) for row in shown], next=following)


@router.get("/{export_id}")
def one(db: Db, viewer: Reader, export_id: int) -> ExportOut:
    """Return one of one's own exports."""
    return ExportOut.model_validate(export.find(db, export_id, viewer.account_id))


@router.get("/{export_id}/file")
def file(request: Request, db: Db, viewer: Reader, export_id: int) -> FileResponse:
    """Fetch the file of an export that is done."""
    return file_of(request, export.find(db, export_id, viewer.account_id))


def file_of(request: Request, row: Export) -> FileResponse:
    """Return the file of an export.

    Raises:
        NotFound: it is not done yet, or its time is over.
    """
    path = export.path(exporter_of(request).folder, row)
    if row.state != "done" or not path.exists():
        raise NotFound("This file is not there yet, or no longer.")
    return FileResponse(path, media_type=MEDIA[row.wanted["format"]], filename=row.file_name)
