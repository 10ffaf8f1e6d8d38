"""Alarm rules: what watches the machines, said as sentences; changed into new versions, never overwritten."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.v1 import rules as v1
from api.web import by_code, forms, order_policies, pages, rule_handling, rule_words, thresholds
from api.web.thresholds import USUAL, ThresholdForm
from assets import listing, types
from assets.models import Asset, Metric
from kernel import clock, i18n
from kernel.db import Json
from kernel.errors import Conflict, FixwrightError, Invalid, Stale
from maintenance.orders import findings, policies
from people import oversight, scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import conditions, library, overrides, precision, sentences, visible
from rules.faults import DefinitionRefused
from rules.models import SEVERITIES, AlarmType, RuleVersion
from rules.sentences import Told

router = APIRouter()
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
A_PAGE = 50
TRIED_DAYS = 7
"""How much of the past a draft is tried on while it is written."""
CONTEXT = 4
"""Lines shown around a difference."""
OPERATORS = tuple(sentences.SIGNS.items())
CLEARS = (
    ("automatic", i18n.noop("By itself, when nothing matches any more")),
    ("by_hand", i18n.noop("Only by a person")),
)
ORDERS = (
    ("critical", i18n.noop("Critical")),
    ("major", i18n.noop("Major or worse")),
    ("minor", i18n.noop("Minor or worse")),
    ("warning", i18n.noop("Warning or worse")),
    ("info", i18n.noop("Always")),
    ("", i18n.noop("Never")),
)
"""A new rule opens orders as the company's table says, until it gets lines of its own."""


class Asked(BaseModel):
    """The filter of the list as its form sends it."""

    q: str = ""
    type: str = ""
    asset: str = ""
    enabled: str = ""
    after: str = ""


@router.get("/rules")
def rules(request: Request, db: Db, viewer: Reader, asked: Annotated[Asked, Query()]) -> Response:
    """List the rules that hold within sight, as sentences."""
    asset_id = forms.whole(asked.asset, "asset")
    wanted = visible.Wanted(
        asset_type_id=forms.whole(asked.type, "type"),
        asset_id=asset_id,
        is_enabled={"yes": True, "no": False}.get(asked.enabled),
        text=asked.q.strip()[:100],
    )
    after = paging.read(asked.after or None, (str, int))
    rows = visible.listed(db, viewer, wanted, after=after and (after[0], after[1]), limit=A_PAGE + 1)
    shown, following = paging.cut(rows, A_PAGE, lambda row: (row[0].key, row[0].id))
    words = _words(db, viewer, (kind for kind, _ in shown), request.state.language)
    return pages.render(
        request,
        "rules/list.html",
        rows=[(kind, in_words(version.definition, words[kind.id], request.state.language)) for kind, version in shown],
        following=following,
        asked=asked,
        types=forms.options(listing.all_types(db, viewer), request.state.language),
        asset=scope.find(db, Asset, asset_id, viewer, "rules.read") if asset_id else None,
        orders=dict(ORDERS),
        order_from=policies.least_of(db, [kind for kind, _ in shown]),
        is_filtered=any((asked.q, asked.type, asked.asset, asked.enabled)),
        may_write=viewer.may("rules.write"),
    )


def _words(
    db: Session, viewer: Viewer, kinds: Iterable[AlarmType], language: str
) -> dict[int, dict[str, sentences.Word]]:
    """Return for each alarm type how the metrics of its target are called; constant queries."""
    targets = {kind.id: (kind.asset_type_id, kind.asset_id) for kind in kinds}
    of_assets = {asset_id for _, asset_id in targets.values() if asset_id is not None}
    rows = db.execute(select(Asset.id, Asset.type_id).where(Asset.id.in_(of_assets))) if of_assets else ()
    type_of = {row.id: row.type_id for row in rows}
    wanted = {key: type_id or type_of.get(asset_id or 0) for key, (type_id, asset_id) in targets.items()}
    known = types.metrics(db, viewer.company_id, {one for one in wanted.values() if one is not None})
    return {key: metric_words(known.get(type_id or 0, {}), language) for key, type_id in wanted.items()}


def metric_words(metrics: Mapping[str, Metric], language: str) -> dict[str, sentences.Word]:
    """Return how metrics are called in a language, by key."""
    return {key: sentences.Word(metric.called(language), metric.unit) for key, metric in metrics.items()}


def in_words(definition: Json, words: Mapping[str, sentences.Word], language: str) -> Told | None:
    """Return a definition as sentences, or None for one written under another grammar."""
    token = i18n.language.set(language)
    try:
        return sentences.told(conditions.parse(definition), words)
    except DefinitionRefused:
        return None
    finally:
        i18n.language.reset(token)


# One rule ------------------------------------------------------------------------------------------------------------


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


@router.get("/rules/{rule_id}")
def rule(request: Request, db: Db, viewer: Reader, rule_id: int, version: str = "") -> Response:
    """Show a rule with its versions and the assets that differ; ``version`` shows an earlier one."""
    return _page(request, db, viewer, rule_id, number=forms.whole(version, "version"))


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    rule_id: int,
    *,
    number: int | None = None,
    errors: dict[str, str] | None = None,
    sent: Mapping[str, str] | None = None,
) -> Response:
    kind = visible.find(db, viewer, rule_id)
    language = request.state.language
    all_versions = visible.versions(db, kind)
    shown = next((one for one in all_versions if one.number == (number or kind.version)), all_versions[0])
    before = next((one for one in all_versions if one.number < shown.number), None)
    words = _words(db, viewer, [kind], language)[kind.id]
    differing = visible.overridden(db, viewer, kind)
    authors = [one.author for one in all_versions] + [row.author for row, _ in differing]
    told = in_words(shown.definition, words, language)
    return pages.render(
        request,
        "rules/rule.html",
        status=422 if errors else 200,
        kind=kind,
        asset=db.get(Asset, kind.asset_id) if kind.asset_id else None,
        told=told,
        message=shown.definition.get("message", ""),
        shown=shown,
        held_while=rule_handling.held_while(kind),
        is_old=shown.number != kind.version,
        versions=all_versions,
        differences=differences(before, shown),
        **_how_good(db, viewer, kind, words),
        overrides=[(asset, row, _patched(shown.definition, row.patch, words, language)) for row, asset in differing],
        severities=[severity for severity in SEVERITIES if severity in shown.definition.get("create", {})],
        names=oversight.names(db, viewer, authors),
        **order_policies.shown(db, policies.of_type(kind), language),
        may_change=viewer.may_at("rules.write", db.get_one(OrgUnit, kind.unit_id).path),
        may_differ=viewer.may("rules.write"),
        errors=errors or {},
        sent=sent or {},
    )


def _how_good(db: Session, viewer: Viewer, kind: AlarmType, words: Mapping[str, sentences.Word]) -> dict[str, Any]:
    judged = findings.of_rule(db, viewer, kind.id)
    return {"quality": precision.quality(judged), "suggestions": precision.suggestions(judged), "words": words}


def differences(before: RuleVersion | None, shown: RuleVersion) -> list[tuple[str, str]]:
    """Return what a version changed against the one before: (``+``, ``-``, blank or ``@``, line); [] for the first."""
    if before is None:
        return []
    texts = (as_text(before.definition).splitlines(), as_text(shown.definition).splitlines())
    changed = list(difflib.unified_diff(*texts, n=CONTEXT, lineterm=""))[2:]
    return [(line[0], "…" if line.startswith("@") else line[1:]) for line in changed]


def as_text(definition: Json) -> str:
    """Return a definition as it is edited."""
    return json.dumps(definition, indent=2, ensure_ascii=False)


def _patched(definition: Json, patch: Json, words: Mapping[str, sentences.Word], language: str) -> Told | None:
    """Return what a rule says on an asset that differs, or None where the patch no longer fits."""
    try:
        changed = overrides.with_overrides(conditions.parse(definition), patch)
    except DefinitionRefused:
        return None
    return in_words(conditions.dump(changed), words, language)


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
        return ThresholdForm(text=as_text(definition), **common)
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


@router.post("/rules/{rule_id}/switch")
def switch(db: Db, viewer: Writer, rule_id: int, on: Annotated[str, Form()] = "") -> Response:
    """Switch a rule on or off."""
    kind = v1.mine(db, viewer, rule_id)
    library.switch(db, kind, is_enabled=on == "1", actor=viewer.actor, now=clock.now())
    notice = i18n.noop("It watches again.") if kind.is_enabled else i18n.noop("It watches no longer.")
    return pages.go(f"/rules/{rule_id}", notice=notice)


@router.post("/rules/{rule_id}/remove")
def remove(db: Db, viewer: Writer, rule_id: int) -> Response:
    """Remove a rule; what it raised still tells why."""
    library.remove(db, v1.mine(db, viewer, rule_id), actor=viewer.actor, now=clock.now())
    return pages.go("/rules", notice=i18n.noop("The rule is removed. What it raised still tells why."))


class OverrideForm(BaseModel):
    """What one asset, named by its code, does differently; empty limits stay as the rule has them."""

    asset: str = ""
    critical: str = ""
    major: str = ""
    minor: str = ""
    warning: str = ""
    info: str = ""


@router.post("/rules/{rule_id}/overrides")
def differ(request: Request, db: Db, viewer: Writer, rule_id: int, form: Annotated[OverrideForm, Form()]) -> Response:
    """Let an asset have limits of its own; with none given it follows the rule again."""
    kind = visible.find(db, viewer, rule_id)
    try:
        asset = by_code.asset(db, viewer, form.asset, field="asset", right="rules.read")
        if asset is None:
            raise Invalid("This is needed.", field="asset")  # noqa: TRY301 - the page says it beside the field
        limits = {
            severity: number
            for severity in SEVERITIES
            if (number := forms.number(getattr(form, severity), severity)) is not None
        }
        v1.differ(db, viewer, kind, asset.id, {"limits": limits} if limits else {})
    except Invalid as error:
        db.rollback()
        said = forms.refused(request, error)
        if isinstance(error, DefinitionRefused):
            said = {
                one.field.removeprefix("limits."): forms.said(request, one.template, one.values)
                for one in error.problems
            }
        return _page(request, db, viewer, rule_id, errors=said, sent=form.model_dump())
    return pages.go(f"/rules/{rule_id}#overrides", notice=i18n.noop("Saved."))


@router.post("/rules/{rule_id}/overrides/{asset_id}/end")
def follow_again(db: Db, viewer: Writer, rule_id: int, asset_id: int) -> Response:
    """Let an asset follow the rule again."""
    v1.differ(db, viewer, visible.find(db, viewer, rule_id), asset_id, {})
    return pages.go(f"/rules/{rule_id}#overrides", notice=i18n.noop("It follows the rule again."))


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
        orders=forms.translated(((USUAL, i18n.noop("As the company does")), *ORDERS), language),
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
