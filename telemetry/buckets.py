"""Where the buckets of a range lie and what falls into them. Pure; shared by every store, so that all answer alike.

A store that can aggregate does so itself and fills the table of ``arrange``; one that cannot hands its samples
to ``fold``. Buckets by the calendar follow the wall clock of a site: a day may have 23 or 25 hours.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np

from telemetry import quality
from telemetry.readings import Buckets, Flag, Float64s, Int64s, Readings

MAX_SPAN_MS = 100 * 366 * 86_400_000
"""A range longer than a century is a mistake, or an attempt to read everything."""
MAX_BUCKETS = 100_000
MAX_CELLS = 5_000_000
"""Series times buckets of one answer: 280 MB at most."""
MAX_SAMPLES = 1_000_000
"""Exact readings where the first of many are enough."""
MAX_READINGS = 2_000_000
"""Exact readings of several series in one answer."""

Unit = Literal["hour", "day", "week", "month"]


def check_range(start_ms: int, end_ms: int) -> None:
    """Refuse a range no store should be asked for.

    Raises:
        ValueError: the range is empty, reversed, or longer than a century.
    """
    if end_ms <= start_ms:
        raise ValueError("the end of a range must lie after its start")
    if end_ms - start_ms > MAX_SPAN_MS:
        raise ValueError("a range must be no longer than 100 years")


def check_samples(start_ms: int, end_ms: int, limit: int) -> None:
    """Refuse a question for the first exact readings that no store should be asked.

    Raises:
        ValueError: the range is bad, or the limit is out of bounds.
    """
    check_range(start_ms, end_ms)
    if not 1 <= limit <= MAX_SAMPLES:
        raise ValueError(f"limit must lie in 1 … {MAX_SAMPLES}")


def check_readings(start_ms: int, end_ms: int, limit: int) -> None:
    """Refuse a question for exact readings that no store should be asked.

    Raises:
        ValueError: the range is bad, or the limit is out of bounds.
    """
    check_range(start_ms, end_ms)
    if not 1 <= limit <= MAX_READINGS:
        raise ValueError(f"limit must lie in 1 … {MAX_READINGS}")


def too_many(limit: int) -> ValueError:
    """Return the refusal of a range that holds more readings than may be answered."""
    return ValueError(f"the range holds more than {limit} readings; narrow it or ask for fewer series")


def even(start_ms: int, end_ms: int, *, points: int | None = None, step_ms: int | None = None) -> Int64s:
    """Return edges (int64[b + 1]) of equally wide buckets that cover start <= ts < end, beginning at the start.

    Give either ``points``, the number of buckets wanted (fewer where a bucket would be under 1 ms), or
    ``step_ms``; the last bucket may then reach beyond the end only in its edge, never in its content.

    Raises:
        ValueError: neither or both given, not positive, the range is bad, or more than 100,000 buckets.
    """
    check_range(start_ms, end_ms)
    if (points is None) == (step_ms is None):
        raise ValueError("give either points or step_ms")
    span = end_ms - start_ms
    if points is not None:
        if points < 1:
            raise ValueError("points must be at least 1")
        step_ms = -(-span // points)
    if step_ms is None or step_ms < 1:
        raise ValueError("step_ms must be at least 1")
    buckets = -(-span // step_ms)
    if buckets > MAX_BUCKETS:
        raise ValueError(f"{buckets} buckets are more than {MAX_BUCKETS}; widen the step")
    return np.minimum(start_ms + np.arange(buckets + 1, dtype=np.int64) * step_ms, end_ms)


def calendar(start_ms: int, end_ms: int, *, unit: Unit, zone: ZoneInfo) -> Int64s:
    """Return edges (int64[b + 1]) at full hours, or at local midnights, Mondays or firsts of a zone.

    The first edge lies at or before the start, the last at or after the end. Hours are real hours: on a day
    that turns the clock back there are 25, each 60 minutes.

    Raises:
        ValueError: the range is bad, or more than 100,000 buckets.
    """
    check_range(start_ms, end_ms)
    if unit == "hour":
        return _hours(start_ms, end_ms, zone)
    day = datetime.fromtimestamp(start_ms / 1000, zone).date()
    if unit == "week":
        day -= timedelta(days=day.weekday())
    elif unit == "month":
        day = day.replace(day=1)
    edges = [_midnight(day, zone)]
    while edges[-1] < end_ms:
        day = _after(day, unit)
        edges.append(_midnight(day, zone))
    return np.array(edges, np.int64)


def _hours(start_ms: int, end_ms: int, zone: ZoneInfo) -> Int64s:
    # Zones that lie 30 or 45 minutes off have their full hours there too.
    offset = datetime.fromtimestamp(start_ms / 1000, zone).utcoffset() or timedelta(0)
    shift = int(offset.total_seconds() * 1000) % 3_600_000
    first = (start_ms + shift) // 3_600_000 * 3_600_000 - shift
    buckets = -(-(end_ms - first) // 3_600_000)
    if buckets > MAX_BUCKETS:
        raise ValueError(f"{buckets} buckets are more than {MAX_BUCKETS}; choose days")
    return first + np.arange(buckets + 1, dtype=np.int64) * 3_600_000


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time(0), zone).astimezone(UTC).timestamp() * 1000)


def _after(day: date, unit: Unit) -> date:
    if unit == "month":
        return (day + timedelta(days=31)).replace(day=1)
    return day + timedelta(days=7 if unit == "week" else 1)


def check_edges(edges_ms: Int64s) -> Int64s:
    """Return given edges as int64[b + 1].

    Raises:
        ValueError: fewer than two, not rising, longer than a century, or more than 100,000 buckets.
    """
    edges = np.asarray(edges_ms, np.int64)
    if edges.ndim != 1 or len(edges) < 2 or (np.diff(edges) <= 0).any():  # noqa: PLR2004 - a bucket has two edges
        raise ValueError("edges must be at least two, each after the one before")
    check_range(int(edges[0]), int(edges[-1]))
    if len(edges) - 1 > MAX_BUCKETS:
        raise ValueError(f"{len(edges) - 1} buckets are more than {MAX_BUCKETS}")
    return edges


def distinct(series: Sequence[int], edges_ms: Int64s) -> Int64s:
    """Return the series asked for, each once, in the order asked: int64[s].

    Raises:
        ValueError: a series is negative, or the answer would hold more than 5 M cells.
    """
    asked = np.array(list(dict.fromkeys(series)), np.int64)
    if (asked < 0).any():
        raise ValueError("a series number is never negative")
    cells = len(asked) * (len(edges_ms) - 1)
    if cells > MAX_CELLS:
        raise ValueError(f"{cells} cells are more than {MAX_CELLS}; ask for fewer series or wider buckets")
    return asked


def arrange(
    asked: Int64s,
    edges_ms: Int64s,
    *,
    series: Int64s,
    bucket: Int64s,
    count: Int64s,
    lowest: Float64s,
    highest: Float64s,
    total: Float64s,
    first: Float64s,
    last: Float64s,
) -> Buckets:
    """Return a full table from the buckets that hold something: parallel columns, each (series, bucket) once."""
    shape = (len(asked), len(edges_ms) - 1)
    order = np.argsort(asked, kind="stable")
    cell = (order[np.searchsorted(asked[order], series)], bucket)

    def spread(column: Float64s, blank: float) -> Float64s:
        table = np.full(shape, blank)
        table[cell] = column
        return table

    counts = np.zeros(shape, np.int64)
    counts[cell] = count
    sums = spread(total, 0.0)
    mean = np.divide(sums, counts, out=np.full(shape, np.nan), where=counts > 0)
    return Buckets(
        series=asked,
        edges_ms=edges_ms,
        min=spread(lowest, np.nan),
        max=spread(highest, np.nan),
        mean=mean,
        sum=sums,
        count=counts,
        first=spread(first, np.nan),
        last=spread(last, np.nan),
    )


def fold(readings: Readings, asked: Int64s, edges_ms: Int64s) -> Buckets:
    """Return the buckets of raw readings, each key at most once, in any order; those outside the edges are left out."""
    inside = np.isfinite(readings.value) & ~quality.has(readings.flags, Flag.BAD)
    inside &= np.isin(readings.series, asked)
    inside &= (readings.ts_ms >= edges_ms[0]) & (readings.ts_ms < edges_ms[-1])
    order = np.lexsort((readings.ts_ms[inside], readings.series[inside]))
    series, value = readings.series[inside][order], readings.value[inside][order]
    bucket = np.searchsorted(edges_ms, readings.ts_ms[inside][order], side="right") - 1
    starts = np.flatnonzero(np.diff(series, prepend=-1) | np.diff(bucket, prepend=-1))
    ends = np.append(starts[1:], len(series))[: len(starts)]

    def reduced(ufunc: np.ufunc) -> Float64s:
        # A reduction refuses an empty column.
        result: Float64s = ufunc.reduceat(value, starts) if len(value) else value
        return result

    return arrange(
        asked,
        edges_ms,
        series=series[starts],
        bucket=bucket[starts].astype(np.int64),
        count=(ends - starts).astype(np.int64),
        lowest=reduced(np.minimum),
        highest=reduced(np.maximum),
        total=reduced(np.add),
        first=value[starts],
        last=value[ends - 1],
    )
