"""D02: ingest is away while devices go on; what the broker kept is taken up, each message once."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.mosquitto import Mosquitto
from tests.reliability.conftest import IngestProcess, build_plant
from tests.reliability.stage import under_load

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
    with under_load(database, broker, process, devices=MACHINES, every_s=1.0, alarms=0.02, seed=seed):
        process.stop()
        # The length of the absence that RELIABILITY gives.
        time.sleep(AWAY_S)
        process.start()
