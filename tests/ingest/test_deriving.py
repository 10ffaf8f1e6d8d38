"""Derived metrics as they are kept: by the hour, out of stored readings, from a ledger that a kill does not harm."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker

from assets import derivations, devices, dirty, measured, meters
from assets.derivations import DerivedDraft
from assets.derived_tables import DirtySpan
from assets.meters import MeterDraft
from assets.models import AssetType, Metric
from ingest.ahead import Ahead
from ingest.batch import Batch
from ingest.deriving import Deriving
from ingest.models import RejectedMessage
from ingest.pipeline import Pipeline
from kernel import clock, db
from kernel.models import AuditEntry
from kernel.settings import Settings
from rules import library
from rules.library import AlarmTypeDraft
from rules.models import Alarm
from telemetry import series
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings
from telemetry.retention import HOUR_MS
from tests import plant
from tests.plant import Plant
from tests.web.test_machines import counted

NOW = datetime(2026, 11, 20, 12, 10, tzinfo=UTC)
MINUTE = 60_000
TEN = clock.to_ms(NOW.replace(hour=10, minute=0))
ACTOR = "account:1"
COUNTED = DerivedDraft("strokes", "Strokes", "raw", "counter", wraps_at=65_536)
RUNS = DerivedDraft("run_hours", "Run hours", "running", "run_hours", hold_s=7200)


@dataclass
class World:
    """A press with a raw counter and a running signal, and what works its derived metrics out."""

    sessions: sessionmaker[Session]
    store: DuckDbStore
    plant: Plant
    deriving: Deriving
    numbers: dict[str, int] = field(default_factory=dict)
    judged: list[tuple[int, float]] = field(default_factory=list)

    def add(self, *drafts: DerivedDraft, now: datetime = NOW) -> None:
        with db.transaction(self.sessions) as session:
            kind = session.get_one(AssetType, self.plant.type.id)
            for draft in drafts:
                derivations.add(session, kind, draft, actor=ACTOR, now=now)

    def send(self, metric: str, rows: dict[float, float], *, device: int = 0, marks: bool = True) -> None:
        """Store readings at minutes after ten, and note them as late where an hour is over."""
        pair = self.plant.devices[device].id, metric
        with db.transaction(self.sessions) as session:
            number = series.ensure(session, [pair], now=NOW)[pair]
        ts_ms = [int(TEN + minute * MINUTE) for minute in rows]
        self.store.write(Readings.of([number] * len(rows), ts_ms, rows.values()))
        if marks:
            hours = np.unique(np.array(ts_ms) // HOUR_MS * HOUR_MS)
            with db.transaction(self.sessions) as session:
                dirty.mark_late(session, np.full(len(hours), number), hours, NOW)

    def work(self, now: datetime = NOW + timedelta(minutes=1)) -> None:
        """Work out all that is due."""
        while self.deriving.round(now, self._judge):
            pass

    def _judge(self, readings: Readings, _fresh: set[int]) -> None:
        self.judged += zip(readings.ts_ms.tolist(), readings.value.tolist(), strict=True)

    def kept(self, metric: str) -> dict[int, float]:
        """Return what is stored of a metric of the press, by hours after ten."""
        with self.sessions() as session:
            spans = measured.of_asset(session, self.plant.assets[0].id, [metric])
        some = measured.samples(self.store, spans, TEN - 100 * HOUR_MS, TEN + 100 * HOUR_MS, most=1000)
        assert some is not None
        return dict(zip(((some.ts_ms - TEN) / HOUR_MS).tolist(), some.value.tolist(), strict=True))

    def notes(self) -> int:
        with self.sessions() as session:
            return len(session.scalars(select(DirtySpan)).all())


@pytest.fixture
def world(database: sessionmaker[Session], tmp_path: Path) -> Iterator[World]:
    with db.transaction(database) as session:
        made = plant.build(session, machines=2, metrics=("raw", "running"))
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield World(database, store, made, Deriving(database, store, Settings(data_dir=tmp_path)))
    store.close()


def test_TEL_7_a_counter_of_16_bits_is_counted_over_its_top_and_keeps_its_life_to_date(world: World) -> None:
    world.add(COUNTED)
    world.send("raw", {5: 65_500, 20: 65_530, 40: 12, 70: 20})
    world.work()
    assert world.kept("strokes") == {0: 30 + 18, 1: 8}
    assert world.kept("strokes_total") == {0: 48, 1: 56}
    assert world.notes() == 0


def test_TEL_7_late_data_changes_the_value_of_its_hour_and_nothing_else(world: World) -> None:
    world.add(RUNS, COUNTED)
    world.send("running", {-30: 0, 10: 1, 70: 0})
    world.send("raw", {5: 100, 30: 110, 65: 130})
    world.work()
    before = world.kept("run_hours"), world.kept("strokes"), world.kept("strokes_total")
    assert before[0] == pytest.approx({-1: 0, 0: 50 / 60, 1: 10 / 60})
    world.send("running", {40: 0, 50: 1})
    world.send("raw", {10: 104})
    world.work()
    assert world.kept("run_hours") == pytest.approx(before[0] | {0: 40 / 60})
    assert (world.kept("strokes"), world.kept("strokes_total")) == before[1:]
    # What follows in the running total is what it is made of.
    assert world.kept("run_hours_total") == pytest.approx({-1: 0, 0: 40 / 60, 1: 50 / 60})


def test_hours_are_closed_by_the_clock_without_a_note_of_any_reading(world: World) -> None:
    world.work(NOW - timedelta(hours=3))
    world.add(RUNS, now=NOW - timedelta(hours=3))
    world.work(NOW - timedelta(hours=2, minutes=50))
    world.send("running", {0: 1, 90: 0}, marks=False)
    world.work(NOW)
    assert world.kept("run_hours") == {0: 1.0, 1: 0.5}
    world.work(NOW + timedelta(hours=1))
    assert world.kept("run_hours") == {0: 1.0, 1: 0.5, 2: 0.0}


def test_an_hour_that_is_not_over_has_no_value_yet(world: World) -> None:
    world.add(COUNTED)
    world.send("raw", {5: 1, 125: 9})
    world.work()
    assert world.kept("strokes") == {0: 0}


def test_what_a_recipe_makes_of_stored_history_follows_its_change(world: World) -> None:
    world.send("running", {0: 20, 60: 60}, marks=False)
    world.add(DerivedDraft("run_hours", "Run hours", "running", "run_hours", above=50, hold_s=3600))
    world.work()
    assert world.kept("run_hours") == {0: 0, 1: 1}
    with db.transaction(world.sessions) as session:
        kind = session.get_one(AssetType, world.plant.type.id)
        (row,) = derivations.own(session, kind).values()
        draft = DerivedDraft("run_hours", "Run hours", "running", "run_hours", above=10, hold_s=3600)
        derivations.change(session, kind, row, draft, actor=ACTOR, now=NOW)
    world.work()
    assert world.kept("run_hours_total") == {0: 1, 1: 2}


def test_a_replaced_device_goes_on_with_the_total_of_the_asset(world: World) -> None:
    world.add(COUNTED)
    world.send("raw", {5: 100, 25: 130})
    with db.transaction(world.sessions) as session:
        old, new = (session.merge(one) for one in world.plant.devices)
        devices.unbind(session, new, ends_at=NOW - timedelta(hours=3), actor=ACTOR, now=NOW)
        devices.replace(session, old, new, at=NOW - timedelta(hours=1, minutes=40), actor=ACTOR, now=NOW)
    # The new one begins at 7,000, and what the old one goes on sending is no longer the asset's.
    world.send("raw", {40: 200})
    world.send("raw", {35: 7000, 50: 7004, 80: 7010}, device=1)
    world.work()
    assert world.kept("strokes_total") == {0: 34, 1: 40}
    with db.transaction(world.sessions) as session:
        asset = session.merge(world.plant.assets[0])
        noted = MeterDraft("raw", "exchange", NOW - timedelta(hours=1, minutes=40), final=133, initial=6990)
        made = meters.record(session, asset, noted, actor=ACTOR, now=NOW)
    world.work()
    assert world.kept("strokes_total") == {0: 34 + 3 + 10, 1: 53}
    with db.transaction(world.sessions) as session:
        asset, row = session.merge(world.plant.assets[0]), session.merge(made)
        meters.withdraw(session, asset, row, actor="account:2", now=NOW)
        told = session.scalars(select(AuditEntry.action).where(AuditEntry.action.like("asset.meter%"))).all()
    world.work()
    assert world.kept("strokes_total") == {0: 34, 1: 40}
    assert list(told) == ["asset.meter", "asset.meter.withdraw"]


def test_a_stated_total_holds_from_its_instant_on(world: World) -> None:
    world.add(RUNS)
    world.send("running", {0: 1, 110: 0})
    with db.transaction(world.sessions) as session:
        asset = session.merge(world.plant.assets[0])
        stated = MeterDraft("run_hours", "total", NOW - timedelta(minutes=40), total=12_000)
        meters.record(session, asset, stated, actor=ACTOR, now=NOW)
    world.work()
    assert world.kept("run_hours_total") == pytest.approx({0: 1, 1: 12_000 + 20 / 60})


def test_a_kill_between_storing_and_settling_loses_nothing_and_repeats_nothing(world: World) -> None:
    world.add(COUNTED)
    world.send("raw", {5: 100, 25: 130, 70: 140})

    class Killed(BaseException):
        pass

    def die(_readings: Readings, _fresh: set[int]) -> None:
        raise Killed

    with pytest.raises(Killed):
        world.deriving.round(NOW + timedelta(minutes=1), die)
    assert world.notes() > 0
    assert world.judged == []
    world.work()
    assert world.kept("strokes_total") == {0: 30, 1: 40}
    assert world.notes() == 0
    # Rules are told what they may have missed, and know by themselves what they have seen.
    assert (TEN + HOUR_MS, 10.0) in world.judged


def test_hours_far_apart_are_worked_out_one_after_the_other_so_that_totals_add_up(world: World) -> None:
    world.add(COUNTED)
    world.send("raw", {-1500: 0, 5: 100})
    world.work()
    world.judged.clear()
    # Two late readings a day apart, in one round.
    world.send("raw", {-1490: 7, 7: 101})
    world.work()
    assert world.kept("strokes") == {-25: 7, 0: 94}
    assert world.kept("strokes_total") == {-25: 7, 0: 101}
    assert max(ts_ms for ts_ms, _ in world.judged) == TEN


def test_what_is_read_ahead_is_what_the_store_answers(world: World) -> None:
    world.send("raw", {minute: minute for minute in range(0, 110, 7)})
    with world.sessions() as session:
        (number,) = series.load(session, [world.plant.devices[0].id]).values()
    ahead = Ahead(world.store, [number, number + 1], TEN, TEN + HOUR_MS)
    for begin, end, limit in ((0, 60, 100), (10, 30, 100), (10, 30, 1), (-5, 20, 100), (50, 90, 100), (3, 4, 1)):
        asked = TEN + begin * MINUTE, TEN + end * MINUTE
        told, held = (one.samples(number, *asked, limit=limit) for one in (world.store, ahead))
        assert (told.ts_ms.tolist(), told.value.tolist()) == (held.ts_ms.tolist(), held.value.tolist())
    assert len(ahead.samples(number + 1, TEN, TEN + HOUR_MS, limit=1)) == 0


def test_a_note_that_is_made_anew_while_its_hour_is_worked_out_stays(world: World) -> None:
    world.add(COUNTED)
    world.send("raw", {5: 100, 25: 130})
    with db.transaction(world.sessions) as session:
        notes = dirty.take(session, NOW + timedelta(minutes=1), limit=10)
        number = notes[0].series
        dirty.mark_late(session, np.array([number]), np.array([TEN]), NOW + timedelta(minutes=1))
        dirty.settle(session, notes)
    assert world.notes() == 1


def test_an_hour_whose_readings_have_expired_keeps_its_value(world: World) -> None:
    world.add(COUNTED)
    world.send("raw", {5: 100, 25: 130})
    world.work()
    world.send("raw", {30: 140})
    world.work(NOW + timedelta(days=4000))
    assert world.kept("strokes") == {0: 30}


def test_a_type_below_derives_it_too_and_one_that_measures_it_itself_does_not(world: World) -> None:
    world.add(COUNTED)
    with db.transaction(world.sessions) as session:
        kind = session.get_one(AssetType, world.plant.type.id)
        below = AssetType(company_id=kind.company_id, key="big", name="Big", parent_id=kind.id)
        apart = AssetType(company_id=kind.company_id, key="own", name="Own", parent_id=kind.id)
        apart.metrics = [Metric(key="strokes", name="Strokes")]
        session.add_all([below, apart])
        session.flush()
        found = derivations.of_types(session, kind.company_id, [below.id, apart.id])
        assert [one.key for one in found[below.id]] == ["strokes"]
        assert found[apart.id] == []
        asset = session.merge(world.plant.assets[0])
        asset.type_id = below.id
    world.send("raw", {5: 100, 25: 130})
    world.work()
    assert world.kept("strokes") == {0: 30}


def test_late_messages_are_noted_before_they_are_acknowledged_and_live_ones_are_not(world: World) -> None:
    world.add(COUNTED)
    pipeline = Pipeline(world.sessions, world.store)
    pipeline.load()
    now_ms = clock.now_ms()

    def said(age_ms: int, value: float) -> tuple[str, bytes]:
        return "fw/v1/dev-0/telemetry", json.dumps({"ts": now_ms - age_ms, "values": {"raw": value}}).encode()

    pipeline.process(Batch.of([said(0, 1)]))
    with db.transaction(world.sessions) as session:
        dirty.settle(session, dirty.take(session, clock.now() + timedelta(hours=1), limit=100))
    pipeline.process(Batch.of([said(0, 2), said(1000, 2)]))
    assert world.notes() == 0
    pipeline.process(Batch.of([said(3 * HOUR_MS, 1), said(3 * HOUR_MS + 1, 1)]))
    assert world.notes() in {1, 2}


def test_where_nothing_is_derived_late_messages_cost_one_question_a_batch(world: World, engine: Engine) -> None:
    pipeline = Pipeline(world.sessions, world.store)
    pipeline.load()
    now_ms = clock.now_ms()
    late = [
        ("fw/v1/dev-0/telemetry", json.dumps({"ts": now_ms - age * HOUR_MS, "values": {"raw": age}}).encode())
        for age in range(3, 40)
    ]
    with counted(engine) as statements:
        pipeline.process(Batch.of(late))
    assert sum("derivation" in statement for statement in statements) == 1
    assert not any("dirty_span" in statement for statement in statements)
    world.add(COUNTED)
    assert world.notes() == 1, "what came before is noted with the recipe"


def test_a_device_that_sends_what_is_worked_out_is_set_aside(world: World) -> None:
    world.add(COUNTED)
    pipeline = Pipeline(world.sessions, world.store)
    pipeline.load()
    body = json.dumps({"raw": 5, "strokes_total": 5}).encode()
    pipeline.process(Batch.of([("fw/v1/dev-0/telemetry", body), ("fw/v1/dev-0/telemetry", b'{"raw": 7}')]))
    with world.sessions() as session:
        (kept,) = session.scalars(select(RejectedMessage)).all()
        known = series.load(session, [world.plant.devices[0].id])
    assert (kept.reason, kept.detail) == ("worked_out", "“strokes_total” is worked out here")
    assert {metric for _, metric in known} == {"raw"}


def test_a_rule_compares_a_derived_metric(world: World) -> None:
    world.add(COUNTED)
    rule = {
        "schema": 1,
        "create": {
            "major": {"condition": {"type": "compare", "metric": "strokes_total", "operator": ">=", "limit": 50}}
        },
        "clear": {"type": "automatic"},
        "message": "${strokes_total} strokes",
    }
    with db.transaction(world.sessions) as session:
        company = session.merge(world.plant.company)
        draft = AlarmTypeDraft("worn", "Worn", asset_type_id=world.plant.type.id)
        library.add(session, draft, rule, unit=company, actor=ACTOR, now=NOW)
    pipeline = Pipeline(world.sessions, world.store)
    pipeline.load()
    world.send("raw", {5: 0, 25: 30, 65: 60})
    world.deriving.round(NOW + timedelta(minutes=1), pipeline.judging.judge)
    with world.sessions() as session:
        (raised,) = session.scalars(select(Alarm)).all()
    assert (raised.type_key, raised.value) == ("worn", 60)


def test_RUL_18_an_unusual_hour_is_worked_out_and_a_rule_hears_of_it(world: World) -> None:
    world.add(DerivedDraft("unusual", "Unusual", "raw", "deviation"))
    three_weeks = {60.0 * hour: 50 + 10 * (hour % 24 // 12) + hour % 3 / 10 for hour in range(-21 * 24, 1)}
    world.send("raw", three_weeks, marks=False)
    world.send("raw", {60: 90.0})
    world.work()
    kept = world.kept("unusual")
    assert kept[1] > 6
    assert world.judged[-1] == (TEN + HOUR_MS, kept[1])


def test_RUL_18_with_too_little_past_there_is_no_value(world: World) -> None:
    world.add(DerivedDraft("unusual", "Unusual", "raw", "deviation"))
    world.send("raw", {60.0 * hour: 50.0 for hour in range(-72, 2)})
    world.work()
    assert world.kept("unusual") == {}
