"""D02: ingest is away while devices go on; what the broker kept is taken up, each message once, and leads to work."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock
from tests.mosquitto import Mosquitto
from tests.reliability import delivery
from tests.reliability.conftest import IngestProcess, build_plant
from tests.reliability.stage import under_load

MACHINES = 500
AWAY_S = 120
ORDER_WITHIN_S = 5.0
"""From the alarm's commit to its work order, for 95 of 100, while the backlog is drained."""


@pytest.mark.torture
def test_D02_two_minutes_of_backlog_are_drained_and_every_message_counts_once(
    database: sessionmaker[Session],
    database_url: str,
    broker: Mosquitto,
    ingests: Callable[[str, str], IngestProcess],
    tmp_path: Path,
    seed: int,
) -> None:
    build_plant(database, machines=MACHINES)
    process = ingests(database_url, broker.url)
    worker = delivery.WorkerProcess(database_url, tmp_path)
    worker.start()
    try:
        with under_load(database, broker, process, devices=MACHINES, every_s=1.0, alarms=0.02, seed=seed):
            process.stop()
            # The length of the absence that RELIABILITY gives.
            time.sleep(AWAY_S)
            back = clock.now()
            process.start()
        delivery.every_fault_has_one_order(database)
    finally:
        worker.kill()
    waited = delivery.delays_s(database, back)
    assert len(waited) >= MACHINES // 10, "the backlog held new faults"
    assert float(np.quantile(waited, 0.95)) <= ORDER_WITHIN_S, np.quantile(waited, (0, 0.1, 0.5, 0.95, 1)).tolist()
