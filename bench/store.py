"""What the embedded store costs: durable writes, a curve after compaction, and bytes a point.

``python -m bench.store`` prints the figures; ``measure`` returns them for the table of ``make bench``. The
baseline in the same run is a bare table in DuckDB with a primary key, which is the obvious way to be idempotent.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np

from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings

START_MS = 1_795_314_590_000
STEP_MS = 1000


def measure(*, points: int = 5_000_000, series: int = 3000, batch: int = 99_000) -> dict[str, float]:
    """Return figures of one run in a temporary folder.

    ``append_points_s``: durable commits of ``batch`` readings, and the same ``_compacting`` beside writes.
    ``batch_30k_ms``: one durable commit of 30,000 readings of 3,000 series, median and slowest of 50.
    ``baseline_points_s``: the same batches into a table with a primary key. ``range_ms``: 500 buckets of one
    series after compaction, median of 20. ``bytes_point``: of the file, random walks with two decimals.
    """
    with tempfile.TemporaryDirectory(prefix="fixwright-bench-") as folder:
        figures = {
            "points": float(points),
            "baseline_points_s": _baseline(Path(folder) / "plain.duckdb", series, batch),
        }
        store = DuckDbStore(Path(folder) / "telemetry.duckdb")
        try:
            figures |= _written(store, points, series, batch)
            figures |= _single_batches(store, start_ms=START_MS * 2)
            figures |= _read(store, series, span_ms=points // series * STEP_MS)
        finally:
            store.close()
    return figures


def _batches(points: int, series: int, batch: int, start_ms: int = START_MS) -> Iterator[Readings]:
    """Give random walks: each series once a second, devices in random order, as a broker delivers them."""
    chance = np.random.default_rng(20)
    steps = max(1, batch // series)
    level = chance.uniform(15, 90, series)
    for first in range(0, points // series, steps):
        walk = (level + chance.normal(0, 0.05, (steps, series)).cumsum(axis=0)).round(2)
        level = walk[-1]
        order = chance.permuted(np.tile(np.arange(series), (steps, 1)), axis=1)
        rows = np.repeat(np.arange(steps), series)
        yield Readings(
            order.ravel(),
            start_ms + (first + rows) * STEP_MS,
            walk[rows, order.ravel()],
            None,
            np.zeros(steps * series, np.uint8),
        )


def _written(store: DuckDbStore, points: int, series: int, batch: int) -> dict[str, float]:
    prepared = list(_batches(points, series, batch))
    half = len(prepared) // 2
    quiet = _append(store, prepared[:half])
    done = threading.Event()

    def compact() -> None:
        while not done.is_set():
            if not store.compact():
                done.wait(0.05)

    beside = threading.Thread(target=compact)
    beside.start()
    busy = _append(store, prepared[half:])
    done.set()
    beside.join()
    while store.compact():
        pass
    # Whatever is left in the hot table is sorted too, so that the size is that of data at rest.
    store._hot_rows = 1  # noqa: SLF001 - a benchmark may hurry its subject
    while store.compact():
        pass
    size = store.path.stat().st_size
    return {
        "append_points_s": quiet,
        "append_points_s_compacting": busy,
        "bytes_point": size / sum(map(len, prepared)),
    }


def _append(store: DuckDbStore, prepared: list[Readings]) -> float:
    began = time.perf_counter()
    for readings in prepared:
        store.write(readings)
    return sum(map(len, prepared)) / (time.perf_counter() - began)


def _single_batches(store: DuckDbStore, start_ms: int) -> dict[str, float]:
    taken = []
    for readings in _batches(50 * 30_000, 3000, 30_000, start_ms):
        began = time.perf_counter()
        store.write(readings)
        taken.append((time.perf_counter() - began) * 1000)
    return {"batch_30k_ms": statistics.median(taken), "batch_30k_ms_slowest": max(taken)}


def _read(store: DuckDbStore, series: int, span_ms: int) -> dict[str, float]:
    chance = np.random.default_rng(7)
    taken = []
    for number in chance.integers(0, series, 20):
        began = time.perf_counter()
        store.range([int(number)], START_MS, START_MS + span_ms, points=500)
        taken.append((time.perf_counter() - began) * 1000)
    return {"range_ms": statistics.median(taken), "range_readings": float(span_ms // STEP_MS)}


def _baseline(path: Path, series: int, batch: int) -> float:
    prepared = list(_batches(3 * batch, series, batch))
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE TABLE plain (series BIGINT, ts_ms BIGINT, value DOUBLE, PRIMARY KEY (series, ts_ms))")
        began = time.perf_counter()
        for readings in prepared:
            database.register("fresh", {"series": readings.series, "ts_ms": readings.ts_ms, "value": readings.value})
            database.execute("INSERT OR REPLACE INTO plain SELECT series, ts_ms, value FROM fresh")
        return sum(map(len, prepared)) / (time.perf_counter() - began)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=5_000_000)
    figures = measure(points=parser.parse_args().points)
    print(json.dumps({name: round(figure, 1) for name, figure in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
