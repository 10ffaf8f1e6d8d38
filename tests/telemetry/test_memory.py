"""The embedded store holds to the memory it was given, whatever is written to it, and loses nothing for it."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from kernel.errors import Unavailable
from telemetry.budget import LEAST_MB, Budget
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings
from telemetry.upkeep import Upkeep

MARGIN_MB = 80
"""What a process may take besides: batches on their way in, buffers of the allocator, code and stacks."""

WRITER = """
import json, sys, threading
from pathlib import Path
import numpy as np, psutil
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings

path, memory_mb, batches = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
SERIES = 30_000
store = DuckDbStore(path, memory_mb=memory_mb)
process = psutil.Process()
before, failures, done, most = process.memory_info().rss, [], threading.Event(), 0

def compact():
    while True:
        try:
            if not store.compact():
                if done.is_set():
                    return
                done.wait(0.02)
        except Exception as error:
            failures.append(str(error))

def look():
    global most
    while not done.wait(0.02):
        most = max(most, process.memory_info().rss)

compacting, looking = threading.Thread(target=compact), threading.Thread(target=look)
compacting.start(), looking.start()
chance = np.random.default_rng(7)
for batch in range(batches):
    series = chance.permutation(SERIES)
    times = np.full(SERIES, batch * 60_000)
    store.write(Readings(series, times, series + batch / 16, None, np.zeros(SERIES, np.uint8)))
done.set(), compacting.join(), looking.join()
rise = max(most, process.memory_info().rss) - before
stored = 0
for first in range(0, SERIES, 2000):
    found = store.range(range(first, first + 2000), 0, batches * 60_000, points=1)
    stored += int(found.count.sum())
store.close()
print(json.dumps({"rise_mb": rise / 2**20, "stored": stored, "written": batches * SERIES, "failures": failures}))
"""


def written(path: Path, memory_mb: int, batches: int) -> dict[str, object]:
    command = [sys.executable, "-c", WRITER, str(path), str(memory_mb), str(batches)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path.cwd())
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.mark.torture
@pytest.mark.parametrize("memory_mb", [LEAST_MB, Budget().memory_mb])
def test_tens_of_millions_of_readings_stay_within_the_memory_that_was_given(tmp_path: Path, memory_mb: int) -> None:
    """One reading a minute of 30,000 series, as fast as it goes: each minute is a bucket, the worst there is."""
    told = written(tmp_path / "t.duckdb", memory_mb, 1000)
    assert told["failures"] == []
    assert told["stored"] == told["written"] == 30_000_000
    assert isinstance(told["rise_mb"], float)
    assert told["rise_mb"] < memory_mb + MARGIN_MB


def test_the_limit_is_that_of_the_database(tmp_path: Path) -> None:
    with contextlib.closing(DuckDbStore(tmp_path / "t.duckdb", memory_mb=128)) as store:
        (limit,) = store._file.writer.execute("SELECT current_setting('memory_limit')").fetchall()[0]
    assert limit == "128.0 MiB"


def test_less_memory_means_less_at_once() -> None:
    least, usual = Budget(LEAST_MB), Budget()
    assert (usual.hot_rows, usual.sorted_rows) > (least.hot_rows, least.sorted_rows)
    assert Budget(64_000).hot_rows == 500_000
    for budget in (least, usual):
        attempts = list(budget.attempts())
        assert attempts[0] == budget.sorted_rows
        assert attempts == sorted(set(attempts), reverse=True)


def upkeep_of(store: DuckDbStore) -> Upkeep:
    return store._upkeep


def test_a_sort_that_runs_out_of_memory_is_done_in_smaller_parts_and_leaves_no_trace(tmp_path: Path) -> None:
    with contextlib.closing(DuckDbStore(tmp_path / "t.duckdb")) as store:
        tried = []

        def make(cursor: duckdb.DuckDBPyConnection, rows: int) -> int:
            tried.append(rows)
            cursor.execute("CREATE TABLE made AS SELECT 1")
            if len(tried) < 3:
                raise duckdb.OutOfMemoryException("no")
            return rows

        assert upkeep_of(store)._within_budget(make) == tried[-1]
        assert tried == list(Budget().attempts())[:3]
        assert store._file.writer.execute("SELECT count(*) FROM made").fetchall() == [(1,)]


def test_what_never_fits_fails_and_everything_is_there_as_before(tmp_path: Path) -> None:
    with contextlib.closing(DuckDbStore(tmp_path / "t.duckdb", hot_rows=10)) as store:
        store.write(Readings.of(range(20), [1] * 20, [0.5] * 20))
        hot = store._file.hot
        store._file.writer.execute("SET memory_limit = '1MiB'")
        with pytest.raises(Unavailable, match=r"memory|allocate"):
            store.compact()
        store._file.writer.execute("SET memory_limit = '128MiB'")
        assert store.compact()
        assert store._file.hot != hot
        assert int(store.range(range(20), 0, 10, points=1).count.sum()) == 20
