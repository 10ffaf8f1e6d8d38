"""Sparkplug B through the data path: readings, presence, births that survive, and every effect once (ING-9)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session, sessionmaker

from assets.models import Device, DeviceApplication
from ingest import rejected
from ingest.batch import Batch
from ingest.models import IntakeCount, RejectedMessage, SparkplugBirth, SparkplugNode
from ingest.pipeline import Pipeline
from ingest.sparkplug import kept
from ingest.sparkplug import session as sessions
from ingest.sparkplug.payload import Scalar
from ingest.sparkplug.scalars import Type
from kernel import clock, db
from kernel.errors import Unavailable
from kernel.models import Event
from rules import library
from rules.library import AlarmTypeDraft
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from telemetry.readings import Flag, Latest
from tests import plant
from tests.ingest.edge_node import EdgeNode, M, Message, temperature
from tests.plant import Plant

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
NOW_MS = clock.to_ms(NOW)
HOT = {
    "schema": 1,
    "create": {"major": {"condition": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 60}}},
    "clear": {"type": "automatic"},
}
TEMPERATURE = M("temperature", 20.0, Type.DOUBLE, 1)
SPEED = M("speed", 1450, Type.INT32, 2)


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    """Return a plant with an edge node on a machine, and a motor behind the node on another."""
    with db.transaction(database) as session:
        made = plant.build(session, machines=3, metrics=("temperature",))
        node = plant.device(session, made, "edge", asset=plant.asset(session, made, "E-1"))
        plant.device(session, made, "edge.motor", asset=plant.asset(session, made, "E-2"), gateway_id=node.id)
        draft = AlarmTypeDraft("overheat", "Overheating", asset_type_id=made.type.id)
        library.add(session, draft, HOT, unit=made.company, actor="account:1", now=NOW)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def pipeline(database: sessionmaker[Session], store: DuckDbStore, works: Plant) -> Pipeline:  # noqa: ARG001
    made = Pipeline(database, store)
    made.load()
    return made


@pytest.fixture
def node() -> EdgeNode:
    return EdgeNode(at=NOW_MS)


def batch(*messages: Message, at: float = 10) -> Batch:
    return Batch.of(messages, received_ms=NOW_MS + int(1000 * at))


def births(node: EdgeNode) -> tuple[Message, Message]:
    return node.birth(TEMPERATURE), node.device_birth("motor", SPEED)


def rows(database: sessionmaker[Session], model: Any) -> list[Any]:
    with database() as session:
        return list(session.scalars(select(model).order_by(*model.__table__.primary_key)))


def latest(database: sessionmaker[Session], store: DuckDbStore, key: str, metric: str) -> Latest | None:
    with database() as session:
        number = session.scalar(
            select(Series.id)
            .join(Device, Device.id == Series.device_id)
            .where(Device.key == key, Series.metric == metric)
        )
    return None if number is None else store.latest([number]).get(number)


def value(database: sessionmaker[Session], store: DuckDbStore, key: str, metric: str) -> Scalar | None:
    found = latest(database, store, key, metric)
    return None if found is None else found.value if found.text is None else found.text


def online(database: sessionmaker[Session]) -> dict[str, bool]:
    return {device.key: device.is_online for device in rows(database, Device) if device.key.startswith("edge")}


def reasons(database: sessionmaker[Session]) -> list[tuple[str, str | None]]:
    return [(row.reason, row.device_key) for row in rows(database, RejectedMessage) if row.replayed_at is None]


def ledger(database: sessionmaker[Session], pipeline: Pipeline) -> tuple[int, int, int]:
    """Return (stored, duplicate, rejected) of everybody; received is their sum."""
    pipeline.books.close(NOW)
    columns = IntakeCount.received, IntakeCount.stored, IntakeCount.duplicate, IntakeCount.rejected
    with database() as session:
        received, *parts = (int(each or 0) for each in session.execute(select(*map(func.sum, columns))).one())
    assert received == sum(parts)
    return tuple(parts)  # type: ignore[return-value]


def test_births_and_data_become_readings_of_the_node_and_of_the_devices_behind_it(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode
) -> None:
    assert pipeline.process(batch(*births(node))) == []
    assert value(database, store, "edge", "temperature") == 20.0
    assert value(database, store, "edge.motor", "speed") == 1450
    assert online(database) == {"edge": True, "edge.motor": True}
    pipeline.process(
        batch(
            node.data(temperature(21.5)),
            ("fw/v1/dev-0/telemetry", b'{"temperature": 3}'),
            node.device_data("motor", M("", -7, Type.INT32, 2, typed=False)),
            node.device_data("motor", M("note", "ok", Type.STRING), M("big", 2**64 - 1, Type.UINT64)),
        )
    )
    assert value(database, store, "edge", "temperature") == 21.5
    assert value(database, store, "dev-0", "temperature") == 3.0
    assert value(database, store, "edge.motor", "speed") == -7.0
    assert value(database, store, "edge.motor", "note") == "ok"
    assert value(database, store, "edge.motor", "big") == str(2**64 - 1)
    assert value(database, store, "edge", "bdSeq") is None
    assert reasons(database) == []
    assert ledger(database, pipeline) == (6, 0, 0)


def test_a_value_over_the_limit_raises_an_alarm_as_any_other(
    database: sessionmaker[Session], pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node), node.data(temperature(65.0))))
    assert [alarm.type_key for alarm in rows(database, Alarm)] == ["overheat"]


def test_ING_9_a_skipped_number_gives_exactly_one_rebirth_command(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node)))
    node.skip()
    asked = pipeline.process(batch(node.data(temperature(30.0)), node.data(temperature(31.0))))
    asked += pipeline.process(batch(node.device_data("motor", M("speed", 1, Type.INT32))))
    assert [(each.topic, each.qos) for each in asked] == [("spBv1.0/plant/NCMD/edge", 0)]
    assert value(database, store, "edge", "temperature") == 20.0
    assert reasons(database) == [("out_of_sequence", "edge")] * 3
    assert pipeline.process(batch(*node.born_again(), node.data(temperature(32.0)))) == []
    assert value(database, store, "edge", "temperature") == 32.0
    assert ledger(database, pipeline)[2] == 3


def test_ING_9_a_death_of_this_session_takes_all_offline_and_a_stale_one_does_nothing(
    database: sessionmaker[Session], pipeline: Pipeline, node: EdgeNode
) -> None:
    node.session = 3
    pipeline.process(batch(*births(node)))
    pipeline.process(batch(node.death(session=2)))
    assert online(database) == {"edge": True, "edge.motor": True}
    pipeline.process(batch(node.death()))
    assert online(database) == {"edge": False, "edge.motor": False}
    node.session = 4
    pipeline.process(batch(node.birth(TEMPERATURE)))
    assert online(database) == {"edge": True, "edge.motor": False}
    pipeline.process(batch(node.device_birth("motor", SPEED)))
    assert online(database) == {"edge": True, "edge.motor": True}
    pipeline.process(batch(node.device_death("motor")))
    assert online(database) == {"edge": True, "edge.motor": False}
    told = [(each.payload["device_id"], each.payload["is_online"]) for each in rows(database, Event)
            if each.kind == "DeviceStateChanged"]  # fmt: skip
    assert len(told) == 7
    assert ledger(database, pipeline) == (6, 1, 0)


def test_a_death_in_the_batch_of_a_birth_takes_the_device_along(
    database: sessionmaker[Session], pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node), node.death()))
    assert online(database) == {"edge": False, "edge.motor": False}


def test_a_birth_that_comes_again_does_not_make_its_devices_flicker(
    database: sessionmaker[Session], pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node)))
    before = len([each for each in rows(database, Event) if each.kind == "DeviceStateChanged"])
    again = node.born_again()
    pipeline.process(batch(again[0]))
    pipeline.process(batch(again[1]))
    assert len([each for each in rows(database, Event) if each.kind == "DeviceStateChanged"]) == before
    pipeline.process(batch(node.birth(TEMPERATURE), at=20))
    pipeline.see_who_was_not_born(NOW + timedelta(seconds=30))
    assert online(database) == {"edge": True, "edge.motor": True}
    pipeline.see_who_was_not_born(NOW + timedelta(seconds=20, milliseconds=sessions.AWAITED_MS))
    assert online(database) == {"edge": True, "edge.motor": False}


def test_a_process_that_no_longer_follows_a_node_takes_none_of_its_devices_offline(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node), node.birth(TEMPERATURE)))
    other = Pipeline(database, store)
    other.load()
    other.process(batch(node.device_birth("motor", SPEED)))
    pipeline.see_who_was_not_born(NOW + timedelta(hours=1))
    assert online(database) == {"edge": True, "edge.motor": True}
    assert other.process(batch(node.device_data("motor", M("", 9, Type.INT32, 2, typed=False)))) == []


def test_births_aliases_and_the_sequence_survive_a_restart(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node)))
    again = Pipeline(database, store)
    again.load()
    assert again.process(batch(node.data(temperature(25.0)))) == []
    assert again.process(batch(node.device_data("motor", M("", 9, Type.INT32, 2, typed=False)))) == []
    assert value(database, store, "edge", "temperature") == 25.0
    assert value(database, store, "edge.motor", "speed") == 9.0


def test_a_batch_that_comes_again_after_its_commit_is_no_gap_and_counts_as_known(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node)))
    before = [node.data(temperature(20.0 + number / 100)) for number in range(300)]
    reborn = [node.death(), *births(node)]
    told = batch(*before, *reborn, *[node.data(temperature(20.0 + number / 100)) for number in range(700)])
    assert pipeline.process(told) == []
    stored = ledger(database, pipeline)
    again = Pipeline(database, store)
    again.load()
    assert again.process(told) == []
    assert again.process(batch(node.data(temperature(99.0)))) == []
    assert value(database, store, "edge", "temperature") == 99.0
    after = ledger(database, again)
    assert (after[0] - stored[0], after[1] - stored[1], after[2]) == (1, len(told), 0)


def test_a_batch_that_was_not_committed_moves_no_session(
    database: sessionmaker[Session],
    store: DuckDbStore,
    pipeline: Pipeline,
    node: EdgeNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline.process(batch(*births(node)))
    told = batch(node.data(temperature(21.0)), node.data(temperature(22.0)))

    def fail(*_: Any, **__: Any) -> None:
        raise Unavailable("The database has gone.")

    pipeline.patience.hurry()
    with monkeypatch.context() as failing:
        failing.setattr("ingest.sparkplug.kept.write", fail)
        with pytest.raises(Unavailable):
            pipeline.process(told)
    (row,) = rows(database, SparkplugNode)
    assert row.seq == 1
    assert pipeline.process(told) == []
    (row,) = rows(database, SparkplugNode)
    assert row.seq == 3
    assert value(database, store, "edge", "temperature") == 22.0
    assert reasons(database) == []


def test_RUL_12_what_is_sent_as_history_is_judged_at_its_own_time(
    database: sessionmaker[Session], pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node)))
    pipeline.process(batch(node.data(temperature(40.0, ts=NOW_MS + 60_000)), at=60))
    old = [(10_000, 40.0), (20_000, 90.0), (30_000, 95.0), (40_000, 40.0)]
    pipeline.process(batch(node.data(*(temperature(one, ts=NOW_MS + at, historical=True) for at, one in old))))
    assert rows(database, Alarm) == []
    task = pipeline.judging.late_task(clock.now() + timedelta(minutes=1))
    assert task is not None
    pipeline.judging.judge_late(pipeline.judging.read_late(task), NOW + timedelta(seconds=61))
    (alarm,) = rows(database, Alarm)
    assert (alarm.is_late, alarm.is_active, alarm.count, alarm.peak_value) == (True, False, 2, 95.0)
    assert alarm.raised_at == NOW + timedelta(seconds=20)


def test_ING_9_history_never_becomes_the_live_value_and_raises_nothing(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node)))
    live = latest(database, store, "edge", "temperature")
    assert live is not None
    old = [temperature(90.0 + number, ts=NOW_MS - 60_000 + number, historical=True) for number in range(5)]
    pipeline.process(batch(node.data(*old)))
    assert latest(database, store, "edge", "temperature") == live
    found = store.samples(live.series, NOW_MS - 10**6, NOW_MS + 10**6, limit=100)
    assert found.value.tolist() == [90.0, 91.0, 92.0, 93.0, 94.0, 20.0]
    assert (found.flags[:5] & Flag.HISTORICAL != 0).all()
    # As new as the live value, newer than it, or without a time of its own: it is kept aside, not put in its place.
    for ts in (live.ts_ms, live.ts_ms + 500, NOW_MS + 10**9, 0):
        pipeline.process(batch(node.data(temperature(99.0, ts=ts, historical=True))))
    pipeline.process(batch(node.data(temperature(99.0, historical=True))))
    assert latest(database, store, "edge", "temperature") == live
    assert reasons(database) == [("historical", "edge")] * 5
    assert rows(database, Alarm) == []
    # In one message with a newer live value, history has its place.
    pipeline.process(
        batch(node.data(temperature(98.0, ts=NOW_MS + 600, historical=True), temperature(25.0, ts=NOW_MS + 700)))
    )
    assert value(database, store, "edge", "temperature") == 25.0
    assert len(reasons(database)) == 5
    assert rows(database, Alarm) == []


def test_history_of_a_metric_that_was_never_live_is_kept_and_judged_by_no_rule(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(node.birth(M("temperature", None, Type.DOUBLE, 1))))
    for second in range(3):
        pipeline.process(batch(node.data(temperature(90.0, ts=NOW_MS + 1000 * second, historical=True))))
    found = latest(database, store, "edge", "temperature")
    assert found is not None
    assert (found.ts_ms, found.flags & Flag.HISTORICAL) == (NOW_MS + 2000, Flag.HISTORICAL)
    assert rows(database, Alarm) == []


def test_an_unknown_alias_is_kept_and_read_when_its_birth_is_known(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode, works: Plant
) -> None:
    pipeline.process(batch(*births(node)))
    asked = pipeline.process(batch(node.data(temperature(5.5, 9))))
    assert [each.topic for each in asked] == ["spBv1.0/plant/NCMD/edge"]
    assert reasons(database) == [("unknown_alias", "edge")]
    pipeline.process(batch(node.birth(TEMPERATURE, M("level", 1.0, Type.DOUBLE, 9, ts=NOW_MS - 5))))
    with db.transaction(database) as session:
        (row,) = session.scalars(select(RejectedMessage))
        rejected.ask(session, row, by="account:1", company_id=works.company.id, now=NOW)
    assert pipeline.replaying.try_again() == []
    assert value(database, store, "edge", "level") == 5.5
    assert reasons(database) == []
    assert pipeline.process(batch(node.data(temperature(22.0)))) == []


def test_what_no_reading_can_hold_is_set_aside_and_the_rest_is_used(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode
) -> None:
    file = M("firmware", b"\x00\x01", Type.FILE)
    pipeline.process(batch(node.birth(TEMPERATURE, file, M("Node Control/Rebirth", False, Type.BOOLEAN))))
    assert value(database, store, "edge", "temperature") == 20.0
    assert reasons(database) == [("not_decoded", "edge")]
    assert {row.metric for row in rows(database, Series)} == {"temperature"}


def test_quality_and_a_wrong_clock_stay_with_the_reading(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node)))
    pipeline.process(batch(node.data(temperature(95.0, quality=0))))
    found = latest(database, store, "edge", "temperature")
    assert found is not None
    assert found.flags & Flag.BAD
    assert rows(database, Alarm) == []
    far = NOW_MS + 10**10
    pipeline.process(batch(node.data(temperature(30.0, ts=far)), node.data(temperature(31.0, ts=far)), at=20))
    found = latest(database, store, "edge", "temperature")
    assert found is not None
    assert (found.value, found.ts_ms, found.flags) == (31.0, NOW_MS + 20_001, Flag.CLOCK)
    pipeline.books.close(NOW)
    (edge,) = (each for each in rows(database, Device) if each.key == "edge")
    assert edge.attributes["clock_skew_s"] > 9_000_000


def test_strangers_ask_to_be_let_in_and_are_asked_for_a_birth_once_they_are(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode, works: Plant
) -> None:
    unknown = EdgeNode("mill", at=NOW_MS)
    assert pipeline.process(batch(*births(unknown))) == []
    pipeline.process(batch(*births(node), node.device_birth("Pump 2", SPEED)))
    found = {each.key: each for each in rows(database, DeviceApplication)}
    assert {key.rpartition("-")[0] or key for key in found} == {"mill", "edge.Pump-2"}
    assert found["mill"].said == {"group": "plant", "metrics": ["temperature"]}
    (pump,) = (each for each in found.values() if each.key != "mill")
    assert (pump.name, pump.origin) == ("Pump 2", "sparkplug")
    assert reasons(database) == [("unknown_device", "mill")] * 2 + [("unknown_child", pump.key)]
    assert rows(database, SparkplugNode)[0].device_id == pump.gateway_id
    with db.transaction(database) as session:
        plant.device(session, works, pump.key, asset=plant.asset(session, works, "E-3"), announced=True,
                     gateway_id=pump.gateway_id)  # fmt: skip
        plant.device(session, works, "mill", asset=plant.asset(session, works, "E-4"), announced=True)
    pipeline.follow_changes(NOW)
    pipeline.process(batch(node.device_data("Pump 2", M("", 5, Type.INT32, 2, typed=False))))
    assert value(database, store, pump.key, "speed") == 5.0
    asked = pipeline.process(batch(unknown.data(temperature(1.0))))
    assert [each.topic for each in asked] == ["spBv1.0/plant/NCMD/mill"]


def test_a_node_speaks_for_no_device_of_another(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode, works: Plant
) -> None:
    with db.transaction(database) as session:
        plant.device(session, works, "edge.motor.x", asset=plant.asset(session, works, "E-9"), announced=True,
                     gateway_id=works.devices[0].id)  # fmt: skip
    pipeline.follow_changes(NOW)
    pipeline.process(batch(*births(node), node.device_birth("motor.x", SPEED)))
    assert value(database, store, "edge.motor.x", "speed") is None
    assert online(database) == {"edge": True, "edge.motor": True, "edge.motor.x": False}
    assert reasons(database) == [("unknown_child", "edge.motor.x")]


def test_one_message_at_fault_takes_no_other_along_and_asks_for_a_birth(
    database: sessionmaker[Session], pipeline: Pipeline, node: EdgeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sparkplug.scalars.forms.is_metric", lambda name: 1 / (name != "poison") > 0)
    told = [*births(node), node.data(M("poison", 1.0)), node.data(temperature(23.0))]
    assert [each.topic for each in pipeline.process(batch(*told))] == ["spBv1.0/plant/NCMD/edge"]
    assert [reason for reason, _ in reasons(database)] == ["failed", "out_of_sequence"]


def test_a_batch_without_sparkplug_asks_nothing_of_the_database(
    database: sessionmaker[Session], pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node), ("fw/v1/dev-0/telemetry", b'{"temperature": 3}')))
    statements: list[str] = []
    engine = database.kw["bind"]
    event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    pipeline.process(batch(("fw/v1/dev-0/telemetry", b'{"temperature": 4}'), at=20))
    assert statements == []


def test_messages_taken_lately_are_remembered_as_far_back_as_they_may_come_again() -> None:
    old = {number: 1_000 * number for number in range(30)}
    assert [*kept.with_fresh(old, {99: 31_000, 98: 60_000})] == [21, 22, 23, 24, 25, 26, 27, 28, 29, 99, 98]
    assert kept.with_fresh(old, {}) == old
    many = dict.fromkeys(range(kept.MOST_RECENT + 5), 31000)
    assert [*kept.with_fresh(old, many)] == [*many][5:]


def test_a_birth_too_large_for_other_messages_is_taken_in_its_place(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, node: EdgeNode
) -> None:
    metrics = [
        M(f"hall-{number:04}/temperature-of-the-bearing-on-the-drive-side", 1.0, alias=number) for number in range(4500)
    ]
    large = node.birth(*metrics)
    assert len(large[1]) > 300_000
    assert pipeline.process(batch(large, node.data(temperature(2.5, 4321)))) == []
    assert value(database, store, "edge", "hall-4321/temperature-of-the-bearing-on-the-drive-side") == 2.5
    assert reasons(database) == []


def test_only_births_that_changed_are_written(
    database: sessionmaker[Session], pipeline: Pipeline, node: EdgeNode
) -> None:
    pipeline.process(batch(*births(node)))
    assert [(row.device, row.life) for row in rows(database, SparkplugBirth)] == [("", 1), ("motor", 1)]
    statements: list[str] = []
    engine = database.kw["bind"]
    event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    pipeline.process(batch(node.data(temperature(1.0))))
    assert not any("sparkplug_birth" in each for each in statements)
    assert sum("sparkplug_node" in each for each in statements) == 1
