"""OPS-8: several workers share the assets; however the split changes, they raise the alarms that one worker would."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest.batch import Batch
from ingest.claims import Moved
from ingest.licence import Deposed
from ingest.models import IngestClaim, IngestWorker
from ingest.pipeline import Pipeline
from ingest.run import Ingest
from ingest.workers import Member
from kernel import clock, db, settings
from kernel.errors import Misconfigured
from rules import library
from rules.library import AlarmTypeDraft
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from tests import plant
from tests.ingest.group_worker import Worker
from tests.plant import Plant
from tests.waiting import until

PAIRS = 4
ROUNDS = 12
A_ROUND = 5
HOT = 60.0


def _compare(metric: str, limit: float, **more: Any) -> dict[str, Any]:
    return {"type": "compare", "metric": metric, "operator": ">=", "limit": limit, **more}


RULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "hot": (_compare("temperature", HOT, deadband=5.0), {"type": "simple"}),
    "long": (_compare("temperature", HOT), {"type": "duration", "seconds": 3.0}),
    "often": (_compare("temperature", HOT), {"type": "repeating", "times": 4, "window_s": 10.0}),
    "both": ({"type": "all", "of": [_compare("temperature", HOT), _compare("pressure", 5.0)]}, {"type": "simple"}),
}


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        made = plant.build(session, machines=2 * PAIRS, metrics=("temperature", "pressure"))
        for key, (condition, kind) in RULES.items():
            definition = {
                "schema": 1,
                "create": {"major": {"condition": condition, "kind": kind}},
                "clear": {"type": "automatic"},
            }
            draft = AlarmTypeDraft(key, key.title(), asset_type_id=made.type.id)
            library.add(session, draft, definition, unit=made.company, actor="account:1", now=clock.now())
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def workers(database: sessionmaker[Session], store: DuckDbStore, works: Plant) -> Iterator[Callable[..., Worker]]:  # noqa: ARG001
    with ExitStack() as stack:

        def make(share: str = "g") -> Worker:
            made = Worker(database, store, share)
            stack.callback(made.die)
            return made

        yield make


def _buried(database: sessionmaker[Session], dead: Worker, *others: Worker) -> None:
    """Let the others look around until one has seen that a worker is dead."""

    def is_over() -> bool:
        for worker in others:
            worker.look_around()
        with database() as session:
            return session.get_one(IngestWorker, dead.member.licence.life).ended_why == "gone"

    until(is_over, what="its life is ended")


def _told(chance: random.Random) -> list[tuple[float, float]]:
    told, is_hot = [], False
    for _ in range(ROUNDS * A_ROUND):
        is_hot = chance.random() < (0.7 if is_hot else 0.3)
        temperature = chance.uniform(HOT, HOT + 30) if is_hot else chance.uniform(HOT - 40, HOT - 0.1)
        told.append((round(temperature, 1), round(chance.uniform(0, 10), 1)))
    return told


def _messages(device: int, numbers: range, told: list[tuple[float, float]], begin_ms: int) -> list[tuple[str, bytes]]:
    """Return a device's messages; the pressure comes now and then only, so that it is held across moves."""
    said = []
    for n in numbers:
        temperature, pressure = told[n]
        values = {"temperature": temperature} | ({"pressure": pressure} if n % 4 == 0 else {})
        body = json.dumps({"ts": begin_ms + 1000 * n, "values": values})
        said.append((f"fw/v1/dev-{device}/telemetry", body.encode()))
    return said


def _alarms(database: sessionmaker[Session], asset_id: int) -> list[Any]:
    with database() as session:
        found = session.scalars(select(Alarm).where(Alarm.asset_id == asset_id).order_by(Alarm.type_key, Alarm.id))
        return [(one.type_key, one.raised_at, one.ended_at, one.count, one.peak_value, one.is_active) for one in found]


def test_OPS_8_one_three_and_two_workers_with_a_changing_split_raise_the_alarms_of_one(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant, workers: Callable[..., Worker]
) -> None:
    """Device 2n is served by one undisturbed pipeline; 2n + 1 says the same to workers that come, go and die."""
    chance = random.Random(4)
    alone = Pipeline(database, store)
    alone.load()
    begin_ms = clock.now_ms() - 3_600_000
    told = [_told(chance) for _ in range(PAIRS)]
    group = [workers()]
    for turn in range(ROUNDS):
        if turn in (2, 4):
            group.append(workers())
        if turn == 8:
            dead = group.pop(chance.randrange(3))
            dead.die()
            _buried(database, dead, *group)
        numbers = range(turn * A_ROUND, (turn + 1) * A_ROUND)
        alone.process(
            Batch.of([one for pair in range(PAIRS) for one in _messages(2 * pair, numbers, told[pair], begin_ms)])
        )
        batches: list[list[tuple[str, bytes]]] = [[] for _ in group]
        for pair in range(PAIRS):
            said = _messages(2 * pair + 1, numbers, told[pair], begin_ms)
            # The split changes between two rounds, and for some devices in the middle of one.
            cut = chance.choice((0, 0, 2, len(said)))
            first, second = chance.randrange(len(group)), chance.randrange(len(group))
            batches[first] += said[:cut]
            if first == second:
                batches[first] += said[cut:]
            else:
                group[first].pipeline.process(Batch.of(batches[first]))
                batches[first] = []
                group[second].pipeline.process(Batch.of(said[cut:]))
        for worker, batch in zip(group, batches, strict=True):
            worker.pipeline.process(Batch.of(batch))
    raised: set[str] = set()
    for pair in range(PAIRS):
        expected = _alarms(database, works.assets[2 * pair].id)
        raised |= {one[0] for one in expected}
        assert _alarms(database, works.assets[2 * pair + 1].id) == expected, pair
    assert raised == set(RULES)
    with database() as session:
        claims = session.scalars(select(IngestClaim.worker_id)).all()
    assert len(claims) == 2 * PAIRS


def _hot(device: int, at_ms: int, temperature: float) -> Batch:
    body = json.dumps({"ts": at_ms, "values": {"temperature": temperature}})
    return Batch.of([(f"fw/v1/dev-{device}/telemetry", body.encode())])


def test_OPS_8_what_was_evaluated_on_lost_ground_is_thrown_away_and_evaluated_anew(
    database: sessionmaker[Session], works: Plant, workers: Callable[..., Worker]
) -> None:
    """The first worker goes through a batch while the second claims the asset under its hands."""
    one, other = workers(), workers()
    now_ms = clock.now_ms()
    one.pipeline.process(_hot(0, now_ms - 9000, 70.0))
    evaluate, told = one.pipeline.rules.evaluate, []

    def disturbed(*columns: Any) -> Any:
        if not told:
            told.append(True)
            other.pipeline.process(_hot(0, now_ms - 8000, 20.0))
            other.pipeline.process(_hot(0, now_ms - 7000, 80.0))
        return evaluate(*columns)

    one.pipeline.rules.evaluate = disturbed  # type: ignore[method-assign] - the moment in which another comes
    one.pipeline.process(_hot(0, now_ms - 6000, 90.0))
    hot = [one for one in _alarms(database, works.assets[0].id) if one[0] == "hot"]
    assert [(count, peak, is_active) for _, _, _, count, peak, is_active in hot] == [(1, 70.0, False), (2, 90.0, True)]
    with database() as session:
        assert session.scalars(select(IngestClaim.worker_id)).all() == [one.member.licence.life]


def test_OPS_8_a_former_owner_writes_no_states_and_a_worker_that_was_ended_writes_nothing(
    database: sessionmaker[Session], workers: Callable[..., Worker]
) -> None:
    one, other = workers(), workers()
    now_ms = clock.now_ms()
    one.pipeline.process(_hot(0, now_ms - 9000, 70.0))
    other.pipeline.process(_hot(0, now_ms - 8000, 20.0))
    with pytest.raises(Moved), one.pipeline._settling():
        pass
    one.die()
    _buried(database, one, other)
    with pytest.raises(Deposed):
        one.pipeline.process(_hot(1, now_ms, 70.0))
    one.member.beat()
    assert one.member.licence.is_lost


def test_OPS_8_the_timers_of_a_worker_that_died_run_on_at_another(
    database: sessionmaker[Session], works: Plant, workers: Callable[..., Worker]
) -> None:
    """A machine is hot and falls silent; its worker dies; nobody hears of the machine again, and the alarm comes."""
    one, other = workers(), workers()
    other.look_around()
    one.pipeline.process(_hot(0, clock.now_ms() - 1000, 70.0))
    one.die()
    _buried(database, one, other)
    now = clock.now()
    assert "long" not in {alarm[0] for alarm in _alarms(database, works.assets[0].id)}
    other.pipeline.judging.run_timers(clock.from_ms(clock.to_ms(now) + 5000))
    assert "long" in {alarm[0] for alarm in _alarms(database, works.assets[0].id)}


def test_OPS_8_a_group_leaves_no_room_for_a_lone_reader_nor_for_another_group(
    database: sessionmaker[Session], workers: Callable[..., Worker]
) -> None:
    first = workers()
    for share in ("", "another"):
        member = Member(database, share)
        member.join()
        assert member.rivals() == {first.member.licence.life}
        assert not member.lead()
        member.leave()


def test_a_group_needs_a_broker_and_a_store_that_can_be_shared(
    database: sessionmaker[Session], store: DuckDbStore, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match="FIXWRIGHT_INGEST_GROUP"):
        Ingest(settings.load(data_dir=tmp_path, ingest_group="g"), database, store)
