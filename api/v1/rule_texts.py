"""Rules as text, and many changed at once, over JSON: shown first, then done as a whole."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.access import Db, needs
from kernel import clock, i18n
from maintenance.rulebook import bulk, carrying, export, importing
from maintenance.rulebook.bulk import Edit
from maintenance.rulebook.importing import Plan
from people.scope import Viewer
from rules.visible import Wanted

router = APIRouter(prefix="/rules", tags=["rules"])
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
YAML = "application/yaml"
MOST_CHOSEN = 500


class Chosen(BaseModel):
    """Which rules are written out: some by id, or those of a filter; all without one."""

    id: list[int] = Field(default_factory=list, max_length=MOST_CHOSEN, description="Once for each rule.")
    asset_type_id: int | None = None
    asset_id: int | None = None
    enabled: bool | None = None
    q: str = Field("", max_length=100)


class TextIn(BaseModel):
    """A file of rules."""

    text: str
    seen: str | None = Field(None, description="The `seen` of the preview that was agreed to; else 412.")


class BulkIn(BaseModel):
    """An edit of some rules."""

    rules: list[int] = Field(max_length=MOST_CHOSEN)
    change: Edit
    seen: str | None = Field(None, description="The `seen` of the preview that was agreed to; else 412.")


class DifferenceOut(BaseModel):
    """What a field says now, and what it would say."""

    field: str
    before: Any
    after: Any


class FaultOut(BaseModel):
    """What is wrong: on which line of the file, in which rule and field."""

    line: int | None
    rule: str
    field: str
    reason: str


class StepOut(BaseModel):
    """What becomes of a rule: new, changed, unchanged, conflict or refused."""

    key: str
    name: str
    line: int | None
    what: str
    differences: list[DifferenceOut]


class PlanOut(BaseModel):
    """Everything that would change; possible only without a fault."""

    is_possible: bool
    changes: int
    seen: str
    counts: dict[str, int]
    rules: list[StepOut]
    faults: list[FaultOut]


class DoneOut(BaseModel):
    """How many rules are new or changed."""

    changed: int
    at: datetime


@router.get("/text", response_class=Response, responses={200: {"content": {YAML: {}}}})
def written(db: Db, viewer: Reader, chosen: Annotated[Chosen, Query()]) -> Response:
    """Return rules as a file of YAML that can be imported here and elsewhere."""
    wanted = Wanted(
        asset_type_id=chosen.asset_type_id,
        asset_id=chosen.asset_id,
        is_enabled=chosen.enabled,
        text=chosen.q.strip(),
    )
    rules = export.chosen(db, viewer, ids=chosen.id, wanted=wanted)
    headers = {"Content-Disposition": 'attachment; filename="rules.yaml"'}
    return Response(export.as_text(db, viewer, rules), media_type=YAML, headers=headers)


@router.post("/text/preview")
def preview(request: Request, db: Db, viewer: Writer, body: TextIn) -> PlanOut:
    """Return what a file would change, and each of its faults with line and rule; changes nothing."""
    return shown(request, importing.of_text(db, viewer, body.text))


@router.post("/text")
def apply(db: Db, viewer: Writer, body: TextIn) -> DoneOut:
    """Import a file: all of it, or with a single fault nothing. Importing it again changes nothing."""
    return _done(db, viewer, importing.of_text(db, viewer, body.text), body.seen)


@router.post("/bulk/preview")
def preview_bulk(request: Request, db: Db, viewer: Writer, body: BulkIn) -> PlanOut:
    """Return what an edit of many rules would change; changes nothing."""
    return shown(request, bulk.plan(db, viewer, body.rules, body.change))


@router.post("/bulk")
def apply_bulk(db: Db, viewer: Writer, body: BulkIn) -> DoneOut:
    """Edit many rules: all of them, or with a single fault none."""
    return _done(db, viewer, bulk.plan(db, viewer, body.rules, body.change), body.seen)


def _done(db: Session, viewer: Viewer, plan: Plan, seen: str | None) -> DoneOut:
    now = clock.now()
    return DoneOut(changed=carrying.carry_out(db, viewer, plan, now=now, seen=seen), at=now)


def shown(request: Request, plan: Plan) -> PlanOut:
    """Return a plan as it is told, its faults in the reader's language."""
    token = i18n.language.set(getattr(request.state, "language", "en"))
    try:
        faults = [FaultOut(line=one.line, rule=one.rule, field=one.field, reason=one.sentence) for one in plan.faults]
    finally:
        i18n.language.reset(token)
    return PlanOut(
        is_possible=plan.is_possible,
        changes=plan.changes,
        seen=plan.seen,
        counts=dict(plan.counts()),
        rules=[
            StepOut(
                key=step.rule.key,
                name=step.rule.name,
                line=step.line,
                what=step.what,
                differences=[
                    DifferenceOut(field=one.field, before=one.before, after=one.after) for one in step.differences
                ],
            )
            for step in plan.steps
        ],
        faults=faults,
    )
