"""What a rule in the making says and would have done: asked for while it is written, answered as a part of the page.

The draft is run over the last days of one machine. What it comes to there times the machines it is for tells what it
costs; when it would have spoken tells whom it would have woken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.runtime import Runtime
from api.v1 import steps
from api.web import curves, forms, pages, rule_forms, rules, thresholds
from api.web.thresholds import ThresholdForm
from assets import measured, types
from assets.models import Asset, Metric
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid
from people import scope
from people.scope import Viewer
from rules import backtest_runs, backtests, compiled, conditions, history, replay, sentences, standing, visible
from rules.conditions import AlarmDefinition
from rules.faults import DefinitionRefused
from rules.models import AlarmType
from rules.outcome import Instance, Watched
from rules.replay import Episode
from rules.sentences import Told

router = APIRouter()
Writer = Annotated[Viewer, needs("rules.write")]
DAYS: Final = rule_forms.TRIED_DAYS
POINTS: Final = 600
MOST_LINES: Final = 4
NIGHT: Final = (22, 6)
"""Hours of the machine's site between which an alarm wakes somebody."""


class TrialForm(ThresholdForm):
    """The form of a rule on its way to being saved; ``on`` is the code of the machine to try it on."""

    rule: str = ""
    on: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Where a definition is wrong, and how, in the reader's language."""

    place: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Past:
    """What a draft comes to on one machine over ``DAYS`` days."""

    asset: Asset
    readings: int
    episodes: Sequence[Episode]
    orders: int
    active: timedelta
    at_night: int
    machines: int
    """How many the rule is for, this one included."""
    plot: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """What the page shows beside the form."""

    problems: Sequence[Problem] = ()
    told: Told | None = None
    past: Past | None = None
    machines: Sequence[Asset] = ()


@router.post("/rules/try")
def attempt(request: Request, db: Db, parts: Parts, viewer: Writer, form: Annotated[TrialForm, Form()]) -> Response:
    """Answer what a draft says, what is wrong with it, and what it would have done lately on one machine."""
    return pages.render(request, "rules/_trial.html", trial=trial(request, db, parts, viewer, form), days=DAYS)


def trial(request: Request, db: Session, parts: Runtime, viewer: Viewer, form: TrialForm) -> Trial | None:
    """Return what a draft says and comes to, as far as it can be read; None before it is said what it is for."""
    if not any(chosen.strip() for chosen in (form.rule, form.type, form.asset)):
        return None
    try:
        definition = conditions.parse(thresholds.definition_of(form))
        kind = visible.find(db, viewer, number) if (number := forms.whole(form.rule, "rule")) else None
        candidates, count = _machines(db, viewer, form, kind)
    except FixwrightError as error:
        return Trial(_problems(request, error))
    if not candidates:
        return Trial(told=_told(definition, {}, request.state.language))
    asset = next((one for one in candidates if one.code == form.on.strip()), candidates[0])
    described = types.metrics(db, viewer.company_id, [asset.type_id])[asset.type_id]
    words = rules.metric_words(described, request.state.language)
    try:
        conditions.check_metrics(definition, *_known(described))
    except DefinitionRefused as error:
        return Trial(_problems(request, error), _told(definition, words, request.state.language), machines=candidates)
    past = _past(request, db, parts, definition, asset, described, form=form, machines=count)
    return Trial((), _told(definition, words, request.state.language), past, candidates)


def _machines(db: Session, viewer: Viewer, form: TrialForm, kind: AlarmType | None) -> tuple[Sequence[Asset], int]:
    """Return some machines the draft is for that the viewer sees, and how many there are."""
    asset_id = kind.asset_id if kind else None
    type_id = kind.asset_type_id if kind else forms.whole(form.type, "type")
    seen = select(Asset).where(scope.visible(Asset, viewer, "telemetry.read"), Asset.status == "in_service")
    if asset_id is not None:
        seen = seen.where(Asset.id == asset_id)
    elif not kind and form.asset.strip():
        seen = seen.where(Asset.code == form.asset.strip())
    elif type_id is not None:
        seen = seen.where(Asset.type_id.in_(types.with_descendants(db, viewer.company_id, type_id)))
    else:
        return (), 0
    count = db.scalar(select(func.count()).select_from(seen.subquery())) or 0
    return db.scalars(seen.order_by(Asset.criticality, Asset.code).limit(30)).all(), count


def _known(described: dict[str, Metric]) -> tuple[dict[str, tuple[float, float] | None], set[str]]:
    ranges = {
        key: (one.low, one.high) if one.low is not None and one.high is not None else None
        for key, one in described.items()
        if one.kind != "text"
    }
    return ranges, {key for key, one in described.items() if one.kind in {"text", "state"}}


def _told(definition: AlarmDefinition, words: dict[str, sentences.Word], language: str) -> Told | None:
    return rules.in_words(conditions.dump(definition), words, language)


def _problems(request: Request, error: FixwrightError) -> list[Problem]:
    if isinstance(error, DefinitionRefused):
        return [Problem(one.field, forms.said(request, one.template, one.values)) for one in error.problems]
    return [
        Problem("" if place == "text" else place, said) for place, said in thresholds.refused(request, error).items()
    ]


def _past(
    request: Request,
    db: Session,
    parts: Runtime,
    definition: AlarmDefinition,
    asset: Asset,
    described: dict[str, Metric],
    *,
    form: TrialForm,
    machines: int,
) -> Past:
    end_ms = clock.now_ms()
    start_ms = end_ms - DAYS * 86_400_000
    metrics = definition.metrics()
    spans = history.spans_of(db, asset.id, metrics)
    samples = history.samples(parts.store, spans, start_ms, end_ms)
    watched = {
        metric: Watched(number, standing.held_for_ms(described.get(metric))) for number, metric in enumerate(samples)
    }
    plan = compiled.compile_definition(definition)
    episodes = replay.replay(Instance(asset.id, definition, watched), samples, end_ms - 1, plan=plan).episodes
    opens = backtest_runs.orders(episodes, _order_from(form), round(backtests.WINDOW_H * 3_600_000))
    zone = steps.zone(asset.site.zone)
    raised = [clock.from_ms(one.raised_ms).astimezone(zone) for one in episodes]
    active_ms = sum((one.ended_ms or end_ms) - one.raised_ms for one in episodes)
    language = request.state.language
    lines = curves.lines(
        measured.of_asset(db, asset.id, metrics[:MOST_LINES]), described, lambda one: one.called(language), metrics
    )
    return Past(
        asset,
        sum(len(samples[metric]) for metric in samples),
        episodes,
        sum(opens),
        timedelta(milliseconds=active_ms),
        sum(_is_night(at) for at in raised),
        machines,
        {
            "from": start_ms,
            "to": end_ms,
            "fit": True,
            "series": curves.draw(parts.store, lines, start_ms, end_ms, points=POINTS),
            "limits": limits_of(definition, lines[0].key if lines else None, language),
            "marks": [_mark(one, end_ms, language) for one in episodes[-100:]],
        },
    )


def _order_from(form: TrialForm) -> str | None:
    try:
        found: str | None = thresholds.orders_from(form)
    except Invalid:
        return None
    return found


def _is_night(at: datetime) -> bool:
    return at.hour >= NIGHT[0] or at.hour < NIGHT[1]


def limits_of(definition: AlarmDefinition, metric: str | None, language: str) -> list[dict[str, Any]]:
    """Return the limits of one metric as the plot draws them."""
    words = i18n.catalogue(language)
    return [
        {
            "label": f"{words.get(severity.key.title(), severity.key.title())} {leaf.number:g}",
            "value": leaf.number,
            "severity": severity.key,
        }
        for severity, rule in definition.create.by_severity()
        for leaf in conditions.comparisons(rule.condition)
        if leaf.metric == metric and leaf.view is None and leaf.number is not None
    ]


def _mark(one: Episode, end_ms: int, language: str) -> dict[str, Any]:
    name = one.worst.key.title()
    return {
        "from": one.raised_ms,
        "to": one.ended_ms or end_ms,
        "label": i18n.catalogue(language).get(name, name),
        "severity": one.worst.key,
        "href": "",
    }
