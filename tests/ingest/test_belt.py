"""The belt: batches in their order on two threads, and a failure that takes along what follows it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest.batch import Batch
from ingest.belt import Belt
from ingest.patience import Patience
from ingest.pipeline import Pipeline
from kernel import clock, db
from kernel.errors import Unavailable
from rules import library
from rules.library import AlarmTypeDraft
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings, Written
from tests import loops, plant

NOW_MS = clock.now_ms() - 600_000
HOT = {
    "schema": 1,
    "create": {"major": {"condition": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 60.0}}},
    "clear": {"type": "automatic"},
}


class Fragile(DuckDbStore):
    """A store whose disk is full for some writes."""

    failures = 0

    def write(self, readings: Readings) -> Written:
        if self.failures:
            self.failures -= 1
            raise Unavailable("The disk is full.")
        return super().write(readings)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Fragile]:
    opened = Fragile(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def pipeline(database: sessionmaker[Session], store: Fragile) -> Pipeline:
    with db.transaction(database) as session:
        works = plant.build(session)
        draft = AlarmTypeDraft("overheat", "Overheating", asset_type_id=works.type.id)
        library.add(session, draft, HOT, unit=works.company, actor="account:1", now=clock.now())
    made = Pipeline(database, store, patience=Patience(0))
    made.load()
    return made


@pytest.fixture
def belt(pipeline: Pipeline) -> Iterator[Belt]:
    opened = Belt(pipeline)
    yield opened
    opened.close()


def batch(second: int, temperature: float) -> Batch:
    body = {"ts": NOW_MS + 1000 * second, "values": {"temperature": temperature}}
    return Batch.of([("fw/v1/dev-0/telemetry", json.dumps(body).encode())])


def alarms(database: sessionmaker[Session]) -> list[tuple[int, bool]]:
    with database() as session:
        return [(one.count, one.is_active) for one in session.scalars(select(Alarm).order_by(Alarm.id))]


def test_batches_given_together_are_made_durable_in_their_order(database: sessionmaker[Session], belt: Belt) -> None:
    async def all_at_once() -> None:
        await asyncio.gather(*(belt(batch(n, 70 if n % 3 else 20)) for n in range(30)))

    loops.run(all_at_once())
    # What toggles so quickly is chattering: after three pairs a minute the alarm is held as one, and counts on.
    assert alarms(database) == [(2, False)] * 3 + [(14, True)]


def test_a_failed_batch_takes_those_behind_it_along_and_all_of_them_again_lose_nothing(
    database: sessionmaker[Session], belt: Belt, store: Fragile
) -> None:
    batches = [batch(0, 70), batch(1, 20), batch(2, 70)]

    async def attempt() -> list[object]:
        return list(await asyncio.gather(*(belt(one) for one in batches), return_exceptions=True))

    store.failures = 1  # those behind the first could be stored, before it
    assert all(isinstance(outcome, Unavailable) for outcome in loops.run(attempt()))
    assert alarms(database) == []
    assert loops.run(attempt()) == [[], [], []]
    assert alarms(database) == [(1, False), (1, True)]


def test_what_runs_between_batches_sees_no_half_done_one(belt: Belt, pipeline: Pipeline) -> None:
    async def interleaved() -> list[bool]:
        batches = [asyncio.ensure_future(belt(batch(n, 20))) for n in range(20)]
        ticks = [await belt.between(lambda: pipeline.judging.run_timers(clock.now()) is None) for _ in range(20)]
        await asyncio.gather(*batches)
        return ticks

    assert loops.run(interleaved()) == [True] * 20
