"""A real worker beside the ingest of a trial, and what must be true of the orders in the end (P3)."""

import os
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import events
from kernel.models import Delivery, Event
from maintenance.orders import alarm_orders
from maintenance.orders.models import Order
from rules.events import AlarmAnnounced
from rules.models import Alarm
from tests.waiting import until


class WorkerProcess:
    """A real worker, killed by the id it was started with."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "FIXWRIGHT_DATABASE_URL": database_url,
            "FIXWRIGHT_DATA_DIR": str(folder),
            "FIXWRIGHT_SECRET_KEY": "a secret for tests only",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "log").open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "worker"], env=self._environment, stdout=sink, stderr=sink
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None


def is_idle(database: sessionmaker[Session]) -> bool:
    with database() as session:
        return events.is_idle(session)


def every_fault_has_one_order(database: sessionmaker[Session]) -> None:
    """Wait until all is delivered; each fault that people were told of has one order, and nothing is stuck.

    Nobody finished anything, so no fault may have had a second.
    """
    until(lambda: is_idle(database), timeout_s=300, what="everything is delivered")
    with database() as session:
        told = select(Alarm.subject, Alarm.type_key).where(Alarm.announced_at.is_not(None)).distinct()
        faults = {f"{subject}/{key}" for subject, key in session.execute(told)}
        orders = Counter(session.scalars(select(Order.fault_key)))
        assert faults, "there was something to repair"
        assert set(orders) == faults
        assert set(orders.values()) == {1}
        assert session.scalars(select(Delivery.state).distinct()).all() == ["done"]


def delays_s(database: sessionmaker[Session], since: datetime) -> list[float]:
    """Return how long each alarm announced from an instant on waited for its order, a new one or one it joined."""
    told = (
        select(Event.at, Delivery.done_at)
        .join(Delivery, Delivery.event_id == Event.id)
        .where(
            Event.kind == AlarmAnnounced.__name__,
            Event.at >= since,
            Delivery.subscriber == events.name_of(alarm_orders.on_announced),
        )
    )
    with database() as session:
        return [(done - announced).total_seconds() for announced, done in session.execute(told) if done is not None]
