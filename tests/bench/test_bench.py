"""``make bench`` prints what is promised; how fast the machine is that runs the tests, nobody asks here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import neighbours
from tests import mosquitto

PARTS = ("ingest", "live", "neighbours", "scale", "store", "rules")
"""Those that give the promised figures."""
ALIKE = 3
"""So many times their delay alone is still the same to people: a twentieth of a second is one batch."""
MAY_FALL = {"live.memory_growth_mb", "live.memory_slope_mb_min"}


@pytest.mark.parametrize("parts", [("store", "rules"), pytest.param(PARTS, marks=pytest.mark.torture)])
@pytest.mark.skipif(mosquitto.PATH is None, reason="mosquitto is not installed (Debian: apt install mosquitto)")
def test_OPS_9_the_benchmark_prints_every_figure_that_is_promised_beside_its_baseline(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "bench", "--least", "--out", str(out), "--only", *parts]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    figures = json.loads(out.read_text())["figures"]
    assert {name.partition(".")[0] for name in figures} == set(parts)
    shown = dict(line.split(maxsplit=1) for line in ended.stdout.splitlines() if "." in line.partition(" ")[0])
    for name in (one for one in bench.PROMISED if one.partition(".")[0] in parts):
        assert name in shown
        assert name in MAY_FALL or figures[name] > 0
    assert f"{json.loads(out.read_text())['cores']} cores" in ended.stdout


def test_every_part_is_told_of_in_the_documentation() -> None:
    told = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    for name in bench.parts("quick"):
        assert f"`{name}`" in told


@pytest.mark.torture
@pytest.mark.skipif(mosquitto.PATH is None, reason="mosquitto is not installed (Debian: apt install mosquitto)")
def test_ING_16_neighbours_of_a_device_at_a_hundred_times_its_rate_keep_their_delay() -> None:
    figures = neighbours.measure(seconds=10)
    assert figures["hostile_per_s"] > neighbours.MAY * neighbours.TIMES * 0.9, "it did send that much"
    assert figures["times_alone"] < ALIKE
