"""The form of a rule: a new one, and the next version of one that is there."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import rules as v1
from api.web import by_code, forms, pages, rule_words, rules, thresholds
from api.web.thresholds import USUAL, ThresholdForm
from assets import listing, types
from assets.models import Asset, Metric
from kernel import clock, i18n
from kernel.db import Json
from kernel.errors import Conflict, FixwrightError, Invalid, Stale
from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import conditions, library, sentences
from rules.faults import DefinitionRefused
from rules.models import SEVERITIES, AlarmType, RuleVersion

router = APIRouter()
Writer = Annotated[Viewer, needs("rules.write")]
TRIED_DAYS = 7
"""How much of the past a draft is tried on while it is written."""
OPERATORS = tuple(sentences.SIGNS.items())
CLEARS = (
    ("automatic", i18n.noop("By itself, when nothing matches any more")),
    ("by_hand", i18n.noop("Only by a person")),
)


@router.get("/rules/new")
def new_rule(
    request: Request,
    db: Db,
    viewer: Writer,
    *,
    kind: Annotated[str, Query(alias="type")] = "",
    asset: str = "",
) -> Response:
    """Show the form of a new rule, for a type of asset or for one asset."""
    found = scope.find(db, Asset, int(asset), viewer, "rules.read") if asset.isdecimal() else None
    return _form(request, db, viewer, ThresholdForm(type=kind, asset=found.code if found else "", order_from=USUAL))


@router.post("/rules")
def add_rule(request: Request, db: Db, viewer: Writer, form: Annotated[ThresholdForm, Form()]) -> Response:
    """Add a rule."""
    try:
        asset = by_code.asset(db, viewer, form.asset, field="asset", right="rules.read")
        body = v1.RuleIn(
            key=form.key.strip(),
            name=form.name,
            name_zh=form.name_zh.strip() or None,
            asset_type_id=None if asset else forms.whole(form.type, "type"),
            asset_id=asset.id if asset else None,
            unit_id=None if asset else _highest(db, viewer),
            **({} if form.order_from == USUAL else {"order_from": thresholds.orders_from(form)}),
            definition=thresholds.definition_of(form),
        )
        made = v1.add(db, viewer, body)
    except (Invalid, Conflict) as error:
        db.rollback()
        return _form(request, db, viewer, form, error=error)
    return pages.go(f"/rules/{made.id}", notice=i18n.noop("Saved. It watches from now on."))


@router.get("/rules/{rule_id}/edit")
def edit_rule(request: Request, db: Db, viewer: Writer, rule_id: int, version: str = "") -> Response:
    """Show the form of a rule's next version, started from the present one or from an earlier one."""
    kind = v1.mine(db, viewer, rule_id)
    number = forms.whole(version, "version") or kind.version
    start = db.scalars(
        select(RuleVersion).where(RuleVersion.alarm_type_id == kind.id, RuleVersion.number == number)
    ).one_or_none() or library.in_force(db, kind)
    return _form(request, db, viewer, _form_of(kind, start.definition), kind=kind)


def _form_of(kind: AlarmType, definition: Json) -> ThresholdForm:
    try:
        form = thresholds.form_of(conditions.parse(definition))
    except DefinitionRefused:
        form = None
    common = {
        "key": kind.key,
        "name": kind.name,
        "name_zh": kind.name_zh or "",
        "after": str(kind.version),
    }
    if form is None:
        return ThresholdForm(text=rules.as_text(definition), **common)
    return form.model_copy(update=common)


@router.post("/rules/{rule_id}")
def save_rule(
    request: Request, db: Db, viewer: Writer, rule_id: int, form: Annotated[ThresholdForm, Form()]
) -> Response:
    """Save a rule's next version."""
    kind, now = v1.mine(db, viewer, rule_id), clock.now()
    try:
        definition, after = thresholds.definition_of(form), forms.whole(form.after, "after")
        library.save(db, kind, definition, actor=viewer.actor, now=now, after=after)
    except (Invalid, Stale) as error:
        db.rollback()
        return _form(request, db, viewer, form, kind=v1.mine(db, viewer, rule_id), error=error)
    return pages.go(f"/rules/{rule_id}", notice=i18n.noop("Version {n} holds from now on."), n=kind.version)


def _highest(db: Session, viewer: Viewer) -> int:
    """Return the unit a new rule is for: the highest one over which the viewer may shape rules."""
    units = select(OrgUnit.id).where(OrgUnit.id.in_(scope.units(viewer, "rules.write")))
    return db.scalars(units.order_by(OrgUnit.path).limit(1)).one()


def _form(
    request: Request,
    db: Session,
    viewer: Viewer,
    form: ThresholdForm,
    *,
    kind: AlarmType | None = None,
    error: FixwrightError | None = None,
) -> Response:
    language = request.state.language
    errors = thresholds.refused(request, error) if error else {}
    names = {"asset_type_id": "type", "asset_id": "asset"}
    described = _described(db, viewer, form, kind, language)
    return pages.render(
        request,
        "rules/form.html",
        status=422 if error else 200,
        form=form,
        kind=kind,
        errors={names.get(field, field): sentence for field, sentence in errors.items()},
        metrics=[(key, _with_unit(metric, language)) for key, metric in described if metric.kind != "text"],
        described=[
            {"key": key, "name": metric.called(language), "unit": metric.unit, "kind": metric.kind}
            for key, metric in described
        ],
        definition=_start(form),
        words=rule_words.words(language),
        trial=None,
        days=TRIED_DAYS,
        types=forms.options(listing.all_types(db, viewer), language),
        operators=OPERATORS,
        severities=SEVERITIES,
        clears=forms.translated(CLEARS, language),
        orders=forms.translated(((USUAL, i18n.noop("As the company does")), *rules.ORDERS), language),
    )


def _start(form: ThresholdForm) -> Json:
    """Return the definition the editor begins with: what the form says, as far as it can be read."""
    try:
        return thresholds.definition_of(form)
    except Invalid:
        blank = {"type": "compare", "metric": form.metric, "operator": form.operator, "limit": None}
        return {"schema": 1, "create": {"major": {"condition": blank}}, "clear": {"type": "automatic"}}


def _with_unit(metric: Metric, language: str) -> str:
    return f"{metric.called(language)} ({metric.unit})" if metric.unit else metric.called(language)


def _described(
    db: Session, viewer: Viewer, form: ThresholdForm, kind: AlarmType | None, language: str
) -> list[tuple[str, Metric]]:
    """Return the metrics a rule may look at: its target's, or before a target is chosen those of all types."""
    if kind is not None and kind.asset_type_id is not None:
        wanted = [kind.asset_type_id]
    elif kind is not None:
        wanted = [db.get_one(Asset, kind.asset_id).type_id]
    elif form.type.isdecimal():
        wanted = [int(form.type)]
    else:
        wanted = [one.id for one in listing.all_types(db, viewer)]
    known = types.metrics(db, viewer.company_id, wanted)
    found = {metric.key: metric for metrics in known.values() for metric in metrics.values()}
    return sorted(found.items(), key=lambda pair: pair[1].called(language))
