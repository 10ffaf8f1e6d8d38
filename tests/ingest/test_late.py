"""RUL-12: readings that come late are judged at their own time, once, and what is over calls nobody."""

import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest import crash
from ingest.batch import Batch
from ingest.pipeline import Pipeline
from ingest.run import Ingest
from kernel import clock, db, settings
from kernel.models import Event
from rules import alarms, library
from rules.library import AlarmTypeDraft
from rules.marks import Marks
from rules.models import Alarm, AlarmEntry, AlarmType, LateSpan, RuleState
from telemetry.duckdb import DuckDbStore
from tests import plant
from tests.ingest.test_pipeline import NOW, NOW_MS, batch, rows, telemetry
from tests.plant import Plant
from tests.waiting import until

SOON = timedelta(minutes=1)
HOT = {
    "schema": 1,
    "create": {"major": {"condition": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 60}}},
    "clear": {"type": "automatic"},
    "message": "It is ${temperature} degrees hot",
}
LONG = {**HOT, "create": {"major": {**HOT["create"]["major"], "kind": {"type": "duration", "seconds": 600}}}}


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        made = plant.build(session, machines=2)
        add(session, made, HOT)
    return made


def add(session: Session, works: Plant, definition: dict[str, Any], key: str = "overheat") -> AlarmType:
    draft = AlarmTypeDraft(key, "Overheating", asset_type_id=works.type.id)
    long_ago = NOW - timedelta(days=400)
    return library.add(session, draft, definition, unit=works.company, actor="account:1", now=long_ago)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def pipeline(database: sessionmaker[Session], store: DuckDbStore, works: Plant) -> Pipeline:  # noqa: ARG001
    return started(database, store)


def started(database: sessionmaker[Session], store: DuckDbStore) -> Pipeline:
    made = Pipeline(database, store)
    made.load()
    return made


def send(pipeline: Pipeline, *samples: tuple[float, float], device: str = "dev-0", at: float = 3600) -> None:
    pipeline.process(batch(*(telemetry(device, second, temperature=value) for second, value in samples), at=at))


def judge(pipeline: Pipeline, at: float = 3600) -> int:
    """Judge all that came late at a time of the server, as the process does; return how many rules on assets."""
    judged = 0
    while (task := pipeline.judging.late_task(clock.now() + SOON)) is not None:
        pipeline.judging.judge_late(pipeline.judging.read_late(task), NOW + timedelta(seconds=at))
        judged += 1
    return judged


def second(at: datetime | None) -> float | None:
    return None if at is None else (clock.to_ms(at) - NOW_MS) / 1000


def told(alarm: Alarm) -> tuple[Any, ...]:
    return second(alarm.began_at), second(alarm.raised_at), second(alarm.ended_at), alarm.count, alarm.peak_value


def heard(database: sessionmaker[Session]) -> list[str]:
    return [one.kind for one in rows(database, Event) if one.kind.startswith("Alarm")]


def back_fill() -> list[tuple[float, float]]:
    """Return twenty minutes at ten seconds, of which five are too hot."""
    return [(10.0 * n, 75.0 if 60 <= n < 90 else 40.0) for n in range(120)]


def test_RUL_12_a_back_fill_with_an_excess_is_one_alarm_that_is_over_and_calls_nobody(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    send(pipeline, (1200, 40))
    late = back_fill()
    random.Random(12).shuffle(late)
    for at in range(0, len(late), 25):
        send(pipeline, *late[at : at + 25])
    assert rows(database, Alarm) == []
    (span,) = rows(database, LateSpan)
    assert (second(span.since), second(span.until)) == (0, 1190)
    assert judge(pipeline) == 1
    (alarm,) = rows(database, Alarm)
    assert told(alarm) == (600, 600, 900, 30, 75)
    assert (alarm.is_late, alarm.is_active, alarm.severity, alarm.limit) == (True, False, "major", 60)
    assert alarm.evidence["is_late"] is True
    assert alarm.evidence["samples"]
    assert alarm.message == "It is 75 degrees hot"
    assert heard(database) == ["AlarmFoundLate"]
    assert alarm.announced_at is None
    assert rows(database, LateSpan) == []
    send(pipeline, *late[:10])
    assert judge(pipeline) == 1
    assert len(rows(database, Alarm)) == 1


def test_RUL_12_what_still_stands_is_raised_or_begins_earlier(
    database: sessionmaker[Session], pipeline: Pipeline, works: Plant
) -> None:
    with db.transaction(database) as session:
        add(session, works, LONG, "long")
    pipeline.follow_changes(clock.now())
    send(pipeline, (0, 40), (2000, 70), at=2000)
    (alarm,) = rows(database, Alarm)
    assert told(alarm)[:3] == (2000, 2000, None)
    send(pipeline, *((100.0 * n, 70.0) for n in range(12, 20)), at=2001)
    assert judge(pipeline, at=2001) == 2
    short, long = rows(database, Alarm)
    assert told(short) == (1200, 1200, None, 9, 70)
    assert told(long)[:3] == (1200, 1800, None)
    assert [short.is_late, long.is_late] == [False, False]
    assert [name for name in heard(database) if name != "AlarmAmended"].count("AlarmRaised") == 2
    with database() as session:
        (line,) = session.scalars(select(AlarmEntry).where(AlarmEntry.kind == "amended"))
        assert set(line.detail["before"]) == {"began_at", "raised_at"}
    send(pipeline, (2010, 40), at=2010)
    assert {second(one.ended_at) for one in rows(database, Alarm)} == {2010}


def test_RUL_12_what_history_no_longer_supports_is_left_for_a_person(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    with db.transaction(database) as session:
        kind = session.scalars(select(AlarmType)).one()
        library.save(session, kind, LONG, actor="account:1", now=NOW - timedelta(days=300))
    pipeline.follow_changes(clock.now())
    send(pipeline, (0, 70), (500, 70), (1000, 70), at=1000)
    (alarm,) = rows(database, Alarm)
    assert told(alarm)[:3] == (0, 600, None)
    send(pipeline, (300, 40), at=1001)
    assert judge(pipeline, at=1001) == 1
    (alarm,) = rows(database, Alarm)
    assert (alarm.is_unsupported, alarm.is_active, alarm.is_late) == (True, True, False)
    send(pipeline, (1050, 70), (1150, 70), at=1150)
    (alarm,) = rows(database, Alarm)
    assert (alarm.is_unsupported, second(alarm.began_at), second(alarm.raised_at)) == (False, 500, 1100)
    send(pipeline, (300, 70), at=1151)
    assert judge(pipeline, at=1151) == 1
    (alarm,) = rows(database, Alarm)
    assert told(alarm)[:2] == (0, 600)


def test_what_is_later_than_the_limit_is_stored_and_judged_by_nobody(
    database: sessionmaker[Session], pipeline: Pipeline, store: DuckDbStore
) -> None:
    send(pipeline, (0, 40))
    send(pipeline, (-90_000, 99), (-80_000, 40))
    (span,) = rows(database, LateSpan)
    assert second(span.since) == -80_000
    assert (pipeline.rules.late, pipeline.rules.too_late) == (2, 1)
    judge(pipeline)
    assert rows(database, Alarm) == []
    assert len(store.samples(1, NOW_MS - 10**9, NOW_MS + 1, limit=10)) == 3


def test_a_kill_between_the_batch_and_the_judgement_loses_nothing_and_repeats_nothing(
    database: sessionmaker[Session], pipeline: Pipeline, store: DuckDbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(pipeline, (1200, 40))
    send(pipeline, *back_fill())
    after = started(database, store)
    task = after.judging.late_task(clock.now() + SOON)
    assert task is not None
    found = after.judging.read_late(task)

    def cut(place: str) -> None:
        if place == "before_late_commit":
            raise RuntimeError(place)

    monkeypatch.setattr(crash, "here", cut)
    with pytest.raises(RuntimeError):
        after.judging.judge_late(found, NOW + timedelta(hours=1))
    monkeypatch.undo()
    assert rows(database, Alarm) == []
    again = started(database, store)
    assert judge(again) == 1
    again.judging.judge_late(found, NOW + timedelta(hours=1))
    assert [told(one)[:3] for one in rows(database, Alarm)] == [(600, 600, 900)]
    assert heard(database) == ["AlarmFoundLate"]


def test_what_comes_while_it_is_judged_is_judged_with_it_or_afterwards(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    send(pipeline, (1200, 40))
    send(pipeline, *back_fill())
    task = pipeline.judging.late_task(clock.now() + SOON)
    assert task is not None
    found = pipeline.judging.read_late(task)
    send(pipeline, (1210, 80))
    pipeline.judging.judge_late(found, NOW + timedelta(hours=1))
    assert [told(one)[:3] for one in rows(database, Alarm)] == [(1210, 1210, None), (600, 600, 900)]
    send(pipeline, (595, 75))
    task = pipeline.judging.late_task(clock.now() + SOON)
    assert task is not None
    found = pipeline.judging.read_late(task)
    send(pipeline, (300, 75))
    pipeline.judging.judge_late(found, NOW + timedelta(hours=1))
    assert len(rows(database, LateSpan)) == 1
    judge(pipeline)
    assert sorted(told(one)[:3] for one in rows(database, Alarm)) == [
        (300, 300, 310), (595, 595, 900), (1210, 1210, None),
    ]  # fmt: skip
    send(pipeline, (1220, 40))
    assert all(not one.is_active for one in rows(database, Alarm))


def test_what_a_person_ended_stays_ended_when_they_ended_it(
    database: sessionmaker[Session], pipeline: Pipeline
) -> None:
    send(pipeline, (0, 40), (100, 70), at=100)
    ended = NOW + timedelta(seconds=130)
    with db.transaction(database) as session:
        alarms.clear_by_hand(session, session.scalars(select(Alarm)).one(), by="account:1", reason="seen", now=ended)
    pipeline.follow_changes(clock.now())
    pipeline.judging.run_timers(ended)
    send(pipeline, (200, 70), at=200)
    send(pipeline, (90, 70), at=201)
    assert judge(pipeline, at=201) == 1
    first, then = rows(database, Alarm)
    assert (told(first)[:3], told(then)[:3]) == ((90, 90, 130), (200, 200, None))
    assert not first.is_unsupported


def test_RUL_12_a_device_that_sends_in_any_order_ends_like_one_that_sends_in_order(
    database: sessionmaker[Session], pipeline: Pipeline, works: Plant
) -> None:
    with db.transaction(database) as session:
        add(session, works, LONG, "long")
    pipeline.follow_changes(clock.now())
    chance = random.Random(7)
    value, samples = 40.0, []
    for n in range(150):
        if chance.random() < 0.12:
            value = chance.choice([40.0, 65.0, 80.0])
        samples.append((100.0 * n, value))
    send(pipeline, *samples, device="dev-1", at=15_000)
    order = samples[:]
    chance.shuffle(order)
    for at in range(0, len(order), 12):
        send(pipeline, *order[at : at + 12], at=15_000)
        if at % 36 == 0:
            judge(pipeline, at=15_000)
    judge(pipeline, at=15_000)
    found: dict[int | None, list[tuple[Any, ...]]] = {}
    for one in rows(database, Alarm):
        if not one.is_unsupported:
            found.setdefault(one.asset_id, []).append((one.alarm_type_id, *told(one)))
    shuffled, straight = (sorted(found[works.assets[n].id], key=str) for n in (0, 1))
    assert len(straight) > 6
    assert shuffled == straight
    states = {(one.alarm_type_id, one.asset_id) for one in rows(database, RuleState) if one.state["alarm"]}
    active = {(one.alarm_type_id, one.asset_id) for one in rows(database, Alarm) if one.is_active}
    assert states == active


def test_a_rule_that_looks_at_another_asset_is_judged_with_what_that_measured(
    database: sessionmaker[Session], pipeline: Pipeline, works: Plant
) -> None:
    expression = {
        "type": "expression",
        "formula": "inlet.temperature - temperature > 10",
        "assets": {"inlet": works.assets[0].code},
    }
    with db.transaction(database) as session:
        draft = AlarmTypeDraft("gap", "Gap", asset_id=works.assets[1].id)
        definition = {"schema": 1, "create": {"major": {"condition": expression}}, "clear": {"type": "automatic"}}
        long_ago = NOW - timedelta(days=400)
        library.add(session, draft, definition, unit=works.company, actor="account:1", now=long_ago)
    send(pipeline, (0, 20), at=0)
    send(pipeline, (0, 20), device="dev-1", at=0)
    pipeline.follow_changes(clock.now())
    send(pipeline, (100, 55), at=100)
    send(pipeline, (110, 20), device="dev-1", at=110)
    (alarm,) = rows(database, Alarm)
    send(pipeline, (50, 54), at=120)
    judge(pipeline, at=120)
    (alarm,) = rows(database, Alarm)
    assert (second(alarm.began_at), alarm.is_active, alarm.is_unsupported) == (50, True, False)


@pytest.mark.usefixtures("works")
def test_a_process_judges_what_came_late_by_itself(
    database: sessionmaker[Session], store: DuckDbStore, tmp_path: Path
) -> None:
    ingest = Ingest(settings.load(data_dir=tmp_path, mqtt_bind="127.0.0.1:0"), database, store)
    ingest.start()
    try:
        at_ms = clock.now_ms()

        def hand_over(*samples: tuple[int, float]) -> None:
            bodies = [{"ts": at_ms + 1000 * at, "values": {"temperature": one}} for at, one in samples]
            said = [("fw/v1/dev-0/telemetry", json.dumps(body).encode()) for body in bodies]
            ingest.submit(Batch.of(said, received_ms=at_ms)).result(timeout=20)

        hand_over((0, 40))
        hand_over((-60, 40), (-50, 70), (-40, 75), (-30, 40))
        until(lambda: bool(rows(database, Alarm)), what="the late readings are judged")
        assert ingest.came_late == (4, 0)
    finally:
        ingest.stop()
    (alarm,) = rows(database, Alarm)
    assert (alarm.is_late, alarm.is_active, alarm.count, alarm.peak_value) == (True, False, 2, 75)
    assert rows(database, LateSpan) == []


def test_RUL_12_the_first_late_reading_after_a_restart_calls_nobody_for_what_is_over(
    database: sessionmaker[Session],
    store: DuckDbStore,
    works: Plant,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    def begun() -> Pipeline:
        made = Pipeline(database, store, marks=Marks(tmp_path / "marks"))
        made.load()
        return made

    send(begun(), (1200, 40), (1210, 40))
    restarted = begun()
    send(restarted, (900, 75), (910, 40))
    assert rows(database, Alarm) == []
    assert judge(restarted) == 1
    (alarm,) = rows(database, Alarm)
    assert (alarm.is_late, alarm.is_active, told(alarm)[:3]) == (True, False, (900, 900, 910))
    assert heard(database) == ["AlarmFoundLate"]
    assert alarm.announced_at is None


def test_RUL_12_what_was_stored_before_a_kill_and_not_evaluated_is_evaluated_after_it(
    database: sessionmaker[Session],
    store: DuckDbStore,
    works: Plant,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    first = Pipeline(database, store, marks=Marks(tmp_path / "marks"))
    first.load()
    send(first, (100, 40))
    first.rules.evaluate = _cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        send(first, (110, 75), (120, 40))
    again = Pipeline(database, store, marks=Marks(tmp_path / "marks"))
    again.load()
    send(again, (110, 75), (120, 40))
    (alarm,) = rows(database, Alarm)
    assert (alarm.is_late, told(alarm)[:3]) == (False, (110, 110, 120))
    assert heard(database) == ["AlarmRaised", "AlarmCleared", "AlarmAnnounced"]


BOTH = {
    "schema": 1,
    "create": {
        "major": {
            "condition": {
                "type": "all",
                "of": [
                    {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 60},
                    {"type": "compare", "metric": "pressure", "operator": ">=", "limit": 6},
                ],
            }
        }
    },
    "clear": {"type": "automatic"},
}


def test_D06_a_kill_between_storing_and_evaluating_hides_nothing_from_a_rule_of_two_metrics(
    database: sessionmaker[Session], store: DuckDbStore, tmp_path: Path
) -> None:
    with db.transaction(database) as session:
        made = plant.build(session, machines=2, metrics=("temperature", "pressure"))
        add(session, made, BOTH)

    def begun() -> Pipeline:
        made = Pipeline(database, store, marks=Marks(tmp_path / "marks"))
        made.load()
        return made

    # At 110 s both are too high for a while; the last readings of the batch say nothing of it.
    cut = batch(
        telemetry("dev-0", 110, pressure=9),
        telemetry("dev-0", 120, temperature=40),
        telemetry("dev-0", 120, pressure=1),
    )
    first = begun()
    first.process(batch(telemetry("dev-0", 100, temperature=70, pressure=1), telemetry("dev-1", 100, temperature=70)))
    first.rules.evaluate = _cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.process(cut)
    begun().process(cut)
    (alarm,) = rows(database, Alarm)
    assert told(alarm)[:3] == (110, 110, 120)
    assert heard(database)[:2] == ["AlarmRaised", "AlarmCleared"]


def _cut(*_: object) -> NoReturn:
    raise KeyboardInterrupt
