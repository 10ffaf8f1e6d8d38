"""D05: kill -9 of the worker while it delivers; each effect happens once and nothing is stuck unseen."""

import random
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock, db, events
from kernel.models import Delivery, Event
from maintenance.orders.models import Order
from rules import alarms
from rules.episodes import Fault, Seen
from tests import factories
from tests.reliability.delivery import WorkerProcess
from tests.waiting import until

FAULTS_A_KILL = 100
"""So many that each kill finds the worker at work: it delivers a hundred and more at once."""


def _raise_faults(database: sessionmaker[Session], faults: int) -> None:
    with db.transaction(database) as session:
        company = factories.company(session)
        found = [factories.asset(session, company, "harbour") for _ in range(faults)]
        now = clock.now()
        seen = []
        for asset in found:
            subject = f"asset:{asset.id}"
            fault = Fault(subject, "E1", "device", "device:1", asset.company_id, asset.unit_id, asset.id, None)
            # Seen three times, so that two events a fault want one order.
            seen += [Seen(fault, "critical", now, now) for _ in range(3)]
        alarms.take(session, seen, now=now)


def _delivered(database: sessionmaker[Session]) -> int:
    with database() as session:
        return session.scalar(select(func.count()).select_from(Delivery).where(Delivery.state == "done")) or 0


def _judge(database: sessionmaker[Session], faults: int) -> None:
    with database() as session:
        per_fault = session.execute(select(Order.fault_key, func.count()).group_by(Order.fault_key)).all()
        assert len(per_fault) == faults
        assert {count for _, count in per_fault} == {1}
        assert session.scalar(select(func.count()).select_from(Event).where(Event.kind == "OrderOpened")) == faults
        assert session.scalars(select(Delivery.state).distinct()).all() == ["done"]


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.torture)])
def test_D05_kills_of_the_worker_while_it_delivers_double_no_effect_and_leave_nothing_behind(
    database: sessionmaker[Session], database_url: str, tmp_path: Path, seed: int, kills: int
) -> None:
    _raise_faults(database, FAULTS_A_KILL * kills)
    chance = random.Random(seed)
    worker = WorkerProcess(database_url, tmp_path)
    try:
        for _ in range(kills):
            before = _delivered(database)
            worker.start()
            until(
                lambda before=before: _delivered(database) > before,  # type: ignore[misc]
                timeout_s=60,
                every_s=0.005,
                what="it delivers",
            )
            time.sleep(chance.uniform(0, 0.05))  # how far it gets
            worker.kill()
        worker.start()

        def is_idle() -> bool:
            with database() as session:
                return events.is_idle(session)

        until(is_idle, timeout_s=120, what="everything is delivered")
    finally:
        worker.kill()
    _judge(database, FAULTS_A_KILL * kills)
