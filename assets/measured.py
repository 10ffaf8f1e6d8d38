"""Which series tell about an asset: through the devices bound to it, each for the period of its binding.

For plots, latest values and the API. A curve of an asset is put together from the series of the devices that
measured it one after the other, each cut to its binding, so that a replaced device leaves no gap and what the
old one sends later does not land here (AS-9).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from assets.models import Binding
from kernel import clock
from telemetry import buckets
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


def of_device(session: Session, device_id: int, metrics: Sequence[str] | None = None) -> list[Span]:
    """Return all a device ever sent, whatever it was bound to."""
    query = select(Series.metric, Series.id).where(Series.device_id == device_id).order_by(Series.metric)
    if metrics is not None:
        query = query.where(Series.metric.in_(metrics))
    return [Span(metric, series, device_id, 0, FOREVER_MS) for metric, series in session.execute(query)]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One metric over a range, in buckets. Columns have one length; an empty bucket has count 0 and NaN.

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


def curves(store: TelemetryStore, spans: Sequence[Span], start_ms: int, end_ms: int, *, points: int) -> list[Curve]:
    """Return each metric of ``spans`` over ``[start_ms, end_ms)`` in at most ``points`` buckets, by metric.

    Buckets are equally wide but where a binding began or ended: there one is cut in two, so that no bucket holds
    what belongs to somebody else.

    Raises:
        ValueError: the range is empty, reversed or longer than a century, or ``points`` is not positive.
    """
    buckets.check_range(start_ms, end_ms)
    if not spans:
        return []
    cuts = sorted({edge for span in spans for edge in (span.starts_ms, span.ends_ms) if start_ms < edge < end_ms})
    even = buckets.even(start_ms, end_ms, points=max(points - len(cuts), 1))
    edges = np.union1d(even, np.array(cuts, np.int64))
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
