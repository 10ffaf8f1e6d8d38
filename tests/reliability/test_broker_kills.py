"""ING-10: the broker is killed while alarms are sent; each is raised once and acknowledged in the end."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest.models import AlarmReport
from kernel import clock
from rules.models import Alarm
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.reliability import delivery
from tests.reliability.conftest import IngestProcess
from tests.reliability.fleet import Fleet
from tests.waiting import until

DEVICES = 10
EACH = 100


@pytest.mark.parametrize("are_stubborn", [False, pytest.param(True, marks=pytest.mark.torture)])
def test_ING_10_a_thousand_alarms_through_two_broker_kills_are_each_raised_once_and_all_acknowledged(  # noqa: PLR0917 - fixtures
    database: sessionmaker[Session],
    database_url: str,
    broker: Mosquitto,
    works: Plant,  # noqa: ARG001 - the rows the devices stand on
    ingests: Callable[[str, str], IngestProcess],
    seed: int,
    tmp_path: Path,
    *,
    are_stubborn: bool,
) -> None:
    """Stubborn devices send each one to three times from the start, acknowledged or not, in any order, and go on until
    it is; then each fault has one order, too.
    """
    chance = random.Random(seed)
    ingests(database_url, broker.url).start()
    fleet = Fleet(broker.port, [f"dev-{n}" for n in range(DEVICES)], every_s=1.0, alarms=0, seed=seed)
    for device in fleet.devices:
        for seq in range(1, EACH + 1):
            body = {
                "seq": seq,
                "code": f"E{seq}",
                "severity": "major",
                "state": "raised",
                "ts": clock.now_ms(),
            }
            device.waiting[seq] = json.dumps(body).encode()
            device.owed += [device.waiting[seq]] * (chance.randint(1, 3) if are_stubborn else 0)
        chance.shuffle(device.owed)
    fleet.quieten()

    def acknowledged() -> int:
        return sum(EACH - len(device.waiting) for device in fleet.devices)

    fleet.start()
    try:
        for blow in (1, 2):
            until(
                lambda blow=blow: acknowledged() >= blow * DEVICES * EACH // 4,  # type: ignore[misc]
                timeout_s=90,
                every_s=0.002,
                what="some are acknowledged",
            )
            broker.kill()
            broker.start()
        until(lambda: fleet.is_silent, timeout_s=120, what="all are acknowledged")
    finally:
        fleet.stop()
    with database() as session:
        counts = session.scalars(select(Alarm.count)).all()
        reports = session.scalars(select(AlarmReport)).all()
    assert counts == [1] * (DEVICES * EACH)
    assert len(reports) == DEVICES * EACH
    assert not any(report.is_orphan for report in reports)
    if are_stubborn:
        worker = delivery.WorkerProcess(database_url, tmp_path)
        worker.start()
        try:
            delivery.every_fault_has_one_order(database)
        finally:
            worker.kill()
