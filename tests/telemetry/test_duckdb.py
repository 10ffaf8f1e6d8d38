"""The embedded store against a plain dictionary, against kills, and against itself while it compacts."""

import contextlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from kernel.errors import Misconfigured, Unavailable
from telemetry import buckets, tables, upkeep
from telemetry.budget import Budget
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings, concatenate, sent_of, with_sent
from telemetry.tables import Table

SERIES = 4
END_MS = 40
NAN = float("nan")
CONTENT = st.sampled_from(
    [(0.0, None), (1.5, None), (5e-324, None), (NAN, ""), (NAN, "⚙ on"), (2.0**53, "9007199254740993")]
)
ROWS = st.lists(
    st.tuples(st.integers(0, SERIES - 1), st.integers(0, END_MS - 1), CONTENT, st.sampled_from([0, 1])),
    min_size=1,
    max_size=12,
)
Key = tuple[int, int]
Content = tuple[str, str | None, int]  # the value in words, as NaN equals nothing


def contents(readings: Readings) -> list[tuple[Key, Content]]:
    texts = readings.text or [None] * len(readings)
    keys = zip(readings.series.tolist(), readings.ts_ms.tolist(), strict=True)
    return list(
        zip(keys, zip(map(repr, readings.value.tolist()), texts, readings.flags.tolist(), strict=True), strict=True)
    )


def of_rows(rows: list[tuple[int, int, tuple[float, str | None], int]]) -> Readings:
    return Readings.of(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2][0] for row in rows],
        [row[2][1] for row in rows],
        [row[3] for row in rows],
    )


def everything(store: DuckDbStore, *, series: int = SERIES, end_ms: int = END_MS) -> list[tuple[Key, Content]]:
    return [entry for number in range(series) for entry in contents(store.samples(number, 0, end_ms, limit=1_000_000))]


def compact_fully(store: DuckDbStore) -> int:
    steps = 0
    while store.compact():
        steps += 1
    return steps


class StoreAgainstDictionary(RuleBasedStateMachine):
    """Any sequence of writes, late rows, corrections, compactions, expiries and restarts equals a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="fixwright-store-"))
        self.kept: dict[Key, Content] = {}
        self.newest: dict[int, tuple[int, Content]] = {}
        self.reopen()

    @rule(rows=ROWS)
    def write(self, rows: list[tuple[int, int, tuple[float, str | None], int]]) -> None:
        readings = of_rows(rows)
        duplicates, corrections = [], []
        for key, content in contents(readings):
            before = self.kept.get(key)
            duplicates.append(before == content)
            corrections.append(before not in (None, content))
            self.kept[key] = content
            if key[1] >= self.newest.get(key[0], (-1,))[0]:
                self.newest[key[0]] = (key[1], content)
        written = self.store.write(readings)
        assert written.is_duplicate.tolist() == duplicates
        assert written.is_correction.tolist() == corrections

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule(before_ms=st.integers(0, END_MS // 2))
    def expire(self, before_ms: int) -> None:
        self.store.expire(before_ms)
        self.kept = {key: content for key, content in self.kept.items() if key[1] >= before_ms}

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.reopen()

    def reopen(self) -> None:
        self.store = DuckDbStore(self.folder / "t.duckdb", hot_rows=8, segment_rows=64, fan_in=2)

    @invariant()
    def agrees(self) -> None:
        assert everything(self.store) == sorted(self.kept.items())
        latest = self.store.latest(range(SERIES))
        assert {n: (r.ts_ms, (repr(r.value), r.text, r.flags)) for n, r in latest.items()} == self.newest

    @invariant()
    def reduces_like_a_loop(self) -> None:
        asked = [3, 0, 2]
        raw = concatenate([self.store.samples(number, 0, END_MS, limit=1_000_000) for number in asked])
        even = buckets.even(5, END_MS - 2, step_ms=7)
        uneven = np.array([3, 4, 20, END_MS])
        for found, edges in (
            (self.store.range(asked, 5, END_MS - 2, step_ms=7), even),
            (self.store.aggregate(asked, uneven), uneven),
        ):
            wanted = buckets.fold(raw, np.array(asked), edges)
            for name in ("edges_ms", "count", "min", "max", "mean", "sum", "first", "last"):
                np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), err_msg=name)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


def test_any_sequence_of_writes_corrections_late_rows_compactions_and_restarts_equals_a_dictionary() -> None:
    bounds = settings(max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(StoreAgainstDictionary, settings=bounds)


WRITER = """
import sys, threading
from pathlib import Path
import numpy as np
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings

store = DuckDbStore(Path(sys.argv[1]), hot_rows=5000, fan_in=2)
first = int(sys.argv[2])

def compact():
    while True:
        store.compact()

threading.Thread(target=compact, daemon=True).start()
for batch in range(first, first + 10_000):
    series = np.arange(500)
    store.write(Readings(series, np.full(500, batch), series + batch / 16, None, np.zeros(500, np.uint8)))
    print(batch, flush=True)
"""


def test_TEL_2_every_acknowledged_write_is_there_exactly_once_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    chance = random.Random(20251122)
    first = 0
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        ) as writer:
            assert writer.stdout
            acknowledged = [int(next(writer.stdout)) for _ in range(chance.randint(1, 120))][-1]
            writer.send_signal(signal.SIGKILL)
            # What it said before it died was acknowledged too.
            acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        with contextlib.closing(DuckDbStore(path, hot_rows=5000, fan_in=2)) as store:
            for series in (0, 7, 499):
                found = store.samples(series, 0, 100_000, limit=100_000)
                times = found.ts_ms.tolist()
                assert times == list(range(len(times)))
                assert len(times) in (acknowledged + 1, acknowledged + 2)  # the batch under way may have made it
                assert (found.value == series + found.ts_ms / 16).all()
                assert store.latest([series])[series].ts_ms == times[-1]
            counted = store.range(range(500), 0, 100_000, points=1).count
            assert (counted == len(times)).all()
            first = len(times)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    with contextlib.closing(DuckDbStore(tmp_path / "t.duckdb", hot_rows=2000, segment_rows=100_000, fan_in=2)) as store:
        yield store


def test_a_reader_sees_every_acknowledged_batch_whole_while_tables_are_sorted_beneath_it(store: DuckDbStore) -> None:
    acknowledged = [0]
    done = threading.Event()
    failures: list[BaseException] = []

    def guarded(body: object) -> threading.Thread:
        def run() -> None:
            try:
                while not done.is_set():
                    body()  # type: ignore[operator]
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def read() -> None:
        at_least = acknowledged[0]
        for series in (0, 99):
            times = store.samples(series, 0, 10_000, limit=10_000).ts_ms.tolist()
            assert times == list(range(len(times)))
            assert len(times) >= at_least

    def reduce() -> None:
        at_least = acknowledged[0]
        counts = store.range(range(100), 0, 10_000, points=1).count[:, 0]
        assert (counts == counts[0]).all()
        assert counts[0] >= at_least

    threads = [guarded(read), guarded(reduce), guarded(store.compact)]
    try:
        for ts_ms in range(200):
            store.write(Readings.of(range(100), [ts_ms] * 100, [float(ts_ms)] * 100))
            acknowledged[0] = ts_ms + 1
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_corrections_made_while_their_table_is_being_sorted_are_kept(store: DuckDbStore) -> None:
    chance = np.random.default_rng(5)
    kept: dict[Key, float] = {}
    done = threading.Event()
    steps = []

    def compact() -> None:
        while not done.is_set():
            steps.append(store.compact())

    compactor = threading.Thread(target=compact)
    compactor.start()
    try:
        for ts_ms in range(150):
            series, late = np.arange(50), chance.integers(0, ts_ms + 1, 50)
            values = chance.normal(size=100)
            store.write(Readings.of([*series, *series], [*[ts_ms] * 50, *late], values))
            for key, value in zip(
                [*((n, ts_ms) for n in range(50)), *zip(range(50), late.tolist(), strict=True)], values, strict=True
            ):
                kept[key] = float(value)
    finally:
        done.set()
        compactor.join()
    assert sum(steps) > 2
    found = {key: float(content[0]) for key, content in everything(store, series=50, end_ms=1000)}
    assert found == kept
    path = store.path
    store.close()
    with contextlib.closing(DuckDbStore(path)) as again:
        assert {n: r.value for n, r in again.latest(range(50)).items()} == {n: kept[n, 149] for n in range(50)}


def test_a_correction_of_the_newest_reading_is_the_latest_value_after_a_restart(store: DuckDbStore) -> None:
    store.write(Readings.of(range(2000), [5] * 2000, [1.0] * 2000))
    assert compact_fully(store) > 0
    store.write(Readings.of([7], [5], [NAN], text=["mended"]))
    assert store.latest([7])[7].text == "mended"
    path = store.path
    store.close()
    with contextlib.closing(DuckDbStore(path)) as again:
        assert again.latest([7])[7].text == "mended"
        assert again.latest([8])[8].value == 1.0


def test_compaction_leaves_a_few_sorted_segments_and_never_one_beyond_its_bound(tmp_path: Path) -> None:
    with contextlib.closing(DuckDbStore(tmp_path / "t.duckdb", hot_rows=100, segment_rows=400, fan_in=2)) as store:
        for ts_ms in range(16):
            store.write(Readings.of(range(100), [ts_ms] * 100, [0.0] * 100))
            compact_fully(store)
        with store._file.snapshot() as (cursor, layout):
            segments = [table for table in layout if table.kind == "segment"]
            assert [table.rows for table in segments] == [400] * 4
            for table in segments:
                order = cursor.execute(f"SELECT series, ts_ms FROM {table.name}").fetchall()  # noqa: S608
                assert order == sorted(order)


def test_six_times_six_tables_that_were_sealed_a_little_late_still_fit_into_one() -> None:
    late = Budget().hot_rows * 5 // 4
    bounds = {"fan_in": upkeep.FAN_IN, "least_rows": Budget().hot_rows, "most_rows": upkeep.SEGMENT_ROWS}
    for rows in (late, upkeep.FAN_IN * late):
        full = [Table(number, "segment", rows, number, number + 1) for number in range(upkeep.FAN_IN)]
        assert tables.mergeable(full, **bounds) == full
        assert tables.mergeable(full[1:], **bounds) == []


def test_expiry_drops_whole_tables_and_cuts_the_one_at_the_edge(store: DuckDbStore) -> None:
    for ts_ms in range(60):
        store.write(Readings.of(range(100), [ts_ms] * 100, [1.0] * 100))
        store.compact()
    store.expire(45)
    assert store.samples(3, 0, 100, limit=1000).ts_ms.tolist() == list(range(45, 60))
    with store._file.snapshot() as (_, layout):
        assert min(table.first_ms for table in layout if table.kind == "segment") >= 40
    assert store.latest([3])[3].ts_ms == 59
    store.expire(100)
    assert len(store.samples(3, 0, 100, limit=1000)) == 0
    assert store.latest([3])[3].ts_ms == 59
    assert store.write(Readings.of([3], [59], [1.0])).stored == 1


def test_a_file_held_by_another_process_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    holder = (
        "import sys; from pathlib import Path; from telemetry.duckdb import DuckDbStore\n"
        "store = DuckDbStore(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert next(process.stdout) == "open\n"
        with pytest.raises(Misconfigured, match="FIXWRIGHT_TELEMETRY_URL"):
            DuckDbStore(path)
        process.communicate("")
    DuckDbStore(path).close()


def test_a_file_is_opened_once_in_a_process(store: DuckDbStore) -> None:
    with pytest.raises(Misconfigured, match="only one"):
        DuckDbStore(store.path)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    path.write_text("a letter to my aunt\n" * 1000)
    with pytest.raises(Misconfigured, match="cannot be opened"):
        DuckDbStore(path)


def test_a_file_of_a_newer_format_is_refused(store: DuckDbStore) -> None:
    store._file.writer.execute("UPDATE format SET number = ?", [tables.FORMAT + 1])
    store.close()
    with pytest.raises(Misconfigured, match="newer version"):
        DuckDbStore(store.path)


def test_a_full_disk_refuses_writes_loses_nothing_acknowledged_and_recovers_by_itself(store: DuckDbStore) -> None:
    acknowledged = []

    def write(ts_ms: int) -> None:
        store.write(Readings.of(range(1000), [ts_ms] * 1000, np.random.default_rng(ts_ms).normal(size=1000)))
        acknowledged.append(ts_ms)

    write(0)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, unlimited[1]))
    try:
        with contextlib.suppress(Unavailable):
            for ts_ms in range(1, 1000):
                write(ts_ms)
        with pytest.raises(Unavailable):
            store.compact()
        with pytest.raises(Unavailable):
            write(1000)
        assert store.samples(7, 0, 1000, limit=1000).ts_ms.tolist() == acknowledged
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    write(1001)
    compact_fully(store)
    write(1002)
    assert store.samples(7, 0, 2000, limit=2000).ts_ms.tolist() == acknowledged
    store.close()
    with contextlib.closing(DuckDbStore(store.path)) as again:
        assert again.samples(7, 0, 2000, limit=2000).ts_ms.tolist() == acknowledged


def test_a_store_that_duckdb_gave_up_on_is_reopened_by_the_next_write(store: DuckDbStore) -> None:
    store.write(Readings.of([1], [1], [1.0]))
    store._file._db.close()
    store._file.is_broken = True
    assert store.write(Readings.of([1, 1], [1, 2], [1.0, 2.0])).duplicate == 1
    assert store.samples(1, 0, 10, limit=10).value.tolist() == [1.0, 2.0]


def test_corrections_of_one_batch_leave_the_newest_of_them_as_the_latest_value(store: DuckDbStore) -> None:
    store.write(Readings.of([2], [39], [0.0]))
    store.write(Readings.of([2], [21], [0.0]))
    assert store.write(Readings.of([2, 2], [39, 21], [1.0, 2.0])).corrected == 2
    assert store.latest([2])[2].value == 1.0


def test_TEL_4_a_store_that_converts_nothing_keeps_no_column_for_it_until_it_does(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    store = DuckDbStore(path, hot_rows=3, fan_in=2)
    store.write(Readings.of([1, 1, 1], [1, 2, 3], [1.0, 2.0, 3.0]))
    assert not store._file.hot.has_sent
    compact_fully(store)
    store.write(Readings.of([1], [4], [4.0]))
    assert not store._file.hot.has_sent
    # A late correction goes into the segment, which has room for it, another into what is hot.
    store.write(with_sent(Readings.of([1, 1, 1], [2, 4, 5], [20.0, 40.0, 50.0]), [68.0, 104.0, NAN]))
    assert store._file.hot.has_sent
    store.write(with_sent(Readings.of([1], [6], [60.0]), [140.0]))
    wanted = [None, 68.0, None, 104.0, None, 140.0]
    assert sent_of(store.samples(1, 0, 10, limit=10)) == wanted
    store.close()
    store = DuckDbStore(path, hot_rows=3, fan_in=2)
    assert sent_of(store.samples(1, 0, 10, limit=10)) == wanted
    assert store.latest([1])[1].sent == 140.0
    compact_fully(store)
    assert sent_of(store.samples(1, 0, 10, limit=10)) == wanted
    assert not store._file.hot.has_sent
    store.close()
