"""One process owns a data directory; the lock of a killed one is no lock."""

import subprocess
import sys
from pathlib import Path

import pytest

from kernel import datadir
from kernel.errors import Misconfigured

ROOT = Path(__file__).parents[2]


def test_a_second_process_is_refused_by_the_first_ones_id_and_may_in_once_that_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-m", "tests.kernel.holder", "lock", str(tmp_path / "var")], cwd=ROOT, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        identity = holder.stdout.readline().decode().strip()
        with pytest.raises(Misconfigured) as refused, datadir.owned(tmp_path / "var"):
            pass
        holder.kill()

    assert identity in str(refused.value)
    assert str(tmp_path / "var") in str(refused.value)
    with datadir.owned(tmp_path / "var") as owned:
        assert owned == tmp_path / "var"


def test_the_lock_is_free_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with datadir.owned(tmp_path):
            assert (tmp_path / "fixwright.lock").read_text().isdecimal()
