"""D02: ingest is away while devices go on; what the broker kept is taken up, each message once."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.mosquitto import Mosquitto
from tests.reliability import judge
from tests.reliability.conftest import IngestProcess, build_plant
from tests.reliability.fleet import Fleet
from tests.waiting import until

MACHINES = 500
AWAY_S = 120


@pytest.mark.torture
def test_D02_two_minutes_of_backlog_are_drained_and_every_message_counts_once(
    database: sessionmaker[Session],
    database_url: str,
    broker: Mosquitto,
    ingests: Callable[[str, str], IngestProcess],
    seed: int,
) -> None:
    build_plant(database, machines=MACHINES)
    process = ingests(database_url, broker.url)
    process.start()
    fleet = Fleet(broker.port, [f"dev-{n}" for n in range(MACHINES)], every_s=1.0, alarms=0.02, seed=seed)
    fleet.start()
    try:
        until(lambda: all(device.readings for device in fleet.devices), timeout_s=120, what="devices connect")
        process.stop()
        # The length of the absence that RELIABILITY gives.
        time.sleep(AWAY_S)
        process.start()
        fleet.quieten()
        until(lambda: fleet.is_silent, timeout_s=120, what="every alarm is acknowledged")
    finally:
        fleet.stop()
    process.stop()
    judge.readings_are_stored_once(database, process.folder, fleet)
    judge.alarms_are_exact(database, fleet)
