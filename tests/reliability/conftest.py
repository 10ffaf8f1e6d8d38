"""The stage of the reliability tests: a broker, a plant with a rule, and an ingest process that may be killed."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock, db
from rules import library
from rules.library import AlarmTypeDraft
from tests import mosquitto, plant
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.reliability.fleet import HOT
from tests.waiting import until

DEVICES = 100
RULE = {
    "schema": 1,
    "create": {"major": {"condition": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": HOT}}},
    "clear": {"type": "automatic"},
}


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    if mosquitto.PATH is None:
        pytest.skip("mosquitto is not installed")
    started = Mosquitto()
    started.start()
    yield started
    started.remove()


def build_plant(database: sessionmaker[Session], *, machines: int = DEVICES) -> Plant:
    with db.transaction(database) as session:
        made = plant.build(session, machines=machines)
        draft = AlarmTypeDraft("overheat", "Overheating", asset_type_id=made.type.id)
        library.add(session, draft, RULE, unit=made.company, actor="account:1", now=clock.now())
    return made


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    return build_plant(database)


class Nursery:
    """The process that gives birth to ingest processes; see ``tests.reliability.nursery``."""

    def __init__(self) -> None:
        self.log = Path(tempfile.mkdtemp(prefix="fixwright-nursery-")) / "log"
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.reliability.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                bufsize=0,  # what lies in a buffer of ours, select does not see
            )

    def bear(self, environment: dict[str, str]) -> int:
        """Start a process, wait until it receives or is gone, and return its id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(environment).encode() + b"\n")
        self._process.stdin.flush()
        pid = int(self._line().split()[1])
        until(lambda: self._is_ready(pid), timeout_s=120, what=f"it is born: {self.log.read_text()[-4000:]}")
        return pid

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        while True:
            line = self._process.stdout.readline()
            # A child that was killed while it got ready may have said so all the same.
            if line != b"ready\n":
                return line

    def _is_ready(self, pid: int) -> bool:
        assert self._process.stdout is not None
        waiting, _, _ = select.select([self._process.stdout], [], [], 0)
        if waiting:
            assert self._process.stdout.readline() == b"ready\n"
            return True
        return not psutil.pid_exists(pid)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
        shutil.rmtree(self.log.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    opened = Nursery()
    yield opened
    opened.close()


class IngestProcess:
    """A real ingest process, started, killed by the id it was started with, and started again."""

    def __init__(
        self, nursery: Nursery, database_url: str, mqtt_url: str, *, folder: Path | None = None, **extra: str
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="fixwright-ingest-"))
        self._nursery = nursery
        self._environment = {
            "FIXWRIGHT_DATABASE_URL": database_url,
            "FIXWRIGHT_MQTT_URL": mqtt_url,
            "FIXWRIGHT_DATA_DIR": str(self.folder),
            "FIXWRIGHT_SECRET_KEY": "a secret for tests only",
        } | extra
        self.pid: int | None = None

    def start(self, **extra: str) -> None:
        """Start it, and wait until it receives."""
        self.pid = self._nursery.bear(self._environment | extra)
        assert self.is_alive or extra, self._nursery.log.read_text()[-4000:]

    def pause(self) -> None:
        assert self.pid is not None
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.pid is not None
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it finish what it took."""
        self._end(signal.SIGTERM)

    @property
    def is_alive(self) -> bool:
        return self.pid is not None and psutil.pid_exists(self.pid)

    def _end(self, how: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, how)
            until(lambda: not self.is_alive, timeout_s=60, what="it ends")
            self.pid = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def ingests(nursery: Nursery) -> Iterator[Callable[..., IngestProcess]]:
    made: list[IngestProcess] = []

    def make(database_url: str, mqtt_url: str, **more: Any) -> IngestProcess:
        made.append(IngestProcess(nursery, database_url, mqtt_url, **more))
        return made[-1]

    yield make
    for process in made:
        process.remove()
