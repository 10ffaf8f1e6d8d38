"""How unusual an hour is beside the same hour of the weeks before: the seasonal baseline of a metric. Pure.

For ``ingest.hours``, which keeps it as a derived metric that rules can compare. What is usual at an hour is the median
of that hour, the one before and the one after, one to six weeks earlier; how far it usually strays is their median
distance from it, at least that of the last two weeks as a whole. So an hour is judged by the past alone, a fault of
last week does not become the usual, and everybody can redo the sum. Weeks are counted in UTC; where clocks are changed,
the hours beside it bridge the shift.
"""

from typing import Final

import numpy as np

from telemetry.readings import Float64s, Int64s
from telemetry.retention import HOUR_MS

WEEK_HOURS: Final = 168
WEEKS: Final = 6
LEAST: Final = 6
"""Hours in the past, of two weeks at least, below which nothing is said."""
LOOK_BACK_MS: Final = (WEEKS * WEEK_HOURS + 1) * HOUR_MS
_LEAST_WEEKS: Final = 2
"""One week alone is no habit."""
_FORTNIGHT: Final = 2 * WEEK_HOURS
_LEAST_OF_FORTNIGHT: Final = 48
_SIGMA: Final = 1.4826
"""What turns the median distance of normal noise into its standard deviation."""


def deviations(hour_ms: Int64s, mean: Float64s, wanted_ms: Int64s) -> Float64s:
    """Return how many usual distances each wanted hour lies from what is usual then: float64[wanted].

    ``hour_ms`` and ``mean`` (int64, float64, one length) are the hours there are with their means, those wanted and
    ``LOOK_BACK_MS`` before them; hours that have no value are left out or NaN. The answer is NaN where the hour itself
    has no value or too little past, so a rule on it stays unknown.
    """
    if not len(hour_ms) or not len(wanted_ms):
        return np.full(len(wanted_ms), np.nan)
    first = min(int(hour_ms.min()), int(wanted_ms.min()) - LOOK_BACK_MS) // HOUR_MS
    grid = np.full(int(max(hour_ms.max(), wanted_ms.max())) // HOUR_MS - first + 2, np.nan)
    grid[hour_ms // HOUR_MS - first] = mean
    at = (wanted_ms // HOUR_MS - first).astype(np.intp)
    back = np.arange(1, WEEKS + 1) * WEEK_HOURS
    beside = (-back[:, None] + np.array([-1, 0, 1])).ravel()
    past = grid[at[:, None] + beside]
    is_enough = (np.isfinite(past).sum(axis=1) >= LEAST) & (_weeks_known(past) >= _LEAST_WEEKS)
    usual, strays = _spread(past)
    fortnight = grid[at[:, None] - np.arange(1, _FORTNIGHT + 1)] - _usual_of(grid, at)
    floor = np.where(np.isfinite(fortnight).sum(axis=1) >= _LEAST_OF_FORTNIGHT, _spread(fortnight)[1], 0.0)
    distance = np.maximum(np.maximum(strays, floor) * _SIGMA, 1e-9 * np.maximum(np.abs(usual), 1.0))
    return np.where(is_enough, (grid[at] - usual) / distance, np.nan)


def _weeks_known(past: Float64s) -> Int64s:
    known: Int64s = np.isfinite(past.reshape(len(past), WEEKS, 3)).any(axis=2).sum(axis=1)
    return known


def _usual_of(grid: Float64s, at: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Float64s:
    """Return for each hour of the fortnight before what that hour was a week earlier: float64[wanted, fortnight]."""
    usual: Float64s = grid[np.maximum(at[:, None] - np.arange(1, _FORTNIGHT + 1) - WEEK_HOURS, 0)]
    return usual


def _spread(rows: Float64s) -> tuple[Float64s, Float64s]:
    """Return the median of each row and the median distance from it, NaN left out."""
    with np.errstate(all="ignore"):
        middle = _median(rows)
        return middle, _median(np.abs(rows - middle[:, None]))


def _median(rows: Float64s) -> Float64s:
    """Return the median of what is known in each row; 0 where nothing is."""
    ordered = np.sort(rows, axis=1)  # NaN comes last
    count = np.isfinite(rows).sum(axis=1)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    each = np.arange(len(rows))
    middle = (ordered[each, low] + ordered[each, np.minimum(high, rows.shape[1] - 1)]) / 2
    return np.where(count > 0, middle, 0.0)
