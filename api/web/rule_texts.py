"""Rules as text and many at once, on pages: choose, see what would change, do it."""

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Query, Request, UploadFile
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import rule_texts as v1
from api.web import forms, pages
from assets import listing
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid, Stale
from maintenance.rulebook import bulk, carrying, export, importing
from maintenance.rulebook.bulk import Edit
from maintenance.rulebook.importing import Plan
from maintenance.rulebook.text import LARGEST
from people.scope import Viewer
from rules import visible

router = APIRouter(prefix="/rules")
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
WHAT: Final = {
    "new": (i18n.noop("A new rule"), "good"),
    "changed": (i18n.noop("Will change"), "busy"),
    "unchanged": (i18n.noop("Unchanged"), "quiet"),
    "conflict": (i18n.noop("Conflict"), "bad"),
    "refused": (i18n.noop("Cannot be"), "bad"),
}
ORDER_FROM: Final = (
    ("company", i18n.noop("As the company does")),
    ("critical", i18n.noop("Critical")),
    ("major", i18n.noop("Major or worse")),
    ("minor", i18n.noop("Minor or worse")),
    ("warning", i18n.noop("Warning or worse")),
    ("info", i18n.noop("Always")),
    ("none", i18n.noop("Never")),
)
PRIORITIES: Final = (1, 2, 3, 4)
SAMPLE: Final = """schema: 1
rules:
- key: discharge-hot
  name: Discharge temperature
  asset_type: compressor
  definition:
    schema: 1
    create:
      major:
        condition: {type: compare, metric: temperature, operator: '>=', limit: 105}
    clear: {type: automatic}"""


@router.get("/text")
def overview(request: Request, db: Db, viewer: Reader) -> Response:
    """Show the downloads, and the form of an import."""
    return _page(request, db, viewer, "")


@router.get("/text/download")
def download(db: Db, viewer: Reader, type_id: Annotated[str, Query(alias="type")] = "", rule: str = "") -> Response:
    """Return one rule, the rules of a type, or all of them, as a file."""
    rule_id = forms.whole(rule, "rule")
    ids = [] if rule_id is None else [visible.find(db, viewer, rule_id).id]
    chosen = v1.Chosen(id=ids, asset_type_id=forms.whole(type_id, "type"))
    return v1.written(db, viewer, chosen)


@router.post("/text")
def preview(
    request: Request, db: Db, viewer: Writer, text: Annotated[str, Form()] = "", file: UploadFile | None = None
) -> Response:
    """Show what a file, or what was typed, would change."""
    if file is not None and file.filename:
        try:
            text = file.file.read(4 * LARGEST + 1).decode("utf-8-sig")
        except UnicodeDecodeError:
            return _page(request, db, viewer, text, errors={"file": forms.said(request, _ENCODING, {})})
    if not text.strip():
        return _page(request, db, viewer, text, errors={"text": forms.said(request, _NEEDED, {})})
    # Line ends as a form sends them are not what the file says.
    text = text.replace("\r\n", "\n")
    plan = importing.of_text(db, viewer, text)
    return _plan(request, plan, "/rules/text/apply", {"text": text}, back="/rules/text", edited=text)


@router.post("/text/apply")
def apply(
    request: Request, db: Db, viewer: Writer, text: Annotated[str, Form()], seen: Annotated[str, Form()] = ""
) -> Response:
    """Import what was shown."""
    text = text.replace("\r\n", "\n")
    plan = importing.of_text(db, viewer, text)
    try:
        done = carrying.carry_out(db, viewer, plan, now=clock.now(), seen=seen)
    except (Stale, Invalid) as error:
        db.rollback()
        again = importing.of_text(db, viewer, text)
        return _plan(request, again, "/rules/text/apply", {"text": text}, back="/rules/text", error=error)
    return pages.go("/rules", notice=i18n.noop("New or changed rules: {n}."), n=done)


class BulkForm(BaseModel):
    """The chosen rules, and what to do with them."""

    rule: list[int] = []
    do: str = ""
    factor: str = ""
    offset: str = ""
    severity: str = ""
    on_delay_s: str = ""
    priority: str = ""
    order_from: str = ""
    schedule: str = ""
    copy_to: str = ""
    seen: str = ""

    def edit(self) -> Edit:
        """Return the edit that the form means; empty fields change nothing."""
        try:
            return Edit(
                enabled={"on": True, "off": False}.get(self.do),
                factor=forms.number(self.factor, "factor"),
                offset=forms.number(self.offset, "offset"),
                severities=(self.severity,) if self.severity else (),
                on_delay_s=forms.number(self.on_delay_s, "on_delay_s"),
                schedule=_schedule(self.schedule),
                priority=forms.whole(self.priority, "priority"),
                order_from=self.order_from or None,
                copy_to=self.copy_to or None,
            )
        except ValidationError as error:
            field = str(error.errors()[0]["loc"][0])
            raise Invalid("This does not have the form that is needed here.", field=field) from None


@router.post("/bulk")
def choose(request: Request, db: Db, viewer: Writer, form: Annotated[BulkForm, Form()]) -> Response:
    """Write the chosen rules out, or show what an edit of them would change, or ask for the edit."""
    if form.do == "text":
        rules = export.chosen(db, viewer, ids=form.rule)
        headers = {"Content-Disposition": 'attachment; filename="rules.yaml"'}
        return Response(export.as_text(db, viewer, rules), media_type=v1.YAML, headers=headers)
    if form.do == "edit" or not form.rule:
        return _bulk_page(request, db, viewer, form)
    try:
        plan = bulk.plan(db, viewer, form.rule, form.edit())
    except Invalid as error:
        db.rollback()
        return _bulk_page(request, db, viewer, form, errors=forms.refused(request, error))
    return _plan(request, plan, "/rules/bulk/apply", form.model_dump(exclude={"seen"}), back="/rules")


@router.post("/bulk/apply")
def apply_bulk(request: Request, db: Db, viewer: Writer, form: Annotated[BulkForm, Form()]) -> Response:
    """Do the edit that was shown."""
    kept = form.model_dump(exclude={"seen"})
    try:
        plan = bulk.plan(db, viewer, form.rule, form.edit())
        done = carrying.carry_out(db, viewer, plan, now=clock.now(), seen=form.seen)
    except (Stale, Invalid) as error:
        db.rollback()
        try:
            again = bulk.plan(db, viewer, form.rule, form.edit())
        except Invalid as wrong:
            return _bulk_page(request, db, viewer, form, errors=forms.refused(request, wrong))
        return _plan(request, again, "/rules/bulk/apply", kept, back="/rules", error=error)
    return pages.go("/rules", notice=i18n.noop("New or changed rules: {n}."), n=done)


_NEEDED: Final = i18n.noop("Choose a file, or write the rules here.")
_ENCODING: Final = i18n.noop("This is not a text in UTF-8.")


def _schedule(text: str) -> dict[str, Any] | None:
    if not text.strip():
        return None
    if text.strip() == "always":
        return {}
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise Invalid("A schedule is a JSON object, or the word always.", field="schedule")
    return read


def _page(
    request: Request, db: Session, viewer: Viewer, text: str, *, errors: dict[str, str] | None = None
) -> Response:
    return pages.render(
        request,
        "rules/text.html",
        status=422 if errors else 200,
        text=text,
        errors=errors or {},
        sample=SAMPLE,
        types=forms.options(listing.all_types(db, viewer), request.state.language),
        may_write=viewer.may("rules.write"),
    )


def _bulk_page(
    request: Request, db: Session, viewer: Viewer, form: BulkForm, *, errors: dict[str, str] | None = None
) -> Response:
    language = request.state.language
    rules = [kind for kind, _ in export.chosen(db, viewer, ids=form.rule)] if form.rule else []
    return pages.render(
        request,
        "rules/bulk.html",
        status=422 if errors else 200,
        form=form,
        rules=rules,
        errors=errors or {},
        types=[(kind.key, kind.called(language)) for kind in listing.all_types(db, viewer)],
        order_from=forms.translated(ORDER_FROM, language),
        priorities=[(one, str(one)) for one in PRIORITIES],
    )


def _plan(
    request: Request,
    plan: Plan,
    action: str,
    fields: dict[str, Any],
    *,
    back: str,
    edited: str | None = None,
    error: FixwrightError | None = None,
) -> Response:
    return pages.render(
        request,
        "rules/plan.html",
        status=422 if plan.faults or error else 200,
        plan=v1.shown(request, plan),
        steps=sorted(plan.steps, key=lambda step: (step.what == "unchanged", step.rule.key)),
        what=WHAT,
        action=action,
        fields=fields | {"seen": plan.seen},
        back=back,
        edited=edited,
        error=forms.said(request, error.sentence, error.values) if isinstance(error, Stale) else "",
        as_json=lambda value: "–" if value is None else json.dumps(value, ensure_ascii=False),
    )
