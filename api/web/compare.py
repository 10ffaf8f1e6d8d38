"""Several metrics of several assets in one picture; the address of the page is the choice, so it can be sent on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.v1 import telemetry as readings
from api.web import by_code, curves, forms, pages, plots
from assets import measured, types
from assets.models import Asset, Metric
from kernel.errors import Invalid
from people import scope
from people.scope import Viewer

router = APIRouter()
MOST_LINES = 8
MOST_ASSETS = 6
Reader = Annotated[Viewer, needs("telemetry.read")]
Chosen = Annotated[list[str], Query(alias="line", max_length=MOST_LINES)]


@dataclass(frozen=True, slots=True)
class Choice:
    """An asset on the page: what it measures, and which of that is drawn."""

    asset: Asset
    described: dict[str, Metric]
    metrics: Sequence[str]
    drawn: Sequence[str]


@router.get("/curves")
def page(
    request: Request,
    db: Db,
    viewer: Reader,
    *,
    lines: Chosen = [],  # noqa: B006 - FastAPI copies it
    asset: Annotated[list[int], Query(max_length=MOST_ASSETS)] = [],  # noqa: B006
    add: Annotated[str, Query(max_length=60)] = "",
    span: str = "24h",
) -> HTMLResponse:
    """Show the curves that are chosen, and what else may be."""
    wanted = _wanted(lines)
    ids = [*dict.fromkeys([*wanted, *asset])]
    error = ""
    if add.strip():
        try:
            found = by_code.asset(db, viewer, add, field="add", right="telemetry.read")
        except Invalid as refusal:
            error = forms.refused(request, refusal)["add"]
        else:
            ids = [*dict.fromkeys([*ids, *([found.id] if found else [])])]
    choices = [_choice(db, viewer, number, wanted.get(number, ())) for number in ids[:MOST_ASSETS]]
    return pages.render(
        request,
        "assets/compare.html",
        status=422 if error else 200,
        choices=choices,
        span=span if span in plots.SPANS else "24h",
        spans=plots.SPANS,
        typed=add if error else "",
        error=error,
        most=MOST_LINES,
    )


@router.get("/curves/data")
def data(
    request: Request,
    db: Db,
    parts: Parts,
    viewer: Reader,
    *,
    lines: Chosen = [],  # noqa: B006
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: str | None = None,
    span: str = "24h",
    points: Annotated[int, Query(ge=1)] = 800,
) -> JSONResponse:
    """Answer what the plot island draws: the curves, with the alarms and orders of their assets."""
    start_ms, end_ms = plots.window(from_, to, span)
    language = request.state.language
    choices = [_choice(db, viewer, number, metrics) for number, metrics in _wanted(lines).items()]
    series: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    for choice in choices:
        spans = measured.of_asset(db, choice.asset.id, choice.drawn)
        drawn = curves.lines(spans, choice.described, lambda one: one.called(language), choice.drawn)
        if len(choices) > 1:
            name = choice.asset.called(language)
            drawn = [replace(line, name=f"{name} · {line.name}") for line in drawn]
        count = min(points, plots.MOST_POINTS)
        series += readings.asked(lambda: curves.draw(parts.store, drawn, start_ms, end_ms, points=count))  # noqa: B023
        marks += plots.marks(db, viewer, choice.asset, start_ms, end_ms, language)
    return JSONResponse({"from": start_ms, "to": end_ms, "series": series, "limits": [], "marks": marks})


def _wanted(lines: Sequence[str]) -> dict[int, list[str]]:
    """Return asset → metrics of what is written as ``12:temperature``.

    Raises:
        Invalid: one is written otherwise.
    """
    wanted: dict[int, list[str]] = {}
    for line in lines:
        number, _, metric = line.partition(":")
        if not number.isdigit() or not metric or len(number) > 18:  # noqa: PLR2004 - beyond that no id lies
            raise Invalid("A curve is named as asset and metric, for example 12:temperature.", field="line")
        wanted.setdefault(int(number), []).append(metric)
    return wanted


def _choice(db: Session, viewer: Viewer, asset_id: int, drawn: Sequence[str]) -> Choice:
    asset = scope.find(db, Asset, asset_id, viewer, "telemetry.read")
    described = types.metrics(db, asset.company_id, [asset.type_id])[asset.type_id]
    order = {key: (metric.position, key) for key, metric in described.items()}
    known = {span.metric for span in measured.of_asset(db, asset.id)}
    metrics = sorted(known, key=lambda key: order.get(key, (10_000, key)))
    return Choice(asset, described, metrics, [key for key in drawn if key in known])
