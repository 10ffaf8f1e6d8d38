"""The alarm dictionary over JSON: what the codes of devices mean, as entries and as a CSV file."""

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from assets.models import AssetType
from kernel import clock
from kernel.errors import FixwrightError, Invalid
from maintenance.orders import dictionary
from maintenance.orders.code_tables import AlarmCode
from maintenance.orders.dictionary import Draft
from maintenance.plans.models import Checklist
from people import scope
from people.scope import Viewer

router = APIRouter(prefix="/codes", tags=["alarms"])
Reader = Annotated[Viewer, needs("alarms.read")]
Writer = Annotated[Viewer, needs("rules.write")]
COLUMNS: Final = (
    "code", "type", "severity", "name", "name_zh", "causes", "causes_zh", "remedy", "remedy_zh", "checklist",
)  # fmt: skip
AT_ONCE: Final = dictionary.MOST


class CodeIn(BaseModel):
    """An entry: what a code means, why it comes, what helps."""

    code: str
    name: str = Field(description="What it means.")
    name_zh: str | None = None
    asset_type_id: int | None = Field(None, description="For assets of this type alone, and of those below it.")
    severity: Literal["critical", "major", "minor", "warning", "info"] | None = Field(
        None, description="How urgent its order is; as the device says when left out."
    )
    causes: str = ""
    causes_zh: str = ""
    remedy: str = ""
    remedy_zh: str = ""
    checklist_id: int | None = Field(None, description="What its order is worked through with.")


class CodeOut(CodeIn):
    """The same with its number."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class UnknownOut(BaseModel):
    """A code that was reported within 90 days and that no entry explains."""

    model_config = ConfigDict(from_attributes=True)

    code: str
    count: int
    last_at: datetime
    alarm_id: int


class Imported(BaseModel):
    """How many entries a file wrote, or changed."""

    entries: int


@router.get("")
def listed(db: Db, viewer: Reader, q: Annotated[str, Query(max_length=100)] = "") -> paging.Page[CodeOut]:
    """List the company's entries by code; ``q`` is a part of the code or its meaning."""
    rows = dictionary.of_company(db, viewer.company_id, text=q.strip())
    return paging.Page(items=[CodeOut.model_validate(row) for row in rows])


@router.post("", status_code=201)
def add(db: Db, viewer: Writer, body: CodeIn) -> CodeOut:
    """Write an entry."""
    return CodeOut.model_validate(save(db, viewer, Draft(**body.model_dump())))


@router.get("/unknown")
def unknown(db: Db, viewer: Reader) -> paging.Page[UnknownOut]:
    """List the codes that devices reported lately and nobody explained, the most frequent first."""
    rows = dictionary.unknown(db, viewer, clock.now())
    return paging.Page(items=[UnknownOut.model_validate(row) for row in rows])


@router.get("/export")
def export(db: Db, viewer: Reader) -> Response:
    """Answer the whole dictionary as CSV, as the import takes it."""
    return as_file(dictionary.of_company(db, viewer.company_id))


@router.post("/import")
def import_file(db: Db, viewer: Writer, file: UploadFile) -> Imported:
    """Write the entries of a CSV file, all or none; one for the same code and type is replaced."""
    return Imported(entries=take_file(db, viewer, file.file.read()))


@router.put("/{code_id}")
def change(db: Db, viewer: Writer, code_id: int, body: CodeIn) -> CodeOut:
    """Change an entry."""
    known = mine(db, viewer, code_id)
    return CodeOut.model_validate(save(db, viewer, Draft(**body.model_dump()), known))


@router.delete("/{code_id}", status_code=204)
def drop(db: Db, viewer: Writer, code_id: int) -> None:
    """Remove an entry."""
    dictionary.drop(db, mine(db, viewer, code_id), actor=viewer.actor, now=clock.now())


def mine(db: Session, viewer: Viewer, code_id: int) -> AlarmCode:
    """Return an entry that the viewer may change.

    Raises:
        NotFound: it is not their company's.
        Forbidden: they may change rules of a part of the company only.
    """
    found = dictionary.find(db, viewer.company_id, code_id)
    scope.require(db, viewer, "rules.write", viewer.company_id)
    return found


def save(db: Session, viewer: Viewer, draft: Draft, known: AlarmCode | None = None) -> AlarmCode:
    """Write or change an entry for a viewer who may change the whole company's rules."""
    scope.require(db, viewer, "rules.write", viewer.company_id)
    return dictionary.save(db, draft, company_id=viewer.company_id, actor=viewer.actor, now=clock.now(), known=known)


# As a file ---------------------------------------------------------------------------------------------------------


def as_file(rows: Iterable[AlarmCode]) -> Response:
    """Answer entries as a table for a spreadsheet; no cell is taken for a formula."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(COLUMNS)
    for row in rows:
        own = {
            "type": row.asset_type.key if row.asset_type else "",
            "checklist": row.checklist.name if row.checklist else "",
        }
        cells = [own[name] if name in own else getattr(row, name) or "" for name in COLUMNS]
        table.writerow(["'" + cell if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in cells])
    return Response(
        "\ufeff" + out.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="alarm-codes.csv"'},
    )


def take_file(db: Session, viewer: Viewer, content: bytes) -> int:
    """Write the entries of a CSV file; return how many.

    Raises:
        Invalid: it is none, or a line does not fit; nothing was written.
    """
    scope.require(db, viewer, "rules.write", viewer.company_id)
    kinds = {row.key: row.id for row in db.scalars(select(AssetType).where(AssetType.company_id == viewer.company_id))}
    lists = {row.name: row.id for row in db.scalars(select(Checklist).where(Checklist.company_id == viewer.company_id))}
    rows = _rows(content)
    for number, row in rows:
        try:
            draft = _draft(row, kinds, lists)
            dictionary.put(db, draft, company_id=viewer.company_id, actor=viewer.actor, now=clock.now())
        except FixwrightError as error:
            raise Invalid("Line {line}: {reason}", field="file", line=number, reason=str(error)) from error
    return len(rows)


def _rows(content: bytes) -> list[tuple[int, dict[str, str]]]:
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        lines = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Invalid("This file is no CSV in UTF-8.", field="file") from error
    if not lines:
        raise Invalid("This file is empty.", field="file")
    header = [cell.strip().lower() for cell in lines[0][1]]
    if not {"code", "name"} <= set(header) <= set(COLUMNS) or len(set(header)) < len(header):
        raise Invalid("The first line must name the columns: {columns}.", field="file", columns=", ".join(COLUMNS))
    if len(lines) - 1 > AT_ONCE:
        raise Invalid("At most {most} entries at once.", field="file", most=AT_ONCE)
    return [(number, dict(zip(header, map(_cell, line), strict=False))) for number, line in lines[1:]]


def _cell(text: str) -> str:
    """Return a cell as it was before the export kept it from being a formula."""
    text = text.strip()
    return text[1:] if text.startswith("'") and text[1:2] in {"=", "+", "-", "@"} else text


def _draft(row: Mapping[str, str], kinds: Mapping[str, int], lists: Mapping[str, int]) -> Draft:
    kind, checklist = row.get("type", ""), row.get("checklist", "")
    if kind and kind not in kinds:
        raise Invalid("There is no type of asset with the key {key}.", field="type", key=kind)
    if checklist and checklist not in lists:
        raise Invalid("There is no checklist with this name.", field="checklist")
    return Draft(
        code=row["code"],
        name=row["name"],
        name_zh=row.get("name_zh") or None,
        asset_type_id=kinds.get(kind),
        severity=row.get("severity") or None,
        causes=row.get("causes", ""),
        causes_zh=row.get("causes_zh", ""),
        remedy=row.get("remedy", ""),
        remedy_zh=row.get("remedy_zh", ""),
        checklist_id=lists.get(checklist),
    )
