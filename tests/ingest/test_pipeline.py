"""The data path behind the socket: batches in, readings, alarms, rejects and counts out, each effect once."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session, sessionmaker

from assets import attributes
from assets.attributes import Subject
from assets.models import Asset, Device, Metric
from ingest import rejected
from ingest.batch import Batch
from ingest.models import AlarmReport, IntakeCount, RejectedMessage
from ingest.pipeline import Pipeline
from kernel import clock, db
from kernel.models import Event
from rules import alarms, library
from rules.library import AlarmTypeDraft
from rules.models import Alarm, AlarmType, RuleState
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from telemetry.readings import Flag
from tests import plant
from tests.plant import Plant

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
NOW_MS = clock.to_ms(NOW)
HOT = {
    "schema": 1,
    "create": {"major": {"condition": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 60}}},
    "clear": {"type": "automatic"},
    "message": "It is ${temperature} degrees hot",
}


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        made = plant.build(session, machines=3, metrics=("temperature", "pressure"))
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


def telemetry(device: str, second: float, **values: Any) -> tuple[str, bytes]:
    body = {"ts": NOW_MS + int(1000 * second), "values": values}
    return f"fw/v1/{device}/telemetry", json.dumps(body).encode()


def alarm(device: str, seq: int | None, state: str = "raised", code: str = "E42", **more: Any) -> tuple[str, bytes]:
    body = {"code": code, "state": state, "severity": "critical", "ts": NOW_MS, **more}
    return f"fw/v1/{device}/alarm", json.dumps(body if seq is None else {"seq": seq, **body}).encode()


def batch(*messages: tuple[str, bytes], at: float = 3600) -> Batch:
    return Batch.of(messages, received_ms=NOW_MS + int(1000 * at))


def rows(database: sessionmaker[Session], model: Any) -> list[Any]:
    with database() as session:
        return list(session.scalars(select(model).order_by(*model.__table__.primary_key)))


def samples(database: sessionmaker[Session], store: DuckDbStore, device: int, metric: str) -> list[tuple[int, float]]:
    with database() as session:
        number = session.scalar(select(Series.id).where(Series.device_id == device, Series.metric == metric))
    if number is None:
        return []
    found = store.samples(number, NOW_MS - 10**9, NOW_MS + 10**9, limit=10_000)
    return list(zip((found.ts_ms - NOW_MS).tolist(), found.value.tolist(), strict=True))


def test_a_reading_is_stored_under_its_device_and_metric(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    assert pipeline.process(batch(telemetry("dev-0", 0, temperature=21.5, pressure=3))) == []
    assert samples(database, store, works.devices[0].id, "temperature") == [(0, 21.5)]
    assert samples(database, store, works.devices[0].id, "pressure") == [(0, 3.0)]
    assert rows(database, Alarm) == []


def test_a_reading_over_the_limit_raises_one_alarm_and_a_good_one_ends_it(
    database: sessionmaker[Session], pipeline: Pipeline, works: Plant
) -> None:
    pipeline.process(batch(telemetry("dev-0", 0, temperature=59)))
    pipeline.process(batch(telemetry("dev-0", 1, temperature=61), telemetry("dev-0", 2, temperature=65)))
    (raised,) = rows(database, Alarm)
    assert (raised.subject, raised.type_key, raised.severity) == (
        f"asset:{works.assets[0].id}",
        "overheat",
        "major",
    )
    assert (raised.count, raised.value, raised.peak_value, raised.limit) == (2, 65, 65, 60)
    assert raised.message == "It is 61 degrees hot"
    assert raised.evidence["samples"][0]["value"] == 61
    assert raised.evidence["limits"][0]["from"] == "type"
    pipeline.process(batch(telemetry("dev-0", 3, temperature=58)))
    (ended,) = rows(database, Alarm)
    assert not ended.is_active
    assert clock.to_ms(ended.ended_at) == NOW_MS + 3000
    assert [event.kind for event in rows(database, Event)][-3:] == ["AlarmRaised", "AlarmAnnounced", "AlarmCleared"]


def test_ING_4_a_batch_delivered_three_times_in_any_order_has_the_effects_of_one(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    messages = [telemetry(f"dev-{n % 3}", n, temperature=50 + n % 20) for n in range(500)]
    messages += [alarm("dev-1", seq) for seq in range(5)] + [alarm("dev-1", 5, "cleared")]
    pipeline.process(batch(*messages))

    def everything() -> tuple[Any, ...]:
        alarms = [(a.subject, a.type_key, a.count, a.is_active, a.raised_at, a.ended_at) for a in rows(database, Alarm)]
        readings = [samples(database, store, device.id, "temperature") for device in works.devices]
        return alarms, readings, len(rows(database, Event)), len(rows(database, AlarmReport))

    once = everything()
    acks = pipeline.process(batch(*reversed(messages)))
    pipeline.process(batch(*messages[250:], *messages[:250]))
    assert everything() == once
    assert len(acks) == 6


def test_ING_2_a_batch_that_was_stored_but_not_committed_is_evaluated_when_it_comes_again(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline
) -> None:
    messages = batch(telemetry("dev-0", 1, temperature=61), telemetry("dev-0", 2, temperature=20))
    # What a kill after the store's commit leaves behind: the readings, and nothing of them in the database.
    pipeline.process(batch(telemetry("dev-0", 0, temperature=20)))
    decoded = pipeline._decoder.decode(messages)
    store.write(pipeline._resolver.resolve(messages, decoded, NOW).readings)

    restarted = Pipeline(database, store)
    restarted.load()
    restarted.process(messages)
    (once,) = rows(database, Alarm)
    assert (once.count, once.is_active) == (1, False)

    again = Pipeline(database, store)
    again.load()
    again.process(messages)
    assert [one.id for one in rows(database, Alarm)] == [once.id]


def test_a_restart_goes_on_with_open_alarms_and_their_counts(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline
) -> None:
    pipeline.process(batch(telemetry("dev-0", 1, temperature=61)))
    restarted = Pipeline(database, store)
    restarted.load()
    restarted.process(batch(telemetry("dev-0", 1, temperature=61), telemetry("dev-0", 2, temperature=62)))
    restarted.process(batch(telemetry("dev-0", 3, temperature=10)))
    (only,) = rows(database, Alarm)
    assert (only.count, only.is_active) == (2, False)


def test_readings_that_raise_nothing_open_no_transaction(pipeline: Pipeline, engine: Any) -> None:
    pipeline.process(batch(telemetry("dev-0", 0, temperature=20)))
    began: list[object] = []
    event.listen(engine, "begin", began.append)
    pipeline.process(batch(*(telemetry("dev-0", n, temperature=20 + n % 3) for n in range(1, 100))))
    assert began == []


def test_ING_10_a_repeated_alarm_number_is_acknowledged_again_and_changes_nothing(
    database: sessionmaker[Session], pipeline: Pipeline, works: Plant
) -> None:
    first = pipeline.process(batch(alarm("dev-0", 17, message="Pump stalled")))
    again = pipeline.process(batch(alarm("dev-0", 17, message="Pump stalled"), alarm("dev-0", 17)))
    assert [(one.topic, one.payload) for one in first] == [("fw/v1/dev-0/alarm/ack", b'{"seq":17}')]
    assert [one.payload for one in again] == [b'{"seq":17}'] * 2
    (raised,) = rows(database, Alarm)
    assert (raised.count, raised.origin, raised.type_key, raised.message) == (
        1,
        "device",
        "E42",
        "Pump stalled",
    )
    assert raised.subject == f"asset:{works.assets[0].id}"
    assert [event.kind for event in rows(database, Event)].count("AlarmRaised") == 1


def test_ING_10_cleared_without_raised_is_an_orphan(database: sessionmaker[Session], pipeline: Pipeline) -> None:
    acks = pipeline.process(batch(alarm("dev-0", 1, "cleared")))
    (report,) = rows(database, AlarmReport)
    assert (report.is_orphan, report.alarm_id, len(acks)) == (True, None, 1)
    assert rows(database, Alarm) == []


def test_an_alarm_without_a_number_is_taken_and_its_redelivery_is_recognised(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    message = alarm("dev-0", None)
    assert pipeline.process(batch(message)) == []
    pipeline.process(batch(message, at=3660))
    (raised,) = rows(database, Alarm)
    assert raised.count == 1


def test_a_device_without_an_asset_has_its_own_alarms(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant
) -> None:
    with db.transaction(database) as session:
        loose = plant.device(session, works, "loose")
    pipeline = Pipeline(database, store)
    pipeline.load()
    pipeline.process(batch(alarm("loose", 1)))
    (raised,) = rows(database, Alarm)
    assert (raised.subject, raised.device_id, raised.asset_id) == (f"device:{loose.id}", loose.id, None)


def test_ING_6_who_is_unknown_revoked_or_somebody_else_is_set_aside(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant
) -> None:
    with db.transaction(database) as session:
        plant.device(session, works, "gone", revoked_at=NOW)
        gateway = plant.device(session, works, "gate")
        plant.device(session, works, "child", gateway_id=gateway.id)
    pipeline = Pipeline(database, store)
    pipeline.load()
    body = {"child": {"values": {"t": 1}}, "dev-0": {"values": {"t": 1}}, "nobody": {"values": {"t": 1}}}
    pipeline.process(
        batch(
            telemetry("stranger", 0, temperature=1),
            telemetry("gone", 0, temperature=1),
            ("fw/v1/dev-0/telemetry", b'{"device": "dev-1", "values": {"temperature": 1}}'),
            ("fw/v1/gate/gateway/telemetry", json.dumps(body).encode()),
            alarm("stranger", 3),
        )
    )
    kept = [(one.device_key, one.reason, one.unit_id is None) for one in rows(database, RejectedMessage)]
    assert sorted(kept) == [
        ("dev-0", "foreign_device", False),
        ("dev-0", "unknown_child", False),
        ("gone", "revoked_device", False),
        ("stranger", "unknown_device", True),
        ("stranger", "unknown_device", True),
    ]
    assert rows(database, Alarm) == []
    with database() as session:
        names = session.scalars(select(Series.metric)).all()
    assert names == ["t"]


def test_ING_1_each_malformed_payload_is_kept_with_its_reason_and_harms_no_other(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    bad = {
        b"\xff\xfe": "not_utf8",
        b"{": "not_json",
        b'{"temperature": NaN}': "not_finite",
        b'{"temperature": {"a": 1}}': "nested_value",
        b"{}": "empty",
        b"[]": "empty",
        b'{"ts": "now", "values": {"temperature": 1}}': "bad_ts",
        b'{"temperature": null}': "null_value",
        b'{"temperature": 1, "temperature": 2}': "duplicate_key",
        b'{"temperature": "hot"}': "wrong_type",
        b'"hello"': "bad_form",
        b'{"x": "' + b"y" * 300_000 + b'"}': "oversize",
    }
    messages = [("fw/v1/dev-0/telemetry", payload) for payload in bad]
    good = telemetry("dev-0", 0, temperature=21)
    pipeline.process(batch(*messages, good))
    assert [one.reason for one in rows(database, RejectedMessage)].sort() == list(bad.values()).sort()
    assert {bytes(one.payload): one.reason for one in rows(database, RejectedMessage)} == bad
    assert samples(database, store, works.devices[0].id, "temperature") == [(0, 21.0)]


def test_the_same_rejected_message_is_kept_once_and_counted(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    for _ in range(3):
        pipeline.process(batch(("fw/v1/dev-0/telemetry", b"{"), ("fw/v1/dev-0/telemetry", b"{")))
    (kept,) = rows(database, RejectedMessage)
    assert kept.repeats == 6


def test_ING_3_received_equals_stored_and_duplicate_and_rejected_for_each_device(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    messages = []
    for n in range(10_000):
        device = f"dev-{n % 3}"
        messages.append(
            (f"fw/v1/{device}/telemetry", b'{"bad": null}') if n % 100 < 3 else telemetry(device, n, temperature=20)
        )
        if n % 20 == 4:
            messages.append(messages[-1])
    for begin in range(0, len(messages), 1000):
        pipeline.process(batch(*messages[begin : begin + 1000], at=10_000))
    pipeline.books.keep(NOW)
    counts = rows(database, IntakeCount)
    assert sum(one.received for one in counts) == len(messages)
    for one in counts:
        assert one.received == one.stored + one.duplicate + one.rejected
    assert sum(one.rejected for one in counts) == 300
    assert sum(one.duplicate for one in counts) == 500
    with database() as session:
        repeats = session.scalar(select(func.sum(RejectedMessage.repeats)))
    assert repeats == 300


def test_ING_3_a_replay_leaves_nothing_rejected_and_no_second_copy(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    pipeline.process(batch(telemetry("newcomer", 5, temperature=61)))
    (kept,) = rows(database, RejectedMessage)
    assert kept.reason == "unknown_device"
    with db.transaction(database) as session:
        newcomer = plant.device(session, works, "newcomer", asset=works.assets[2], announced=True)
    pipeline.follow_changes(clock.now())
    with db.transaction(database) as session:
        rejected.ask(session, session.merge(kept), by="account:1", company_id=works.company.id, now=NOW)
    pipeline.replaying.try_again()
    pipeline.replaying.try_again()
    (done,) = rows(database, RejectedMessage)
    assert done.replayed_at is not None
    assert done.replay_asked_at is None
    assert samples(database, store, newcomer.id, "temperature") == [(5000, 61.0)]
    assert len(rows(database, Alarm)) == 1


def test_a_replay_that_is_refused_again_says_so_and_stays_open(
    database: sessionmaker[Session], pipeline: Pipeline, works: Plant
) -> None:
    pipeline.process(batch(("fw/v1/dev-0/telemetry", b"{")))
    (kept,) = rows(database, RejectedMessage)
    with db.transaction(database) as session:
        rejected.ask(session, session.merge(kept), by="account:1", company_id=works.company.id, now=NOW)
    pipeline.replaying.try_again()
    (still,) = rows(database, RejectedMessage)
    assert (still.replayed_at, still.replay_asked_at, still.reason, still.repeats) == (
        None,
        None,
        "not_json",
        1,
    )


def test_ING_15_status_and_last_will_set_the_online_state_once(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    def said(word: bytes) -> tuple[str, bytes]:
        return "fw/v1/dev-0/status", word

    pipeline.process(batch(said(b"online"), said(b"offline"), said(b"online")))
    pipeline.process(batch(said(b"online")))
    pipeline.process(batch(said(b"offline")))
    changes = [event.payload for event in rows(database, Event) if event.kind == "DeviceStateChanged"]
    assert [one["is_online"] for one in changes] == [True, False]


def test_attributes_are_merged(database: sessionmaker[Session], pipeline: Pipeline) -> None:
    pipeline.process(batch(("fw/v1/dev-0/attributes", b'{"firmware": "1.0", "serial": "A"}')))
    pipeline.process(batch(("fw/v1/dev-0/attributes", b'{"firmware": "1.1"}')))
    assert rows(database, Device)[0].attributes == {"firmware": "1.1", "serial": "A"}


def test_TEL_2_an_older_reading_never_replaces_a_newer_one(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    pipeline.process(batch(telemetry("dev-0", 100, temperature=30)))
    pipeline.process(batch(*(telemetry("dev-0", second, temperature=59 - second) for second in (50, 10, 30))))
    with database() as session:
        number = session.scalars(select(Series.id).where(Series.metric == "temperature")).one()
    latest = store.latest([number])[number]
    assert (latest.ts_ms - NOW_MS, latest.value) == (100_000, 30)
    assert [second for second, _ in samples(database, store, works.devices[0].id, "temperature")] == [
        10_000,
        30_000,
        50_000,
        100_000,
    ]


def test_TEL_4_an_impossible_value_is_kept_marked_bad_and_not_used_by_rules(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant
) -> None:
    with db.transaction(database) as session:
        session.merge(works.type).metrics[0].high = 150
    pipeline = Pipeline(database, store)
    pipeline.load()
    pipeline.process(batch(telemetry("dev-0", 0, temperature=900)))
    assert rows(database, Alarm) == []
    with database() as session:
        number = session.scalars(select(Series.id).where(Series.metric == "temperature")).one()
    assert store.latest([number])[number].flags & Flag.BAD


def test_one_message_that_breaks_the_path_is_set_aside_alone(
    database: sessionmaker[Session],
    store: DuckDbStore,
    pipeline: Pipeline,
    works: Plant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve = pipeline._resolver.__class__.resolve

    def fragile(self: Any, messages: Batch, decoded: Any, now: datetime) -> Any:
        if any(b"13" in payload for payload in messages.payloads):
            raise ZeroDivisionError("thirteen")
        return resolve(self, messages, decoded, now)

    monkeypatch.setattr(pipeline._resolver.__class__, "resolve", fragile)
    pipeline.process(batch(*(telemetry("dev-0", n, n=n) for n in (11, 12, 14)), telemetry("dev-0", 5, n=1300)))
    (kept,) = rows(database, RejectedMessage)
    assert (kept.reason, kept.detail) == ("failed", "ZeroDivisionError: thirteen")
    assert len(samples(database, store, works.devices[0].id, "n")) == 3


def test_a_saved_rule_is_evaluated_at_once_on_what_is_held(database: sessionmaker[Session], pipeline: Pipeline) -> None:
    pipeline.process(batch(telemetry("dev-0", 0, temperature=50)))
    with db.transaction(database) as session:
        kind = session.scalars(select(AlarmType)).one()
        lower = json.loads(json.dumps(HOT).replace("60", "45"))
        library.save(session, kind, lower, actor="account:1", now=NOW)
    pipeline.follow_changes(NOW)
    (raised,) = rows(database, Alarm)
    assert (raised.value, raised.rule_version) == (50, 2)


def test_a_person_clears_and_the_next_match_raises_a_new_alarm(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    pipeline.process(batch(telemetry("dev-0", 0, temperature=61)))
    with db.transaction(database) as session:
        first = session.scalars(select(Alarm)).one()
        alarms.clear_by_hand(session, first, by="account:1", reason="checked", now=clock.now())
    pipeline.process(batch(telemetry("dev-0", 1, temperature=62)))
    pipeline.follow_changes(NOW)
    pipeline.process(batch(telemetry("dev-0", 2, temperature=63)))
    pipeline.judging.run_timers(NOW)
    pipeline.process(batch(telemetry("dev-0", 3, temperature=64)))
    found = rows(database, Alarm)
    assert [(one.is_active, one.previous_id) for one in found] == [(False, None), (True, first.id)]
    pipeline.process(batch(telemetry("dev-0", 4, temperature=20)))
    assert not any(one.is_active for one in rows(database, Alarm))


def test_a_device_bound_later_is_evaluated(database: sessionmaker[Session], pipeline: Pipeline, works: Plant) -> None:
    with db.transaction(database) as session:
        plant.asset(session, works, "P-9")
        extra = plant.asset(session, works, "P-10")
        plant.device(session, works, "late", asset=extra, announced=True)
    pipeline.follow_changes(NOW)
    pipeline.process(batch(telemetry("late", 0, temperature=99)))
    (raised,) = rows(database, Alarm)
    assert raised.asset_id == extra.id


def test_what_a_rule_remembers_is_kept_only_while_it_matters(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    pipeline.process(batch(telemetry("dev-1", 0, temperature=20)))
    assert rows(database, RuleState) == []
    pipeline.process(batch(telemetry("dev-1", 1, temperature=70)))
    assert len(rows(database, RuleState)) == 1


def test_who_was_heard_is_online_and_has_a_last_seen_time(database: sessionmaker[Session], pipeline: Pipeline) -> None:
    pipeline.process(batch(telemetry("dev-0", 0, temperature=20)))
    pipeline.books.keep(NOW)
    heard_at = NOW + timedelta(hours=1)
    first, second, _ = rows(database, Device)
    assert (first.is_online, first.last_seen_at) == (True, heard_at)
    assert (second.is_online, second.last_seen_at) == (False, None)


def test_a_wrong_clock_is_stored_at_reception_flagged_and_shown(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline
) -> None:
    year = 365 * 86400
    pipeline.process(batch(telemetry("dev-0", year, temperature=20), at=0))
    pipeline.books.keep(NOW)
    assert rows(database, Device)[0].attributes == {"clock_skew_s": year}
    with database() as session:
        number = session.scalars(select(Series.id)).one()
    latest = store.latest([number])[number]
    assert (latest.ts_ms, latest.flags) == (NOW_MS, Flag.CLOCK)


_STATES = [
    "raised",
    "cleared",
    "raised",
    "raised",
    "cleared",
    "cleared",
    "raised",
    "cleared",
    "raised",
    "raised",
]


@pytest.mark.parametrize("seed", range(12))
def test_D07_alarm_reports_in_any_order_and_any_number_give_the_alarms_of_the_right_order(
    database: sessionmaker[Session], pipeline: Pipeline, seed: int
) -> None:
    chance = random.Random(seed)

    def reports(device: str) -> list[tuple[str, bytes]]:
        return [alarm(device, seq, state, ts=NOW_MS + 1000 * seq) for seq, state in enumerate(_STATES)]

    for report in reports("dev-0"):
        pipeline.process(batch(report))
    shuffled = [report for report in reports("dev-1") for _ in range(chance.randint(1, 3))]
    chance.shuffle(shuffled)
    while shuffled:
        size = chance.randint(1, 4)
        pipeline.process(batch(*shuffled[:size]))
        del shuffled[:size]

    def told(asset: Any) -> list[tuple[Any, ...]]:
        found = [one for one in rows(database, Alarm) if one.asset_id == asset.id]
        found.sort(key=lambda one: one.raised_at)
        return [(one.count, one.is_active, one.raised_at, one.ended_at, one.last_seen_at) for one in found]

    def concerned(device: Any) -> list[tuple[int, bool]]:
        mine = [one for one in rows(database, AlarmReport) if one.device_id == device.id]
        return [(one.seq, one.is_orphan) for one in mine]

    first, second = rows(database, Asset)[:2]
    assert told(second) == told(first)
    assert concerned(rows(database, Device)[1]) == concerned(rows(database, Device)[0])
    assert len(told(first)) == 4


@pytest.mark.usefixtures("works")
def test_ALM_9_the_window_of_the_schedule_is_frozen_with_the_alarm(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    here = NOW.astimezone(zone)
    began = (here - timedelta(hours=3)).replace(minute=0, second=0, microsecond=0)
    window = {"start": f"{began:%H:%M}", "end": f"{began + timedelta(hours=8):%H:%M}"}
    with db.transaction(database) as session:
        kind = session.scalars(select(AlarmType)).one()
        schedule = {"type": "weekly", "windows": [window], "zone": zone.key}
        named = HOT | {"create": {"major": HOT["create"]["major"] | {"schedule": schedule}}}
        library.save(session, kind, named, actor="account:1", now=NOW)
    pipeline.follow_changes(NOW)
    pipeline.process(batch(telemetry("dev-0", 0, temperature=61)))
    (raised,) = rows(database, Alarm)
    from_ms = int(began.timestamp() * 1000)
    assert raised.evidence["schedule"] == {"zone": zone.key, "from_ms": from_ms, "until_ms": from_ms + 8 * 3_600_000}


def test_RUL_10_an_attribute_that_changes_is_evaluated_at_once(
    database: sessionmaker[Session], pipeline: Pipeline, works: Plant
) -> None:
    site = Subject("site", works.site.id, works.company.id, works.unit.id)
    with db.transaction(database) as session:
        kind = session.scalars(select(AlarmType)).one()
        condition = HOT["create"]["major"]["condition"] | {"limit": {"attribute": "t_max", "default": 60}}
        named = HOT | {"create": {"major": {"condition": condition}}}
        library.save(session, kind, named, actor="account:1", now=NOW)
    pipeline.follow_changes(NOW)
    pipeline.process(batch(telemetry("dev-0", 0, temperature=50)))
    assert rows(database, Alarm) == []
    with db.transaction(database) as session:
        attributes.put(session, site, "t_max", 45, actor="account:1", now=NOW)
    pipeline.follow_changes(NOW)
    (raised,) = rows(database, Alarm)
    assert (raised.limit, raised.evidence["limits"][0]["from"]) == (45, "t_max@site")
    # What the device says of itself is nearer still.
    pipeline.process(batch(("fw/v1/dev-0/attributes", b'{"t_max": 70}')))
    pipeline.judging.run_timers(NOW)
    (ended,) = rows(database, Alarm)
    assert not ended.is_active


def test_RUL_1_a_text_raises_and_so_does_a_window_after_a_restart(
    database: sessionmaker[Session], store: DuckDbStore, pipeline: Pipeline, works: Plant
) -> None:
    with db.transaction(database) as session:
        kind = session.scalars(select(AlarmType)).one()
        session.add(Metric(type_id=works.type.id, key="mode", name="Mode", kind="text"))
        session.flush()
        window = {"type": "window", "function": "delta", "seconds": 600}
        rising = {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 6, "view": window}
        fault = {"type": "text", "metric": "mode", "operator": "starts", "value": "E4"}
        create = {"critical": {"condition": fault}, "minor": {"condition": rising}}
        library.save(session, kind, {"schema": 1, "create": create}, actor="account:1", now=NOW)
    pipeline.follow_changes(NOW)
    pipeline.process(batch(telemetry("dev-0", 0, mode="E42"), telemetry("dev-1", 0, temperature=20)))
    (raised,) = rows(database, Alarm)
    assert (raised.severity, raised.evidence["samples"][0]["value"]) == ("critical", "E42")
    again = Pipeline(database, store)
    again.load()
    again.process(batch(telemetry("dev-1", 590, temperature=26)))
    assert [one.severity for one in rows(database, Alarm)] == ["critical", "minor"]
