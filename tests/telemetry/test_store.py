"""The contract every store keeps. Numbers are compared after rounding where a store rounds."""

from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from kernel import clock
from kernel.errors import Misconfigured, Unavailable
from telemetry import buckets
from telemetry.readings import Flag, Readings
from telemetry.store import open_store
from tests.telemetry.conftest import Subject

NAN = float("nan")
HOUR = 3_600_000
T0 = clock.now_ms() // HOUR * HOUR - 48 * HOUR
LATER = T0 + 100 * HOUR


def told(readings: Readings) -> list[tuple[int, float | str]]:
    """Give (time after T0, number or text) of each row."""
    return [(ts_ms - T0, value if text is None else text) for _, ts_ms, value, text, _ in readings.rows()]


def test_TEL_2_an_older_reading_never_replaces_a_newer(subject: Subject) -> None:
    store, a = subject.store, subject.first
    store.write(Readings.of([a, a], [T0 + 2000, T0 + 1000], [2.0, 1.0]))
    subject.settled()
    assert store.latest([a])[a].value == 2.0
    store.write(Readings.of([a], [T0 + 1500], [1.5]))
    subject.settled()
    assert (store.latest([a])[a].ts_ms, store.latest([a])[a].value) == (T0 + 2000, 2.0)
    store.write(Readings.of([a], [T0 + 3000], [3.0], flags=[Flag.UNCERTAIN]))
    subject.settled()
    newest = store.latest([a, a + 1])
    assert list(newest) == [a]
    assert (newest[a].ts_ms, newest[a].value, newest[a].flags) == (T0 + 3000, 3.0, Flag.UNCERTAIN)


def test_latest_values_of_many_series_of_all_ages(subject: Subject) -> None:
    series = [subject.first + number for number in range(700)]
    ages = [T0 - number * HOUR for number in range(700)]
    subject.store.write(Readings.of(series, ages, [float(number) for number in range(700)]))
    subject.settled()
    newest = subject.store.latest([*series, subject.first + 900])
    assert {number: (latest.ts_ms, latest.value) for number, latest in newest.items()} == {
        number: (age, float(place)) for place, (number, age) in enumerate(zip(series, ages, strict=True))
    }


def test_texts_numbers_booleans_and_flags_come_back(subject: Subject) -> None:
    a = subject.first
    values = [21.5, NAN, NAN, NAN, 1.0, float(2**53), -1e-9]
    text = [None, "", "⚙ 运行,=\\\"' |\n x", "🛠" * 1000, None, str(2**53 + 1), None]
    flags = [0, 0, Flag.CLOCK, 0, Flag.BOOLEAN, Flag.EXACT, Flag.BAD | Flag.CLOCK]
    subject.store.write(Readings.of([a] * 7, range(T0, T0 + 7), values, text, flags))
    subject.settled()
    found = subject.store.samples(a, T0, T0 + 100, limit=100)
    np.testing.assert_allclose(found.value, values, rtol=0 if subject.exact else 1e-11)
    assert found.text == text
    assert found.flags.tolist() == flags
    newest = subject.store.latest([a])[a]
    assert (newest.value, newest.flags) == (pytest.approx(-1e-9), Flag.BAD | Flag.CLOCK)


def test_TEL_4_a_converted_number_is_kept_in_both_units_and_corrected_in_both(subject: Subject) -> None:
    a, b, sent = subject.first, subject.first + 1, np.array([NAN, 70.3, 32.0])
    written = Readings.of([a, a, a], [T0, T0 + 1, T0 + 2], [20.0, 21.277777777777775, 0.0])
    subject.store.write(replace(written, sent=sent))
    subject.store.write(Readings.of([b], [T0], [1.0]))
    subject.settled()
    found = subject.store.samples(a, T0, T0 + 100, limit=100)
    assert found.sent is not None
    np.testing.assert_array_equal(found.sent, sent)
    newest = subject.store.latest([a, b])
    assert (newest[a].value, newest[a].sent) == (0.0, 32.0)
    assert newest[b].sent is None
    columns = subject.store.newest(np.array([a, b]))
    assert columns.sent is not None
    assert dict(zip(columns.series.tolist(), columns.sent.tolist(), strict=True))[a] == 32.0
    # The newest one is corrected to a number that needs no conversion, the one before to another that does.
    again = Readings.of([a, a], [T0 + 1, T0 + 2], [100.0, 5.0])
    subject.store.write(replace(again, sent=np.array([212.0, NAN])))
    subject.settled()
    found = subject.store.readings([a, b], T0, T0 + 100, limit=100)
    assert found.sent is not None
    assert found.value.tolist() == [20.0, 100.0, 5.0, 1.0]
    np.testing.assert_array_equal(found.sent, [NAN, 212.0, NAN, NAN])
    assert subject.store.latest([a])[a].sent is None


def test_TEL_6_bad_readings_are_kept_found_and_in_no_bucket(subject: Subject) -> None:
    store, a, b = subject.store, subject.first, subject.first + 1
    flags = [0, Flag.BAD, Flag.STUCK, Flag.BOOLEAN, 0, Flag.CLOCK | Flag.HISTORICAL]
    store.write(Readings.of([a, a, a, a, a, b], range(T0, T0 + 6), [1, 6553.5, 3, 1, 5, 7], flags=flags))
    subject.settled()
    assert told(store.samples(a, T0, T0 + 9, limit=9))[1] == (1, 6553.5)
    found = store.not_good([a, b], T0, T0 + 9, limit=9)
    assert (told(found), found.flags.tolist()) == (
        [(1, 6553.5), (2, 3.0), (5, 7.0)],
        [Flag.BAD, Flag.STUCK, Flag.CLOCK | Flag.HISTORICAL],
    )
    assert told(store.not_good([a, b], T0, T0 + 9, limit=1)) == [(1, 6553.5)]
    assert told(store.not_good([a], T0 + 2, T0 + 9, limit=9)) == [(2, 3.0)]
    assert not len(store.not_good([], T0, T0 + 9, limit=9))
    with pytest.raises(ValueError, match="limit"):
        store.not_good([a], T0, T0 + 9, limit=0)
    answer = store.range([a], T0, T0 + 9, points=1)
    assert (answer.count.tolist(), answer.max.tolist(), answer.sum.tolist()) == ([[4]], [[5.0]], [[10.0]])
    # What turns out to be good is in a bucket again.
    store.write(Readings.of([a], [T0 + 1], [6.5]))
    subject.settled()
    assert store.aggregate([a], np.array([T0, T0 + 9])).max.tolist() == [[6.5]]
    assert told(store.not_good([a], T0, T0 + 9, limit=9)) == [(2, 3.0)]


def test_TEL_1_numbers_at_the_edge_of_float64_come_back_bit_for_bit_where_the_store_is_exact(subject: Subject) -> None:
    if not subject.exact:
        pytest.skip("VictoriaMetrics rounds to about 12 digits, as its module says")
    values = [0.1 + 0.2, -0.0, 1e-308, 5e-324, 1.7976931348623157e308, float(2**53 - 1)]
    subject.store.write(Readings.of([subject.first] * 6, range(T0, T0 + 6), values))
    subject.settled()
    found = subject.store.samples(subject.first, T0, T0 + 100, limit=100).value
    assert found.view(np.int64).tolist() == np.array(values).view(np.int64).tolist()


def test_a_batch_delivered_three_times_in_different_order_leaves_the_same_rows(subject: Subject) -> None:
    rng = np.random.default_rng(11)
    rows = 500
    readings = Readings.of(
        subject.first + np.arange(rows) % 5, T0 + np.arange(rows) // 5, rng.normal(20, 5, rows).round(3)
    )
    told_once = None
    for _ in range(3):
        written = subject.store.write(readings.select(rng.permutation(rows)))
        assert written.stored + written.duplicate == rows
        assert written.corrected == 0
        subject.settled()
        found = [told(subject.store.samples(subject.first + n, T0, T0 + HOUR, limit=1000)) for n in range(5)]
        assert sum(map(len, found)) == rows
        told_once = told_once or found
        assert found == told_once
    if subject.store.counts_duplicates:
        assert written.duplicate == rows


def test_a_different_value_for_the_same_key_replaces_the_first(subject: Subject) -> None:
    store, a = subject.store, subject.first
    store.write(Readings.of([a, a, a], [T0, T0 + 1, T0 + 2], [1.0, 2.0, 3.0]))
    subject.settled()
    store.write(Readings.of([a], [T0 + 1], [20.0]))
    subject.settled()
    store.write(Readings.of([a], [T0 + 1], [NAN], text=["two"]))
    store.write(Readings.of([a], [T0 + 2], [NAN], text=["three"]))
    subject.settled()
    assert told(store.samples(a, T0, LATER, limit=10)) == [(0, 1.0), (1, "two"), (2, "three")]
    assert store.latest([a])[a].text == "three"
    store.write(Readings.of([a, a], [T0 + 1, T0 + 1], [5.0, 4.0]))
    subject.settled()
    assert told(store.samples(a, T0, LATER, limit=10)) == [(0, 1.0), (1, 4.0), (2, "three")]
    assert store.range([a], T0, T0 + 10, points=1).sum.tolist() == [[5.0]]


def test_what_a_batch_does_to_itself_is_counted(subject: Subject) -> None:
    a = subject.first
    written = subject.store.write(Readings.of([a, a, a, a], [T0, T0 + 1, T0, T0], [1.0, 2.0, 1.0, 3.0]))
    assert written.is_duplicate.tolist() == [False, False, True, False]
    assert written.is_correction.tolist() == [False, False, False, True]
    assert (written.stored, written.duplicate, written.corrected) == (3, 1, 1)


def test_an_hour_of_back_fill_in_random_order_leaves_the_latest_and_sorts_the_history(subject: Subject) -> None:
    store, a = subject.store, subject.first
    store.write(Readings.of([a], [T0 + HOUR], [60.0]))
    minutes = np.random.default_rng(2).permutation(60)
    for part in np.array_split(minutes, 6):
        store.write(Readings.of([a] * 10, T0 + part * 60_000, part.astype(float)))
    subject.settled()
    assert store.latest([a])[a].value == 60.0
    assert told(store.samples(a, T0, LATER, limit=100)) == [(minute * 60_000, float(minute)) for minute in range(61)]


def test_samples_are_bounded_by_time_and_limit(subject: Subject) -> None:
    store, a = subject.store, subject.first
    store.write(Readings.of([a] * 10, range(T0, T0 + 10), range(10)))
    subject.settled()
    assert told(store.samples(a, T0 + 2, T0 + 5, limit=100)) == [(2, 2.0), (3, 3.0), (4, 4.0)]
    assert told(store.samples(a, T0, LATER, limit=2)) == [(0, 0.0), (1, 1.0)]
    assert len(store.samples(a + 1, T0, LATER, limit=2)) == 0


def test_TEL_3_buckets_equal_a_brute_force_result(subject: Subject) -> None:
    rng = np.random.default_rng(4)
    store, asked = subject.store, [subject.first + number for number in (2, 0, 9)]
    raw = Readings.of(
        rng.integers(subject.first, subject.first + 4, 3000), T0 + rng.permutation(3000) * 1201, rng.normal(0, 9, 3000)
    )
    for part in np.array_split(np.arange(3000), 7):
        store.write(raw.select(part))
        subject.settled()
    berlin = buckets.calendar(T0, T0 + HOUR, unit="day", zone=ZoneInfo("Europe/Berlin"))
    found_and_edges = [
        (store.range(asked, T0, T0 + HOUR, points=37), buckets.even(T0, T0 + HOUR, points=37)),
        (store.range(asked, T0 + 5, T0 + HOUR, step_ms=61_007), buckets.even(T0 + 5, T0 + HOUR, step_ms=61_007)),
        (store.aggregate(asked, berlin), berlin),
    ]
    for found, edges in found_and_edges:
        wanted = buckets.fold(raw, np.array(asked), edges)
        for name in ("series", "edges_ms", "count", "min", "max", "mean", "sum", "first", "last"):
            np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-9, err_msg=name)
        assert found.count[2].sum() == 0
    assert store.range([], T0, T0 + HOUR, points=3).count.shape == (0, 3)


@pytest.mark.parametrize(("start_ms", "end_ms"), [(T0, T0), (T0, T0 - 1), (0, 200 * 366 * 24 * HOUR)])
def test_TEL_3_reversed_and_endless_ranges_are_refused(subject: Subject, start_ms: int, end_ms: int) -> None:
    with pytest.raises(ValueError, match="range"):
        subject.store.samples(1, start_ms, end_ms, limit=1)
    with pytest.raises(ValueError, match="range"):
        subject.store.range([1], start_ms, end_ms, points=1)
    with pytest.raises(ValueError, match=r"range|edges"):
        subject.store.aggregate([1], np.array([start_ms, end_ms]))


@pytest.mark.parametrize("limit", [0, -1, 1_000_001])
def test_a_limit_out_of_bounds_is_refused(subject: Subject, limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        subject.store.samples(1, T0, LATER, limit=limit)


def test_an_empty_batch_is_nothing(subject: Subject) -> None:
    assert subject.store.write(Readings.empty()).stored == 0


def test_a_restarted_store_still_knows_what_is_late(subject: Subject, tmp_path: Path) -> None:
    if not subject.exact:
        url = f"victoria://{subject.store._url.removeprefix('http://')}"  # type: ignore[attr-defined]
        a = subject.first
        subject.store.write(Readings.of([a, a], [T0, T0 + 9], [1.0, 9.0]))
        again = open_store(url, tmp_path)
        subject.settled()
        again.write(Readings.of([a], [T0], [2.0]))
        subject.settled()
        assert told(again.samples(a, T0, LATER, limit=9)) == [(0, 2.0), (9, 9.0)]
        again.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379",
        "localhost:8428",
        "victoria://localhost",
        "victoria://localhost:port",
        "victoria://:8428",
        "influx://localhost:8086/org/bucket",
        "influx://token@localhost:8086/org",
        "influx://token@localhost:8086",
        "",
    ],
)
def test_an_address_that_means_no_store_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="FIXWRIGHT_TELEMETRY_URL"):
        open_store(url, tmp_path)


@pytest.mark.parametrize("url", ["victoria://127.0.0.1:9", "influx://token@127.0.0.1:9/org/bucket"])
def test_a_server_that_does_not_answer_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        open_store(url, tmp_path)


def test_no_address_opens_the_file_in_the_data_directory(tmp_path: Path) -> None:
    open_store(None, tmp_path / "var").close()
    assert (tmp_path / "var" / "telemetry.duckdb").exists()
