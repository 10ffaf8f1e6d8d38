"""Token buckets as columns, against the plain ones they stand for (ING-16)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest.allowance import Buckets, Rates

START = 1_795_314_590_000


def column(values: list[int]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.array(values, np.int64)


def refused(buckets: Buckets, senders: list[int], points: list[int], at_ms: int) -> list[bool]:
    over = buckets.over(column(senders), column(points), at_ms)
    return [False] * len(senders) if over is None else over.tolist()


def test_ING_16_a_burst_passes_and_then_the_rate_alone() -> None:
    buckets = Buckets(lambda _: Rates(messages=2, burst_s=5))
    assert refused(buckets, [7] * 12, [1] * 12, START) == [False] * 10 + [True] * 2
    assert refused(buckets, [7] * 3, [1] * 3, START + 1000) == [False, False, True]
    assert refused(buckets, [7] * 12, [1] * 12, START + 3_600_000) == [False] * 10 + [True] * 2


def test_ING_16_points_count_too_and_neighbours_do_not() -> None:
    buckets = Buckets(lambda _: Rates(points=10, burst_s=1))
    assert refused(buckets, [1, 2, 1, 1, 2], [6, 6, 6, 1, 4], START) == [False, False, True, True, False]


def test_ING_16_without_a_limit_nothing_is_ever_over() -> None:
    buckets = Buckets(lambda _: Rates())
    for n in range(5):
        assert buckets.over(column([1] * 1000), column([9] * 1000), START + n) is None


def test_ING_16_nobody_is_looked_at_while_nobody_can_be_over() -> None:
    asked: list[int] = []

    def rates(sender: int) -> Rates:
        asked.append(sender)
        return Rates(messages=100, burst_s=100)

    buckets = Buckets(rates)
    assert buckets.over(column([1]), column([1]), START) is None
    asked.clear()
    for sender in range(2, 99):
        assert buckets.over(column([sender] * 100), column([1] * 100), START) is None
    assert asked == []


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=30), st.integers(0, 3000)
        ),
        max_size=20,
    )
)
def test_ING_16_nobody_gets_more_than_burst_and_rate(batches: list[tuple[list[tuple[int, int]], int]]) -> None:
    buckets, at_ms = Buckets(lambda _: Rates(messages=3, points=5, burst_s=4)), START
    passed: dict[int, list[int]] = {}
    for batch, pause_ms in batches:
        at_ms += pause_ms
        over = refused(buckets, [sender for sender, _ in batch], [held for _, held in batch], at_ms)
        for (sender, held), is_over in zip(batch, over, strict=True):
            if not is_over:
                counts = passed.setdefault(sender, [0, 0])
                counts[0] += 1
                counts[1] += held
        # Who has not used up a full bucket in all this time cannot be over.
        for sender in {sender for sender, _ in batch}:
            mine = [(held, is_over) for (one, held), is_over in zip(batch, over, strict=True) if one == sender]
            if len(mine) + passed.get(sender, [0, 0])[0] <= 12 and (
                sum(held for held, _ in mine) + passed.get(sender, [0, 0])[1] <= 20
            ):
                assert not any(is_over for _, is_over in mine)
    span_s = (at_ms - START) / 1000
    for messages, points in passed.values():
        assert messages <= 12 + 3 * span_s + 1e-6
        assert points <= 20 + 5 * span_s + 1e-6
