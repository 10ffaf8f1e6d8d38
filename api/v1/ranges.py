"""Ranges over JSON: curves in buckets with what is measured of each, and time in a state."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.access import Db, Parts, needs
from api.v1 import steps
from api.v1.telemetry import asked, interval, spans_of, unit_of, zone_of
from assets import measured
from assets.models import Metric
from kernel import clock
from people.scope import Viewer
from rules.outcome import hold_ms
from telemetry import functions
from telemetry.readings import Float64s, Int64s, Readings
from telemetry.store import TelemetryStore

router = APIRouter(prefix="/telemetry", tags=["telemetry"])
Reader = Annotated[Viewer, needs("telemetry.read")]
MOST_POINTS = 5000
MOST_PERCENTILES = 10
LONGEST_HOLD_MS = 366 * 86_400_000


class Bucket(BaseModel):
    """The readings of one metric between ``ts`` and ``end``; without any, ``count`` is 0."""

    ts: int
    end: int
    count: int
    min: float | None
    max: float | None
    mean: float | None
    sum: float | None
    first: float | None
    last: float | None
    rate: float | None = Field(default=None, description="When asked for: change over the time it took.")
    percentiles: dict[str, float | None] | None = Field(default=None, description="Those asked for.")


class MetricRange(BaseModel):
    """One metric over a range."""

    metric: str
    unit: str
    points: list[Bucket]


class Range(BaseModel):
    """The metrics of an asset or device over ``[from, to)``, in milliseconds since 1970."""

    from_: int = Field(serialization_alias="from")
    to: int
    series: list[MetricRange]


class Asked(BaseModel):
    """Which curves, over which time."""

    asset: int | None = Field(default=None, description="An asset; across all devices that measured it.")
    device: int | None = Field(default=None, description="Or a device; whatever it was bound to.")
    metric: list[str] = Field(default=[], max_length=50, description="Metrics; all of them when left out.")
    from_: str | None = Field(
        default=None, alias="from", description="Milliseconds since 1970 or ISO 8601; a day before `to`."
    )
    to: str | None = Field(default=None, description="Milliseconds since 1970 or ISO 8601; now when left out.")
    step: str | None = Field(
        default=None,
        max_length=20,
        description="How wide a bucket is: 30s, 5m, 1h, 1d from `from` on, or hour, day, week, month by the clock of"
        " `zone`; the first may then begin before `from`, and the last end after `to`.",
    )
    zone: str | None = Field(
        default=None,
        max_length=60,
        description="Whose days and weeks, e.g. Asia/Shanghai; that of the asset's site when left out.",
    )


class AskedRange(Asked):
    """How a range is cut, and what is measured of each bucket."""

    points: int = Field(
        default=500, ge=1, le=MOST_POINTS, description="Without `step`: how many buckets a metric at most."
    )
    fill: Literal["null", "previous", "linear"] = Field(
        default="null",
        description="What stands for min, max, mean, first and last of an empty bucket; `count` stays 0.",
    )
    percentile: list[float] = Field(
        default=[], max_length=MOST_PERCENTILES, description="Percentiles of each bucket, 0 … 100."
    )
    rate: Literal["second", "minute", "hour", "day"] | None = Field(
        default=None,
        description="How fast the value changes, per this unit of time. A counter may begin again at zero.",
    )


@router.get("/range", response_model_exclude_unset=True)
def over_range(db: Db, parts: Parts, viewer: Reader, wanted: Annotated[AskedRange, Query()]) -> Range:
    """Return metrics over a range in buckets, in at most ``points`` equal ones or as wide as ``step`` says.

    Percentiles and rates are worked out from exact readings: of a range that holds more than two million they
    are refused, and where only tiers are left of the past they are null.
    """
    start_ms, end_ms = interval(wanted.from_, wanted.to)
    spans, described = spans_of(db, viewer, wanted.asset, wanted.device, wanted.metric)
    if wanted.step is None:
        curves = asked(lambda: measured.curves(parts.store, spans, start_ms, end_ms, points=wanted.points))
    else:
        zone = zone_of(db, wanted.zone, wanted.asset, wanted.device)
        edges = steps.step(wanted.step).edges(start_ms, end_ms, zone)
        curves = asked(lambda: measured.bucketed(parts.store, spans, edges))
    more = _measures(parts.store, spans, described, curves, wanted)
    return Range(
        from_=start_ms,
        to=end_ms,
        series=[
            MetricRange(
                metric=curve.metric,
                unit=unit_of(described.get(curve.metric)),
                points=_points(curve, wanted.fill, more.get(curve.metric, {})),
            )
            for curve in curves
        ],
    )


class StateTime(BaseModel):
    """How long a value stood in a bucket."""

    value: float | str
    seconds: float


class StateBucket(BaseModel):
    """The values that stood between ``ts`` and ``end``, and for how long nothing is known."""

    ts: int
    end: int
    states: list[StateTime]
    unknown_s: float


class MetricStates(BaseModel):
    """One metric over a range."""

    metric: str
    hold_s: float = Field(description="How long a reading speaks when no other follows.")
    points: list[StateBucket]


@router.get("/states")
def states(db: Db, parts: Parts, viewer: Reader, wanted: Annotated[Asked, Query()]) -> list[MetricStates]:
    """Return how long each value of a metric stood, over the range or in each bucket of ``step``.

    A reading speaks until the next one, at most three times the interval the metric is expected in (ten minutes
    when that is not known); the time between is unknown.
    """
    start_ms, end_ms = interval(wanted.from_, wanted.to)
    spans, described = spans_of(db, viewer, wanted.asset, wanted.device, wanted.metric)
    edges = np.array([start_ms, end_ms])
    if wanted.step is not None:
        zone = zone_of(db, wanted.zone, wanted.asset, wanted.device)
        edges = steps.step(wanted.step).edges(start_ms, end_ms, zone)
    found = []
    for key in sorted({span.metric for span in spans}):
        hold = _hold(described.get(key))
        some = _exact(parts.store, [span for span in spans if span.metric == key], edges, hold)[key]
        found.append(MetricStates(metric=key, hold_s=hold / 1000, points=_state_points(some, edges, hold)))
    return found


def _state_points(some: Readings, edges: Int64s, hold: int) -> list[StateBucket]:
    told = asked(lambda: functions.time_in_state(some, edges, hold_ms=hold, now_ms=clock.now_ms()))
    return [
        StateBucket(
            ts=int(edges[bucket]),
            end=int(edges[bucket + 1]),
            states=[
                StateTime(value=state, seconds=ms / 1000)
                for state, ms in zip(told.states, told.ms[:, bucket].tolist(), strict=True)
                if ms
            ],
            unknown_s=int(told.unknown_ms[bucket]) / 1000,
        )
        for bucket in range(len(edges) - 1)
    ]


Measures = dict[str, Float64s]


def _measures(
    store: TelemetryStore,
    spans: list[measured.Span],
    described: dict[str, Metric],
    curves: list[measured.Curve],
    wanted: AskedRange,
) -> dict[str, Measures]:
    """Return the further measures of each metric: a column a percentile by its number, and ``rate``."""
    if not curves or not (wanted.percentile or wanted.rate):
        return {}
    edges = np.append(curves[0].start_ms, curves[0].end_ms[-1])
    grid = np.zeros(1, np.int64), edges
    hold = max(_hold(described.get(curve.metric)) for curve in curves)
    found: dict[str, Measures] = {}
    for metric, some in _exact(store, spans, edges, hold).items():
        mine = found.setdefault(metric, {})
        for percent in wanted.percentile:
            mine[f"{percent:g}"] = _percentile(some, grid, percent)
        if wanted.rate is not None:
            kind = described[metric].kind if metric in described else "gauge"
            per_ms = steps.PER_MS[wanted.rate]
            mine["rate"] = functions.rate(some, grid, is_counter=kind == "counter", per_ms=per_ms)[0]
    return found


def _percentile(some: Readings, grid: functions.Grid, percent: float) -> Float64s:
    (found,) = asked(lambda: functions.percentile(some, grid, percent))
    line: Float64s = found
    return line


def _exact(store: TelemetryStore, spans: list[measured.Span], edges: Int64s, hold: int) -> dict[str, Readings]:
    """Return the readings between edges, and those before that still speak at the first."""
    begin = max(int(edges[0]) - hold, 0)
    return asked(lambda: measured.exact(store, spans, begin, int(edges[-1])))


def _hold(metric: Metric | None) -> int:
    if metric is None:
        return hold_ms(None)
    return min(hold_ms(metric.expected_interval_s, is_on_change=metric.is_on_change), LONGEST_HOLD_MS)


def _points(curve: measured.Curve, fill: functions.Fill, more: Measures) -> list[Bucket]:
    edges = np.append(curve.start_ms, curve.end_ms[-1])
    gappy = np.stack([curve.min, curve.max, curve.mean, curve.first, curve.last])
    filled = dict(zip(("min", "max", "mean", "first", "last"), functions.fill(gappy, edges, fill), strict=True))
    columns: dict[str, list[Any]] = {name: _nullable(column) for name, column in filled.items()}
    columns |= {"ts": curve.start_ms.tolist(), "end": curve.end_ms.tolist(), "count": curve.count.tolist()}
    columns["sum"] = _nullable(np.where(curve.count > 0, curve.sum, np.nan))
    percentiles = {name: _nullable(column) for name, column in more.items() if name != "rate"}
    if percentiles:
        each = zip(*percentiles.values(), strict=True)
        columns["percentiles"] = [dict(zip(percentiles, values, strict=True)) for values in each]
    if "rate" in more:
        columns["rate"] = _nullable(more["rate"])
    return [Bucket(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _nullable(column: Float64s) -> list[float | None]:
    return [None if value != value else value for value in column.tolist()]  # noqa: PLR0124 - only NaN differs from itself
