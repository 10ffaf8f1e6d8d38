"""The alarm dictionary as a page: what codes mean, which ones nobody has explained, in and out as CSV."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import codes as v1
from api.web import forms, pages
from assets.models import AssetType
from kernel import clock, i18n
from kernel.errors import FixwrightError
from maintenance.orders import dictionary
from maintenance.orders.code_tables import AlarmCode
from maintenance.orders.dictionary import Draft
from maintenance.plans.models import Checklist
from people.scope import Viewer
from rules.models import SEVERITIES

router = APIRouter(prefix="/codes")
Reader = Annotated[Viewer, needs("alarms.read")]
Writer = Annotated[Viewer, needs("rules.write")]


class Entry(BaseModel):
    """An entry as its form sends it: empty texts for what is not given."""

    code: str = ""
    name: str = ""
    name_zh: str = ""
    type: str = ""
    severity: str = ""
    causes: str = ""
    causes_zh: str = ""
    remedy: str = ""
    remedy_zh: str = ""
    checklist: str = ""

    def draft(self) -> Draft:
        """Return the entry as it is wanted.

        Raises:
            Invalid: a choice holds what the form cannot send.
        """
        return Draft(
            code=self.code.strip(),
            name=self.name.strip(),
            name_zh=self.name_zh.strip() or None,
            asset_type_id=forms.whole(self.type, "asset_type_id"),
            severity=self.severity or None,
            causes=self.causes.strip(),
            causes_zh=self.causes_zh.strip(),
            remedy=self.remedy.strip(),
            remedy_zh=self.remedy_zh.strip(),
            checklist_id=forms.whole(self.checklist, "checklist_id"),
        )


@router.get("")
def entries(request: Request, db: Db, viewer: Reader, q: str = "", code: str = "") -> Response:
    """Show the dictionary and the codes that are in none; ``code`` begins a new entry."""
    return _page(request, db, viewer, q=q, sent=Entry(code=code))


@router.post("")
def add(request: Request, db: Db, viewer: Writer, form: Annotated[Entry, Form()]) -> Response:
    """Write an entry."""
    try:
        v1.save(db, viewer, form.draft())
    except FixwrightError as error:
        return _again(request, db, viewer, form, error)
    return pages.go("/codes", notice=i18n.noop("{code} is explained now."), code=form.code.strip())


@router.get("/export.csv")
def export(db: Db, viewer: Reader) -> Response:
    """Download the dictionary."""
    return v1.as_file(dictionary.of_company(db, viewer.company_id))


@router.post("/import")
def import_file(request: Request, db: Db, viewer: Writer, file: UploadFile) -> Response:
    """Write the entries of a file, all or none."""
    try:
        number = v1.take_file(db, viewer, file.file.read())
    except FixwrightError as error:
        return _again(request, db, viewer, Entry(), error)
    return pages.go("/codes", notice=i18n.noop("{n} entries written."), n=number)


@router.get("/{code_id}")
def entry(request: Request, db: Db, viewer: Writer, code_id: int) -> Response:
    """Show one entry to change it."""
    found = v1.mine(db, viewer, code_id)
    names = ("code", "name", "name_zh", "severity", "causes", "causes_zh", "remedy", "remedy_zh")
    sent = Entry(
        **{name: getattr(found, name) or "" for name in names},
        type=str(found.asset_type_id or ""),
        checklist=str(found.checklist_id or ""),
    )
    return _page(request, db, viewer, sent=sent, known=found)


@router.post("/{code_id}")
def change(request: Request, db: Db, viewer: Writer, code_id: int, form: Annotated[Entry, Form()]) -> Response:
    """Change an entry."""
    known = v1.mine(db, viewer, code_id)
    try:
        v1.save(db, viewer, form.draft(), known)
    except FixwrightError as error:
        db.rollback()
        return _page(request, db, viewer, sent=form, known=v1.mine(db, viewer, code_id), error=error)
    return pages.go("/codes", notice=i18n.noop("{code} is explained now."), code=form.code.strip())


@router.post("/{code_id}/drop")
def drop(db: Db, viewer: Writer, code_id: int) -> Response:
    """Remove an entry."""
    dictionary.drop(db, v1.mine(db, viewer, code_id), actor=viewer.actor, now=clock.now())
    return pages.go("/codes", notice=i18n.noop("The entry is removed."))


def _again(request: Request, db: Session, viewer: Viewer, form: Entry, error: FixwrightError) -> Response:
    db.rollback()
    return _page(request, db, viewer, sent=form, error=error)


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    *,
    q: str = "",
    sent: Entry,
    known: AlarmCode | None = None,
    error: FixwrightError | None = None,
) -> Response:
    language = request.state.language
    types = db.scalars(select(AssetType).where(AssetType.company_id == viewer.company_id))
    checklists = db.scalars(select(Checklist).where(Checklist.company_id == viewer.company_id))
    return pages.render(
        request,
        "alarms/codes.html",
        status=422 if error else 200,
        entries=() if known else dictionary.of_company(db, viewer.company_id, text=q.strip()[:100]),
        unknown=() if known else dictionary.unknown(db, viewer, clock.now()),
        q=q,
        sent=sent,
        known=known,
        types=forms.options(types, language),
        checklists=forms.options(checklists, language),
        severities=SEVERITIES,
        errors=forms.refused(request, error) if error else {},
        may_write=viewer.may_at("rules.write", f"/{viewer.company_id}/"),
    )
