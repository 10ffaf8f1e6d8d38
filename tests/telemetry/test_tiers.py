"""Minutes and hours that outlive exact readings: right under late data, corrections, kills, and lifetimes by series."""

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from telemetry import buckets, tiers
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings, sent_of, with_sent
from telemetry.retention import DAY_MS, HOUR_MS, MINUTE_MS, NEVER, Cited, Horizon, Lifetimes, Policy

SERIES = 4
HOURS = 8
ROWS = st.lists(
    st.tuples(st.integers(0, SERIES - 1), st.integers(0, HOURS * 12 - 1), st.integers(-50, 50)),
    min_size=1,
    max_size=30,
)
Values = dict[tuple[int, int], float]
COLUMNS = ("count", "min", "max", "mean", "sum", "first", "last")


def fold(values: Values, asked: list[int], edges: np.ndarray) -> buckets.Buckets:  # type: ignore[type-arg]
    keys = sorted(values)
    some = Readings.of([s for s, _ in keys], [t for _, t in keys], [values[key] for key in keys])
    return buckets.fold(some, np.array(asked), edges)


def equal(found: buckets.Buckets, wanted: buckets.Buckets) -> None:
    for name in COLUMNS:
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), err_msg=name)


class TiersAgainstDictionary(RuleBasedStateMachine):
    """Series 1 is kept shorter, series 2 is under hold, a span of series 3 is cited; nobody sends what is too old."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tiers-"))
        self.reopen()
        self.ever: Values = {}
        self.exact: Values = {}
        self.before = [0] * SERIES

    def reopen(self) -> None:
        self.store = DuckDbStore(self.folder / "t.duckdb", hot_rows=8, segment_rows=64, fan_in=2)

    @rule(rows=ROWS)
    def write(self, rows: list[tuple[int, int, int]]) -> None:
        fresh = [(s, t * 5 * MINUTE_MS, float(v)) for s, t, v in rows if t * 5 * MINUTE_MS >= self.before[s]]
        if fresh:
            self.store.write(Readings.of(*zip(*fresh, strict=True)))
        for series, ts_ms, value in fresh:
            self.ever[series, ts_ms] = self.exact[series, ts_ms] = value

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule(hour=st.integers(0, HOURS - 2))
    def keep(self, hour: int) -> None:
        shared = Horizon(hour * HOUR_MS, 0, 0)
        shorter = Horizon((hour + 1) * HOUR_MS, (hour + 1) * HOUR_MS, 0, has_minutes=False)
        cited = Cited(np.array([3]), np.array([HOUR_MS // 2]), np.array([2 * HOUR_MS]))
        own = {shorter: np.array([1]), NEVER: np.array([2])}
        self.store.keep(Policy(shared, own, cited))
        horizon = [shared, shorter, NEVER, shared]
        self.exact = {
            (s, t): value
            for (s, t), value in self.exact.items()
            if t >= horizon[s].raw_ms or (s == 3 and HOUR_MS // 2 <= t < 2 * HOUR_MS)
        }
        self.before = [max(before, one.raw_ms) for before, one in zip(self.before, horizon, strict=True)]

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.reopen()

    @invariant()
    def what_is_exact_is_kept_as_the_policy_says(self) -> None:
        found = self.store.readings(range(SERIES), 0, HOURS * HOUR_MS, limit=10_000)
        keys = zip(found.series.tolist(), found.ts_ms.tolist(), strict=True)
        assert dict(zip(keys, found.value.tolist(), strict=True)) == self.exact

    @invariant()
    def hours_answer_as_if_nothing_had_been_forgotten(self) -> None:
        asked = [3, 1, 0, 2]
        hours = buckets.even(0, HOURS * HOUR_MS, step_ms=HOUR_MS)
        equal(self.store.aggregate(asked, hours), fold(self.ever, asked, hours))
        equal(self.store.range(asked, 0, HOURS * HOUR_MS, points=2), fold(self.ever, asked, hours[::4]))

    @invariant()
    def minutes_answer_where_a_series_has_them(self) -> None:
        asked = [0, 2, 3]
        odd = buckets.even(0, HOURS * HOUR_MS, step_ms=35 * MINUTE_MS)
        equal(self.store.aggregate(asked, odd), fold(self.ever, asked, odd))

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


def test_TEL_5_any_sequence_of_writes_late_rows_corrections_and_expiries_leaves_right_tiers() -> None:
    bounds = settings(max_examples=12, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(TiersAgainstDictionary, settings=bounds)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    with contextlib.closing(DuckDbStore(tmp_path / "t.duckdb", hot_rows=100, fan_in=2)) as opened:
        yield opened


def day_of(store: DuckDbStore, *, days: int = 3) -> Values:
    """Write some days of two series, a reading a minute."""
    minutes = np.arange(days * 1440)
    for series in (1, 2):
        store.write(Readings.of(np.full(len(minutes), series), minutes * MINUTE_MS, minutes % 7 + series))
    return {(series, int(m) * MINUTE_MS): float(m % 7 + series) for series in (1, 2) for m in minutes}


def test_TEL_5_the_hourly_tier_answers_after_expiry_and_what_an_alarm_cites_stays_exact(store: DuckDbStore) -> None:
    values = day_of(store)
    cited = Cited(np.array([2]), np.array([5 * HOUR_MS]), np.array([6 * HOUR_MS]))
    store.keep(Policy(Lifetimes(1, 0, 3650).horizon(3 * DAY_MS), cited=cited))
    assert len(store.samples(1, 0, 2 * DAY_MS, limit=10)) == 0
    assert len(store.samples(1, 0, 9 * DAY_MS, limit=9999)) == 1440
    left = store.samples(2, 0, 2 * DAY_MS, limit=9999)
    assert left.ts_ms.tolist() == [m * MINUTE_MS for m in range(300, 360)]
    for edges in (buckets.even(0, 3 * DAY_MS, step_ms=HOUR_MS), buckets.even(0, 3 * DAY_MS, step_ms=DAY_MS)):
        equal(store.aggregate([1, 2], edges), fold(values, [1, 2], edges))
    assert store.range([1, 2], 0, 3 * DAY_MS, points=7).count.sum() == len(values)


def test_TEL_5_minutes_go_at_their_own_time_and_hours_take_over(store: DuckDbStore) -> None:
    values = day_of(store)
    half_hours = buckets.even(0, 3 * DAY_MS, step_ms=HOUR_MS // 2)
    store.keep(Policy(Horizon(2 * DAY_MS, 0, 0)))
    equal(store.aggregate([1], half_hours), fold(values, [1], half_hours))
    store.keep(Policy(Horizon(2 * DAY_MS, DAY_MS, 0)))
    found = store.aggregate([1], half_hours).count[0]
    assert found[:48].tolist() == [60, 0] * 24
    assert (found[48:] == 30).all()
    store.keep(Policy(Horizon(2 * DAY_MS, DAY_MS, DAY_MS)))
    assert store.aggregate([1], half_hours).count[0][:48].sum() == 0
    assert store.latest([1])[1].ts_ms == 3 * DAY_MS - MINUTE_MS


def test_a_correction_of_what_is_rolled_shows_at_once_and_is_mended_by_housekeeping(store: DuckDbStore) -> None:
    values = day_of(store)
    while store.compact():
        pass
    store.write(Readings.of([1, 1], [90 * MINUTE_MS, 91 * MINUTE_MS], [500.0, -500.0]))
    values[1, 90 * MINUTE_MS], values[1, 91 * MINUTE_MS] = 500.0, -500.0
    hours = buckets.even(0, DAY_MS, step_ms=HOUR_MS)
    equal(store.aggregate([1], hours), fold(values, [1], hours))
    assert tiers.has_dirty(store._file.writer)
    assert store.compact()
    assert not tiers.has_dirty(store._file.writer)
    equal(store.aggregate([1], hours), fold(values, [1], hours))
    store.keep(Policy(Horizon(DAY_MS, 0, 0)))
    equal(store.aggregate([1], hours), fold(values, [1], hours))


def test_what_comes_again_after_it_expired_is_not_counted_twice(store: DuckDbStore) -> None:
    values = day_of(store)
    policy = Policy(Horizon(2 * DAY_MS, 0, 0))
    store.keep(policy)
    again = [m * MINUTE_MS for m in range(60)]
    store.write(Readings.of([1] * 60, again, [values[1, ts_ms] for ts_ms in again]))
    store.keep(policy)
    hours = buckets.even(0, 3 * DAY_MS, step_ms=HOUR_MS)
    equal(store.aggregate([1], hours), fold(values, [1], hours))


def test_history_older_than_the_horizon_reaches_the_tiers_before_it_goes(store: DuckDbStore) -> None:
    policy = Policy(Horizon(2 * DAY_MS, 0, 0))
    store.keep(policy)
    values = day_of(store)
    store.keep(policy)
    assert len(store.samples(1, 0, 2 * DAY_MS, limit=9)) == 0
    hours = buckets.even(0, 3 * DAY_MS, step_ms=HOUR_MS)
    equal(store.aggregate([1, 2], hours), fold(values, [1, 2], hours))


def test_a_type_that_is_kept_longer_from_now_on_does_not_get_back_what_is_gone(store: DuckDbStore) -> None:
    values = day_of(store)
    short = Horizon(2 * DAY_MS, 2 * DAY_MS, 0, has_minutes=False)
    store.keep(Policy(NEVER, {short: np.array([1])}))
    store.keep(Policy(NEVER))
    odd = buckets.even(0, 3 * DAY_MS, points=36)
    found = store.aggregate([1, 2], odd)
    equal(found, fold(values, [1, 2], odd))


def test_a_file_of_the_first_format_gets_its_tiers(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    with duckdb.connect(str(path)) as old:
        old.execute("CREATE TABLE format (number INTEGER)")
        old.execute("INSERT INTO format VALUES (1)")
        old.execute("CREATE TABLE tables (number BIGINT, kind VARCHAR, rows BIGINT, first_ms BIGINT, last_ms BIGINT)")
        columns = "series BIGINT, ts_ms BIGINT, value DOUBLE, text VARCHAR, flags UTINYINT"
        old.execute(f"CREATE TABLE latest ({columns})")
        old.execute(f"CREATE TABLE segment_1 ({columns})")
        old.execute("INSERT INTO segment_1 SELECT 7, range * 60000, range, NULL, 0 FROM range(600)")
        old.execute("INSERT INTO tables VALUES (1, 'segment', 600, 0, 35940000)")
    with contextlib.closing(DuckDbStore(path, hot_rows=10)) as store:
        store.keep(Policy(Horizon(5 * HOUR_MS, 0, 0)))
        hours = buckets.even(0, 10 * HOUR_MS, step_ms=HOUR_MS)
        assert store.aggregate([7], hours).count.tolist() == [[60] * 10]
        assert len(store.samples(7, 0, 5 * HOUR_MS, limit=9)) == 0
        # Nor did such a file know of numbers that were converted.
        store.write(with_sent(Readings.of([7], [10 * HOUR_MS], [20.0]), [68.0]))
        assert sent_of(store.samples(7, 10 * HOUR_MS - 60_000, 10 * HOUR_MS + 1, limit=9)) == [None, 68.0]


def test_TEL_5_a_correction_of_what_is_forgotten_next_is_in_its_hour(store: DuckDbStore) -> None:
    store.write(Readings.of([1, 1], [0, HOUR_MS], [1.0, -26.0]))
    store.keep(Policy(Horizon(HOUR_MS // 2, 0, 0)))
    store.write(Readings.of([1], [HOUR_MS], [5.0]))
    store.keep(Policy(Horizon(8 * HOUR_MS, 0, 0)))
    hours = buckets.even(0, 2 * HOUR_MS, step_ms=HOUR_MS)
    assert store.aggregate([1], hours).min.tolist()[0][1] == 5.0


WRITER = """
import sys, threading
from pathlib import Path
import numpy as np
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings, sent_of, with_sent
from telemetry.retention import Horizon, Policy

store = DuckDbStore(Path(sys.argv[1]), hot_rows=4000, fan_in=2)
first = int(sys.argv[2])
done = [first]

def tidy():
    while True:
        for _ in range(3):
            store.compact()
        store.keep(Policy(Horizon(max(done[0] - 20, 0) * 60000 // 3600000 * 3600000, 0, 0)))

threading.Thread(target=tidy, daemon=True).start()
for batch in range(first, first + 10_000):
    series = np.arange(500)
    store.write(Readings(series, np.full(500, batch * 60000), series + batch / 16, None, np.zeros(500, np.uint8)))
    done[0] = batch
    print(batch, flush=True)
"""


def test_TEL_5_hours_count_every_acknowledged_reading_once_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    chance = random.Random(5)
    first = 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            stop_at = first + chance.randint(40, 120)
            watchdog = threading.Timer(60, writer.kill)
            watchdog.start()
            told = first
            for line in writer.stdout:
                told = int(line)
                if told >= stop_at:
                    break
            writer.send_signal(signal.SIGKILL)
            watchdog.cancel()
        with contextlib.closing(DuckDbStore(path, hot_rows=4000, fan_in=2)) as store:
            assert told >= stop_at
            end = (told // 60 + 2) * HOUR_MS
            hours = store.aggregate(range(500), np.array([0, end])).count
            newest = store.latest([0])[0].ts_ms // MINUTE_MS
            assert (hours == newest + 1).all()
            assert newest >= told
            first = newest + 1
