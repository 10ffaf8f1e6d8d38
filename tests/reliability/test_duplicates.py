"""D07: every message one to three times and out of order gives what each gives once and in order."""

import json
import random
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest.batch import Batch
from ingest.pipeline import Pipeline
from kernel import clock
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests.reliability.conftest import build_plant
from tests.reliability.fleet import HOT

PAIRS = 20
ROUNDS = 12
A_ROUND = 10


def _messages(device: int, numbers: range, temperatures: list[float], begin_ms: int) -> list[tuple[str, bytes]]:
    return [
        (
            f"fw/v1/dev-{device}/telemetry",
            json.dumps({"ts": begin_ms + 1000 * n, "values": {"temperature": temperatures[n]}}).encode(),
        )
        for n in numbers
    ]


def test_D07_duplicates_and_disorder_change_neither_readings_nor_alarms(
    database: sessionmaker[Session], tmp_path: Path, seed: int
) -> None:
    """Device 2n speaks once and in order; device 2n + 1 says the same repeatedly, shuffled within each batch.

    Batches that came before are delivered again after later ones.
    """
    works = build_plant(database, machines=2 * PAIRS)
    chance = random.Random(seed)
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    pipeline = Pipeline(database, store)
    pipeline.load()
    begin_ms = clock.now_ms() - 3_600_000
    told = [[round(chance.uniform(HOT - 25, HOT + 15), 1) for _ in range(ROUNDS * A_ROUND)] for _ in range(PAIRS)]
    before: list[Batch] = []
    for turn in range(ROUNDS):
        numbers = range(turn * A_ROUND, (turn + 1) * A_ROUND)
        messages: list[tuple[str, bytes]] = []
        for pair in range(PAIRS):
            again = _messages(2 * pair + 1, numbers, told[pair], begin_ms)
            messages += [message for message in again for _ in range(chance.randint(1, 3))]
        chance.shuffle(messages)
        for pair in range(PAIRS):
            messages += _messages(2 * pair, numbers, told[pair], begin_ms)
        before.append(Batch.of(messages))
        pipeline.process(before[-1])
        pipeline.process(chance.choice(before))
    judged = [_of(database, store, works.devices[n].id, works.assets[n].id) for n in range(2 * PAIRS)]
    store.close()
    for pair in range(PAIRS):
        readings, alarms = judged[2 * pair]
        assert [value for _, value in readings] == told[pair]
        assert alarms
        assert judged[2 * pair + 1] == (readings, alarms), pair


def _of(database: sessionmaker[Session], store: DuckDbStore, device: int, asset: int) -> tuple[list[Any], list[Any]]:
    with database() as session:
        number = session.scalars(select(Series.id).where(Series.device_id == device)).one()
        alarms = [
            (one.raised_at, one.ended_at, one.count, one.peak_value, one.is_active)
            for one in session.scalars(select(Alarm).where(Alarm.asset_id == asset).order_by(Alarm.id))
        ]
    found = store.samples(number, 0, clock.now_ms() + 1000, limit=10_000)
    return list(zip(found.ts_ms.tolist(), found.value.tolist(), strict=True)), alarms
