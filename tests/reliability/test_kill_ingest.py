"""D01: kill -9 of ingest at random, under load, and nothing acknowledged is lost or doubled."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from ingest import crash
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.reliability import delivery
from tests.reliability.conftest import DEVICES, IngestProcess, build_plant
from tests.reliability.stage import under_load
from tests.waiting import until


def _killed_at_random(process: IngestProcess, *, kills: int, longest_s: float, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(kills):
        process.start()
        # The one sleep of this test: it is the length of life that chance gives the process.
        time.sleep(chance.uniform(0, longest_s))
        process.kill()
    process.start()


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.torture)])
def test_ING_2_D01_kills_of_ingest_under_load_lose_and_double_nothing(  # noqa: PLR0917 - fixtures
    database: sessionmaker[Session],
    database_url: str,
    broker: Mosquitto,
    works: Plant,  # noqa: ARG001 - the rows the devices stand on
    ingests: Callable[[str, str], IngestProcess],
    seed: int,
    kills: int,
) -> None:
    process = ingests(database_url, broker.url)
    with under_load(database, broker, process, devices=DEVICES, every_s=2.0, alarms=0.1, seed=seed):
        process.kill()
        _killed_at_random(process, kills=kills - 1, longest_s=1.2, seed=seed)


def test_D06_a_crash_at_each_named_step_of_the_path_loses_and_doubles_nothing(
    database: sessionmaker[Session],
    database_url: str,
    broker: Mosquitto,
    works: Plant,  # noqa: ARG001 - the rows the devices stand on
    ingests: Callable[[str, str], IngestProcess],
    seed: int,
) -> None:
    process = ingests(database_url, broker.url)
    with under_load(database, broker, process, devices=DEVICES // 2, every_s=1.0, alarms=0.2, seed=seed):
        process.kill()
        for place in crash.PLACES:
            process.start(**{crash.VARIABLE: f"{place}:4"})
            until(lambda: not process.is_alive, timeout_s=60, what=f"it crashes at {place}")
            process.kill()
        process.start()


@pytest.mark.torture
@pytest.mark.parametrize("devices", [1000])
def test_D01_at_full_length(  # noqa: PLR0917 - fixtures
    database: sessionmaker[Session],
    database_url: str,
    broker: Mosquitto,
    ingests: Callable[[str, str], IngestProcess],
    tmp_path: Path,
    seed: int,
    devices: int,
) -> None:
    build_plant(database, machines=devices)
    process = ingests(database_url, broker.url)
    trial = under_load(database, broker, process, devices=devices, every_s=5.0, alarms=0.1, seed=seed, drained_in_s=10)
    worker = delivery.WorkerProcess(database_url, tmp_path)
    worker.start()
    try:
        with trial:
            process.kill()
            _killed_at_random(process, kills=19, longest_s=20, seed=seed)
        delivery.every_fault_has_one_order(database)
    finally:
        worker.kill()
