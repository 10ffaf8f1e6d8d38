"""The ledger: received = stored + duplicate + rejected, by device and hour and summed, and what brokers dropped."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from ingest import drops, ledger, rejected
from ingest.batch import Batch
from ingest.models import BrokerDrop, IntakeCount, IntakeTotal, RejectedMessage
from ingest.pipeline import Pipeline
from ingest.run import Ingest
from kernel import clock, db, settings
from people import scope
from people.scope import Viewer
from telemetry.duckdb import DuckDbStore
from tests import plant
from tests.ingest.edges import Device
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.waiting import until

MESSAGES = 10_000
DEVICES = 20


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        return plant.build(session, machines=DEVICES)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def owner(works: Plant) -> Viewer:
    return scope.operator(works.company)


def _sent(chance: random.Random, devices: int) -> dict[str, list[tuple[str, bytes]]]:
    """Return by device its messages: of them 3 % bad, and 5 % said again."""
    sent: dict[str, list[tuple[str, bytes]]] = {}
    at_ms = clock.now_ms() - 3_600_000
    for number in range(devices):
        said = []
        for turn in range(MESSAGES // devices):
            body = {"ts": at_ms + turn, "values": {"temperature": turn}}
            bad = f'{{"temperature": {turn}'
            said.append(bad.encode() if chance.random() < 0.03 else json.dumps(body).encode())
            if chance.random() < 0.05:
                said.append(chance.choice(said))
        sent[f"dev-{number}"] = [(f"fw/v1/dev-{number}/telemetry", payload) for payload in said]
    return sent


def test_ING_3_the_equation_holds_for_each_device_and_the_sums(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant, owner: Viewer
) -> None:
    chance = random.Random(7)
    sent = _sent(chance, DEVICES)
    lines = [message for said in sent.values() for message in said]
    pipeline = Pipeline(database, store)
    pipeline.load()
    for begin in range(0, len(lines), 1000):
        pipeline.process(Batch.of(lines[begin : begin + 1000]))
    pipeline.process(Batch.of([("fw/v1/stranger/telemetry", b'{"temperature": 1}')]))
    pipeline.books.close(clock.now())
    with database() as session:
        for device in works.devices:
            said = [payload for _, payload in sent[device.key]]
            found = ledger.of_device(session, owner, device.id, limit=10)
            assert all(line.balances and not line.waiting for line in found)
            bad = sum(not payload.endswith(b"}}") for payload in said)
            good = {payload for payload in said if payload.endswith(b"}}")}
            assert sum(line.received for line in found) == len(said)
            assert sum(line.rejected for line in found) == bad
            assert sum(line.stored for line in found) == len(good)
            assert sum(line.duplicate for line in found) == len(said) - bad - len(good)
        hours = ledger.hours(session, owner, limit=10)
        assert sum(line.received for line in hours) == len(lines) + 1
        assert all(line.balances and not line.waiting for line in hours)
        for hour in hours:
            of_devices = ledger.of_hour(session, owner, hour.hour, limit=100)
            assert sum(line.rejected for line in of_devices) == hour.rejected
            for line in of_devices:
                key = line.device_key
                unknown = key is None
                behind = rejected.listed(
                    session, owner, device_key=key, is_unknown=unknown, hour=hour.hour, is_open=None, limit=10_000
                )
                assert sum(row.repeats for row in behind) == line.rejected
        (worst, _), *_ = ledger.most_rejects(session, owner, since=hours[-1].hour, limit=3)
        assert worst.rejected == max(line.rejected for line in of_devices)


def test_ING_3_a_replay_after_the_cause_is_mended_leaves_none_rejected_and_no_second_copy(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant, owner: Viewer
) -> None:
    pipeline = Pipeline(database, store)
    pipeline.load()
    at_ms = clock.now_ms()
    lines = [
        ("fw/v1/late/telemetry", json.dumps({"ts": at_ms + n, "values": {"temperature": n}}).encode())
        for n in range(30)
    ]
    pipeline.process(Batch.of(lines + lines[:5]))
    with db.transaction(database) as session:
        assert session.scalar(select(func.count()).select_from(RejectedMessage)) == 30
        plant.device(session, works, "late", asset=works.assets[0], announced=True)
        assert rejected.ask_all(session, owner, reason="unknown_device", device_key=None, now=clock.now()) == 30
    pipeline.follow_changes(clock.now())
    pipeline.replaying.try_again()
    pipeline.replaying.try_again()
    pipeline.books.close(clock.now())
    with database() as session:
        assert session.scalar(select(RejectedMessage.id).where(RejectedMessage.replayed_at.is_(None))) is None
        sums = session.execute(
            select(func.sum(IntakeCount.stored), func.sum(IntakeCount.rejected), func.sum(IntakeCount.received))
        ).one()
        assert tuple(map(int, sums)) == (30, 35, 65)
        total = select(func.sum(IntakeTotal.stored), func.sum(IntakeTotal.rejected), func.sum(IntakeTotal.received))
        assert session.execute(total).one() == sums
    assert sum(one.ts_ms >= at_ms for one in store.latest(range(100)).values()) == 1


@pytest.mark.parametrize(("before", "said", "dropped"), [(5, 5, 0), (5, 9, 4), (9, 3, 3), (9, 0, 0)])
def test_ING_3_only_what_the_brokers_number_grew_by_is_news(before: int, said: int, dropped: int) -> None:
    assert drops.grown(before, said) == dropped


def test_ING_3_drops_are_kept_by_the_hour_across_our_restarts_and_the_brokers(
    database: sessionmaker[Session], store: DuckDbStore
) -> None:
    now = clock.now()
    for said in (100, 104, 104, 110, 2, 5):
        # Each time another process: nothing is remembered but what is written.
        Pipeline(database, store).books.note_drops("broker:1883", said, now)
    with database() as session:
        (kept,) = session.scalars(select(BrokerDrop)).all()
    assert kept.dropped == 4 + 6 + 2 + 3
    assert kept.hour == now.replace(minute=0, second=0, microsecond=0)


def test_ING_3_what_a_real_broker_drops_is_in_the_books(
    database: sessionmaker[Session],
    store: DuckDbStore,
    tmp_path: Path,
    works: Plant,  # noqa: ARG001 - rows
    owner: Viewer,
    brokers: Callable[..., Mosquitto],
) -> None:
    broker = brokers("max_queued_messages 20\nmax_inflight_messages 20")
    chosen = settings.load(data_dir=tmp_path, mqtt_url=broker.url)

    def running() -> Ingest:
        ingest = Ingest(chosen, database, store)
        ingest.start()
        until(ingest.healthy, what="the broker is connected")
        return ingest

    ingest = running()
    until(lambda: getattr(ingest.counters, "hears_drops", False), what="the broker told its number")
    ingest.stop()
    device = Device(broker.port)
    for number in range(120):
        device.publish("fw/v1/dev-0/telemetry", f'{{"temperature": {number}}}')
    device.say("fw/v1/dev-0/telemetry", '{"temperature": 1}')
    ingest = running()

    def dropped() -> int:
        with database() as session:
            return sum(drop.dropped for drop in ledger.drops(session, limit=10))

    until(lambda: dropped() >= 80, timeout_s=30, what="the drops are written down")
    ingest.stop()
    with database() as session:
        received = sum(line.received for line in ledger.hours(session, owner, limit=10))
    assert received + dropped() == 121
