"""How fast rules run over stored history: a year of one device's readings, against the plain stepping of each sample.

``python -m bench.replay`` prints the figures; ``measure`` returns them for the table of ``make bench``.
"""

import argparse
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assets.measured import FOREVER_MS, Span
from rules import compiled, conditions, history, replay
from rules.machine import Machine
from rules.outcome import LONG_AGO, Instance, Watched
from rules.tape import Samples
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings

START_MS = 1_795_314_590_000
INTERVAL_MS = 10_000
YEAR = 3_153_600
"""Samples of a year, one every ten seconds."""
STEPPED = 40_000
DEFINITION = conditions.parse(
    {
        "schema": 1,
        "create": {
            "critical": {
                "condition": {"type": "compare", "metric": "t", "operator": ">=", "limit": 100.0, "deadband": 5.0}
            },
            "warning": {
                "condition": {"type": "compare", "metric": "t", "operator": ">=", "limit": 80.0, "deadband": 2.0},
                "kind": {"type": "duration", "seconds": 300},
            },
        },
        "clear": {"type": "automatic", "off_delay_s": 60},
    }
)


def measure(*, samples: int = YEAR) -> dict[str, float]:
    """Return figures of one metric with two rules, which is beyond its limits on some hours of most days."""
    told = {"t": history_of(samples)}
    instance = Instance(1, DEFINITION, {"t": Watched(1, 3 * INTERVAL_MS)})
    until_ms = int(told["t"].ts_ms[-1])
    started = time.perf_counter()
    found = replay.replay(instance, told, until_ms)
    took_s = time.perf_counter() - started
    plain_s = _plain_s(told["t"].ts_ms[:STEPPED], told["t"].value[:STEPPED])
    each_s = plain_s / min(samples, STEPPED)
    return {
        "backtest_s": took_s,
        "backtest_samples": samples,
        "backtest_episodes": len(found.episodes),
        "backtest_times_plain_stepping": each_s * samples / took_s,
    } | _months(8 if samples == YEAR else 1, min(samples, YEAR // 12))


def _months(devices: int, samples: int) -> dict[str, float]:
    """Return how many device-months a second are read from the embedded store and run, as a backtest does it."""
    with tempfile.TemporaryDirectory() as folder, closing(DuckDbStore(Path(folder) / "t.duckdb")) as store:
        one = history_of(samples)
        for number in range(1, devices + 1):
            store.write(Readings.of([number] * samples, one.ts_ms, one.value))
        while store.compact():
            pass
        plan, until_ms = compiled.compile_definition(DEFINITION), int(one.ts_ms[-1])
        started = time.perf_counter()
        for number in range(1, devices + 1):
            spans = [Span("t", number, 0, 0, FOREVER_MS)]
            found = history.samples(store, spans, START_MS, until_ms + 1)
            replay.replay(Instance(1, DEFINITION, {"t": Watched(1, 3 * INTERVAL_MS)}), found, until_ms, plan=plan)
        took_s = time.perf_counter() - started
    months = devices * samples / (YEAR / 12)
    return {"backtest_device_months_per_s": months / took_s}


def history_of(samples: int) -> Samples:
    """Return a metric that rises and falls by day, drifts by the hour, and is noisy: the same at each call."""
    rng = np.random.default_rng(15)
    at = np.arange(samples)
    daily = 55.0 + 20.0 * np.sin(at * (2 * np.pi * INTERVAL_MS / 86_400_000))
    drift = np.repeat(rng.normal(0.0, 6.0, samples // 360 + 1), 360)[:samples]
    return Samples.of(START_MS + INTERVAL_MS * at, daily + drift + rng.normal(0.0, 0.5, samples))


def _plain_s(ts_ms: NDArray[np.int64], value: NDArray[np.float64]) -> float:
    """Return how long it takes to step a machine through each sample."""
    block = ([1], [LONG_AGO], [float("nan")], [0], [3 * INTERVAL_MS])
    machine = Machine(1, compiled.compile_definition(DEFINITION), block, LONG_AGO, None)
    rows = list(zip(ts_ms.tolist(), value.tolist(), strict=True))
    started = time.perf_counter()
    for at_ms, one in rows:
        machine.sample(at_ms, ((0, one),), at_ms)
    return time.perf_counter() - started


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=YEAR)
    figures = measure(samples=parser.parse_args().samples)
    print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
