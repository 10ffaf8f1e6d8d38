"""What is at work at once is bounded, and in the order of a segment each reading is in exactly one part."""

import contextlib
import itertools
from collections.abc import Iterator

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry import slices

Row = tuple[int, int]


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 20))
def test_runs_follow_each_other_and_none_is_larger_than_it_must_be(counts: list[int], most: int) -> None:
    runs = list(slices.runs(np.array(counts, np.int64), most))
    assert [place for first, last in runs for place in range(first, last + 1)] == list(range(len(counts)))
    assert all(first == last or sum(counts[first : last + 1]) <= most for first, last in runs)
    for (first, last), (following, _) in itertools.pairwise(runs):
        assert sum(counts[first : last + 1]) + counts[following] > most


@pytest.fixture(scope="module")
def cursor() -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(duckdb.connect(config={"threads": 1})) as opened:
        opened.execute("CREATE TABLE given (series BIGINT, ts_ms BIGINT)")
        yield opened


rows = st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 10_000)), unique=True, max_size=120)


@settings(max_examples=40, deadline=None)
@given(given_rows=rows, most=st.integers(1, 60), unit_ms=st.sampled_from([1, 500]))
def test_parts_put_one_after_the_other_are_all_rows_in_order(
    cursor: duckdb.DuckDBPyConnection, given_rows: list[Row], most: int, unit_ms: int
) -> None:
    cursor.execute("DELETE FROM given")
    if given_rows:
        cursor.executemany("INSERT INTO given VALUES (?, ?)", given_rows)
    parts = [
        cursor.execute(f"SELECT series, ts_ms FROM given WHERE {part} ORDER BY ALL").fetchall()  # noqa: S608
        for part in slices.of(cursor, "FROM given", most, unit_ms=unit_ms)
    ]
    assert [row for part in parts for row in part] == sorted(given_rows)
    # A bucket that two parts share would be counted as two.
    buckets = [{(series, ts_ms // unit_ms) for series, ts_ms in part} for part in parts]
    assert sum(map(len, buckets)) == len(set().union(*buckets))


def test_a_long_series_is_parted_by_time(cursor: duckdb.DuckDBPyConnection) -> None:
    cursor.execute("DELETE FROM given")
    cursor.execute("INSERT INTO given SELECT 1, range FROM range(100_000)")
    parts = list(slices.of(cursor, "FROM given", 10_000))
    sizes = [cursor.execute(f"SELECT count(*) FROM given WHERE {part}").fetchall()[0][0] for part in parts]  # noqa: S608
    assert sum(sizes) == 100_000
    assert max(sizes) <= 10_000
