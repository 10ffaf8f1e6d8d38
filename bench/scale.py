"""What it costs to know many machines: to start with them, to hear some of them, and to let time pass.

The same batches through the data path of one process that knows 1,000, 10,000 and 100,000 machines, each with ten
series and ten rules. The smallest is the baseline: the cost of a message may not grow with what is merely known. Costs
are CPU time of this process, as others use the machine too.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from bench import fleet
from bench.flood import payload
from ingest.batch import Batch
from ingest.pipeline import Pipeline
from kernel import clock, db, postgres
from migrations import run
from telemetry.duckdb import DuckDbStore

METRICS: Final = (*fleet.METRICS, *(f"extra-{number}" for number in range(7)))
RULES: Final = 10
SPEAKING: Final = 1_000
MESSAGES: Final = 10_000
BATCHES: Final = 10
ROUNDS: Final = 3


def measure(*, sizes: Sequence[int] = (1_000, 10_000, 100_000), batches: int = BATCHES) -> dict[str, float]:
    """Return figures for each number of machines, and ratios to the smallest.

    ``known_…_us``: CPU microseconds a message when the same 1,000 machines speak; ``speaking_…_us``: when all do, in
    random order, so that memory is read far and wide. ``tick_…_ms`` and ``look_…_ms``: the timers and the look for
    changes when nothing is due and nothing changed. ``start_s``: the store opened, and devices, series and rules read,
    for the largest, in seconds of the clock and of this process's CPU.
    """
    figures: dict[str, float] = {}
    costs = {size: _one(size, batches) for size in sizes}
    for size, cost in costs.items():
        figures |= {f"{name}_{size}_{unit}": cost[name] for name, unit in _UNITS.items()}
    least, most = costs[min(sizes)], costs[max(sizes)]
    for size, cost in costs.items():
        if size != min(sizes):
            figures |= {f"{name}_{size}_ratio": cost[name] / least[name] for name in ("known", "speaking")}
    return figures | {
        "devices": float(max(sizes)),
        "series": float(max(sizes) * len(METRICS)),
        "rules": float(max(sizes) * RULES),
        "start_s": most["start"],
        "start_cpu_s": most["start_cpu"],
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


_UNITS: Final = {"known": "us", "speaking": "us", "tick": "ms", "look": "ms"}


def _one(devices: int, count: int) -> dict[str, float]:
    with _started(devices) as (pipeline, cost):
        chance = np.random.default_rng(20)
        few = _Batches(lambda: chance.integers(0, min(SPEAKING, devices), MESSAGES))
        all_of_them = _Batches(lambda: chance.integers(0, devices, MESSAGES))
        # Once each, as after the first minute: names are learnt, and every series has a newest reading.
        for first in range(0, devices, MESSAGES):
            pipeline.process(all_of_them.of(np.arange(first, min(devices, first + MESSAGES))))
        for name, batches in (("known", few), ("speaking", all_of_them)):
            # The best of rounds: what else runs on a machine only ever slows.
            cost[name] = min(_cpu_s(pipeline.process, batches.some(count)) for _ in range(ROUNDS)) / MESSAGES * 1e6
        pipeline.books.close(clock.now())
        for name, work in (("tick", pipeline.judging.run_timers), ("look", pipeline.follow_changes)):
            # The best of rounds: what else runs on a machine only ever slows.
            cost[name] = min(_cpu_s(work, [clock.now()] * 5) for _ in range(ROUNDS)) * 1e3
    return cost


@contextmanager
def _started(devices: int) -> Iterator[tuple[Pipeline, dict[str, float]]]:
    """Give a pipeline that has read ``devices`` machines, and the seconds from opening the store until it had."""
    with tempfile.TemporaryDirectory(prefix="fixwright-bench-") as name, postgres.running(Path(name)) as url:
        engine = db.connect(url)
        run.upgrade(engine)
        sessions = db.sessions(engine, secret=b"bench")
        with db.transaction(sessions) as session:
            fleet.build(session, devices=devices, metrics=METRICS, rules=RULES)
        began, cpu_s = time.perf_counter(), time.process_time()
        store = DuckDbStore(Path(name) / "telemetry.duckdb")
        try:
            pipeline = Pipeline(sessions, store)
            pipeline.load()
            yield pipeline, {"start": time.perf_counter() - began, "start_cpu": time.process_time() - cpu_s}
        finally:
            store.close()
            engine.dispose()


class _Batches:
    """Batches of messages, three values each, from devices that ``speakers`` picks; each message has its own time."""

    def __init__(self, speakers: Callable[[], "np.ndarray[tuple[int], np.dtype[np.int64]]"]) -> None:
        self._speakers = speakers

    def some(self, count: int) -> list[Batch]:
        return [self.of(self._speakers()) for _ in range(count)]

    def of(self, speakers: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Batch:
        global _now_ms  # noqa: PLW0603 - one clock for all batches, whatever picks their speakers
        _now_ms += MESSAGES
        return Batch.of(
            (f"fw/v1/bench-{device:06d}/telemetry", payload(number, device, _now_ms))
            for number, device in enumerate(speakers.tolist())
        )


_now_ms = clock.now_ms() - 86_400_000


def _cpu_s(work: Callable[..., object], each: Sequence[object]) -> float:
    """Return the CPU seconds of a call, the mean of one for each argument."""
    began = time.process_time()
    for one in each:
        work(one)
    return (time.process_time() - began) / len(each)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    print(json.dumps(measure(**vars(arguments.parse_args())), indent=2))
