"""Trend to limit: when a slowly worsening measurement will cross a limit, and how sure that is.

Pure. A day is one point, its median, so that the rhythm of a day and a few bad readings do not matter. Two shapes
of wear are tried, a straight line and one that accelerates (exponential above a healthy level); the one that would
have foretold the newest quarter of the days better from the rest is taken. Lines are fitted by the median of all
pairwise slopes (Theil 1950, Sen 1968), which a third of wild points does not move. The interval comes from refitting
to resampled residuals (block bootstrap, Künsch 1989, blocks of a week, because a day resembles its neighbours).
"""

import enum
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]

DAY_MS: Final = 86_400_000
NO_TIMES: Final[Int64s] = np.empty(0, np.int64)
NO_VALUES: Final[Floats] = np.empty(0, np.float64)
LEAST_DAYS: Final = 14
"""Days with readings below which nothing is foretold."""
SURE: Final = (0.1, 0.9)
"""The interval holds the true crossing in about eight of ten cases."""
_PAIRS: Final = 4000
"""Pairs of days a line is fitted to at most, spread evenly over all there are."""
_CENTURY_DAYS: Final = 36_525
_REFITS: Final = 200
_BLOCK: Final = 7
_HELD_BACK: Final = 4
"""One part in so many, the newest, is foretold from the others to choose the shape."""
_SPREADS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""How far below the first days the healthy level may lie, in spreads of the residuals."""


class Outlook(enum.StrEnum):
    """What can be said."""

    NOT_ENOUGH = "not_enough"
    """Fewer than ``LEAST_DAYS`` days with readings."""
    STEADY = "steady"
    """It does not move towards the limit, as far as the noise lets one tell."""
    BEYOND = "beyond"
    """It moves towards the limit and reaches it after the horizon."""
    CROSSES = "crosses"
    """It reaches the limit within the horizon."""
    CROSSED = "crossed"
    """It is there already."""


class Shape(enum.StrEnum):
    """How it wears."""

    LINE = "line"
    ACCELERATING = "accelerating"


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a limit will be crossed. Instants in ms; None where there is nothing to say.

    ``level`` is the fitted value now, ``per_day`` its change a day now, both in the metric's unit; ``days`` how many
    days with readings spoke. ``likely_ms`` is the crossing; it lies in [``earliest_ms``, ``latest_ms``] in about
    eight of ten cases. A ``latest_ms`` of None beside an ``earliest_ms``: perhaps never.
    """

    outlook: Outlook
    days: int
    shape: Shape | None = None
    level: float | None = None
    per_day: float | None = None
    earliest_ms: int | None = None
    likely_ms: int | None = None
    latest_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    """Straight lines ``slope t + start`` of the days, one a row: float64[rows] each."""

    slope: Floats
    start: Floats


def daily(ts_ms: Int64s, value: Floats) -> tuple[Int64s, Floats]:
    """Return the days that have readings, as whole days since 1970 (UTC), ascending, and their medians.

    Takes any readings or bucket means, int64[n] and float64[n] in any order; what is not finite is left out.
    """
    is_good = np.isfinite(value)
    day, good = ts_ms[is_good] // DAY_MS, value[is_good]
    order = np.lexsort((good, day))
    day, good = day[order], good[order]
    days, first, count = np.unique(day, return_index=True, return_counts=True)
    low, high = first + (count - 1) // 2, first + count // 2
    return days, (good[low] + good[high]) / 2 if len(good) else good


def foresee(
    ts_ms: Int64s, value: Floats, *, limit: float, is_rising: bool, now_ms: int, horizon_days: float
) -> Forecast:
    """Say when a measurement crosses ``limit``, from below if ``is_rising``, else from above.

    Deterministic: the same readings give the same answer.
    """
    days, medians = daily(ts_ms, value)
    if len(days) < LEAST_DAYS:
        return Forecast(Outlook.NOT_ENOUGH, len(days))
    # From here on it rises to a limit; the newest day is 0, so that numbers stay small.
    sign = 1.0 if is_rising else -1.0
    t, y, goal = (days - days[-1]).astype(np.float64), sign * medians, sign * limit
    now = now_ms / DAY_MS - float(days[-1]) - 0.5
    shape, origin = _choose(t, y)
    ends = _crossings(t, y, goal, shape, origin)
    fitted = _fit(t, _bent(y, shape, origin)[None, :])
    level = float(_unbent(fitted.slope * now + fitted.start, shape, origin)[0])
    step = float(_unbent(fitted.slope * (now + 1) + fitted.start, shape, origin)[0]) - level
    said = (shape, sign * level, sign * step)
    if level >= goal:
        return Forecast(Outlook.CROSSED, len(days), *said)
    likely = float(_reach(fitted, _bent(np.array([goal]), shape, origin)[0])[0])
    earliest, latest = (float(np.quantile(ends, part, method="nearest")) for part in SURE)
    if not np.isfinite(likely) or np.mean(np.isfinite(ends)) < SURE[1]:
        return Forecast(Outlook.STEADY, len(days), *said)
    origin_day = float(days[-1]) + 0.5
    instants = [_instant(origin_day, at, now) for at in (min(earliest, likely), likely, max(latest, likely))]
    outlook = Outlook.CROSSES if likely - now <= horizon_days else Outlook.BEYOND
    return Forecast(outlook, len(days), *said, *instants)


def _choose(t: Floats, y: Floats) -> tuple[Shape, float]:
    """Return the shape that foretells the newest quarter best from the rest, and its healthy level."""
    cut = len(t) - max(3, len(t) // _HELD_BACK)
    line = _fit(t[:cut], y[None, :cut])
    rest = y[:cut] - (line.slope[0] * t[:cut] + line.start[0])
    spread = max(float(np.median(np.abs(rest))) * 1.4826, float(np.ptp(y)) * 1e-3, 1e-12)
    first = float(np.median(y[: max(3, len(y) // 10)]))
    tries: list[tuple[Shape, float]] = [(Shape.LINE, 0.0)]
    tries += [(Shape.ACCELERATING, first - wide * spread) for wide in _SPREADS]

    def missed_by(one: tuple[Shape, float]) -> float:
        fitted = _fit(t[:cut], _bent(y[:cut], *one)[None, :])
        told = _unbent(fitted.slope[0] * t[cut:] + fitted.start[0], *one)
        return float(np.median(np.abs(y[cut:] - told)))

    best = min(tries[1:], key=missed_by)
    # The simpler shape unless the other one is clearly better.
    return best if missed_by(best) < 0.8 * missed_by(tries[0]) else tries[0]


def _crossings(t: Floats, y: Floats, goal: float, shape: Shape, origin: float) -> Floats:
    """Return when refits to resampled residuals reach the goal, in days after the newest; inf where they never do.

    Each refit also bends as far as earlier forecasts of the same series, made from its first half and more, have
    turned out to: the noise tells how well a line is known, only the past tells how well it foretells.
    """
    bent = _bent(y, shape, origin)
    fitted = _fit(t, bent[None, :])
    line = fitted.slope[0] * t + fitted.start[0]
    residual = bent - line
    drawn = np.random.default_rng(0)  # the same every time: a forecast that flickers convinces nobody
    blocks = -(-len(t) // _BLOCK)
    first = drawn.integers(0, len(t) - _BLOCK + 1, (_REFITS, blocks))
    which = (first[:, :, None] + np.arange(_BLOCK)).reshape(_REFITS, -1)[:, : len(t)]
    refits = _fit(t, line + residual[which])
    drift = drawn.choice(_drifts(t, bent), _REFITS)
    return _reach(_Line(refits.slope + drift, refits.start), _bent(np.array([goal]), shape, origin)[0])


def _drifts(t: Floats, bent: Floats) -> Floats:
    """Return by how much a day earlier forecasts were off, in either direction."""
    found = []
    for part in np.linspace(0.5, 0.85, 8):
        cut = max(LEAST_DAYS // 2, int(len(t) * part))
        before = _fit(t[:cut], bent[None, :cut])
        ahead = t[cut:] - t[cut - 1]
        off = bent[cut:] - (before.slope[0] * t[cut:] + before.start[0])
        late = ahead >= ahead[-1] / 2  # near ones tell of noise
        found.append(np.median(off[late] / ahead[late]))
    off_a_day = np.array(found)
    return np.concatenate([off_a_day, -off_a_day / 2])  # and partly the other way, as the next may be


def _fit(t: Floats, rows: Floats) -> _Line:
    """Fit a Theil-Sen line to each row: slope and start float64[rows]."""
    left, right = np.triu_indices(len(t), 1)
    if len(left) > _PAIRS:
        chosen = np.linspace(0, len(left) - 1, _PAIRS).astype(np.intp)
        left, right = left[chosen], right[chosen]
    slope = np.median((rows[:, right] - rows[:, left]) / (t[right] - t[left]), axis=1)
    start = np.median(rows - slope[:, None] * t, axis=1)
    return _Line(slope, start)


def _reach(fitted: _Line, goal: float) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        at = (goal - fitted.start) / fitted.slope
    return np.where(fitted.slope > 0, at, np.inf)


def _bent(y: Floats, shape: Shape, origin: float) -> Floats:
    if shape is Shape.LINE:
        return y
    return np.log(np.maximum(y - origin, 1e-9))


def _unbent(bent: Floats, shape: Shape, origin: float) -> Floats:
    return bent if shape is Shape.LINE else origin + np.exp(np.minimum(bent, 700.0))


def _instant(origin_day: float, at: float, now: float) -> int | None:
    """Return an instant, not before now, None where it is never or in more than a century."""
    return int((origin_day + max(at, now)) * DAY_MS) if at < _CENTURY_DAYS else None
