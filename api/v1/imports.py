"""Import of history from CSV, over JSON: open one, send its file, look what it would do, start it, watch it."""

import shutil
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from api import paging
from api.access import Db, needs
from api.importer import Importer
from ingest import history
from ingest.models import HistoryImport
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid
from people.scope import Viewer

router = APIRouter(prefix="/telemetry/imports", tags=["telemetry"])
Writer = Annotated[Viewer, needs("devices.write")]
_PIECE = 1 << 20


class ImportIn(BaseModel):
    """What is to be imported."""

    zone: str = Field(description="Of times without an offset, such as Europe/Berlin.")
    device: str = Field("", description="Key of the device of rows that name neither device nor asset.")
    asset: str = Field("", description="Code of the asset of such rows: they go to the devices that measured it.")
    file_name: str = Field("history.csv", description="As it is listed.")
    backdates: bool = Field(True, description="The asset of a device has its history too, from before it was bound.")


class FaultOut(BaseModel):
    """Why a row is not used; ``line`` counts from 1, where the row begins."""

    line: int
    code: str = Field("", description="A word that stays the same, such as bad_ts; empty in older reports.")
    reason: str = Field(description="A sentence in the reader's language.")


class SeriesOut(BaseModel):
    """What the file holds of one metric of a device; times in milliseconds since 1970."""

    device: str
    metric: str
    count: int
    first_ms: int
    last_ms: int


class RowOut(BaseModel):
    """A row as it was understood."""

    line: int
    device: str
    asset: str = Field("", description="Its code, where the row names one.")
    ts_ms: int
    values: dict[str, Any]


class ReportOut(BaseModel):
    """What was found in a file and, once it is imported, what became of it.

    readings = stored + replaced + duplicate. ``bad`` of them lie outside what is possible: kept, and marked.
    ``faults`` and ``series`` name the first 200.
    """

    rows: int = 0
    readings: int = 0
    refused: int = 0
    bad: int = 0
    stored: int = 0
    replaced: int = 0
    duplicate: int = 0
    devices: int = 0
    series_count: int = 0
    faults: list[FaultOut] = []
    series: list[SeriesOut] = []
    sample: list[RowOut] = []


class ImportOut(BaseModel):
    """An import and how far it is."""

    id: int
    state: str = Field(description="open, queued, running, checked, done, failed or discarded.")
    is_trial: bool = Field(description="Whether it is, or was last, only read.")
    percent: int
    file_name: str
    size: int
    zone: str
    device: str
    asset: str
    backdates: bool
    trouble: str | None = Field(description="Why it failed, in the reader's language.")
    asked_at: datetime
    ended_at: datetime | None
    report: ReportOut


@router.post("", status_code=201)
def ask(request: Request, db: Db, viewer: Writer, body: ImportIn) -> ImportOut:
    """Open an import. Send its file with PUT; it is then tried, and imported only when it is started."""
    row = history.ask(
        db,
        file_name=body.file_name,
        zone=body.zone,
        device_key=body.device,
        asset_code=body.asset,
        backdates=body.backdates,
        company_id=viewer.company_id,
        account_id=viewer.account_id,
        actor=viewer.actor,
        now=clock.now(),
    )
    return shown(request, row)


@router.put("/{import_id}/file")
async def send(request: Request, db: Db, viewer: Writer, import_id: int) -> ImportOut:
    """Send the file as the body of the request, piece by piece; it is tried at once."""
    importer = importer_of(request)
    row = await run_in_threadpool(history.find, db, import_id, viewer.account_id)
    if row.state != "open":
        raise Conflict("This import has its file already.")
    # The connection is given back while the file arrives.
    await run_in_threadpool(db.commit)
    async with importer.receiving:
        size = await _receive(request, history.path(importer.folder, import_id))
    await run_in_threadpool(history.received, db, row, size=size)
    importer.wake()
    return shown(request, row)


async def _receive(request: Request, target: Path) -> int:
    await run_in_threadpool(target.parent.mkdir, parents=True, exist_ok=True)
    draft = target.with_name(".arriving")
    size = 0
    with await run_in_threadpool(draft.open, "wb") as file:
        async for piece in request.stream():
            await run_in_threadpool(file.write, piece)
            size += len(piece)
    if not size:
        raise Invalid("This file is empty.", field="file")
    await run_in_threadpool(draft.replace, target)
    return size


def keep(importer: Importer, import_id: int, source: IO[bytes]) -> int:
    """Put the file of an import where it waits; return its size.

    Raises:
        Invalid: it is empty.
    """
    target = history.path(importer.folder, import_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, _PIECE)
        size = file.tell()
    if not size:
        raise Invalid("This file is empty.", field="file")
    return size


@router.post("/{import_id}/start")
def start(request: Request, db: Db, viewer: Writer, import_id: int) -> ImportOut:
    """Import what was tried. To do it again changes nothing that is stored."""
    row = history.find(db, import_id, viewer.account_id)
    history.start(db, row)
    importer_of(request).wake()
    return shown(request, row)


@router.post("/{import_id}/discard")
def discard(request: Request, db: Db, viewer: Writer, import_id: int) -> ImportOut:
    """Leave an import and remove its file; what is stored stays."""
    row = history.find(db, import_id, viewer.account_id)
    history.discard(db, row, now=clock.now())
    return shown(request, row)


@router.get("")
def own(
    request: Request, db: Db, viewer: Writer, limit: paging.Limit = 50, cursor: paging.Cursor = None
) -> paging.Page[ImportOut]:
    """List one's own imports, the newest first."""
    after = paging.read(cursor, (int,))
    rows = history.listed(db, viewer.account_id, after=after[0] if after else None, limit=limit + 1)
    page, following = paging.cut(rows, limit, lambda row: (row.id,))
    return paging.Page(items=[shown(request, row) for row in page], next=following)


@router.get("/{import_id}")
def one(request: Request, db: Db, viewer: Writer, import_id: int) -> ImportOut:
    """Return one of one's own imports, with what was found in its file."""
    return shown(request, history.find(db, import_id, viewer.account_id))


def importer_of(request: Request) -> Importer:
    """Return what carries imports out in this process."""
    found: Importer = request.app.state.importer
    return found


def _said(request: Request, sentence: str, values: dict[str, Any]) -> str:
    words = i18n.catalogue(getattr(request.state, "language", "en"))
    translated = words.get(sentence, sentence)
    return translated.format(**values) if values else translated


def shown(request: Request, row: HistoryImport) -> ImportOut:
    """Return an import as it is told, its faults in the reader's language."""
    told = dict(row.report)
    faults = [
        FaultOut(line=one["line"], code=one.get("code", ""), reason=_said(request, one["sentence"], one["values"]))
        for one in told.pop("faults", [])
    ]
    return ImportOut(
        id=row.id,
        state=row.state,
        is_trial=row.is_trial,
        percent=row.percent,
        file_name=row.file_name,
        size=row.size,
        zone=row.zone,
        device=row.device_key,
        asset=row.asset_code,
        backdates=row.backdates,
        trouble=_said(request, **row.trouble) if row.trouble else None,
        asked_at=row.asked_at,
        ended_at=row.ended_at,
        report=ReportOut(**told, faults=faults),
    )
