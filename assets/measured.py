"""Which series tell about an asset: through the devices bound to it, each for the period of its binding.

For plots, latest values and the API. A curve of an asset is put together from the series of the devices that
measured it one after the other, each cut to its binding, so that a replaced device leaves no gap and what the
old one sends later does not land here (AS-9).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from assets.models import Binding
from kernel import clock, columns
from telemetry import buckets, series
from telemetry.models import Series
from telemetry.readings import Buckets, Float64s, Int64s, Readings, concatenate
from telemetry.store import TelemetryStore

FOREVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class Span:
    """One series while it speaks for an asset or device: device time ``[starts_ms, ends_ms)``."""

    metric: str
    series: int
    device_id: int
    starts_ms: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Current:
    """A metric of an asset as it is measured now."""

    asset_id: int
    device_id: int
    metric: str
    series: int


def now_on(session: Session, asset_ids: Iterable[int]) -> list[Current]:
    """Return what is measured on these assets now, by asset and metric; one query."""
    rows = session.execute(
        select(Binding.asset_id, Series.device_id, Series.metric, Series.id)
        .join(Series, Series.device_id == Binding.device_id)
        .where(Binding.asset_id.in_(list(asset_ids)), Binding.ends_at.is_(None))
        .order_by(Binding.asset_id, Series.metric, Series.id)
    )
    return [Current(*row) for row in rows]


def all_now(session: Session) -> tuple[Int64s, Int64s, Int64s, dict[str, int]]:
    """Return what is measured on all assets now: asset, series and a number for the metric, and those numbers by name.

    Three columns of one length, int64, in no order.
    """
    bound = series.coded(Binding.asset_id, Series.id).join(Binding, Binding.device_id == Series.device_id)
    asset_id, number, code = columns.integers(session, bound.where(Binding.ends_at.is_(None)))
    distinct = np.unique(code)
    named = dict(zip(series.names(session, distinct), distinct.tolist(), strict=True))
    return asset_id, number, code, named


def of_asset(session: Session, asset_id: int, metrics: Sequence[str] | None = None) -> list[Span]:
    """Return the spans of an asset's metrics, all of them unless named, the earlier binding first."""
    query = (
        select(Series.metric, Series.id, Series.device_id, Binding.starts_at, Binding.ends_at)
        .join(Binding, Binding.device_id == Series.device_id)
        .where(Binding.asset_id == asset_id)
        .order_by(Series.metric, Binding.starts_at)
    )
    if metrics is not None:
        query = query.where(Series.metric.in_(metrics))
    return [
        Span(metric, series, device_id, clock.to_ms(starts_at), FOREVER_MS if ends_at is None else clock.to_ms(ends_at))
        for metric, series, device_id, starts_at, ends_at in session.execute(query)
    ]


def of_assets(session: Session, asset_ids: Iterable[int], metrics: Iterable[str]) -> dict[int, list[Span]]:
    """Return the spans of some metrics of several assets, the earlier binding first; one query."""
    rows = session.execute(
        select(Binding.asset_id, Series.metric, Series.id, Series.device_id, Binding.starts_at, Binding.ends_at)
        .join(Binding, Binding.device_id == Series.device_id)
        .where(columns.among(Binding.asset_id, asset_ids), Series.metric.in_(list(metrics)))
        .order_by(Binding.starts_at)
    )
    found: dict[int, list[Span]] = {}
    for asset_id, metric, number, device_id, starts_at, ends_at in rows:
        ends = FOREVER_MS if ends_at is None else clock.to_ms(ends_at)
        found.setdefault(asset_id, []).append(Span(metric, number, device_id, clock.to_ms(starts_at), ends))
    return found


def of_device(session: Session, device_id: int, metrics: Sequence[str] | None = None) -> list[Span]:
    """Return all a device ever sent, whatever it was bound to."""
    query = select(Series.metric, Series.id).where(Series.device_id == device_id).order_by(Series.metric)
    if metrics is not None:
        query = query.where(Series.metric.in_(metrics))
    return [Span(metric, series, device_id, 0, FOREVER_MS) for metric, series in session.execute(query)]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One metric over a range, in buckets. Columns have one length; an empty bucket has count 0, sum 0 and NaN.

    ``start_ms``: int64[b]; ``end_ms``: int64[b]; ``count``: int64[b]; the others float64[b].
    """

    metric: str
    start_ms: Int64s
    end_ms: Int64s
    count: Int64s
    min: Float64s
    max: Float64s
    mean: Float64s
    first: Float64s
    last: Float64s
    sum: Float64s


def curves(store: TelemetryStore, spans: Sequence[Span], start_ms: int, end_ms: int, *, points: int) -> list[Curve]:
    """Return each metric of ``spans`` over ``[start_ms, end_ms)`` in at most ``points`` buckets, by metric.

    Buckets are equally wide but where a binding began or ended: there one is cut in two, so that no bucket holds
    what belongs to somebody else.

    Raises:
        ValueError: the range is empty, reversed or longer than a century, or ``points`` is not positive.
    """
    buckets.check_range(start_ms, end_ms)
    cuts = _cuts(spans, start_ms, end_ms)
    return _cut_curves(
        store, spans, np.union1d(buckets.even(start_ms, end_ms, points=max(points - len(cuts), 1)), cuts)
    )


def bucketed(store: TelemetryStore, spans: Sequence[Span], edges_ms: Int64s) -> list[Curve]:
    """Return each metric of ``spans`` in exactly the buckets between given edges, by metric.

    Raises:
        ValueError: the edges do not rise, span more than a century, or are too many.
    """
    edges_ms = buckets.check_edges(edges_ms)
    cuts = _cuts(spans, int(edges_ms[0]), int(edges_ms[-1]))
    fine = _cut_curves(store, spans, np.union1d(edges_ms, cuts))
    return fine if not len(cuts) else [_merged(curve, edges_ms) for curve in fine]


def exact(
    store: TelemetryStore, spans: Sequence[Span], start_ms: int, end_ms: int, *, limit: int = buckets.MAX_READINGS
) -> dict[str, Readings]:
    """Return the exact readings of each metric of ``spans`` over ``[start_ms, end_ms)``, by time, as one series: 0.

    Raises:
        ValueError: the range is empty, reversed or longer than a century, or holds more than ``limit`` readings.
    """
    found = store.readings([span.series for span in spans], start_ms, end_ms, limit=limit)
    parts: dict[str, list[Readings]] = {span.metric: [] for span in spans}
    for span in spans:
        begin, end = np.searchsorted(found.series, (span.series, span.series + 1)).tolist()
        rows = np.arange(begin, end)
        inside = (found.ts_ms[rows] >= span.starts_ms) & (found.ts_ms[rows] < span.ends_ms)
        parts[span.metric].append(found.select(rows[inside]))
    return {metric: _as_one(concatenate(some)) for metric, some in sorted(parts.items())}


def _as_one(readings: Readings) -> Readings:
    ordered = readings.select(np.argsort(readings.ts_ms, kind="stable"))
    return replace(ordered, series=np.zeros(len(ordered), np.int64))


def _cuts(spans: Sequence[Span], start_ms: int, end_ms: int) -> Int64s:
    """Return where a binding began or ended inside a range."""
    edges = {edge for span in spans for edge in (span.starts_ms, span.ends_ms) if start_ms < edge < end_ms}
    return np.array(sorted(edges), np.int64)


def _merged(curve: Curve, edges_ms: Int64s) -> Curve:
    """Put buckets that a binding had cut in two together again."""
    starts = np.searchsorted(curve.start_ms, edges_ms[:-1])
    count, total = np.add.reduceat(curve.count, starts), np.add.reduceat(curve.sum, starts)
    size = len(starts)
    first, last = np.full(size, np.nan), np.full(size, np.nan)
    full = np.flatnonzero(curve.count > 0)
    bucket = np.searchsorted(edges_ms, curve.start_ms[full], side="right") - 1
    last[bucket] = curve.last[full]  # of several the later one is written later, and stays
    first[bucket[::-1]] = curve.first[full][::-1]
    return Curve(
        metric=curve.metric,
        start_ms=edges_ms[:-1],
        end_ms=edges_ms[1:],
        count=count,
        min=np.fmin.reduceat(curve.min, starts),
        max=np.fmax.reduceat(curve.max, starts),
        mean=np.divide(total, count, out=np.full(size, np.nan), where=count > 0),
        first=first,
        last=last,
        sum=total,
    )


def _cut_curves(store: TelemetryStore, spans: Sequence[Span], edges: Int64s) -> list[Curve]:
    """Return each metric between edges, at every change of a binding one of them."""
    if not spans:
        return []
    answer = store.aggregate([span.series for span in spans], edges)
    row_of = {int(series): row for row, series in enumerate(answer.series)}
    by_metric: dict[str, list[Span]] = {}
    for span in spans:
        by_metric.setdefault(span.metric, []).append(span)
    return [_joined(metric, parts, answer, row_of) for metric, parts in sorted(by_metric.items())]


def _joined(metric: str, parts: list[Span], answer: Buckets, row_of: dict[int, int]) -> Curve:
    """Put one metric together; where two devices claim a bucket, the one bound later speaks, if it has data."""
    size = len(answer.start_ms)
    count = np.zeros(size, np.int64)
    columns = {name: np.full(size, np.nan) for name in ("min", "max", "mean", "first", "last")}
    columns["sum"] = np.zeros(size)
    for part in parts:
        row = row_of[part.series]
        mine = (answer.edges_ms[:-1] >= part.starts_ms) & (answer.edges_ms[1:] <= part.ends_ms)
        mine &= answer.count[row] > 0
        count[mine] = answer.count[row][mine]
        for name, column in columns.items():
            column[mine] = getattr(answer, name)[row][mine]
    return Curve(metric, answer.edges_ms[:-1], answer.edges_ms[1:], count, **columns)


def samples(store: TelemetryStore, spans: Sequence[Span], start_ms: int, end_ms: int, *, most: int) -> Readings | None:
    """Return the exact readings of one metric's spans over ``[start_ms, end_ms)``, oldest first.

    None where there are more than ``most``: then the caller draws buckets.

    Raises:
        ValueError: the range is empty, reversed or longer than a century.
    """
    buckets.check_range(start_ms, end_ms)
    found: list[Readings] = []
    left = most
    for span in spans:
        begin, end = max(start_ms, span.starts_ms), min(end_ms, span.ends_ms)
        if begin >= end:
            continue
        part = store.samples(span.series, begin, end, limit=left + 1)
        left -= len(part)
        if left < 0:
            return None
        found.append(part)
    joined = concatenate(found)
    return joined.select(np.argsort(joined.ts_ms, kind="stable"))
