"""Where a drawn line breaks."""

import numpy as np

from api.web import curves
from api.web.curves import Line
from assets.models import Metric

SECOND = 1000


def breaks(
    seconds: list[int], *, interval_s: int | None = 5, narrowest_s: int = 0, on_change: bool = False
) -> list[int]:
    metric = Metric(key="t", kind="gauge", expected_interval_s=interval_s, is_on_change=on_change)
    ts_ms = np.array(seconds, np.int64) * SECOND
    return curves._breaks(Line("t", "T", metric, ()), ts_ms, narrowest_s * SECOND).tolist()


def test_TEL_6_a_line_breaks_where_nothing_came_for_longer_than_a_value_holds() -> None:
    even = list(range(0, 100, 5))
    assert breaks(even) == []
    assert breaks([*even, *range(110, 200, 5)]) == []  # 15 s is as long as a value speaks
    assert breaks([*even, *range(111, 200, 5)]) == [19]
    # Two in a row, with one reading between them.
    assert breaks([*even, 200, *range(300, 400, 5)]) == [19, 20]
    assert breaks([0, 100]) == [0]
    assert breaks([0]) == []
    assert breaks([]) == []


def test_readings_that_came_more_seldom_than_said_now_are_a_line_all_the_same() -> None:
    seldom = list(range(0, 6000, 300))
    assert breaks(seldom) == []
    assert breaks([*seldom, *range(5705, 5800, 5)]) == []
    assert breaks([*seldom, *range(9000, 15_000, 300)]) == [19]


def test_what_the_screen_cannot_show_and_what_only_reports_changes_is_no_break() -> None:
    assert breaks([0, 5, 10, 15, 50, 55, 60], narrowest_s=40) == []
    assert breaks([0, 5, 10, 15, 50, 55, 60]) == [3]
    assert breaks([0, 5, 90_000], on_change=True) == []
    assert breaks([0, 5, 500, 2000], interval_s=None) == [2]  # ten minutes where nothing is said
