"""``make bench``: measure everything once, print one table, and write the figures to ``var/bench.json``.

Each figure that claims speed stands beside a baseline of the same run. ``ARGS="--only ingest latency"`` measures
some parts, ``--quick`` a smaller amount of each (five minutes in all), ``--least`` next to nothing, to see it work.
``docs/benchmarks.md`` says what each part asks.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import (
    backtests,
    edge,
    figures,
    ingest,
    latency,
    live,
    neighbours,
    replay,
    rules,
    scale,
    startup,
    store,
    wear,
)
from kernel import heap

OUT = Path("var") / "bench.json"
Figures = dict[str, float]

PROMISED = (
    "ingest.messages_per_s",
    "ingest.points_per_s",
    "ingest.receive_only_per_s",
    "ingest.ratio",
    "ingest.times_paho_receive_only",
    "ingest.times_insert_loop",
    "figures.year_ms",
    "figures.year_unaided_ms",
    "live.reading_p99_ms",
    "live.alarm_p50_ms",
    "live.alarm_p95_ms",
    "live.alarm_p99_ms",
    "live.bell_p95_ms",
    "live.page_p95_ms",
    "live.memory_growth_mb",
    "live.memory_peak_mb",
    "live.memory_settled_mb",
    "live.memory_slope_mb_min",
    "neighbours.alone_p95_ms",
    "neighbours.p95_ms",
    "scale.start_s",
    "store.append_points_s",
    "store.baseline_points_s",
    "store.range_ms",
    "store.bytes_point",
    "store.compacting_ratio",
    "store.expiring_ratio",
    "rules.steady_evaluations_s",
    "rules.plain_loop_evaluations_s",
    "rules.backtest_s",
)
"""What is published (OPS-9): one of these may not vanish from the table unnoticed."""


def parts(size: str) -> dict[str, Callable[[], Figures]]:
    """Return what can be measured, by name; ``size`` is full, quick or least."""
    place = ("full", "quick", "least").index(size)
    messages = (200_000, 100_000, 5_000)[place]
    stored, appended, paced = ((500_000_000, 6_000_000, 200), (50_000_000, 2_000_000, 60), (800_000, 60_000, 5))[place]
    sizes = ((1_000, 10_000, 100_000), (1_000, 10_000, 100_000), (20, 40))[place]
    seconds, connections, rate = ((60.0, 1_000, 10_000), (15.0, 1_000, 10_000), (1.0, 10, 100))[place]
    return {
        "ingest": lambda: ingest.measure(messages=messages, devices=1_000 if size != "least" else 20),
        "live": lambda: live.measure(
            seconds=seconds, connections=connections, rate=rate, warm_up_s=5.0 if size != "least" else 0.5
        ),
        "neighbours": lambda: neighbours.measure(seconds=(20.0, 8.0, 1.0)[place]),
        "latency": lambda: latency.measure(
            faults=(200, 50, 2)[place],
            burst=(5_000, 500, 10)[place],
            burst_s=(60.0, 6.0, 1.0)[place],
            rate=(10_000, 10_000, 100)[place],
        ),
        "scale": lambda: scale.measure(sizes=sizes, batches=(10, 5, 1)[place]),
        "figures": lambda: figures.measure(alarms=(1_000_000, 1_000_000, 2_000)[place]),
        "store": lambda: store.measure(stored=stored, appended=appended, paced=paced),
        "edge": lambda: {
            name.replace(" ", "_") + "_per_s": rate for name, rate in edge.measure(messages=messages).items()
        },
        "rules": lambda: (
            rules.measured_apart(instances=(100_000, 100_000, 200)[place])
            | replay.measure(samples=replay.YEAR if size != "least" else 20_000)
        ),
        "backtests": lambda: backtests.measure(
            machines=(250, 8, 2)[place], months=(4, 1, 1)[place], samples=backtests.MONTH if size != "least" else 2_000
        ),
        "wear": lambda: wear.measure(lives=(60, 20, 2)[place]),
        "startup": startup.measure,
    }


def main() -> None:
    """Measure, print, write."""
    heap.bound_arenas()  # As ``fixwright`` does.
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(parts("quick")), default=None)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", default="full")
    size.add_argument("--least", dest="size", action="store_const", const="least")
    parser.add_argument("--out", type=Path, default=OUT, help="the file of figures (default: var/bench.json)")
    wanted = parser.parse_args()
    measured: Figures = {}
    for name, measure in parts(wanted.size).items():
        if wanted.only is None or name in wanted.only:
            sys.stderr.write(f"measuring {name} …\n")
            measured |= {key if "." in key else f"{name}.{key}": value for key, value in measure().items()}
    sys.stdout.write(table(measured))
    _write(wanted.out, measured)


def table(measured: Figures) -> str:
    """Return the figures as a table for people."""
    width = max(map(len, measured), default=0)
    lines = [f"{name:<{width}}  {_shown(value):>16}" for name, value in measured.items()]
    load = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    note = (
        ""
        if load < cores
        else f"  The machine was busy with other things too (load {load:.1f}): read ratios, not rates."
    )
    return "\n".join(
        [*lines, "", f"{cores} cores, Python {platform.python_version()}, {platform.machine()}.{note}", ""]
    )


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"  # noqa: PLR2004 - from there on, cents say nothing


def _write(out: Path, measured: Figures) -> None:
    out.parent.mkdir(exist_ok=True)
    known: Figures = json.loads(out.read_text())["figures"] if out.exists() else {}
    body = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "figures": known | measured,
    }
    out.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
