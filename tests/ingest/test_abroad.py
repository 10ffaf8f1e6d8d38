"""OPS-8: rules that look at other assets, and at derived values, where several workers share the assets."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest.batch import Batch
from ingest.models import IngestWorker
from ingest.pipeline import Pipeline
from kernel import clock, db
from rules import library
from rules.library import AlarmTypeDraft
from rules.models import Alarm, LateSpan, PassedReading
from telemetry import series
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings
from tests import plant
from tests.ingest.group_worker import Worker
from tests.plant import Plant
from tests.waiting import until

ROUNDS = 10
A_ROUND = 5
LATER = timedelta(seconds=2)
MACHINES = 4
"""Machine 2 looks at machine 0 (heard by one pipeline), and 3 at 1, which say the same, but to a group."""


def _apart(limit: float, name: str, kind: dict[str, Any]) -> dict[str, Any]:
    condition = {
        "type": "expression", "formula": f"temperature - other.temperature > {limit}", "assets": {"other": name}
    }  # fmt: skip
    return {"schema": 1, "create": {"major": {"condition": condition, "kind": kind}}, "clear": {"type": "automatic"}}


KINDS: dict[str, dict[str, Any]] = {
    "apart": {"type": "simple"},
    "long": {"type": "duration", "seconds": 60.0},
    "often": {"type": "repeating", "times": 3, "window_s": 200.0},
}


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    long_ago = clock.now() - timedelta(days=400)
    with db.transaction(database) as session:
        made = plant.build(session, machines=MACHINES, metrics=("temperature", "run_hours"))
        for pair in (0, 1):
            for key, kind in KINDS.items():
                draft = AlarmTypeDraft(f"{key}_{pair}", key.title(), asset_id=made.assets[2 + pair].id)
                definition = _apart(20, f"P-{pair}", kind)
                library.add(session, draft, definition, unit=made.company, actor="account:1", now=long_ago)
        hours = {"type": "compare", "metric": "run_hours", "operator": ">=", "limit": 100}
        definition = {"schema": 1, "create": {"minor": {"condition": hours}}, "clear": {"type": "automatic"}}
        draft = AlarmTypeDraft("worn", "Worn", asset_type_id=made.type.id)
        library.add(session, draft, definition, unit=made.company, actor="account:1", now=long_ago)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def workers(database: sessionmaker[Session], store: DuckDbStore, works: Plant) -> Iterator[Callable[[], Worker]]:  # noqa: ARG001
    with ExitStack() as stack:

        def make() -> Worker:
            made = Worker(database, store)
            stack.callback(made.die)
            return made

        yield make


def _said(device: int, at_ms: int, temperature: float) -> tuple[str, bytes]:
    body = json.dumps({"ts": at_ms, "values": {"temperature": temperature}})
    return f"fw/v1/dev-{device}/telemetry", body.encode()


def _alarms(database: sessionmaker[Session], asset_id: int) -> list[Any]:
    with database() as session:
        found = session.scalars(
            select(Alarm)
            .where(Alarm.asset_id == asset_id, ~Alarm.is_unsupported)
            .order_by(Alarm.type_key, Alarm.began_at)
        ).all()
        return [
            (one.type_key[:-2], one.began_at, one.raised_at, one.ended_at, one.count, one.peak_value, one.is_active)
            for one in found
        ]


def _settle(*some: Pipeline, after: timedelta = LATER) -> None:
    now = clock.now() + after
    # Once more, because a tick that finds ground lost leaves the rest to the next one.
    for pipeline in (*some, *some):
        pipeline.judging.run_timers(now)


def _buried(dead: Worker, other: Worker) -> None:
    """Let another worker look around until it has seen that one is dead, and has taken up its assets."""

    def is_over() -> bool:
        other.look_around()
        with other.pipeline._sessions() as session:
            return session.get_one(IngestWorker, dead.member.licence.life).ended_at is not None

    dead.die()
    until(is_over, what="its life is ended")


def _judged(*some: Pipeline) -> None:
    """Judge all that came late, as the processes do."""
    for pipeline in some:
        now = clock.now() + timedelta(minutes=1)
        while (task := pipeline.judging.late_task(now)) is not None:
            pipeline.judging.judge_late(pipeline.judging.read_late(task), now)


Said = list[tuple[int, float]]


def _weather(chance: random.Random, turn: int, begin_ms: int) -> tuple[Said, Said]:
    """Return what is measured on the asset that is looked at, and on the one with the rules, in one round."""
    there: Said = []
    here: Said = []
    for n in range(turn * A_ROUND, (turn + 1) * A_ROUND):
        at_ms = begin_ms + 30_000 * n
        there.append((at_ms, round(chance.uniform(10, 30), 1)))
        here.append((at_ms + 12_000, round(chance.uniform(20, 40) + 15 * (n // 3 % 2), 1)))
    return there, here


def _to_one(alone: Pipeline, there: Said, here: Said) -> None:
    """Let one worker hear both assets in the order of time."""
    for _, device, row in sorted([(row[0], 0, row) for row in there] + [(row[0], 2, row) for row in here]):
        alone.process(Batch.of([_said(device, *row)]))


def _to_group(chance: random.Random, group: list[Worker], device: int, rows: Said) -> None:
    """Let either worker hear an asset, or one its beginning and one the rest."""
    cut = chance.choice((0, 2, A_ROUND))
    for part in (rows[:cut], rows[cut:]):
        chance.choice(group).pipeline.process(Batch.of([_said(device, *row) for row in part]))


@pytest.mark.parametrize("seed", [1])
def test_OPS_8_rules_on_other_assets_raise_under_a_changing_split_what_one_worker_raises(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant, workers: Callable[[], Worker], seed: int
) -> None:
    """Either asset is heard by either worker, whoever has the rules; one of them dies and another comes."""
    chance = random.Random(seed)
    alone = Pipeline(database, store)
    alone.load()
    group = [workers(), workers()]
    begin_ms = clock.now_ms() - 3_600_000
    for turn in range(ROUNDS):
        if turn == ROUNDS // 2:
            _buried(group.pop(0), group[0])
            group.append(workers())
        there, here = _weather(chance, turn, begin_ms)
        _to_one(alone, there, here)
        for device, rows in chance.sample([(1, there), (3, here)], 2):
            _to_group(chance, group, device, rows)
        _settle(*(one.pipeline for one in group))
    expected = _alarms(database, works.assets[2].id)
    assert {one[0] for one in expected} == set(KINDS)
    assert _alarms(database, works.assets[3].id) == expected
    with database() as session:
        assert session.scalars(select(PassedReading).where(~PassedReading.is_taken)).all() == []
        assert session.scalars(select(LateSpan)).all() == []


@pytest.mark.parametrize("seed", [3])
def test_OPS_8_what_another_worker_passes_on_too_late_is_judged_at_its_own_time(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant, workers: Callable[[], Worker], seed: int
) -> None:
    """One asset is heard a round later now and then, when the rules have come further by the other."""
    chance = random.Random(seed)
    alone = Pipeline(database, store)
    alone.load()
    group = [workers(), workers()]
    begin_ms = clock.now_ms() - 3_600_000
    waiting: Said = []
    noted = 0
    for turn in range(ROUNDS):
        there, here = _weather(chance, turn, begin_ms)
        _to_one(alone, there, here)
        _to_group(chance, group, 3, here)
        waiting += there
        if turn in (0, ROUNDS - 1) or chance.random() < 0.5:
            _to_group(chance, group, 1, waiting)
            waiting = []
        _settle(*(one.pipeline for one in group))
        with database() as session:
            noted += len(session.scalars(select(LateSpan)).all())
        _judged(*(one.pipeline for one in group))
    assert noted
    expected = _alarms(database, works.assets[2].id)
    assert {one[0] for one in expected} == set(KINDS)
    assert _alarms(database, works.assets[3].id) == expected


def test_OPS_8_a_batch_that_is_heard_again_elsewhere_counts_once_for_a_rule_on_another_asset(
    database: sessionmaker[Session], works: Plant, workers: Callable[[], Worker]
) -> None:
    one, other = workers(), workers()
    begin_ms = clock.now_ms() - 3_600_000
    for worker in (one, other):
        for second, value in ((0, 50.0), (30, 60.0)):
            worker.pipeline.process(Batch.of([_said(1, begin_ms + 1000 * second, 10.0)]))
            worker.pipeline.process(Batch.of([_said(3, begin_ms + 1000 * second, value)]))
        _settle(one.pipeline, other.pipeline)
    (apart,) = [alarm for alarm in _alarms(database, works.assets[3].id) if alarm[0] == "apart"]
    assert (apart[4], apart[6]) == (2, True)


def test_OPS_8_a_rule_that_looks_only_at_other_assets_is_evaluated_by_somebody(
    database: sessionmaker[Session], works: Plant, workers: Callable[[], Worker]
) -> None:
    """Nobody hears of the asset itself, so nobody claims it for what it says."""
    with db.transaction(database) as session:
        line = plant.asset(session, works, "LINE")
        condition = {"type": "expression", "formula": "a.temperature - b.temperature > 20"}
        condition["assets"] = {"a": "P-0", "b": "P-1"}  # type: ignore[assignment]
        definition = {"schema": 1, "create": {"major": {"condition": condition}}, "clear": {"type": "automatic"}}
        draft = AlarmTypeDraft("uneven", "Uneven", asset_id=line.id)
        library.add(session, draft, definition, unit=works.company, actor="account:1", now=clock.now())
    one, other = workers(), workers()
    begin_ms = clock.now_ms() - 3_600_000
    one.pipeline.process(Batch.of([_said(0, begin_ms, 50.0)]))
    other.pipeline.process(Batch.of([_said(1, begin_ms + 1000, 10.0)]))
    _settle(one.pipeline, other.pipeline)
    with database() as session:
        (alarm,) = session.scalars(select(Alarm).where(Alarm.asset_id == line.id))
    assert clock.to_ms(alarm.began_at) == begin_ms + 1000


def test_OPS_8_derived_values_are_judged_by_whoever_has_the_asset(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant, workers: Callable[[], Worker]
) -> None:
    """The eldest works them out, another hears the machine; wherever the asset goes, each value counts once."""
    eldest, other = workers(), workers()
    begin_ms = clock.now_ms() // 3_600_000 * 3_600_000 - 7_200_000
    other.pipeline.process(Batch.of([_said(0, begin_ms, 20.0)]))
    for hour, value in enumerate((99.0, 100.0, 101.0)):
        pair = works.devices[0].id, "run_hours"
        with db.transaction(database) as session:
            is_first = pair not in series.load(session, {works.devices[0].id})
            number = series.ensure(session, [pair], now=clock.now())[pair]
        derived = Readings(
            np.array([number]), np.array([begin_ms + 3_600_000 * hour]), np.array([value]), None, np.zeros(1, np.uint8)
        )
        store.write(derived)
        for _ in range(2):
            # A kill between the judging and the ledger of hours lets the eldest say the same again.
            eldest.pipeline.judging.judge(derived, {works.assets[0].id} if is_first else set())
        _settle(eldest.pipeline, other.pipeline)
        if hour == 1:
            eldest.pipeline.process(Batch.of([_said(0, begin_ms + 1000, 20.0)]))
    with database() as session:
        (worn,) = session.scalars(select(Alarm).where(Alarm.type_key == "worn"))
    assert clock.to_ms(worn.began_at) == begin_ms + 3_600_000
    assert (worn.count, worn.value, worn.is_active) == (2, 101.0, True)


def test_OPS_8_a_lone_reader_evaluates_what_a_group_has_left_in_the_ledger(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant, workers: Callable[[], Worker]
) -> None:
    one = workers()
    begin_ms = clock.now_ms() - 3_600_000
    one.pipeline.process(Batch.of([_said(3, begin_ms, 50.0), _said(1, begin_ms + 1000, 10.0)]))
    assert _alarms(database, works.assets[3].id) == []
    one.member.leave()
    Pipeline(database, store).load()
    assert {alarm[0] for alarm in _alarms(database, works.assets[3].id)} == {"apart"}
    with database() as session:
        assert session.scalars(select(PassedReading)).all() == []
