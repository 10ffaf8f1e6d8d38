"""What the embedded store costs: durable writes, writes beside its housekeeping, and a curve among many points.

``python -m bench.store`` prints the figures; ``measure`` returns them for the table of ``make bench``. Baselines of
the same run: a bare table in DuckDB with a primary key, which is the obvious way to be idempotent, for writes; and
the same writes without housekeeping, for writes beside it.
"""

# ruff: noqa: SLF001, S608 - a benchmark may fill and hurry its subject; the numbers in its queries are its own

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

import duckdb
import numpy as np

from telemetry import tables
from telemetry.budget import Budget
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings
from telemetry.tables import Table
from telemetry.upkeep import FAN_IN, SEGMENT_ROWS

START_MS: Final = 1_780_000_000_000
STEP_MS: Final = 1000
SERIES: Final = 3000
BATCH: Final = 30_000

CURVE_STEP_MS: Final = 10_000
CURVE: Final = 90 * 86_400_000 // CURVE_STEP_MS
"""Readings of one series in 90 days, one each ten seconds."""
POINTS: Final = 1000

PACE_S: Final = 0.1
"""Ten batches a second are 300,000 readings: 100,000 messages of three values."""


def measure(*, stored: int = 500_000_000, appended: int = 6_000_000, paced: int = 200) -> dict[str, float]:
    """Return figures of one run in a temporary folder.

    ``append_points_s``: durable batches of 30,000 readings, one after the other; ``baseline_points_s``: the same into
    a table with a primary key. ``bytes_point``: of the file at rest, random walks with two decimals. ``range_ms``:
    90 days of one series among ``stored`` points, reduced to 1,000 buckets; median of 40, and p95. ``write_p99_ms``:
    of ``paced`` batches at a pace; then beside compaction, and while a half of the oldest segment expires.
    """
    with tempfile.TemporaryDirectory(prefix="fixwright-bench-") as folder:
        figures = {"baseline_points_s": _baseline(Path(folder) / "plain.duckdb")}
        with closing(DuckDbStore(Path(folder) / "small.duckdb")) as store:
            figures |= _appended(store, appended)
        with closing(DuckDbStore(Path(folder) / "large.duckdb")) as store:
            figures |= {"stored_points": float(fill(store, stored))}
            figures |= _curves(store, stored)
            figures |= _beside(store, paced, rows=min(Budget().hot_rows, stored // 25))
    return figures


# Writes -------------------------------------------------------------------------------------------------------------


def batches(count: int, *, start_ms: int = START_MS) -> Iterator[Readings]:
    """Give random walks: each series once a second, devices in random order, as a broker delivers them."""
    chance = np.random.default_rng(20)
    steps = BATCH // SERIES
    level = chance.uniform(15, 90, SERIES)
    rows = np.repeat(np.arange(steps), SERIES)
    for first in range(0, count * steps, steps):
        walk = (level + chance.normal(0, 0.05, (steps, SERIES)).cumsum(axis=0)).round(2)
        level = walk[-1]
        order = chance.permuted(np.tile(np.arange(SERIES), (steps, 1)), axis=1).ravel()
        ts_ms = start_ms + (first + rows) * STEP_MS
        yield Readings(order, ts_ms, walk[rows, order], None, np.zeros(BATCH, np.uint8))


def _appended(store: DuckDbStore, points: int) -> dict[str, float]:
    prepared = list(batches(points // BATCH))
    began = time.perf_counter()
    for readings in prepared:
        store.write(readings)
    elapsed = time.perf_counter() - began
    # All of it is sorted, what is left in the hot table too, so that the size is that of data at rest.
    store._upkeep._hot_rows = 1
    while store.compact():
        pass
    store._upkeep._checkpoint(is_due=True)
    points = sum(map(len, prepared))
    return {"append_points_s": points / elapsed, "bytes_point": store.path.stat().st_size / points}


def _baseline(path: Path) -> float:
    prepared = list(batches(10))
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE TABLE plain (series BIGINT, ts_ms BIGINT, value DOUBLE, PRIMARY KEY (series, ts_ms))")
        began = time.perf_counter()
        for readings in prepared:
            database.register("fresh", {"series": readings.series, "ts_ms": readings.ts_ms, "value": readings.value})
            database.execute("INSERT OR REPLACE INTO plain SELECT series, ts_ms, value FROM fresh")
        return sum(map(len, prepared)) / (time.perf_counter() - began)


# A curve among many points ------------------------------------------------------------------------------------------


def fill(store: DuckDbStore, points: int) -> int:
    """Write about ``points`` readings straight into segments, as compaction leaves them; return how many.

    As many series as that makes send one reading each ten seconds for 90 days.
    """
    series = max(1, points // CURVE)
    most = SEGMENT_ROWS // series
    for first in range(0, CURVE, most):
        _fill_segment(store, series, first, min(most, CURVE - first))
    store._upkeep._checkpoint(is_due=True)
    return series * CURVE


def _fill_segment(store: DuckDbStore, series: int, first: int, steps: int) -> None:
    with store._file.writing, store._file.transaction() as cursor:
        start_ms = START_MS + first * CURVE_STEP_MS
        number = tables._next_number(cursor)
        segment = Table(number, "segment", series * steps, start_ms, start_ms + (steps - 1) * CURVE_STEP_MS)
        cursor.execute(
            f"CREATE TABLE {segment.name} AS SELECT row // {steps} AS series,"
            f" {start_ms} + row % {steps} * {CURVE_STEP_MS} AS ts_ms,"
            " round(50 + 20 * sin(row / 500.0) + hash(row) % 100 / 100.0, 2)::DOUBLE AS value,"
            f" NULL::VARCHAR AS text, 0::UTINYINT AS flags, NULL::DOUBLE AS sent FROM range({series * steps}) rows(row)"
        )
        tables.replace(cursor, [], segment)


def _curves(store: DuckDbStore, stored: int) -> dict[str, float]:
    end_ms = START_MS + CURVE * CURVE_STEP_MS
    taken = []
    for number in np.random.default_rng(7).integers(0, max(1, stored // CURVE), 40).tolist():
        began = time.perf_counter()
        found = store.range([number], START_MS, end_ms, points=POINTS)
        taken.append((time.perf_counter() - began) * 1000)
        assert int(found.count.sum()) == CURVE  # noqa: S101 - a curve with a hole would be fast too
    return {
        "range_readings": float(CURVE),
        "range_ms": float(np.median(taken)),
        "range_p95_ms": float(np.percentile(taken, 95)),
    }


# Writes beside housekeeping -----------------------------------------------------------------------------------------


def _beside(store: DuckDbStore, paced: int, rows: int) -> dict[str, float]:
    """Write at a pace: alone, then beside a merge and sorts, then while a half of the oldest segment expires."""
    now_ms = START_MS + CURVE * CURVE_STEP_MS
    for number in range(FAN_IN):
        _fill_segment(store, rows // 1000, CURVE + number * 1000, 1000)
    stream = batches(10 * paced, start_ms=now_ms + 10 * 86_400_000)
    # What comes first finds cold caches, and counts for nothing.
    _paced(store, islice(stream, 20))
    alone = _paced(store, islice(stream, paced))
    compacting = _compacting(store, lambda: _paced(store, islice(stream, paced)))
    oldest = min((table for table in tables.listed(store._file.writer) if table.kind == "segment"), key=_first_ms)
    expires = threading.Thread(target=store.expire, args=[(oldest.first_ms + oldest.last_ms) // 2])
    expires.start()
    expiring = _paced(store, stream, until=lambda: not expires.is_alive())
    expires.join()
    p99_ms = float(np.percentile(alone, 99))
    figures = {"write_p99_ms": p99_ms}
    for name, taken in (("compacting", compacting), ("expiring", expiring)):
        figures[f"write_p99_{name}_ms"] = float(np.percentile(taken, 99))
        figures[f"write_slowest_{name}_ms"] = max(taken)
        figures[f"{name}_ratio"] = float(np.percentile(taken, 99)) / p99_ms
    return figures


def _first_ms(table: Table) -> int:
    return table.first_ms


def _paced(store: DuckDbStore, stream: Iterator[Readings], until: Callable[[], bool] = lambda: False) -> list[float]:
    """Write batches, one each ``PACE_S``; return how many milliseconds each took."""
    taken = []
    due = time.perf_counter()
    for readings in stream:
        time.sleep(max(0.0, due - time.perf_counter()))
        due = max(due, time.perf_counter() - PACE_S) + PACE_S
        began = time.perf_counter()
        store.write(readings)
        taken.append((time.perf_counter() - began) * 1000)
        if until():
            break
    return taken


def _compacting(store: DuckDbStore, measure: Callable[[], list[float]]) -> list[float]:
    """Return what is measured while the store is compacted whenever it has something to sort."""
    done = threading.Event()

    def compact() -> None:
        while not done.is_set():
            if not store.compact():
                done.wait(0.05)

    thread = threading.Thread(target=compact)
    thread.start()
    try:
        return measure()
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=500_000_000)
    parser.add_argument("--appended", type=int, default=6_000_000)
    parser.add_argument("--paced", type=int, default=200)
    print(
        json.dumps({name: round(figure, 1) for name, figure in measure(**vars(parser.parse_args())).items()}, indent=2)
    )


if __name__ == "__main__":
    main()
