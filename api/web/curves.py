"""Curves as the plot island draws them: thinned out to what a screen shows, gaps as gaps, with limits and marks.

Where the range holds few enough readings, every one is drawn; else each bucket gives its least and its greatest,
so that no peak is lost. A pause longer than a sample speaks for (SEMANTICS A8) breaks the line. Bad readings are in
no line; they and uncertain ones are marked where they stand.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from assets import measured
from assets.measured import Curve, Span
from assets.models import Metric
from rules.standing import held_for_ms
from telemetry import quality
from telemetry.readings import Flag, Float64s, Int64s, Readings, concatenate
from telemetry.store import TelemetryStore

NARROWEST_BREAK: Final = 4
"""A break in a line is at least so many points of the screen wide; buckets may leave narrower ones by themselves."""
AROUND: Final = 4
"""Steps on either side of a place that tell how far apart points usually stand there."""
MOST_DOUBTS: Final = 20_000
"""Readings of a line that are looked at for marks."""
MOST_SHOWN: Final = 200
"""Marks on a line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One metric to be drawn: how it is called, and where its readings are."""

    key: str
    name: str
    described: Metric | None
    spans: Sequence[Span]

    @property
    def unit(self) -> str:
        """Its unit; an undescribed metric has none."""
        return self.described.unit if self.described else ""

    @property
    def is_state(self) -> bool:
        """Whether it jumps from value to value."""
        return self.described is not None and self.described.kind in {"state", "counter"}


def lines(
    spans: Iterable[Span], described: dict[str, Metric], called: Callable[[Metric], str], wanted: Sequence[str]
) -> list[Line]:
    """Return the lines of the wanted metrics, in the order wanted."""
    by_metric: dict[str, list[Span]] = {}
    for span in spans:
        by_metric.setdefault(span.metric, []).append(span)
    return [
        Line(key, called(described[key]) if key in described else key, described.get(key), by_metric[key])
        for key in wanted
        if key in by_metric
    ]


def draw(
    store: TelemetryStore, drawn: Sequence[Line], start_ms: int, end_ms: int, *, points: int
) -> list[dict[str, Any]]:
    """Return the ``series`` of the plot island.

    Raises:
        ValueError: the range is empty, reversed or longer than a century.
    """
    exact = {line.key: measured.samples(store, line.spans, start_ms, end_ms, most=points) for line in drawn}
    many = [span for line in drawn if exact[line.key] is None for span in line.spans]
    thinned = {
        curve.metric: curve for curve in measured.curves(store, many, start_ms, end_ms, points=max(points // 2, 1))
    }
    series = []
    for line in drawn:
        few = exact[line.key]
        ts_ms, value = _numbers(few) if few is not None else _peaks(thinned[line.key])
        step_ms = (end_ms - start_ms) // points
        breaks = _breaks(line, ts_ms, NARROWEST_BREAK * step_ms if few is None else 0)
        doubted = _not_good(store, line, start_ms, end_ms)
        series.append(
            {
                "name": line.name,
                "unit": line.unit,
                "kind": "step" if line.is_state else "line",
                "points": _with_gaps(ts_ms, value, breaks),
                "doubts": _doubts(doubted, value, NARROWEST_BREAK * step_ms),
            }
        )
    return series


def _breaks(line: Line, ts_ms: Int64s, narrowest_ms: int) -> Int64s:
    """Return the points after which the line breaks: nothing came for longer than a value holds.

    A range may hold years of a reading an hour and a day of one a second. Where most points before a place, or most
    after it, stand further apart than a value holds, that is how they came, and three times as far is a break.
    """
    steps = np.diff(ts_ms)
    limit = np.full(len(steps), max(held_for_ms(line.described), narrowest_ms))
    if len(steps) > AROUND:
        sides = sliding_window_view(np.pad(steps, AROUND, mode="reflect"), AROUND + 1)
        usual = np.quantile(sides, 0.25, axis=1, method="lower")
        usual = np.maximum(usual[:-AROUND], usual[AROUND:])
        limit = np.where(usual > limit, 3 * usual, limit)
    return np.flatnonzero(steps > limit)


def _numbers(readings: Readings) -> tuple[Int64s, Float64s]:
    is_number = ~np.isnan(readings.value) & ~quality.has(readings.flags, Flag.BAD)
    return readings.ts_ms[is_number], readings.value[is_number]


def _not_good(store: TelemetryStore, line: Line, start_ms: int, end_ms: int) -> Readings:
    """Return the numbers of a line that are bad or uncertain, by time."""
    parts = []
    for span in line.spans:
        begin, end = max(start_ms, span.starts_ms), min(end_ms, span.ends_ms)
        if begin < end:
            parts.append(store.not_good([span.series], begin, end, limit=MOST_DOUBTS))
    found = concatenate(parts)
    numbers = found.select(np.isfinite(found.value))
    return numbers.select(np.argsort(numbers.ts_ms, kind="stable"))


def _doubts(some: Readings, drawn: Float64s, together_ms: int) -> list[dict[str, Any]]:
    """Return the marks of a line: readings of one quality that stand too close to be told apart are one.

    ``y`` is where a mark stands: a value far beyond what is drawn, as bad ones are, must not flatten the curve.
    """
    if not len(some):
        return []
    words, reasons = quality.words(some.flags), quality.reasons(some.flags)
    begins = np.ones(len(some), np.bool_)
    begins[1:] = (np.diff(some.ts_ms) > together_ms) | (words[1:] != words[:-1]) | (reasons[1:] != reasons[:-1])
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(some)) - 1
    at = np.clip(some.value, drawn.min(), drawn.max()) if len(drawn) else some.value
    return [
        {
            "from": int(some.ts_ms[start]),
            "to": int(some.ts_ms[end]),
            "value": float(some.value[start]),
            "y": float(at[start]),
            "quality": words[start],
            "reason": reasons[start],
        }
        for start, end in zip(starts[:MOST_SHOWN].tolist(), ends[:MOST_SHOWN].tolist(), strict=True)
    ]


def _peaks(curve: Curve) -> tuple[Int64s, Float64s]:
    """Return two points a bucket, its least and its greatest, in the order in which its curve likely ran."""
    full = curve.count > 0
    start, width = curve.start_ms[full], (curve.end_ms - curve.start_ms)[full]
    low, high = curve.min[full], curve.max[full]
    rises = curve.last[full] >= curve.first[full]
    ts_ms = np.stack([start + width // 4, start + 3 * width // 4], axis=1).ravel()
    value = np.stack([np.where(rises, low, high), np.where(rises, high, low)], axis=1).ravel()
    return ts_ms, value


def _with_gaps(ts_ms: Int64s, value: Float64s, breaks: Int64s) -> list[list[float | None]]:
    points: list[list[float | None]] = [list(pair) for pair in zip(ts_ms.tolist(), value.tolist(), strict=True)]
    for row in breaks[::-1].tolist():
        points.insert(row + 1, [int(ts_ms[row]) + 1, None])
    return points


def spark(
    store: TelemetryStore, series: Sequence[int], start_ms: int, end_ms: int, *, points: int = 48
) -> dict[int, list[float | None]]:
    """Return a small curve of each series for a sparkline: the mean of each bucket, None where nothing came."""
    if not series:
        return {}
    answer = store.range(series, start_ms, end_ms, points=points)
    return {
        int(number): [None if count == 0 else mean for count, mean in zip(counts, means, strict=True)]
        for number, counts, means in zip(answer.series, answer.count.tolist(), answer.mean.tolist(), strict=True)
    }
