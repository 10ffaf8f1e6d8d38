"""D06, RUL-12: a worker that starts holds what was evaluated last of each series, not what nobody has judged yet."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rules import resuming
from rules.marks import Marks
from rules.outcome import LONG_AGO
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Flag, Readings

NOW = datetime(2026, 2, 3, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    with closing(DuckDbStore(tmp_path / "t.duckdb")) as opened:
        yield opened


def write(store: DuckDbStore, *rows: tuple[int, int, float], flag: Flag | None = None) -> None:
    series, ts_ms, value = zip(*rows, strict=True)
    store.write(Readings.of(series, ts_ms, value, flags=np.full(len(rows), flag or 0, np.uint8)))


def held(store: DuckDbStore, tmp_path: Path, marked: dict[int, int]) -> dict[int, tuple[Any, ...]]:
    kept = Marks(tmp_path / "marks")
    kept.open()
    kept.advance(np.array([*marked], np.int64), np.array([*marked.values()], np.int64))
    found, mark_ms = resuming.known(store, np.arange(1, 9), kept, now=NOW)
    rows = zip(found.series, found.ts_ms, found.value, mark_ms, strict=True)
    return {series.item(): (at.item(), value.item(), mark.item()) for series, at, value, mark in rows}


def test_D06_what_is_stored_after_the_mark_is_not_held(store: DuckDbStore, tmp_path: Path) -> None:
    write(
        store, (1, 1000, 1.0), (1, 2000, 2.0), (1, 3000, 3.0), (2, 1500, 5.0), (3, 9_000_000, 7.0), (3, 9_000_001, 8.0)
    )
    marked = {1: 2000, 2: 1500, 3: 9_000_000}
    assert held(store, tmp_path, marked) == {
        1: (2000, 2.0, 2000),
        2: (1500, 5.0, 1500),
        3: (9_000_000, 7.0, 9_000_000),
    }


def test_D06_without_a_mark_or_where_nothing_is_stored_there_the_newest_is_held(
    store: DuckDbStore, tmp_path: Path
) -> None:
    write(store, (1, 2000, 1.0), (2, 2000, 2.0), (3, 2000, 3.0))
    assert held(store, tmp_path, {2: 1000, 3: 5000}) == {
        1: (2000, 1.0, LONG_AGO),
        2: (2000, 2.0, 1000),
        3: (2000, 3.0, LONG_AGO),
    }


def test_D06_a_bad_reading_that_came_last_hides_nothing(store: DuckDbStore, tmp_path: Path) -> None:
    write(store, (1, 1000, 1.0))
    write(store, (1, 2000, 900.0), (2, 2000, 900.0), flag=Flag.BAD)
    assert held(store, tmp_path, {1: 1000}) == {1: (1000, 1.0, 1000)}
