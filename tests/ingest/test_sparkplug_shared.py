"""OPS-8, ING-9: edge nodes whose messages move between workers are followed as one worker would follow them."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session, sessionmaker

from assets.models import Device
from ingest.batch import Batch
from ingest.models import RejectedMessage, SparkplugNode
from ingest.sparkplug import session as sessions
from ingest.sparkplug.scalars import Type
from kernel import clock, db
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests import plant
from tests.ingest.edge_node import EdgeNode, M, Message, temperature
from tests.ingest.group_worker import Worker

AT_MS = clock.now_ms() - 600_000
SPEED = M("speed", 1450, Type.INT32, 2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def workers(database: sessionmaker[Session], store: DuckDbStore) -> Iterator[Callable[[], Worker]]:
    """Return a maker of workers of one group, at a plant with an edge node and a motor behind it."""
    with db.transaction(database) as session:
        made = plant.build(session)
        node = plant.device(session, made, "edge", asset=plant.asset(session, made, "E-1"))
        plant.device(session, made, "edge.motor", asset=plant.asset(session, made, "E-2"), gateway_id=node.id)
    with ExitStack() as stack:

        def make() -> Worker:
            worker = Worker(database, store)
            stack.callback(worker.die)
            return worker

        yield make


def take(worker: Worker, *messages: Message, at_ms: int = AT_MS) -> list[str]:
    """Let a worker process messages; return the topics on which it asks for births."""
    return [one.topic for one in worker.pipeline.process(Batch.of(messages, received_ms=at_ms))]


def born(node: EdgeNode, first: str = "temperature", second: str = "pressure") -> list[Message]:
    """Let a node be born, with these metrics under the aliases 1 and 2."""
    own = node.birth(M(first, 0.0, Type.DOUBLE, 1), M(second, 0.0, Type.DOUBLE, 2))
    return [own, node.device_birth("motor", SPEED)]


def values(database: sessionmaker[Session], store: DuckDbStore, key: str, metric: str) -> list[float]:
    with database() as session:
        of_device = select(Series.id).join(Device, Device.id == Series.device_id)
        number = session.scalar(of_device.where(Device.key == key, Series.metric == metric))
    if number is None:
        return []
    found: list[float] = store.samples(number, AT_MS - 10**6, AT_MS + 10**6, limit=10_000).value.tolist()
    return found


def refused(database: sessionmaker[Session]) -> list[str]:
    with database() as session:
        return list(session.scalars(select(RejectedMessage.reason).order_by(RejectedMessage.id)))


def test_OPS_8_nodes_whose_split_changes_at_random_lose_nothing_and_need_no_birth(
    database: sessionmaker[Session], store: DuckDbStore, workers: Callable[[], Worker]
) -> None:
    """Each portion goes to one of three workers, and now and then the node gives its aliases other meanings."""
    chance = random.Random(11)
    node, group = EdgeNode(at=AT_MS), [workers(), workers(), workers()]
    expected: dict[str, list[float]] = {"temperature": [], "pressure": []}
    names = ["temperature", "pressure"]
    asked = take(group[0], *born(node))
    for value in expected.values():
        value.append(0.0)
    sent = 0.0
    for turn in range(40):
        portion: list[Message] = []
        if turn % 7 == 6:
            names.reverse()
            portion += born(node, *names)
            for value in expected.values():
                value.append(0.0)
        for _ in range(chance.randrange(1, 9)):
            sent += 1
            alias = chance.choice((1, 2))
            portion.append(node.data(temperature(sent, alias)))
            expected[names[alias - 1]].append(sent)
        portion.append(node.device_data("motor", M("", turn, Type.INT32, 2, typed=False)))
        asked += take(chance.choice(group), *portion)
    assert asked == []
    assert refused(database) == []
    assert {name: values(database, store, "edge", name) for name in expected} == expected
    assert values(database, store, "edge.motor", "speed")[-1] == 39


def test_OPS_8_a_number_that_fits_by_chance_is_not_read_by_older_births(
    database: sessionmaker[Session], store: DuckDbStore, workers: Callable[[], Worker]
) -> None:
    """The first worker left the node at 2; when it hears of it again the next is 3, and alias 1 means the pressure."""
    one, other = workers(), workers()
    node = EdgeNode(at=AT_MS)
    take(one, *born(node), node.data(temperature(20.0)))
    take(other, *born(node, "pressure", "temperature"), node.data(temperature(5.0)))
    assert node.seq == 2
    assert take(one, node.data(temperature(6.0))) == []
    assert values(database, store, "edge", "pressure") == [0.0, 0.0, 5.0, 6.0]
    assert values(database, store, "edge", "temperature") == [0.0, 20.0, 0.0]
    assert take(other, node.death(session=9)) == []
    assert take(other, node.data(temperature(7.0))) == []
    assert refused(database) == []


def test_ING_9_what_was_set_aside_is_replayed_by_the_births_that_another_worker_heard(
    database: sessionmaker[Session], store: DuckDbStore, workers: Callable[[], Worker]
) -> None:
    one, other = workers(), workers()
    node = EdgeNode(at=AT_MS)
    born(node)
    assert take(one, node.data(temperature(3.0))) == ["spBv1.0/plant/NCMD/edge"]
    assert take(other, *born(node)) == []
    with db.transaction(database) as session:
        for row in session.scalars(select(RejectedMessage)):
            row.replay_asked_at, row.replayed_by = clock.now(), "account:1"
    one.pipeline.replaying.try_again()
    assert 3.0 in values(database, store, "edge", "temperature")


def test_ING_9_two_workers_ask_one_node_once(database: sessionmaker[Session], workers: Callable[[], Worker]) -> None:
    one, other = workers(), workers()
    node = EdgeNode(at=AT_MS)
    take(one, *born(node))
    node.skip()
    assert take(one, node.data(temperature(1.0))) == ["spBv1.0/plant/NCMD/edge"]
    assert take(other, node.data(temperature(2.0)), at_ms=AT_MS + 500) == []
    assert take(one, node.data(temperature(3.0)), at_ms=AT_MS + 900) == []
    again = AT_MS + sessions.FIRST_WAIT_MS
    assert take(other, node.data(temperature(4.0)), at_ms=again) == ["spBv1.0/plant/NCMD/edge"]
    assert take(one, node.data(temperature(5.0)), at_ms=again + 1) == []
    assert take(one, *born(node), at_ms=again + 2) == []
    assert take(other, node.data(temperature(6.0)), at_ms=again + 3) == []
    assert refused(database) == ["out_of_sequence"] * 5


def test_OPS_8_of_two_workers_that_follow_a_node_at_once_one_begins_anew(
    database: sessionmaker[Session], store: DuckDbStore, workers: Callable[[], Worker]
) -> None:
    """While the first worker evaluates a message the second takes the one after it: one gap, one question."""
    one, other = workers(), workers()
    node = EdgeNode(at=AT_MS)
    take(one, *born(node))
    first, second = node.data(temperature(1.0)), node.data(temperature(2.0))
    evaluate, asked = one.pipeline.rules.evaluate, []

    def disturbed(*columns: Any) -> Any:
        if not asked:
            asked.extend(take(other, second))
        return evaluate(*columns)

    one.pipeline.rules.evaluate = disturbed  # type: ignore[method-assign] - the moment in which another comes
    asked += take(one, first, ("fw/v1/dev-0/telemetry", b'{"temperature": 4}'))
    assert asked == ["spBv1.0/plant/NCMD/edge"]
    assert refused(database) == ["out_of_sequence"] * 2
    assert values(database, store, "dev-0", "temperature") == [4.0]
    assert take(other, *born(node)) == []
    assert take(one, node.data(temperature(3.0))) == []
    assert values(database, store, "edge", "temperature")[-1] == 3.0


def test_OPS_8_a_node_first_heard_by_two_workers_at_once_is_written_by_one(
    database: sessionmaker[Session], workers: Callable[[], Worker]
) -> None:
    one, other = workers(), workers()
    node = EdgeNode(at=AT_MS)
    own, device = born(node)
    evaluate, told = one.pipeline.rules.evaluate, []

    def disturbed(*columns: Any) -> Any:
        if not told:
            told.append(True)
            assert take(other, device) == ["spBv1.0/plant/NCMD/edge"]
        return evaluate(*columns)

    one.pipeline.rules.evaluate = disturbed  # type: ignore[method-assign] - the moment in which another comes
    assert take(one, own) == []
    with database() as session:
        (row,) = session.scalars(select(SparkplugNode))
        assert (row.is_alive, row.seq) == (True, 0)


def test_OPS_8_a_worker_takes_no_devices_offline_that_another_saw_born(
    database: sessionmaker[Session], workers: Callable[[], Worker]
) -> None:
    one, other = workers(), workers()
    node = EdgeNode(at=AT_MS)
    take(one, *born(node))
    own, device = born(node)
    take(one, own)
    take(other, device)
    late = clock.from_ms(AT_MS) + timedelta(milliseconds=sessions.AWAITED_MS)
    for worker in (one, other):
        worker.pipeline.see_who_was_not_born(late)
    with database() as session:
        online = session.scalar(select(func.count()).where(Device.key.startswith("edge"), Device.is_online))
    assert online == 2
    assert take(one, node.data(temperature(1.0))) == []


def test_a_node_that_does_not_move_costs_one_look_a_batch(
    database: sessionmaker[Session], workers: Callable[[], Worker]
) -> None:
    one = workers()
    node = EdgeNode(at=AT_MS)
    take(one, *born(node))
    statements: list[str] = []
    event.listen(database.kw["bind"], "before_cursor_execute", lambda *told: statements.append(told[2]))
    take(one, *[node.data(temperature(float(each))) for each in range(50)])
    assert [each.split()[0] for each in statements if "sparkplug" in each] == ["SELECT", "INSERT"]
    statements.clear()
    take(one, ("fw/v1/dev-0/telemetry", b'{"temperature": 4}'))
    assert [each for each in statements if "sparkplug" in each] == []
