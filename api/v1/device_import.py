"""Devices from a CSV file: all of them or none, with every line that does not fit named."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response, UploadFile
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import devices as v1
from assets import credentials
from assets.models import Asset, Device, Site
from kernel import clock, i18n
from kernel.errors import FixwrightError, Forbidden, Invalid
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/devices/import", tags=["devices"])
Writer = Annotated[Viewer, needs("devices.write")]
COLUMNS: Final = ("key", "name", "asset", "site", "gateway", "client_id", "certificate")
AT_ONCE: Final = 1000
_YES: Final = frozenset({"1", "yes", "true", "x", "是"})
_NO: Final = frozenset({"", "0", "no", "false", "否"})


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line does not fit; the first line below the header is line 2."""

    line: int
    column: str | None
    error: FixwrightError


class FaultOut(BaseModel):
    """Why a line does not fit, in the reader's language."""

    line: int
    column: str | None
    reason: str


class Made(BaseModel):
    """A device with its password, shown this once; none where a certificate lets it in."""

    line: int
    key: str
    password: str | None


class Imported(BaseModel):
    """What became of a file: its devices, or the lines that do not fit and nothing done."""

    devices: list[Made]
    errors: list[FaultOut]


@router.post("", status_code=201, responses={422: {"model": Imported}})
def import_devices(request: Request, response: Response, db: Db, viewer: Writer, file: UploadFile) -> Imported:
    """Register the devices of a CSV file: all, or none where a line does not fit.

    Columns, in any order, by a header: ``key`` and one of ``asset`` (its code) and ``site`` (its name) are needed;
    ``name``, ``gateway`` (its key), ``client_id``, ``certificate`` (yes: a client certificate instead of a password).
    """
    response.headers["Cache-Control"] = "no-store"
    made, faults = bring_in(db, viewer, file.file.read())
    if faults:
        db.rollback()
        response.status_code = 422
    return Imported(devices=[] if faults else made, errors=[said(request, fault) for fault in faults])


def said(request: Request, fault: Fault) -> FaultOut:
    """Return a fault in the reader's language."""
    words = i18n.catalogue(getattr(request.state, "language", "en"))
    sentence = words.get(fault.error.sentence, fault.error.sentence)
    reason = sentence.format(**fault.error.values) if fault.error.values else sentence
    return FaultOut(line=fault.line, column=fault.column, reason=reason)


def bring_in(db: Session, viewer: Viewer, content: bytes) -> tuple[list[Made], list[Fault]]:
    """Register the devices of a file, each line by itself; roll back where there are faults.

    Raises:
        Invalid: the file as a whole cannot be read.
    """
    made: list[Made] = []
    faults: list[Fault] = []
    for number, row in _rows(content):
        try:
            with db.begin_nested():
                made.append(_registered(db, viewer, number, row))
        except FixwrightError as error:
            column = {"asset_id": "asset", "site_id": "site", "gateway_id": "gateway"}.get(error.field or "")
            faults.append(Fault(number, column or error.field, error))
    return made, faults


def _rows(content: bytes) -> list[tuple[int, dict[str, str]]]:
    try:
        text = content.decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Invalid("This file is no CSV in UTF-8.", field="file") from error
    if not lines:
        raise Invalid("This file is empty.", field="file")
    header = [cell.strip().lower() for cell in lines[0][1]]
    unknown = [cell for cell in header if cell not in COLUMNS]
    if unknown or "key" not in header or len(set(header)) < len(header):
        raise Invalid("The first line must name the columns: {columns}.", field="file", columns=", ".join(COLUMNS))
    if len(lines) - 1 > AT_ONCE:
        raise Invalid("At most {most} devices at once.", field="file", most=AT_ONCE)
    return [(number, dict(zip(header, map(str.strip, line), strict=False))) for number, line in lines[1:]]


def _registered(db: Session, viewer: Viewer, line: int, row: Mapping[str, str]) -> Made:
    certificate = row.get("certificate", "").lower()
    if certificate not in _YES | _NO:
        raise Invalid("Write yes or no.", field="certificate")
    body = v1.DeviceIn(
        key=row.get("key", ""),
        name=row.get("name", ""),
        asset_id=_asset(db, viewer, row.get("asset", "")),
        site_id=_site(db, viewer, row.get("site", "")),
        gateway_id=_gateway(db, viewer, row.get("gateway", "")),
    )
    try:
        device, password = v1.add(db, viewer, body)
    except Forbidden as error:
        raise Invalid("You may not register devices there.", field="site") from error
    now = clock.now()
    if row.get("client_id"):
        credentials.bind_client(db, device, row["client_id"], actor=viewer.actor, now=now)
    if certificate in _YES:
        device.password_hash = None
        credentials.accept_certificate(db, device, True, actor=viewer.actor, now=now)
        return Made(line=line, key=device.key, password=None)
    return Made(line=line, key=device.key, password=password)


def _asset(db: Session, viewer: Viewer, code: str) -> int | None:
    if not code:
        return None
    found = db.scalar(select(Asset.id).where(Asset.code == code, scope.visible(Asset, viewer, "assets.read")))
    if found is None:
        raise Invalid("There is no asset with this code.", field="asset")
    return found


def _site(db: Session, viewer: Viewer, name: str) -> int | None:
    if not name:
        return None
    named = (Site.name == name) | (Site.name_zh == name)
    found = db.scalars(select(Site.id).where(named, scope.visible(Site, viewer, "assets.read")).limit(2)).all()
    if len(found) != 1:
        raise Invalid("There is no such site.", field="site")
    return found[0]


def _gateway(db: Session, viewer: Viewer, key: str) -> int | None:
    if not key:
        return None
    found = db.scalar(select(Device.id).where(Device.key == key, scope.visible(Device, viewer, "assets.read")))
    if found is None:
        raise Invalid("There is no device with this key.", field="gateway")
    return found
