"""Exact readings over JSON, each with how far it can be trusted; and where readings are missing."""

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api import paging
from api.access import Db, Parts, needs
from api.v1.telemetry import asked, interval, original_of, spans_of, unit_of, value_of
from assets.measured import Span
from assets.models import Metric
from kernel import clock
from people.scope import Viewer
from rules.outcome import HOLD_FOREVER_MS
from rules.standing import held_for_ms
from telemetry import gaps, quality
from telemetry.buckets import MAX_READINGS
from telemetry.quality import Quality, Reason
from telemetry.readings import Latest, sent_of
from telemetry.store import TelemetryStore

router = APIRouter(prefix="/telemetry", tags=["telemetry"])
Reader = Annotated[Viewer, needs("telemetry.read")]
MOST_SAMPLES = 10_000


class Sample(BaseModel):
    """One reading as it is stored."""

    ts: int = Field(description="Device time, milliseconds since 1970.")
    value: float | bool | str | None
    quality: Quality = Field(description="good, uncertain or bad; no stored reading is stale.")
    reason: Reason | None = Field(description="What makes it uncertain: a stuck sensor, or a wrong clock.")
    original: float | None = Field(default=None, description="When asked for: the number in the unit it was sent in.")
    original_unit: str | None = Field(default=None, description="That unit.")


class Samples(paging.Page[Sample]):
    """The readings of one metric, the oldest first."""

    metric: str
    unit: str


class Asked(BaseModel):
    """Which readings, over which time."""

    asset: int | None = Field(default=None, description="An asset; across all devices that measured it.")
    device: int | None = Field(default=None, description="Or a device; whatever it was bound to.")
    metric: str = Field(max_length=80)
    from_: str | None = Field(
        default=None, alias="from", description="Milliseconds since 1970 or ISO 8601; a day before `to`."
    )
    to: str | None = Field(default=None, description="Milliseconds since 1970 or ISO 8601; now when left out.")


class AskedSamples(Asked):
    """What is answered of each reading, and how many."""

    original: bool = Field(default=False, description="Answer converted numbers also as they were sent.")
    limit: int = Field(default=1000, ge=1, le=MOST_SAMPLES)
    cursor: str | None = Field(default=None, max_length=500, description="The `next` of the page before.")


@router.get("/readings", response_model_exclude_unset=True)
def readings(db: Db, parts: Parts, viewer: Reader, wanted: Annotated[AskedSamples, Query()]) -> Samples:
    """List the exact readings of a metric in ``[from, to)``, bad and uncertain ones too, the oldest first."""
    after = paging.read(wanted.cursor, (int, int))
    start_ms, end_ms = interval(wanted.from_, wanted.to)
    spans, described = spans_of(db, viewer, wanted.asset, wanted.device, [wanted.metric])
    metric = described.get(wanted.metric)
    begin_ms = start_ms if after is None else max(start_ms, after[0])
    found = [one for span in spans for one in _of_span(parts.store, span, begin_ms, end_ms, wanted.limit + 2)]
    rows = sorted((one for one in found if after is None or (one.ts_ms, one.series) > tuple(after)), key=_place)
    page, following = paging.cut(rows, wanted.limit, _place)
    return Samples(
        metric=wanted.metric,
        unit=unit_of(metric),
        items=[_shown(one, metric, with_original=wanted.original) for one in page],
        next=following,
    )


def _of_span(store: TelemetryStore, span: Span, begin_ms: int, end_ms: int, limit: int) -> list[Latest]:
    begin_ms, end_ms = max(begin_ms, span.starts_ms), min(end_ms, span.ends_ms)
    if begin_ms >= end_ms:
        return []
    some = asked(lambda: store.samples(span.series, begin_ms, end_ms, limit=limit))
    return [Latest(*row, sent) for row, sent in zip(some.rows(), sent_of(some), strict=True)]


def _place(one: Latest) -> tuple[int, int]:
    return one.ts_ms, one.series


def _shown(one: Latest, metric: Metric | None, *, with_original: bool) -> Sample:
    return Sample(
        ts=one.ts_ms,
        value=value_of(one),
        quality=quality.of(one.flags),
        reason=quality.reason(one.flags),
        **(original_of(one, metric) if with_original else {}),
    )


class Gap(BaseModel):
    """A span without readings: from the last one before to the first one after it, or to an end of the range."""

    from_: int = Field(serialization_alias="from")
    to: int


class Gaps(paging.Page[Gap]):
    """Where readings of a metric are missing, the earliest first."""

    metric: str
    hold_s: float | None = Field(description="How long a reading speaks; null for a metric that reports on change.")
    missing_s: float = Field(description="How long all of them in the range last together.")


class AskedGaps(Asked):
    """How many gaps."""

    limit: int = Field(default=100, ge=1, le=500)
    cursor: str | None = Field(default=None, max_length=300, description="The `next` of the page before.")


@router.get("/gaps")
def missing(db: Db, parts: Parts, viewer: Reader, wanted: Annotated[AskedGaps, Query()]) -> Gaps:
    """List where readings of a metric are missing in ``[from, to)``: nothing came for longer than one speaks.

    That is three times the interval the metric is expected in, ten minutes when that is not known, and for ever where
    it reports when it changes. The future is no gap, nor is the time before an asset had a device.
    """
    after = paging.read(wanted.cursor, (int,))
    start_ms, end_ms = interval(wanted.from_, wanted.to)
    spans, described = spans_of(db, viewer, wanted.asset, wanted.device, [wanted.metric])
    hold = held_for_ms(described.get(wanted.metric))
    begin_ms = max(start_ms, min((span.starts_ms for span in spans), default=end_ms))
    end_ms = min(end_ms, clock.now_ms())
    found: list[list[int]] = []
    if hold < HOLD_FOREVER_MS and begin_ms < end_ms:
        first_ms = max(begin_ms - hold, 0)
        series = [span.series for span in spans]
        some = asked(lambda: parts.store.readings(series, first_ms, end_ms, limit=MAX_READINGS))
        speaks = np.zeros(len(some), np.bool_)
        for span in spans:
            mine = (some.series == span.series) & (some.ts_ms >= span.starts_ms) & (some.ts_ms < span.ends_ms)
            speaks |= mine
        found = gaps.find(np.sort(some.ts_ms[speaks]), begin_ms, end_ms, hold_ms=hold).tolist()
    rows = [Gap(from_=begin, to=end) for begin, end in found if after is None or begin > after[0]]
    page, following = paging.cut(rows[: wanted.limit + 1], wanted.limit, lambda one: (one.from_,))
    return Gaps(
        metric=wanted.metric,
        hold_s=None if hold >= HOLD_FOREVER_MS else hold / 1000,
        items=page,
        next=following,
        missing_s=sum(end - begin for begin, end in found) / 1000,
    )
