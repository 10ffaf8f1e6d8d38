"""How fast rules are evaluated: samples compared with their limits as columns, and few crossings among many.

``python -m bench.rules`` prints the figures; ``measure`` returns them for the table of ``make bench``. The baseline in
the same run is the plain loop most people write: a look-up and two comparisons a sample, without deadband, timers,
evidence or states.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
from numpy.typing import NDArray

from rules import conditions
from rules.engine import Engine
from rules.outcome import Instance, Watched

START_MS = 1_795_314_590_000
INTERVAL_MS = 10_000
BATCHES = 12
RULES = 2
"""Create rules of each instance."""
DEFINITION = conditions.parse(
    {
        "schema": 1,
        "create": {
            "critical": {
                "condition": {"type": "compare", "metric": "t", "operator": ">=", "limit": 100.0, "deadband": 5.0}
            },
            "warning": {"condition": {"type": "compare", "metric": "t", "operator": ">=", "limit": 80.0}},
        },
        "clear": {"type": "automatic"},
        "message": "temperature is ${t}",
    }
)

WINDOWED = conditions.parse(
    {
        "schema": 1,
        "create": {
            severity: {
                "condition": {
                    "type": "compare",
                    "metric": "t",
                    "operator": ">=",
                    "limit": limit,
                    "view": {"type": "window", "function": "avg", "seconds": 600},
                }
            }
            for severity, limit in (("critical", 100.0), ("warning", 80.0))
        },
        "clear": {"type": "automatic"},
    }
)

Batch = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], int]


def measured_apart(*, instances: int) -> dict[str, float]:
    """Return what ``measure`` does, from a process of its own: memory that other parts have used says nothing here."""
    command = [sys.executable, "-m", "bench.rules", "--instances", str(instances)]
    figures: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures


def measure(*, instances: int = 100_000) -> dict[str, float]:
    """Return figures of one run on ``instances`` rule instances, one series and two severities each.

    A rule evaluation is one sample against one severity. ``steady``: nothing crosses; ``crossing``: in each batch 1 %
    of the samples, of other machines each time, so that 1 % raise and 1 % clear; ``active``: 5 % stay in alarm and are
    counted. ``windowed``: a tenth of the machines compare a mean over ten minutes, and are stepped one by one. All are
    of the median batch and include the commit to the engine, none the database. ``start_s``: all instances installed,
    a fifth of them restored with an open alarm.
    """
    engine, figures = _install(instances)
    clock = iter(range(START_MS, START_MS + 1_000_000_000, INTERVAL_MS))
    steady, _ = _evaluations_s(engine, _batches(instances, clock))
    crossing, told = _evaluations_s(engine, _batches(instances, clock, crossing=0.01))
    active, updated = _evaluations_s(engine, _batches(instances, clock, active=0.05))
    loop = _loop_evaluations_s(instances, _batches(instances, clock))
    windowed = Engine()
    windowed.install(_instances(instances // 10, WINDOWED))
    stepped, _ = _evaluations_s(windowed, _batches(instances // 10, clock), made=RULES * instances // 10)
    return figures | {
        "steady_evaluations_s": steady,
        "crossing_1_percent_evaluations_s": crossing,
        "crossing_1_percent_transitions": told,
        "active_5_percent_evaluations_s": active,
        "active_5_percent_transitions": updated,
        "windowed_evaluations_s": stepped,
        "start_s": _start_s(instances, clock),
        "plain_loop_evaluations_s": loop,
        "steady_times_plain_loop": steady / loop,
    }


def _install(instances: int) -> tuple[Engine, dict[str, float]]:
    wanted = _instances(instances, DEFINITION)
    gc.collect()
    process = psutil.Process()
    before, engine = process.memory_info().rss, Engine()
    started = time.perf_counter()
    engine.install(wanted)
    installed = time.perf_counter()
    engine.install(wanted[:1])
    edited = time.perf_counter()
    gc.collect()
    return engine, {
        "instances": instances,
        "install_s": installed - started,
        "edit_one_rule_ms": 1000 * (edited - installed),
        "bytes_per_instance": (process.memory_info().rss - before) / instances,
    }


def _instances(count: int, definition: conditions.AlarmDefinition) -> list[Instance]:
    return [Instance(i, definition, {"t": Watched(i, 3 * INTERVAL_MS)}) for i in range(1, count + 1)]


def _start_s(instances: int, clock: Iterator[int]) -> float:
    """Return how long it takes to take up all instances with the states of those whose alarm is open."""
    before = Engine()
    before.install(_instances(instances, DEFINITION))
    outcome = before.evaluate(*_batches(instances, clock, active=0.2)[0])
    states = [state for state in outcome.states.values() if state is not None]
    wanted, after = _instances(instances, DEFINITION), Engine()
    started = time.perf_counter()
    after.install(wanted)
    after.restore(states)
    return time.perf_counter() - started


def _batches(instances: int, clock: Iterator[int], *, crossing: float = 0.0, active: float = 0.0) -> list[Batch]:
    """Return batches of one sample a series, shuffled; a share crosses a limit, another stays beyond it."""
    rng = np.random.default_rng(20)
    stays = rng.random(instances) < active
    batches = []
    for _ in range(BATCHES):
        now_ms = next(clock)
        value = rng.normal(50.0, 5.0, instances)
        crosses = rng.random(instances) < crossing
        value[crosses] = rng.uniform(81.0, 120.0, np.count_nonzero(crosses))
        value[stays] = rng.uniform(85.0, 95.0, np.count_nonzero(stays))
        order = rng.permutation(instances)
        ts_ms = now_ms - rng.integers(0, 2_000, instances)
        batches.append((order + 1, ts_ms[order], value[order], now_ms))
    return batches


def _evaluations_s(engine: Engine, batches: list[Batch], made: int = 0) -> tuple[float, int]:
    """Return evaluations a second and transitions; ``made``: evaluations a batch where columns do not count them."""
    warm, *measured = batches
    engine.commit(engine.evaluate(*warm))
    transitions, comparisons, took_s = 0, 0, []
    for batch in measured:
        started = time.perf_counter()
        outcome = engine.evaluate(*batch)
        engine.commit(outcome)
        took_s.append(time.perf_counter() - started)
        transitions += len(outcome.transitions)
        comparisons += made or outcome.comparisons
    return comparisons / len(measured) / statistics.median(took_s), transitions


def _loop_evaluations_s(instances: int, batches: list[Batch]) -> float:
    limits = dict.fromkeys(range(1, instances + 1), (100.0, 80.0))
    is_active: dict[int, bool] = {}
    rows = [list(zip(*(column.tolist() for column in batch[:3]), strict=True)) for batch in batches[:4]]
    started = time.perf_counter()
    for batch in rows:
        for series, _, value in batch:
            critical, warning = limits[series]
            is_true = value >= critical or value >= warning
            if is_true != is_active.get(series, False):
                is_active[series] = is_true
    return RULES * instances * len(rows) / (time.perf_counter() - started)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=100_000)
    figures = measure(instances=parser.parse_args().instances)
    print(json.dumps({name: round(figure, 4) for name, figure in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
