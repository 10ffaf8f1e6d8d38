"""In which parts many readings are sorted or grouped, so that what is at work at once is bounded.

For ``telemetry.tables`` and ``telemetry.tiers``. A part is a run of series, or a stretch of time of one series that
is too long by itself; the parts follow each other in the order of a segment, and each reading is in exactly one.
"""

# ruff: noqa: S608 - what is asked are tables of ours, and every value written into a query is an integer of ours

from collections.abc import Iterator

import duckdb
import numpy as np

from telemetry.readings import Int64s

_STRETCHES = 256
"""Into how many stretches of equal length the time of a long series is divided, before they are put together."""


def of(cursor: duckdb.DuckDBPyConnection, rows: str, most: int, *, unit_ms: int = 1) -> Iterator[str]:
    """Give SQL conditions that part the rows of a query, in order, into parts of about ``most`` rows.

    A part is larger only where the readings of one series crowd into a 256th of its time, or into ``unit_ms``:
    what belongs to one of these is in one part.
    """
    found = cursor.execute(
        f"SELECT series, count(*) AS count, min(ts_ms) AS first_ms, max(ts_ms) AS last_ms FROM ({rows})"
        " GROUP BY series ORDER BY series"
    ).fetchnumpy()
    series, count = np.asarray(found["series"], np.int64), np.asarray(found["count"], np.int64)
    for first, last in runs(count, most):
        if first == last and count[first] > most:
            first_ms = int(found["first_ms"][first]) // unit_ms * unit_ms
            stretch_ms = -(-(int(found["last_ms"][first]) + 1 - first_ms) // _STRETCHES // unit_ms) * unit_ms
            yield from _stretches(cursor, rows, int(series[first]), first_ms, stretch_ms, most)
        else:
            yield f"series BETWEEN {series[first]} AND {series[last]}"


def runs(counts: Int64s, most: int) -> Iterator[tuple[int, int]]:
    """Give the first and last place of runs whose counts come to ``most`` together, or of one that is larger."""
    first, total = 0, 0
    for place, count in enumerate(counts.tolist()):
        if total and total + count > most:
            yield first, place - 1
            first, total = place, 0
        total += count
    if len(counts):
        yield first, len(counts) - 1


def _stretches(
    cursor: duckdb.DuckDBPyConnection, rows: str, series: int, first_ms: int, stretch_ms: int, most: int
) -> Iterator[str]:
    found = cursor.execute(
        f"SELECT (ts_ms - {first_ms}) // {stretch_ms} AS stretch, count(*) AS count FROM ({rows})"
        f" WHERE series = {series} GROUP BY stretch ORDER BY stretch"
    ).fetchnumpy()
    starts = first_ms + np.asarray(found["stretch"], np.int64) * stretch_ms
    for first, last in runs(np.asarray(found["count"], np.int64), most):
        yield f"series = {series} AND ts_ms >= {starts[first]} AND ts_ms < {starts[last] + stretch_ms}"
