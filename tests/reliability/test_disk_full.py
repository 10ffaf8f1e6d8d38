"""D22: the disk of the readings runs full and is freed again: nothing acknowledged is missing, nobody has to help."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.reliability import judge
from tests.reliability.conftest import DEVICES, IngestProcess
from tests.reliability.fleet import Fleet
from tests.waiting import until

DISK_MB = 96
FULL_S = 40
"""Longer than ingest has patience for in place, so that it also drops its connection on purpose."""


@pytest.fixture
def cramped(
    ingests: Callable[[str, str], IngestProcess], database_url: str, broker: Mosquitto
) -> Iterator[IngestProcess]:
    """Return an ingest process whose data directory is a small disk of its own."""
    process = ingests(database_url, broker.url)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(process.folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs (root)")
    try:
        yield process
    finally:
        process.kill()
        subprocess.run(["umount", str(process.folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until nothing more fits; return what is in the way."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            os.fsync(file.fileno())
    return ballast


@pytest.mark.torture
def test_D22_a_full_disk_loses_nothing_that_was_acknowledged_and_ingest_recovers_by_itself(
    database: sessionmaker[Session],
    broker: Mosquitto,
    works: Plant,  # noqa: ARG001 - the rows the devices stand on
    cramped: IngestProcess,
    seed: int,
) -> None:
    cramped.start()
    fleet = Fleet(broker.port, [f"dev-{n}" for n in range(DEVICES)], every_s=1.0, alarms=0.05, seed=seed)
    fleet.start()
    try:
        until(lambda: all(device.readings for device in fleet.devices), timeout_s=120, what="devices connect")
        born = cramped.pid
        ballast = fill(cramped.folder)
        # The two sleeps of this test are the lengths that RELIABILITY gives: full for a while, then a minute more.
        time.sleep(FULL_S)
        unheard = sum(len(device.waiting) for device in fleet.devices)
        ballast.unlink()
        time.sleep(10)
        fleet.quieten()
        until(lambda: fleet.is_silent, timeout_s=120, what="every alarm is acknowledged once there is room")
        assert unheard, "no alarm was acknowledged while its batch could not be stored"
        assert cramped.pid == born
        assert cramped.is_alive, "nobody had to start it again"
    finally:
        fleet.stop()
    cramped.stop()
    judge.readings_are_stored_once(database, cramped.folder, fleet)
    judge.alarms_are_exact(database, fleet)
