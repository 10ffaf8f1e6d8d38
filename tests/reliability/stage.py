"""The stage on which kills are survived: a fleet that talks to ingest, and a judge who counts when all is quiet."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session, sessionmaker

from tests.mosquitto import Mosquitto
from tests.reliability import judge
from tests.reliability.conftest import IngestProcess
from tests.reliability.fleet import Fleet
from tests.waiting import until


@contextmanager
def under_load(
    database: sessionmaker[Session],
    broker: Mosquitto,
    process: IngestProcess,
    *,
    devices: int,
    every_s: float,
    alarms: float,
    seed: int,
    drained_in_s: int = 120,
) -> Iterator[None]:
    """Let devices talk to ingest while something befalls it; then nothing may be missing, and nothing counted twice.

    ``drained_in_s``: how long after the trial the last alarm may take to be acknowledged.
    """
    process.start()
    fleet = Fleet(broker.port, [f"dev-{n}" for n in range(devices)], every_s=every_s, alarms=alarms, seed=seed)
    fleet.start()
    try:
        until(lambda: all(device.readings for device in fleet.devices), timeout_s=120, what="devices connect")
        yield
        fleet.quieten()
        until(lambda: fleet.is_silent, timeout_s=drained_in_s, what="every alarm is acknowledged")
    finally:
        fleet.stop()
    process.stop()
    judge.readings_are_stored_once(database, process.folder, fleet)
    judge.alarms_are_exact(database, fleet)
