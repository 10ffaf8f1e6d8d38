"""OPS-8 at full length: workers of a group are killed and come back while the split changes; the alarms are exact."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest.models import IngestWorker
from kernel import clock
from rules.models import Alarm
from tests.reliability.conftest import build_plant
from tests.reliability.fleet import HOT, Sent
from tests.telemetry.conftest import victoria_url as victoria_url  # noqa: PLC0414 - a fixture, seen by pytest
from tests.waiting import until

DEVICES = 30
ROUNDS = 20
KILL_EVERY = 4
EVERY_MS = 30_000
"""Slow enough that nothing chatters: what toggles three times a minute is held as one alarm, by design."""


class Worker:
    """One process of the group; what it was given and has not acknowledged is ``given``."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.given: list[tuple[str, str]] = []
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.reliability.group_process"],
                env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink,
            )  # fmt: skip
        assert self._line() == b"ready\n", log.read_text()

    def give(self, messages: list[tuple[str, str]]) -> None:
        assert self.process.stdin is not None
        self.given = messages
        self.process.stdin.write(json.dumps(messages).encode() + b"\n")
        self.process.stdin.flush()

    def is_done(self) -> bool:
        """Wait for the acknowledgement; return whether there was one."""
        if not self.given or self._line() != b"done\n":
            return not self.given
        self.given = []
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture
def worker(database_url: str, victoria_url: str, tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    environment = {
        "FIXWRIGHT_DATABASE_URL": database_url,
        "FIXWRIGHT_TELEMETRY_URL": victoria_url,
        "FIXWRIGHT_DATA_DIR": str(tmp_path),
        "FIXWRIGHT_SECRET_KEY": "a secret for tests only",
    }
    made: list[Worker] = []

    def start() -> Worker:
        made.append(Worker(environment, tmp_path / "log"))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.torture
def test_OPS_8_kills_under_a_changing_split_lose_and_double_no_alarm(
    database: sessionmaker[Session], worker: Callable[[], Worker], seed: int
) -> None:
    works = build_plant(database, machines=DEVICES)
    chance = random.Random(seed)
    group = [worker() for _ in range(3)]
    told = [Sent(f"dev-{n}") for n in range(DEVICES)]
    begin_ms = clock.now_ms() - 3_600_000
    for turn in range(ROUNDS):
        for one, batch in zip(group, _said(told, begin_ms + EVERY_MS * turn, len(group), chance), strict=True):
            if batch:
                one.give(batch)
        if turn % KILL_EVERY == KILL_EVERY - 1:
            _bereave(group, worker, chance)
        else:
            answers = [one.is_done() for one in group]
            assert all(answers)
    with database() as session:
        for device, asset in zip(told, works.assets, strict=True):
            found = session.scalars(select(Alarm.count).where(Alarm.asset_id == asset.id).order_by(Alarm.id)).all()
            assert found == device.runs(), device.key
    until(lambda: _dead(database) == ROUNDS // KILL_EVERY, what="every life that was killed is ended")


def _said(told: list[Sent], at_ms: int, workers: int, chance: random.Random) -> list[list[tuple[str, str]]]:
    """Let every device speak; most stay with their worker, a tenth goes elsewhere."""
    batches: list[list[tuple[str, str]]] = [[] for _ in range(workers)]
    for number, device in enumerate(told):
        home = number % workers if chance.random() < 0.9 else chance.randrange(workers)
        temperature = round(chance.uniform(HOT - 20, HOT + 20), 1)
        device.readings.append((at_ms, temperature))
        body = {"ts": at_ms, "values": {"temperature": temperature}}
        batches[home].append((f"fw/v1/{device.key}/telemetry", json.dumps(body)))
    return batches


def _bereave(group: list[Worker], worker: Callable[[], Worker], chance: random.Random) -> None:
    """Kill a worker in the middle of its batch; what it did not acknowledge goes to another, old or new."""
    victim = group.pop(chance.randrange(len(group)))
    # The one sleep of this test: how far the victim comes is left to chance.
    time.sleep(chance.uniform(0, 0.05))
    victim.kill()
    answers = [one.is_done() for one in group]
    assert all(answers)
    is_done = victim.is_done()
    replacement = worker()
    if not is_done:
        heir = chance.choice([*group, replacement])
        heir.give(victim.given)
        assert heir.is_done()
    group.append(replacement)


def _dead(database: sessionmaker[Session]) -> int:
    with database() as session:
        return len(session.scalars(select(IngestWorker.id).where(IngestWorker.ended_why == "gone")).all())
