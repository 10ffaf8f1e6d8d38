"""Backtests: what a rule or a draft would have raised in the past, asked for from the rule's page and seen there."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, Parts, needs
from api.v1 import backtests as v1
from api.v1 import steps
from api.v1 import telemetry as readings
from api.web import curves, forms, pages, plots, rules, thresholds
from api.web.thresholds import ThresholdForm
from assets import listing, measured, types
from assets.models import Asset
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid, NotFound
from maintenance.orders import foreseen, policies
from people import scope
from people.scope import Viewer
from rules import backtests, conditions, library, sentences, visible
from rules.faults import DefinitionRefused
from rules.models import AlarmType, Backtest, BacktestAlarm, BacktestAsset

router = APIRouter(prefix="/backtests")
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
A_PAGE = 30
DAYS_BACK = 30
MOST_NAMED = 12
MOST_LINES = 4


class BacktestForm(ThresholdForm):
    """The form as it is sent, or that of a rule on its way to being saved; what is left empty has a usual value."""

    rule: str = ""
    codes: str = ""
    starts: str = ""
    ends: str = ""
    window_h: str = ""


@router.get("")
def overview(
    request: Request,
    db: Db,
    viewer: Writer,
    rule: str = "",
    version: str = "",
    after: Annotated[str | None, Query()] = None,
) -> Response:
    """Show the form of a backtest, of a rule if one is named, and one's own backtests."""
    kind = visible.find(db, viewer, number) if (number := forms.whole(rule, "rule")) else None
    zone = steps.zone(viewer.zone)
    now_ms = clock.now_ms()
    form = BacktestForm(
        rule=str(kind.id) if kind else "",
        text=rules.as_text(_stored(db, kind, forms.whole(version, "version"))) if kind else "",
        starts=f"{clock.from_ms(now_ms - DAYS_BACK * 86_400_000).astimezone(zone):%Y-%m-%d}T00:00",
        ends=f"{clock.from_ms(now_ms).astimezone(zone):%Y-%m-%dT%H:%M}",
        window_h=f"{backtests.WINDOW_H:g}",
        order_from=(policies.least_of(db, [kind])[kind.id] or "") if kind else "major",
    )
    return _overview(request, db, viewer, form, kind, after=after)


def _stored(db: Session, kind: AlarmType, number: int | None) -> dict[str, Any]:
    chosen = next((one for one in visible.versions(db, kind) if one.number == number), None)
    return (chosen or library.in_force(db, kind)).definition


@router.post("")
def ask(request: Request, db: Db, viewer: Writer, form: Annotated[BacktestForm, Form()]) -> Response:
    """Queue a backtest and show how far it is."""
    kind = None
    try:
        if (number := forms.whole(form.rule, "rule")) is not None:
            kind = visible.find(db, viewer, number)
        row = v1.queue(request, db, viewer, _asked(db, viewer, form, kind))
    except (Invalid, NotFound) as error:
        db.rollback()
        return _overview(request, db, viewer, form, kind, error=error)
    return pages.go(f"/backtests/{row.id}")


def _asked(db: Session, viewer: Viewer, form: BacktestForm, kind: AlarmType | None) -> v1.BacktestIn:
    zone = steps.zone(viewer.zone)
    starts, ends = forms.moment(form.starts, "starts", zone), forms.moment(form.ends, "ends", zone)
    end_ms = clock.to_ms(ends) if ends else clock.now_ms()
    start_ms = clock.to_ms(starts) if starts else end_ms - DAYS_BACK * 86_400_000
    definition = thresholds.definition_of(form)
    is_saved = kind is not None and library.in_force(db, kind).definition == definition
    window_h = forms.number(form.window_h, "window_h")
    return v1.BacktestIn.model_validate(
        {
            "rule_id": kind.id if kind else None,
            "definition": None if is_saved else definition,
            "asset_ids": _assets(db, viewer, [*form.codes.replace(",", " ").split(), *form.asset.split()]),
            "asset_type_id": None if kind else forms.whole(form.type, "type"),
            "from": str(start_ms),
            "to": str(end_ms),
            "order_from": thresholds.orders_from(form),
            "window_h": backtests.WINDOW_H if window_h is None else window_h,
        }
    )


def _assets(db: Session, viewer: Viewer, codes: Sequence[str]) -> list[int]:
    seen = select(Asset.id, Asset.code).where(Asset.code.in_(codes), scope.visible(Asset, viewer, "telemetry.read"))
    found = db.execute(seen.limit(backtests.MOST_ASSETS + 1)).all() if codes else []
    missing = sorted(set(codes) - {row.code for row in found})
    if missing:
        raise Invalid("There is no asset {code} here.", field="codes", code=missing[0][:60])
    return [row.id for row in found]


def _overview(
    request: Request,
    db: Session,
    viewer: Viewer,
    form: BacktestForm,
    kind: AlarmType | None,
    *,
    error: FixwrightError | None = None,
    after: str | None = None,
) -> Response:
    key = paging.read(after, (int,))
    rows = backtests.listed(
        db,
        viewer.account_id,
        after=key[0] if key else None,
        limit=A_PAGE + 1,
        alarm_type_id=kind.id if kind else None,
    )
    shown, following = paging.cut(rows, A_PAGE, lambda row: (row.id,))
    language = request.state.language
    if not form.text.strip() and form.metric:
        form = form.model_copy(update={"text": _typed(form)})
    return pages.render(
        request,
        "backtests/overview.html",
        status=422 if error else 200,
        form=form,
        kind=kind,
        errors=_refused(request, error),
        types=forms.options(listing.all_types(db, viewer), language),
        orders=forms.translated(rules.ORDERS, language),
        rows=shown,
        following=following,
        is_first=after is None,
    )


def _typed(form: BacktestForm) -> str:
    try:
        return rules.as_text(thresholds.definition(form))
    except Invalid:
        return ""


def _refused(request: Request, error: FixwrightError | None) -> dict[str, str]:
    if error is None:
        return {}
    if isinstance(error, DefinitionRefused):
        said = [f"{one.field}: {forms.said(request, one.template, one.values)}" for one in error.problems]
        return {"text": " ".join(said)}
    names = {"assets": "codes", "from": "starts", "to": "ends", "definition": "text", "asset": "codes"}
    found = forms.refused(request, error)
    known = {*BacktestForm.model_fields, "codes", "starts", "ends"}
    return {names.get(field, field) if names.get(field, field) in known else "": said for field, said in found.items()}


# One backtest ------------------------------------------------------------------------------------------------------


@router.get("/{backtest_id}")
def one(
    request: Request,
    db: Db,
    viewer: Reader,
    backtest_id: int,
    *,
    asset: str = "",
    side: str = "draft",
    after: Annotated[str | None, Query()] = None,
) -> Response:
    """Show what a backtest comes to; while it runs the page looks again by itself."""
    row = backtests.find(db, backtest_id, viewer.account_id)
    language = request.state.language
    side = side if side in row.wanted and side == "current" and row.wanted["current"] else "draft"
    seen = scope.visible(Asset, viewer, "telemetry.read")
    loudest = _loudest(db, row, side, seen)
    chosen_id = forms.whole(asset, "asset")
    chosen = scope.find(db, Asset, chosen_id, viewer, "telemetry.read") if chosen_id else None
    drawn = chosen or (loudest[0][0] if loudest else None)
    key = paging.read(after, (int,))
    rows = backtests.alarms(
        db, row, visible=seen, side=side, asset_id=chosen_id, after=key[0] if key else None, limit=A_PAGE + 1
    )
    alarms, following = paging.cut(rows, A_PAGE, lambda found: (found[0].id,))
    may_orders = viewer.may("orders.read")
    is_running = row.state in {"queued", "running"}
    zone = steps.zone(viewer.zone)
    kind = db.get(AlarmType, row.alarm_type_id) if row.alarm_type_id else None
    words = _words(db, viewer, row, language)
    return pages.render(
        request,
        "backtests/backtest.html",
        headers={"Refresh": "2"} if is_running else None,
        row=row,
        kind=kind,
        is_running=is_running,
        side=side,
        totals=backtests.totals(db, row),
        told={name: rules.in_words(row.wanted[key], words, language) for name, key in _SAID if row.wanted[key]},
        loudest=loudest[:MOST_NAMED],
        chosen=chosen,
        drawn=drawn,
        alarms=alarms,
        following=following,
        is_first=after is None,
        counted=foreseen.counted(db, row, v1.seen_orders(viewer)) if may_orders else None,
        orders=foreseen.listed(db, row, v1.seen_orders(viewer), limit=A_PAGE) if may_orders else (),
        starts=clock.from_ms(row.wanted["start_ms"]).astimezone(zone),
        ends=clock.from_ms(row.wanted["end_ms"]).astimezone(zone),
        draft_text=rules.as_text(row.wanted["definition"]),
        may_save=kind is not None and row.wanted["version"] is None and viewer.may("rules.write"),
    )


_SAID = (("draft", "definition"), ("current", "current"))


def _words(db: Session, viewer: Viewer, row: Backtest, language: str) -> dict[str, sentences.Word]:
    first = db.get(Asset, row.wanted["assets"][0])
    known = types.metrics(db, viewer.company_id, [first.type_id]) if first else {}
    return rules.metric_words(known.get(first.type_id if first else 0, {}), language)


def _loudest(db: Session, row: Backtest, side: str, seen: ColumnElement[bool]) -> list[tuple[Asset, BacktestAsset]]:
    """Return the assets with most alarms, those within sight."""
    query = (
        select(Asset, BacktestAsset)
        .join(BacktestAsset, BacktestAsset.asset_id == Asset.id)
        .where(BacktestAsset.backtest_id == row.id, BacktestAsset.side == side, seen)
        .order_by(BacktestAsset.alarms.desc(), Asset.code)
        .limit(MOST_NAMED)
    )
    return [(asset, found) for asset, found in db.execute(query)]


@router.post("/{backtest_id}/cancel")
def cancel(db: Db, viewer: Reader, backtest_id: int) -> Response:
    """Give a backtest up."""
    row = backtests.find(db, backtest_id, viewer.account_id)
    backtests.cancel(db, row, now=clock.now())
    return pages.go(f"/backtests/{row.id}", notice=i18n.noop("Given up. What is through stays."))


@router.get("/{backtest_id}/curve/{asset_id}")
def curve(
    request: Request,
    db: Db,
    parts: Parts,
    viewer: Annotated[Viewer, needs("telemetry.read")],
    backtest_id: int,
    asset_id: int,
    *,
    side: str = "draft",
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: str | None = None,
    points: Annotated[int, Query(ge=1)] = 800,
) -> JSONResponse:
    """Answer what the plot island draws: what was measured, the draft's limits, and the alarms it would have raised."""
    row = backtests.find(db, backtest_id, viewer.account_id)
    asset = scope.find(db, Asset, asset_id, viewer, "telemetry.read")
    if from_ is None and to is None:
        start_ms, end_ms = row.wanted["start_ms"], row.wanted["end_ms"]
    else:
        start_ms, end_ms = readings.interval(from_, to)
    language = request.state.language
    stored = row.wanted["current"] if side == "current" and row.wanted["current"] else row.wanted["definition"]
    definition = conditions.parse(stored)
    compared = [leaf for _, rule in definition.create.by_severity() for leaf in conditions.comparisons(rule.condition)]
    metrics = list(dict.fromkeys(leaf.metric for leaf in compared))[:MOST_LINES]
    described = types.metrics(db, asset.company_id, [asset.type_id])[asset.type_id]
    lines = curves.lines(measured.of_asset(db, asset.id, metrics), described, lambda one: one.called(language), metrics)
    count = min(points, plots.MOST_POINTS)
    words = i18n.catalogue(language)
    limits = [
        {
            "label": f"{words.get(severity.key.title(), severity.key.title())} {leaf.number:g}",
            "value": leaf.number,
            "severity": severity.key,
        }
        for severity, rule in definition.create.by_severity()
        for leaf in conditions.comparisons(rule.condition)
        if lines and leaf.metric == lines[0].key and leaf.view is None and leaf.number is not None
    ]
    return JSONResponse(
        {
            "from": start_ms,
            "to": end_ms,
            "series": readings.asked(lambda: curves.draw(parts.store, lines, start_ms, end_ms, points=count)),
            "limits": limits,
            "marks": _marks(db, viewer, row, asset, side=side, span=(start_ms, end_ms), language=language),
        }
    )


def _marks(
    db: Session, viewer: Viewer, row: Backtest, asset: Asset, *, side: str, span: tuple[int, int], language: str
) -> list[dict[str, Any]]:
    """Return the alarms one side would have raised, and the orders there were."""
    start_ms, end_ms = span
    start, end, words = clock.from_ms(start_ms), clock.from_ms(end_ms), i18n.catalogue(language)
    found = db.scalars(
        select(BacktestAlarm)
        .where(
            BacktestAlarm.backtest_id == row.id,
            BacktestAlarm.asset_id == asset.id,
            BacktestAlarm.side == side,
            BacktestAlarm.raised_at < end,
            func.coalesce(BacktestAlarm.ended_at, end) > start,
        )
        .order_by(BacktestAlarm.raised_at.desc())
        .limit(plots.MOST_MARKS)
    )
    alarms = [
        {
            "from": max(clock.to_ms(one.raised_at), start_ms),
            "to": min(clock.to_ms(one.ended_at), end_ms) if one.ended_at else end_ms,
            "label": words.get(one.severity.title(), one.severity.title()),
            "severity": one.severity,
            "href": f"/backtests/{row.id}?asset={asset.id}&side={side}",
        }
        for one in found
    ]
    orders = [
        mark
        for mark in plots.marks(db, viewer, asset, start_ms, end_ms, language)
        if mark["href"].startswith("/orders/")
    ]
    return alarms + orders
