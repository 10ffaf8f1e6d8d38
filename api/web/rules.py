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
from api.web import by_code, forms, order_policies, pages, rule_handling
from assets import listing, types
from assets.models import Asset, Metric
from kernel import clock, i18n
from kernel.db import Json
from kernel.errors import Invalid
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
CONTEXT = 4
"""Lines shown around a difference."""
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
