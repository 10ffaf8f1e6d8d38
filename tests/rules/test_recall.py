"""Windows after a restart: their past comes from the telemetry store, not from the state (RUL-13)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rules import recall
from rules.engine import Engine
from rules.histories import History, Reach, Wanted
from rules.outcome import HeldColumns
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Flag, Readings
from tests.rules.probe import START_MS, Probe, alarm_type, ms, words


def window(function: str, limit: float, **bound: float) -> dict[str, Any]:
    view = {"type": "window", "function": function, **bound}
    return {"type": "compare", "metric": "a", "operator": ">=", "limit": limit, "view": view}


def write(store: DuckDbStore, rows: list[tuple[int, float, float]]) -> None:
    series, at_s, value = zip(*rows, strict=True)
    store.write(Readings.of(series, [ms(at) for at in at_s], value))


@pytest.mark.parametrize("condition", [window("delta", 6, seconds=600), window("sum", 35, samples=6)])
def test_RUL_13_a_window_is_as_full_after_a_restart_as_before(tmp_path: Path, condition: dict[str, Any]) -> None:
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    rows = [(1, 120.0 * at, 3.0 + 1.2 * at) for at in range(6)]
    unbroken, broken = (Probe(alarm_type(major=condition)) for _ in range(2))
    for probe in (unbroken, broken):
        probe.engine = Engine(recall.from_store(store))
        probe.engine.install([probe.instance])
    heard = []
    for row in rows:
        write(store, [row])
        heard.append(words(unbroken.feed_rows([row])))
        # As after a crash between storing and evaluating: the store knows the row already.
        broken.engine = Engine(recall.from_store(store))
        broken.engine.install([broken.instance])
        broken.engine.restore(broken.stored.values())
        newest = store.newest(np.array([1], np.int64))
        broken.engine.seed(HeldColumns(newest.series, newest.ts_ms, newest.value, newest.ts_ms))
        assert words(broken.feed_rows([row])) == heard[-1]
    assert heard[-1] == ["Raised major"]
    store.close()


def test_a_number_of_samples_is_found_however_far_apart_they_are(tmp_path: Path) -> None:
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    write(store, [(1, -86_400.0 * day, float(day)) for day in range(40)] + [(2, -60.0, 7.0)])
    store.write(Readings.of([2, 2], [ms(-30), ms(-10)], [9.0, 8.0], flags=[Flag.BAD, 0]))
    wanted = {number: Wanted(Reach(samples=5), START_MS) for number in (1, 2, 3)}
    found = recall.from_store(store)(wanted)
    newest = found[1].newest(START_MS, 5)
    assert newest is not None
    assert newest.tolist() == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert found[2].within(START_MS, 3_600_000).tolist() == [7.0, 8.0], "what is bad is not seen"
    assert len(found[3]) == 0
    store.close()


def test_a_history_takes_samples_in_any_order_and_each_once() -> None:
    history = History()
    for ts_ms, value in [(5, 1.0), (9, 2.0), (7, 3.0), (9, 2.0), (7, 4.0), (5, float("nan")), (1, float("nan"))]:
        history.note(ts_ms, value)
    assert history.within(10, 10).tolist() == [4.0, 2.0]
    assert history.before(9) == (7, 4.0)
    for ts_ms in range(10, 1010):
        history.note(ts_ms, 0.0)
        history.forget(ts_ms, Reach(ms=5, samples=2))
    assert len(history) < 60, "what nobody looks at is forgotten"
    assert len(history.within(1009, 5)) == 6
