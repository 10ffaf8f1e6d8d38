"""Mappings on the data path: messages of other systems become readings, alarms and states of known devices."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import devices as registered
from assets.models import Device, DeviceApplication
from ingest import mapping, mappings, ready, rejected, webhooks
from ingest.batch import Batch
from ingest.mapper import STRIKES
from ingest.mappings import MappingDraft
from ingest.models import AlarmReport, IntakeCount, Mapping, MappingUse, MappingVersion, RejectedMessage
from ingest.pipeline import Pipeline
from ingest.trial import Sample
from kernel import clock, db
from kernel.errors import Conflict, Invalid, Stale
from kernel.models import AuditEntry
from people.models import OrgUnit
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests import plant
from tests.plant import BORN, Plant

NOW = BORN
NOW_MS = clock.to_ms(NOW)
PLAIN = {"topic": "works/{device}/up", "device": "{device}", "time": {"path": "at"},
         "metrics": [{"path": "v", "spread": True}],
         "alarms": [{"path": "leak", "code": "leak", "severity": "critical", "message": "Water"}]}  # fmt: skip
SAMPLE = Sample("works/dev-0/up", '{"at": 1767225600000, "v": {"temperature": 20}}')
FRAME = {"format": "frame", "frame": {"encoding": "bytes", "fields": [
    {"name": "temperature", "at": 0, "type": "int16", "scale": 0.1, "unit": "°F", "to": "°C"},
    {"name": "pressure", "at": 2, "type": "float32", "order": "CDAB"},
    {"name": "running", "at": 6, "type": "uint8", "bit": 0, "kind": "boolean"}]}}  # fmt: skip
HEX = Sample("", "0848 0000 4049 01", "hex")


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        return plant.build(session, machines=3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def pipeline(database: sessionmaker[Session], store: DuckDbStore, works: Plant) -> Pipeline:  # noqa: ARG001 - first
    made = Pipeline(database, store)
    made.load()
    return made


@pytest.fixture
def mapped(database: sessionmaker[Session], pipeline: Pipeline, works: Plant) -> Mapping:
    return add(database, pipeline, works, PLAIN, SAMPLE)


def add(
    database: sessionmaker[Session],
    pipeline: Pipeline,
    works: Plant,
    definition: dict[str, Any],
    sample: Sample,
    unit: OrgUnit | None = None,
    **draft: Any,
) -> Mapping:
    with db.transaction(database) as session:
        made = mappings.add(
            session,
            MappingDraft("Works", **draft),
            definition,
            sample,
            unit=unit or works.company,
            actor="account:1",
            now=clock.now(),
        )
    pipeline.follow_changes(clock.now())
    return made


def message(device: str, second: int = 0, *, topic: str | None = None, **body: Any) -> tuple[str, bytes]:
    return topic or f"works/{device}/up", json.dumps({"at": NOW_MS + 1000 * second, **body}).encode()


def process(pipeline: Pipeline, *messages: tuple[str, bytes], at: float = 3600) -> None:
    pipeline.process(Batch.of(messages, received_ms=NOW_MS + int(1000 * at)))


def rows(database: sessionmaker[Session], model: Any) -> list[Any]:
    with database() as session:
        return list(session.scalars(select(model).order_by(*model.__table__.primary_key)))


def samples(
    database: sessionmaker[Session], store: DuckDbStore, device: Device, metric: str
) -> list[tuple[int, float]]:
    with database() as session:
        number = session.scalar(select(Series.id).where(Series.device_id == device.id, Series.metric == metric))
    if number is None:
        return []
    found = store.samples(number, NOW_MS - 10**9, NOW_MS + 10**9, limit=1000)
    return list(zip((found.ts_ms - NOW_MS).tolist(), found.value.tolist(), strict=True))


def kept(database: sessionmaker[Session]) -> list[tuple[str, str | None]]:
    return [(row.reason, row.device_key) for row in rows(database, RejectedMessage) if row.replayed_at is None]


def test_ING_12_a_mapped_message_is_stored_as_if_its_device_had_sent_it(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant, mapped: Mapping
) -> None:
    process(
        pipeline,
        message("dev-0", 1, v={"temperature": 20.5}),
        ("fw/v1/dev-0/telemetry", json.dumps({"ts": NOW_MS, "values": {"temperature": 20}}).encode()),
        message("dev-1", 1, v={"temperature": 7, "pressure": 3}),
    )
    assert samples(database, store, works.devices[0], "temperature") == [(0, 20), (1000, 20.5)]
    assert samples(database, store, works.devices[1], "pressure") == [(1000, 3)]
    assert kept(database) == []
    pipeline.books.close(clock.now())
    (use,) = rows(database, MappingUse)
    assert (use.mapping_id, use.taken, use.refused) == (mapped.id, 2, 0)
    counts = {row.device_id: (row.received, row.stored) for row in rows(database, IntakeCount)}
    assert counts == {works.devices[0].id: (2, 2), works.devices[1].id: (1, 1)}


def test_a_topic_nobody_maps_stays_an_unknown_one(
    database: sessionmaker[Session], pipeline: Pipeline, mapped: Mapping
) -> None:
    process(pipeline, message("dev-0", topic="works/dev-0/down", v={"t": 1}))
    assert kept(database) == [("unknown_topic", None)]
    with db.transaction(database) as session:
        mappings.switch(session, session.get_one(Mapping, mapped.id), is_enabled=False, actor="a", now=clock.now())
    pipeline.follow_changes(clock.now())
    process(pipeline, message("dev-0", v={"t": 1}))
    assert kept(database) == [("unknown_topic", None)] * 2


def test_ING_12_a_mended_mapping_holds_at_once_and_a_replay_leaves_nothing_rejected(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant, mapped: Mapping
) -> None:
    process(pipeline, message("dev-0", 5, measured={"temperature": 20.5}))
    (row,) = rows(database, RejectedMessage)
    assert (row.reason, row.unit_id) == ("path_missing", works.company.id)
    assert row.detail == "Works · nothing was found at “v”, “leak”"

    wider = {**PLAIN, "metrics": [{"path": "v || measured", "spread": True}]}
    with db.transaction(database) as session:
        mappings.revise(session, session.get_one(Mapping, mapped.id), wider, SAMPLE, actor="a", now=clock.now())
        rejected.ask(session, session.get_one(RejectedMessage, row.id), by="a", company_id=1, now=clock.now())
    assert pipeline.follow_changes(clock.now()).mappings
    pipeline.replaying.try_again()
    assert kept(database) == []
    assert samples(database, store, works.devices[0], "temperature") == [(5000, 20.5)]


def test_an_alarm_that_is_said_again_and_again_is_raised_once_and_ended_once(
    database: sessionmaker[Session], pipeline: Pipeline, works: Plant, mapped: Mapping
) -> None:
    for second in range(5):
        process(pipeline, message("dev-0", second, v={"temperature": 20}, leak=second in {1, 2, 3}))
    (alarm,) = rows(database, Alarm)
    assert (alarm.type_key, alarm.severity, alarm.message, alarm.is_active) == ("leak", "critical", "Water", False)
    assert clock.to_ms(alarm.raised_at) == NOW_MS + 1000
    assert clock.to_ms(alarm.ended_at) == NOW_MS + 4000
    # Well at first, raised, well again: what was said in between told nothing new.
    assert len(rows(database, AlarmReport)) == 3
    process(pipeline, message("dev-0", 9, leak=False), message("dev-0", 9, leak=False))
    pipeline.books.close(clock.now())
    (count,) = [row for row in rows(database, IntakeCount) if row.device_id == works.devices[0].id]
    assert (count.received, count.stored, count.duplicate) == (7, 5, 2)
    assert mapped.id


def test_an_alarm_is_raised_once_when_its_batch_failed_and_comes_again(
    database: sessionmaker[Session], pipeline: Pipeline, mapped: Mapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.crash.here", lambda place: 1 / 0 if place == "before_commit" else None)
    with pytest.raises(ZeroDivisionError):
        pipeline._path(*_decoded(pipeline, message("dev-0", 1, leak=True)))
    monkeypatch.undo()
    assert rows(database, Alarm) == []
    for _ in range(2):
        process(pipeline, message("dev-0", 1, leak=True))
    (alarm,) = rows(database, Alarm)
    assert (alarm.type_key, alarm.is_active, alarm.count) == ("leak", True, 1)
    assert mapped.is_enabled


def _decoded(pipeline: Pipeline, *messages: tuple[str, bytes]) -> tuple[Batch, Any]:
    batch = Batch.of(messages, received_ms=NOW_MS + 3_600_000)
    return batch, pipeline.decode(batch)


def test_a_state_makes_the_device_online_or_not(
    database: sessionmaker[Session], pipeline: Pipeline, works: Plant
) -> None:
    will = ready.find("tasmota-lwt")
    assert will is not None
    add(database, pipeline, works, will.definition, Sample(will.topic, will.payload))
    process(pipeline, ("tele/dev-0/LWT", b"Online"), ("tele/dev-1/LWT", b"Online"), ("tele/dev-1/LWT", b"Offline"))
    assert [device.is_online for device in rows(database, Device)] == [True, False, False]


def test_ING_12_raw_bytes_are_read_by_the_decoder_of_the_type(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    raw = bytes.fromhex("0848 0000 4049 01")
    process(pipeline, ("fw/v1/dev-0/raw", raw))
    assert kept(database) == [("no_decoder", "dev-0")]
    add(database, pipeline, works, FRAME, HEX, asset_type_id=works.type.id)
    process(pipeline, ("fw/v1/dev-0/raw", raw), ("fw/v1/dev-1/raw", b"\x01"), at=1)
    assert samples(database, store, works.devices[0], "temperature") == [(1000, 100)]
    assert samples(database, store, works.devices[0], "pressure") == [(1000, pytest.approx(3.140625))]
    assert samples(database, store, works.devices[0], "running") == [(1000, 1)]
    assert kept(database)[1:] == [("bad_frame", "dev-1")]
    with db.transaction(database) as session, pytest.raises(Conflict, match="decoder already"):
        mappings.add(session, MappingDraft("Twice", asset_type_id=works.type.id), FRAME, HEX,
                     unit=works.company, actor="a", now=NOW)  # fmt: skip


def test_ING_12_an_endless_decoder_is_stopped_and_others_are_not_delayed(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    grows = {**PLAIN, "metrics": [{"name": "x", "path": "length(" + " | ".join(["[@, @][]"] * 25) + ")"}]}
    bounded = {**grows, "when": "stop", "otherwise": "ignore"}
    add(database, pipeline, works, {**PLAIN, "topic": "else/{device}/up"}, Sample("else/dev-0/up", SAMPLE.payload))
    with pytest.raises(Invalid, match="more steps"):
        add(database, pipeline, works, grows, SAMPLE)
    with db.transaction(database) as session:
        # What a version of the code before this one might have let through.
        row = Mapping(name="Grows", topic=grows["topic"], company_id=works.company.id, unit_id=works.company.id,
                      version=1, changed_at=NOW)  # fmt: skip
        session.add(row)
        session.flush()
        definition = mapping.dump(mapping.parse({**bounded, "when": "at"}))
        session.add(MappingVersion(mapping_id=row.id, number=1, definition=definition, sample={}, author="a", at=NOW))
    pipeline.load()
    endless = [message("dev-0", second) for second in range(200)]
    process(pipeline, *endless, message("dev-1", 1, topic="else/dev-1/up", v={"temperature": 7}))
    assert samples(database, store, works.devices[1], "temperature") == [(1000, 7)]
    assert kept(database) == [("budget_spent", None)] * 200
    details = [row.detail for row in rows(database, RejectedMessage)]
    # A few were tried; the others were set aside without, so that nobody waits for two hundred of them.
    assert sum("more steps than one message may take" in detail for detail in details) == STRIKES
    assert sum("paused" in detail for detail in details) == 200 - STRIKES
    process(pipeline, message("dev-0", 500), at=3600 + 120)
    assert "more steps" in rows(database, RejectedMessage)[-1].detail


def test_a_mapping_speaks_for_devices_of_its_unit_and_nobody_else(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    with db.transaction(database) as session:
        rivals = plant.build_other(session)
    pipeline.load()
    add(database, pipeline, works, PLAIN, SAMPLE, unit=works.unit)
    process(pipeline, message("rival-0", v={"temperature": 1}), message("dev-0", v={"temperature": 2}))
    assert samples(database, store, rivals, "temperature") == []
    assert samples(database, store, works.devices[0], "temperature") == [(0, 2)]
    (row,) = rows(database, RejectedMessage)
    # The owner of the foreign device is not told; the people of the mapping are.
    assert (row.reason, row.device_key, row.unit_id) == ("foreign_mapping", None, works.unit.id)
    with db.transaction(database) as session:
        company = session.get_one(OrgUnit, rivals.company_id)
        with pytest.raises(Conflict, match="another company"):
            mappings.add(session, MappingDraft("Spy"), {**PLAIN, "topic": "works/+/{device}"},
                         Sample("works/x/dev-0", SAMPLE.payload), unit=company, actor="a", now=NOW)  # fmt: skip


def test_what_a_webhook_source_posts_is_read_by_mappings_of_its_own_company_alone(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    hook = {**PLAIN, "topic": "webhook/lora", "device": "{=dev}"}
    sample = Sample("webhook/lora", '{"dev": "dev-0", "v": {"t": 1}}')
    with pytest.raises(Invalid, match="no webhook source"):
        add(database, pipeline, works, hook, sample)
    with db.transaction(database) as session:
        rivals = session.get_one(OrgUnit, plant.build_other(session).company_id)
        webhooks.add(session, "lora", proof="token", unit=works.company, actor="a", now=NOW)
        for topic in ("webhook/lora", "webhook/+", "webhook/{x}"):
            with pytest.raises(Invalid, match="no webhook source"):
                mappings.add(session, MappingDraft("Spy"), {**hook, "topic": topic}, sample, unit=rivals, actor="a",
                             now=NOW)  # fmt: skip
        wide = {**hook, "topic": "{x}/lora"}
        mappings.add(session, MappingDraft("Spy"), wide, Sample("a/lora", sample.payload), unit=rivals, actor="a",
                     now=NOW)  # fmt: skip
    pipeline.load()
    body = {"dev": "dev-0", "v": {"temperature": 8}}
    process(pipeline, message("", topic="webhook/lora", **body))
    assert kept(database) == [("unknown_topic", None)]
    add(database, pipeline, works, hook, sample)
    process(pipeline, message("", topic="webhook/lora", **body))
    assert samples(database, store, works.devices[0], "temperature") == [(0, 8)]
    assert pipeline.mapper.filters == ("+/lora",)


def test_an_unknown_device_is_listed_for_approval_where_the_mapping_admits_it(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    made = add(database, pipeline, works, PLAIN, SAMPLE, unit=works.unit, bridge_id=works.devices[2].id, admits=True)
    for second in range(3):
        process(pipeline, message("tank-9", second, v={"level": 5}, leak=False), message("dev-0", v={"t": 1}))
    (application,) = rows(database, DeviceApplication)
    assert (application.key, application.origin, application.unit_id) == ("tank-9", "mapping", works.unit.id)
    assert application.gateway_id == works.devices[2].id
    assert application.said == {"topic": "works/tank-9/up"}
    assert [(row.reason, row.device_key, row.unit_id) for row in rows(database, RejectedMessage)] == [
        ("unknown_device", "tank-9", works.unit.id)
    ] * 3
    with db.transaction(database) as session:
        from assets import applications

        waiting = session.get_one(DeviceApplication, application.id)
        device = applications.approve(session, waiting, actor="a", now=clock.now())
        for row in rows(database, RejectedMessage):
            rejected.ask(session, session.get_one(RejectedMessage, row.id), by="a", company_id=1, now=clock.now())
    pipeline.follow_changes(clock.now())
    pipeline.replaying.try_again()
    assert kept(database) == []
    assert samples(database, store, device, "level") == [(0, 5), (1000, 5), (2000, 5)]
    assert made.admits


def test_a_bridge_may_publish_to_the_topics_of_its_mapping_until_it_is_revoked(
    database: sessionmaker[Session], pipeline: Pipeline, works: Plant
) -> None:
    made = add(database, pipeline, works, PLAIN, SAMPLE, bridge_id=works.devices[2].id)
    assert pipeline.mapper.may_publish("dev-2", "works/dev-0/up")
    assert not pipeline.mapper.may_publish("dev-2", "works/dev-0/down")
    assert not pipeline.mapper.may_publish("dev-1", "works/dev-0/up")
    assert pipeline.mapper.filters == ("works/+/up",)
    with db.transaction(database) as session:
        mappings.switch(session, session.get_one(Mapping, made.id), is_enabled=False, actor="a", now=clock.now())
    pipeline.follow_changes(clock.now())
    assert not pipeline.mapper.may_publish("dev-2", "works/dev-0/up")
    assert (pipeline.mapper.filters, pipeline.mapper.retired) == ((), ("works/+/up",))


def test_versions_are_frozen_can_be_put_back_and_do_not_overwrite_each_other(
    database: sessionmaker[Session], mapped: Mapping
) -> None:
    second = {**PLAIN, "metrics": [{"path": "w", "spread": True}]}
    with db.transaction(database) as session:
        row = session.get_one(Mapping, mapped.id)
        with pytest.raises(Invalid, match="not understood"):
            mappings.revise(session, row, second, SAMPLE, actor="a", now=NOW)
        sample = Sample(SAMPLE.topic, '{"w": {"t": 1}}')
        assert mappings.revise(session, row, second, sample, actor="a", now=NOW, after=1).number == 2
        assert mappings.revise(session, row, second, sample, actor="a", now=NOW).number == 2
        with pytest.raises(Stale):
            mappings.revise(session, row, PLAIN, SAMPLE, actor="a", now=NOW, after=1)
        assert mappings.roll_back(session, row, 1, actor="a", now=NOW).definition == mapping.dump(mapping.parse(PLAIN))
        with pytest.raises(Conflict):
            mappings.roll_back(session, row, 1, actor="a", now=NOW)
        with pytest.raises(Invalid):
            mappings.roll_back(session, row, 7, actor="a", now=NOW)
        assert mappings.revise(session, row, second, sample, actor="a", now=NOW).number == 3
    actions = [entry.action for entry in rows(database, AuditEntry)]
    assert actions == ["mapping.add", "mapping.revise", "mapping.roll_back", "mapping.revise"]
    with pytest.raises(Exception, match="append-only"), db.transaction(database) as session:
        session.query(MappingVersion).update({"author": "somebody"})


def test_a_ready_mapping_is_adopted_once_a_company(database: sessionmaker[Session], works: Plant) -> None:
    one = ready.find("zigbee2mqtt")
    assert one is not None
    with db.transaction(database) as session:
        made = mappings.adopt(session, one, unit=works.company, actor="a", now=NOW)
        assert (made.name, made.ready, made.topic) == (one.name, "zigbee2mqtt", "zigbee2mqtt/{device}")
        with pytest.raises(Conflict):
            mappings.adopt(session, one, unit=works.unit, actor="a", now=NOW)
        bridge = registered.register(session, registered.DeviceDraft("bridge", "Bridge"), unit=works.unit,
                                     actor="a", now=NOW)  # fmt: skip
        registered.revoke(session, bridge, actor="a", now=NOW)
        with pytest.raises(Invalid, match="no such device"):
            mappings.change(session, made, MappingDraft("Zigbee", bridge_id=bridge.id), actor="a", now=NOW)
