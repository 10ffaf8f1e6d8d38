"""TEL-10: the same readings in each store, the same questions, the same answers after rounding."""

from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from kernel import clock
from telemetry import buckets, functions
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Flag, Float64s, Readings
from telemetry.store import TelemetryStore, open_store
from tests.telemetry.conftest import flush

HOUR = 3_600_000
T0 = clock.now_ms() // HOUR * HOUR - 72 * HOUR
FIRST = 700_000
Answer = list[list[float]]


def _content() -> Readings:
    """Give three days of six series: noisy, a counter that is reset, states, texts, late rows and corrections."""
    chance = np.random.default_rng(10)
    rows = 4000
    series = FIRST + chance.integers(0, 6, rows)
    ts_ms = T0 + chance.permutation(rows) * 64_111
    value = chance.normal(20, 5, rows).round(4)
    value[series == FIRST + 1] = ((ts_ms - T0) // 1000 % 100_000)[series == FIRST + 1]
    value[series == FIRST + 2] = chance.integers(0, 3, rows)[series == FIRST + 2]
    texts = [["run", "stop", ""][row % 3] if number == FIRST + 3 else None for row, number in enumerate(series)]
    value[series == FIRST + 3] = np.nan
    flags = np.where(chance.random(rows) < 0.05, Flag.UNCERTAIN, 0)
    first = Readings.of(series, ts_ms, value, texts, flags)
    again = Readings.of([FIRST] * 3, ts_ms[series == FIRST][:3], [1.5, 2.5, 3.5])
    return Readings.of_rows([*first.rows(), *again.rows()])


def _questions() -> list[Callable[[TelemetryStore], object]]:
    """Return 50 questions drawn from all kinds there are."""
    chance = np.random.default_rng(50)
    kinds = (_range, _calendar, _percentile, _rate, _states, _latest, _samples, _filled)
    return [
        kinds[number % len(kinds)](np.random.default_rng(int(seed)))
        for number, seed in enumerate(chance.integers(0, 2**31, 50))
    ]


def _span(chance: np.random.Generator) -> tuple[int, int]:
    start = T0 + int(chance.integers(0, 60 * HOUR))
    return start, start + int(chance.integers(1, 12 * HOUR))


def _some(chance: np.random.Generator) -> list[int]:
    return [FIRST + int(number) for number in chance.permutation(7)[: chance.integers(1, 7)]]


def _told(*tables: Float64s) -> list[object]:
    return [np.round(table, 6).tolist() for table in (np.nan_to_num(table, nan=-1e99) for table in tables)]


def _all(found: buckets.Buckets) -> list[object]:
    return _told(found.count, found.min, found.max, found.mean, found.sum, found.first, found.last)


def _range(chance: np.random.Generator) -> Callable[[TelemetryStore], object]:
    series, (start, end), points = _some(chance), _span(chance), int(chance.integers(1, 60))
    return lambda store: _all(store.range(series, start, end, points=points))


def _calendar(chance: np.random.Generator) -> Callable[[TelemetryStore], object]:
    series, (start, end) = _some(chance), _span(chance)
    unit = chance.choice(["hour", "day", "week", "month"])
    zone = ZoneInfo(str(chance.choice(["Asia/Shanghai", "Europe/Berlin", "Asia/Kathmandu"])))
    edges = buckets.calendar(start, end, unit=unit, zone=zone)
    return lambda store: _all(store.aggregate(series, edges))


def _percentile(chance: np.random.Generator) -> Callable[[TelemetryStore], object]:
    series, (start, end), percent = _some(chance), _span(chance), float(chance.uniform(0, 100))
    edges = buckets.even(start, end, points=7)
    return lambda store: _told(
        functions.percentile(
            store.readings(series, start, end, limit=10_000), (buckets.distinct(series, edges), edges), percent
        )
    )


def _rate(chance: np.random.Generator) -> Callable[[TelemetryStore], object]:
    series, (start, end) = _some(chance), _span(chance)
    edges = buckets.even(start, end, points=9)
    return lambda store: _told(
        functions.rate(
            store.readings(series, start - HOUR, end, limit=10_000),
            (buckets.distinct(series, edges), edges),
            is_counter=True,
        )
    )


def _states(chance: np.random.Generator) -> Callable[[TelemetryStore], object]:
    series, (start, end) = FIRST + int(chance.integers(2, 4)), _span(chance)
    edges = buckets.even(start, end, points=4)

    def ask(store: TelemetryStore) -> object:
        some = store.readings([series], start - HOUR, end, limit=10_000)
        found = functions.time_in_state(some, edges, hold_ms=HOUR, now_ms=end)
        return found.states, found.ms.tolist(), found.unknown_ms.tolist()

    return ask


def _latest(chance: np.random.Generator) -> Callable[[TelemetryStore], object]:
    series = _some(chance)
    return lambda store: {
        number: (one.ts_ms, str(round(one.value, 6)), one.text, one.flags)
        for number, one in sorted(store.latest(series).items())
    }


def _samples(chance: np.random.Generator) -> Callable[[TelemetryStore], object]:
    series, (start, end) = _some(chance)[0], _span(chance)
    return lambda store: [
        (ts_ms, str(round(value, 6)), text, flags)
        for _, ts_ms, value, text, flags in store.samples(series, start, end, limit=50).rows()
    ]


def _filled(chance: np.random.Generator) -> Callable[[TelemetryStore], object]:
    series, (start, end) = _some(chance), _span(chance)
    edges = buckets.even(start, end, points=200)
    how = chance.choice(["previous", "linear"])
    return lambda store: _told(functions.fill(store.aggregate(series, edges).mean, edges, how))


def test_TEL_10_the_results_of_50_queries_are_equal_after_rounding(victoria_url: str, tmp_path: Path) -> None:
    embedded = DuckDbStore(tmp_path / "t.duckdb", hot_rows=500, fan_in=2)
    server = open_store(victoria_url, tmp_path)
    try:
        content = _content()
        for part in np.array_split(np.arange(len(content)), 9):
            for store in (embedded, server):
                store.write(content.select(part))
            embedded.compact()
            flush(victoria_url)
        questions = _questions()
        assert len(questions) == 50
        for number, ask in enumerate(questions):
            assert ask(embedded) == ask(server), f"question {number}"
    finally:
        embedded.close()
        server.close()


def test_more_readings_than_wanted_are_refused(tmp_path: Path) -> None:
    store = DuckDbStore(tmp_path / "t.duckdb")
    store.write(Readings.of([1] * 10, range(T0, T0 + 10), range(10)))
    assert len(store.readings([1, 1, 2], T0, T0 + 10, limit=10)) == 10
    assert len(store.readings([], T0, T0 + 10, limit=10)) == 0
    with pytest.raises(ValueError, match="more than 9"):
        store.readings([1], T0, T0 + 10, limit=9)
    with pytest.raises(ValueError, match="limit"):
        store.readings([1], T0, T0 + 10, limit=0)
    store.close()
