"""How well trends are foretold: wear made by the hundred, whose day of failure is known, cut off before it.

``python -m bench.wear`` prints the figures; ``measure`` returns them for the table of ``make bench``.
"""

import statistics
import time
from typing import Final

import numpy as np

from rules import trend
from rules.trend import DAY_MS, Outlook, Shape

BASE: Final = 40.0
LIMIT: Final = 100.0
HOUR_MS: Final = 3_600_000
WILD: Final = 0.02
"""Share of readings that say nothing."""
LIVED: Final = (0.5, 0.7, 0.85)
"""How much of its life a machine has behind it when it is foretold."""


def wear(shape: Shape | None, days: int, life: float, seed: int) -> tuple[trend.Int64s, trend.Floats]:
    """Return hourly values that reach ``LIMIT`` after ``life`` days: a rhythm, noise that lingers, wild points."""
    rng = np.random.default_rng(seed)
    ts_ms = np.arange(days * 24, dtype=np.int64) * HOUR_MS
    at = ts_ms / DAY_MS
    worn = {
        None: np.zeros_like(at),
        Shape.LINE: at / life,
        Shape.ACCELERATING: np.expm1(3 * at / life) / np.expm1(3),
    }[shape]
    lingering = np.zeros(days)
    for day in range(1, days):
        lingering[day] = 0.6 * lingering[day - 1] + 0.8 * rng.normal()
    value = BASE + (LIMIT - BASE) * worn + 5 * np.sin(2 * np.pi * at) + 2 * rng.normal(size=len(at))
    value += np.repeat(lingering, 24)
    wild = rng.random(len(at)) < WILD
    value[wild] += 50 * rng.normal(size=wild.sum())
    return ts_ms, value


def measure(*, lives: int = 60) -> dict[str, float]:
    """Return figures over ``lives`` machines of each shape and age, and as many healthy ones.

    ``held_share``: intervals that held the truth; ``off_share``: how far the likely day was off, as a share of the
    life that was left (median); ``false_share``: healthy machines that were called worn; ``forecast_ms``: the cost
    of one forecast (median).
    """
    held, off, took = [], [], []
    for shape in Shape:
        for lived in LIVED:
            for seed in range(lives):
                life = 60 + 140 * seed / lives
                days = int(life * lived)
                ts_ms, value = wear(shape, days, life, seed)
                began = time.perf_counter()
                told = _foresee(ts_ms, value)
                took.append(time.perf_counter() - began)
                truth = life * DAY_MS
                held.append((told.earliest_ms or np.inf) <= truth <= (told.latest_ms or np.inf))
                off.append(abs((told.likely_ms or np.inf) - truth) / DAY_MS / (life - days))
    healthy = [_foresee(*wear(None, 90, 1, seed)).outlook for seed in range(lives)]
    return {
        "held_share": sum(held) / len(held),
        "off_share": statistics.median(off),
        "false_share": sum(one is not Outlook.STEADY for one in healthy) / len(healthy),
        "forecast_ms": 1000 * statistics.median(took),
    }


def _foresee(ts_ms: trend.Int64s, value: trend.Floats) -> trend.Forecast:
    now_ms = int(ts_ms[-1]) + HOUR_MS
    return trend.foresee(ts_ms, value, limit=LIMIT, is_rising=True, now_ms=now_ms, horizon_days=365)


if __name__ == "__main__":
    for name, figure in measure().items():
        print(f"{name:14} {figure:.3g}")
