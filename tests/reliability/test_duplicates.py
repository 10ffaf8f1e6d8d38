"""D07: every message one to three times and out of order gives what each gives once and in order."""

import json
import random
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api import subscriptions
from ingest.batch import Batch
from ingest.pipeline import Pipeline
from kernel import clock, courier, db, events
from maintenance.orders import desk, faults
from maintenance.orders.models import Order
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests.reliability.conftest import build_plant
from tests.reliability.fleet import HOT

PAIRS = 6
ROUNDS = 12
A_ROUND = 10
EVERY_MS = 25_000
"""Slow enough that not everything chatters, and fast enough that some of it does."""
VISIT_EVERY = 4
"""After so many rounds somebody cancels all orders, so that the same faults come to others."""


def _messages(device: int, numbers: range, temperatures: list[float], begin_ms: int) -> list[tuple[str, bytes]]:
    return [
        (
            f"fw/v1/dev-{device}/telemetry",
            json.dumps({"ts": begin_ms + EVERY_MS * n, "values": {"temperature": temperatures[n]}}).encode(),
        )
        for n in numbers
    ]


def test_D07_duplicates_and_disorder_change_neither_readings_nor_alarms_nor_orders(
    database: sessionmaker[Session], tmp_path: Path, seed: int
) -> None:
    """Device 2n speaks once and in order; device 2n + 1 says the same repeatedly, shuffled within each batch.

    Batches that came before are delivered again after later ones. What alarms ask for is delivered between two rounds.
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
        _deliver(database)
        if turn % VISIT_EVERY == VISIT_EVERY - 1:
            _cancel_all(database)
    judged = [_of(database, store, works.devices[n].id, works.assets[n].id) for n in range(2 * PAIRS)]
    store.close()
    for pair in range(PAIRS):
        readings, alarms, orders = judged[2 * pair]
        assert [value for _, value in readings] == told[pair]
        assert alarms
        assert len(orders) == ROUNDS // VISIT_EVERY
        assert judged[2 * pair + 1] == (readings, alarms, orders), pair


def _deliver(database: sessionmaker[Session]) -> None:
    """Let those who subscribe to events hear of all of them, as the worker does."""

    def is_idle() -> bool:
        with database() as session:
            return events.is_idle(session)

    while not is_idle():
        with db.transaction(database) as session:
            events.fan_out(session, subscriptions.TABLE, clock.now())
        while courier.deliver_many(database, subscriptions.TABLE, clock.now()):
            pass


def _cancel_all(database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        for order in session.scalars(select(Order).where(faults.is_open()).order_by(Order.id)).all():
            desk.move(session, order, "cancel", actor="account:1", now=clock.now(), reason="It was looked at.")


def _of(
    database: sessionmaker[Session], store: DuckDbStore, device: int, asset: int
) -> tuple[list[Any], list[Any], list[Any]]:
    with database() as session:
        number = session.scalars(select(Series.id).where(Series.device_id == device)).one()
        alarms = [
            (one.raised_at, one.ended_at, one.count, one.peak_value, one.is_active)
            for one in session.scalars(select(Alarm).where(Alarm.asset_id == asset).order_by(Alarm.id))
        ]
        orders = [
            (one.phase, one.priority, one.title, one.occurrences, one.last_seen_at, one.alarm and one.alarm.raised_at)
            for one in session.scalars(select(Order).where(Order.asset_id == asset).order_by(Order.id))
        ]
    found = store.samples(number, 0, clock.now_ms() + 1000, limit=10_000)
    return list(zip(found.ts_ms.tolist(), found.value.tolist(), strict=True)), alarms, orders
