"""``make bench``: measure everything once, print one table, and write the figures to ``var/bench.json``.

Each figure that claims speed stands beside a baseline of the same run. ``ARGS="--only ingest latency"`` measures
some parts, ``--quick`` a smaller amount of each.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import edge, ingest, latency, rules, startup, store

OUT = Path("var") / "bench.json"
Figures = dict[str, float]


def parts(*, quick: bool) -> dict[str, Callable[[], Figures]]:
    """Return what can be measured, by name."""
    messages = 100_000 if quick else 200_000
    return {
        "ingest": lambda: ingest.measure(messages=messages),
        "latency": lambda: latency.measure(faults=50 if quick else 200),
        "edge": lambda: {
            name.replace(" ", "_") + "_per_s": rate for name, rate in edge.measure(messages=messages).items()
        },
        "store": lambda: store.measure(stored=50_000_000, appended=2_000_000, paced=60) if quick else store.measure(),
        "rules": rules.measure,
        "startup": startup.measure,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(parts(quick=True)), default=None)
    parser.add_argument("--quick", action="store_true")
    wanted = parser.parse_args()
    measured: Figures = {}
    for name, measure in parts(quick=wanted.quick).items():
        if wanted.only is None or name in wanted.only:
            sys.stderr.write(f"measuring {name} …\n")
            measured |= {key if "." in key else f"{name}.{key}": value for key, value in measure().items()}
    sys.stdout.write(table(measured))
    _write(measured)


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


def _write(measured: Figures) -> None:
    OUT.parent.mkdir(exist_ok=True)
    known: Figures = json.loads(OUT.read_text())["figures"] if OUT.exists() else {}
    body = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "figures": known | measured,
    }
    OUT.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
