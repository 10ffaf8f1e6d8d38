"""RUL-15: a draft over stored history lists what the live engine raises; it is carried out, resumed, given up."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, true
from sqlalchemy.orm import Session, sessionmaker

from assets import measured
from kernel import clock, db
from kernel.errors import Conflict, Invalid, NotFound
from kernel.models import AuditEntry
from maintenance.orders import foreseen
from rules import backtest_runs, backtests, conditions, replay, surroundings
from rules.backtests import Wanted
from rules.engine import Engine
from rules.models import Backtest, BacktestAlarm, BacktestAsset, RuleOverride
from rules.outcome import HOLD_UNKNOWN_MS, Cleared, Instance, Outcome, Raised, Watched
from rules.tape import Samples
from telemetry import series
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from telemetry.readings import Readings
from tests import factories
from tests.factories import NOW, Company

DAY = 86_400_000
END = clock.to_ms(NOW)
DAYS = 90
STEP = 590_000
DRAFT = {
    "schema": 1,
    "create": {
        "critical": {
            "condition": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 95.0, "deadband": 2.0}
        },
        "warning": {
            "condition": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 88.0},
            "kind": {"type": "duration", "seconds": 900},
        },
    },
    "clear": {"type": "automatic", "off_delay_s": 600},
}
CURRENT = {
    "schema": 1,
    "create": {
        "critical": {"condition": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 92.0}}
    },
    "clear": {"type": "automatic"},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    with closing(DuckDbStore(tmp_path / "t.duckdb")) as opened:
        yield opened


def machines(session: Session, of: Company, count: int) -> tuple[list[int], list[int]]:
    """Return the assets and the series of their temperatures."""
    assets, numbers = [], []
    for n in range(count):
        asset = factories.asset(session, of, "harbour", name=f"Compressor {n}")
        device = factories.device(session, of, "harbour", on=asset)
        assets.append(asset.id)
        numbers.append(
            session.scalars(
                select(Series.id).where(Series.device_id == device.id, Series.metric == "temperature")
            ).one()
        )
    return assets, numbers


def history(numbers: list[int], days: int) -> tuple[Any, Any, Any]:
    """Return a week's rhythm with noise, and now and then a pause longer than a value speaks."""
    rng = np.random.default_rng(15)
    ts = np.arange(END - days * DAY, END, STEP)
    series, times, values = [], [], []
    for number in numbers:
        kept = rng.random(len(ts)) > 0.05
        value = 76 + 8 * np.sin(ts / DAY * 2 * np.pi) + np.repeat(rng.normal(0, 3, len(ts) // 12 + 1), 12)[: len(ts)]
        series.append(np.full(kept.sum(), number))
        times.append(ts[kept])
        values.append(np.round((value + rng.normal(0, 0.5, len(ts)))[kept], 2))
    return np.concatenate(series), np.concatenate(times), np.concatenate(values)


def ask(session: Session, of: Company, **values: Any) -> Backtest:
    owner = factories.account(session, of, "manager", "company")
    wanted = {"definition": DRAFT, "assets": [], "start_ms": END - DAYS * DAY, "end_ms": END, **values}
    return backtests.ask(
        session, Wanted(**wanted), name="Overheat", alarm_type_id=None, company_id=of.id, account_id=owner.id,
        actor=f"account:{owner.id}", now=NOW,
    )  # fmt: skip


def run(database: sessionmaker[Session], store: DuckDbStore) -> bool:
    return backtest_runs.run_next(database, store, is_stopping=lambda: False)


def live(asset_ids: list[int], columns: tuple[Any, Any, Any], numbers: list[int]) -> list[tuple[int, int, int | None]]:
    """Return the asset, the raise and the end of every alarm a live engine raises, fed six hours at a time."""
    engine = Engine()
    definition = conditions.parse(DRAFT)
    engine.install(
        Instance(asset, definition, {"temperature": Watched(number, HOLD_UNKNOWN_MS)})
        for asset, number in zip(asset_ids, numbers, strict=True)
    )
    series, ts, value = columns
    order = np.argsort(ts, kind="stable")
    series, ts, value = series[order], ts[order], value[order]
    cuts = [*np.searchsorted(ts, np.arange(ts[0], END, 6 * 3_600_000)).tolist(), len(ts)]
    found: dict[int, list[list[int | None]]] = {}
    for first, last in itertools.pairwise(cuts):
        outcomes = [engine.evaluate(series[first:last], ts[first:last], value[first:last], int(ts[last - 1]))]
        engine.commit(outcomes[0])
        if last == len(ts):
            outcomes.append(engine.tick(END - 1))
            engine.commit(outcomes[1])
        for one in (told for outcome in outcomes for told in outcome.transitions):
            if isinstance(one, Raised):
                found.setdefault(one.instance, []).append([one.at_ms, None])
            elif isinstance(one, Cleared):
                found[one.instance][-1][1] = one.ended_ms
    return sorted((asset, at or 0, ended) for asset, told in found.items() for at, ended in told)


def test_RUL_15_ninety_days_of_fifty_devices_list_what_the_live_engine_raises(
    database: sessionmaker[Session], store: DuckDbStore
) -> None:
    with db.transaction(database) as session:
        of = factories.company(session)
        assets, numbers = machines(session, of, 50)
        columns = history(numbers, DAYS)
        row = ask(session, of, assets=assets, current=CURRENT)
        identity = row.id
    series, ts, value = columns
    store.write(Readings(series, ts, value, None, np.zeros(len(ts), np.uint8)))
    assert run(database, store)
    with database() as session:
        row = session.get_one(Backtest, identity)
        assert (row.state, row.percent) == ("done", 100)
        listed = [
            (alarm.asset_id, clock.to_ms(alarm.raised_at), alarm.ended_at and clock.to_ms(alarm.ended_at))
            for alarm in session.scalars(
                select(BacktestAlarm).where(BacktestAlarm.backtest_id == identity, BacktestAlarm.side == "draft")
            )
        ]
        told = backtests.totals(session, row)
        acts = session.scalars(select(AuditEntry.action).where(AuditEntry.subject == f"backtest:{identity}")).all()
    expected = live(assets, columns, numbers)
    assert len(expected) > 300
    assert sorted(listed) == expected
    assert (told["draft"].alarms, told["draft"].samples) == (len(expected), len(ts))
    assert 0 < told["current"].alarms < told["draft"].alarms
    assert told["draft"].active_ms == sum((ended or END) - at for _, at, ended in expected)
    assert list(acts) == ["backtest.run"]
    assert not run(database, store)


def test_one_that_was_interrupted_goes_on_where_it_stood_and_repeats_nothing(
    database: sessionmaker[Session], store: DuckDbStore
) -> None:
    with db.transaction(database) as session:
        of = factories.company(session)
        assets, numbers = machines(session, of, 4)
        identity = ask(session, of, assets=assets, start_ms=END - 5 * DAY).id
    series, ts, value = history(numbers, 5)
    store.write(Readings(series, ts, value, None, np.zeros(len(ts), np.uint8)))
    looks = iter([False, False, True])
    assert not backtest_runs.run_next(database, store, is_stopping=lambda: next(looks))
    with db.transaction(database) as session:
        row = session.get_one(Backtest, identity)
        assert (row.state, row.done) == ("queued", 2)
        # Whoever ran it died: it is taken up once nobody has heard of them for a while.
        row.state, row.beat_at = "running", clock.now()
    assert not run(database, store)
    with db.transaction(database) as session:
        session.get_one(Backtest, identity).beat_at = clock.now() - timedelta(minutes=5)
    assert run(database, store)
    with database() as session:
        row = session.get_one(Backtest, identity)
        assert (row.state, row.done) == ("done", 4)
        assert sorted(session.scalars(select(BacktestAsset.asset_id))) == sorted(assets)


def test_one_that_is_given_up_ends_between_two_assets(database: sessionmaker[Session], store: DuckDbStore) -> None:
    with db.transaction(database) as session:
        of = factories.company(session)
        assets, _ = machines(session, of, 3)
        row = ask(session, of, assets=assets, start_ms=END - DAY)
        identity, owner = row.id, row.account_id

    def give_up() -> bool:
        with db.transaction(database) as session:
            row = backtests.find(session, identity, owner)
            if row.done == 1 and row.state == "running":
                backtests.cancel(session, row, now=NOW)
        return False

    assert backtest_runs.run_next(database, store, is_stopping=give_up)
    with database() as session:
        row = session.get_one(Backtest, identity)
        assert (row.state, row.done) == ("cancelled", 1)
        with pytest.raises(Conflict):
            backtests.cancel(session, row, now=NOW)
        with pytest.raises(NotFound):
            backtests.find(session, identity, owner + 1000)


def test_an_asset_that_differs_is_judged_by_its_own_limits(database: sessionmaker[Session], store: DuckDbStore) -> None:
    with db.transaction(database) as session:
        of = factories.company(session)
        assets, numbers = machines(session, of, 2)
        kind = factories.alarm_type(session, of)
        session.add(
            RuleOverride(
                alarm_type_id=kind.id, asset_id=assets[0], patch={"limits": {"critical": 60.0}}, author="x", at=NOW
            )
        )
        row = ask(session, of, assets=assets, definition=CURRENT, start_ms=END - DAY)
        row.alarm_type_id = kind.id
    for number in numbers:
        store.write(Readings.of([number] * 3, [END - 3000, END - 2000, END - 1000], [70.0, 70.0, 70.0]))
    assert run(database, store)
    with database() as session:
        assert list(session.scalars(select(BacktestAlarm.asset_id))) == [assets[0]]


def test_RUL_15_past_orders_are_caught_or_missed(database: sessionmaker[Session], store: DuckDbStore) -> None:
    with db.transaction(database) as session:
        of = factories.company(session)
        assets, numbers = machines(session, of, 2)
        identity = ask(
            session, of, assets=assets, definition=CURRENT, current=DRAFT, start_ms=END - 10 * DAY, window_h=6.0
        ).id
        pump = session.get_one(factories.Asset, assets[0])
        near = factories.order(session, of, pump, created_at=clock.from_ms(END - 5 * DAY + 5 * 3_600_000))
        far = factories.order(session, of, pump, created_at=clock.from_ms(END - 3 * DAY))
        factories.order(session, of, pump, created_at=clock.from_ms(END - 5 * DAY), origin="plan")
        factories.order(session, of, pump, created_at=clock.from_ms(END - 20 * DAY))
        found = (near.id, far.id)
    at = END - 5 * DAY
    store.write(Readings.of([numbers[0]] * 4, [at - 60_000, at, at + 60_000, at + 1_000_000], [50.0, 93.0, 50.0, 50.0]))
    assert run(database, store)
    with database() as session:
        row = session.get_one(Backtest, identity)
        assert foreseen.counted(session, row, true()) == {"orders": 2, "draft": 1, "current": 0}
        listed = foreseen.listed(session, row, true(), limit=10)
        assert [(one.order.id, one.caught_by) for one in listed] == [(found[1], ()), (found[0], ("draft",))]


def test_what_cannot_be_run_is_refused(session: Session) -> None:
    of = factories.company(session)
    assets, _ = machines(session, of, 1)
    for wrong, field in (
        ({"assets": []}, "assets"),
        ({"assets": assets, "start_ms": END}, "to"),
        ({"assets": assets, "start_ms": END - 900 * DAY}, "from"),
        ({"assets": assets, "order_from": "worse"}, "order_from"),
        ({"assets": assets, "window_h": -1.0}, "window_h"),
        ({"assets": assets, "definition": {"schema": 1, "create": {}}}, "create"),
    ):
        with pytest.raises(Invalid) as refused:
            ask(session, of, **wrong)
        assert refused.value.field == field
    for _ in range(backtests.MOST_OPEN):
        ask(session, of, assets=assets)
    with pytest.raises(Invalid):
        ask(session, of, assets=assets)


def test_an_order_is_joined_while_it_is_taken_to_be_open() -> None:
    definition = conditions.parse(CURRENT)
    value = np.tile([100.0, 50.0], 6)
    ts = END + 3_600_000 * np.arange(len(value))
    told = replay.replay(
        Instance(1, definition, {"temperature": Watched(1)}), {"temperature": Samples.of(ts, value)}, int(ts[-1])
    ).episodes
    assert backtest_runs.orders(told, "major", 5 * 3_600_000) == [True, False, False, True, False, False]
    assert not any(backtest_runs.orders(told, None, 0))


def test_what_a_rule_looks_at_on_another_asset_is_read_too(database: sessionmaker[Session], store: DuckDbStore) -> None:
    with db.transaction(database) as session:
        of = factories.company(session)
        assets, numbers = machines(session, of, 2)
        code = session.get_one(factories.Asset, assets[0]).code
        expression = {
            "type": "expression",
            "formula": "inlet.temperature - temperature > 10",
            "assets": {"inlet": code},
        }
        draft = {"schema": 1, "create": {"major": {"condition": expression}}, "clear": {"type": "automatic"}}
        ask(session, of, assets=[assets[1]], definition=draft, start_ms=END - DAY)
    at = [END - 3_000_000 + 60_000 * n for n in range(4)]
    store.write(Readings.of([numbers[0]] * 4, at, [50.0, 70.0, 70.0, 50.0]))
    store.write(Readings.of([numbers[1]] * 4, at, [50.0, 50.0, 50.0, 50.0]))
    assert run(database, store)
    with database() as session:
        (alarm,) = session.scalars(select(BacktestAlarm))
        ended = None if alarm.ended_at is None else clock.to_ms(alarm.ended_at)
        assert (alarm.asset_id, clock.to_ms(alarm.raised_at), ended) == (assets[1], at[1], at[3])


def ticked_and_evaluated(engine: Engine, number: int, at_ms: int) -> Iterator[Outcome]:
    yield engine.tick(at_ms)
    yield engine.evaluate(np.array([number]), np.array([at_ms]), np.array([1.0]), at_ms)


@pytest.mark.parametrize("of_what", ["device", "asset"])
def test_the_silence_of_all_a_device_measures_is_heard_and_not_that_of_one_metric(
    database: sessionmaker[Session], store: DuckDbStore, of_what: str
) -> None:
    silent = {"type": "no_data", "of": of_what, "seconds": 600}
    silent |= {"metric": "temperature"} if of_what == "device" else {}
    draft = {"schema": 1, "create": {"major": {"condition": silent}}, "clear": {"type": "automatic"}}
    with db.transaction(database) as session:
        of = factories.company(session)
        (asset_id,), (number,) = machines(session, of, 1)
        device_id = session.get_one(Series, number).device_id
        pair = (device_id, "pressure")
        other = series.ensure(session, [pair], now=NOW)[pair]
        ask(session, of, assets=[asset_id], definition=draft, start_ms=END - DAY)
        definition = conditions.parse(draft)
        context = surroundings.read(session, [(definition, asset_id)]).settle(
            definition, asset_id, measured.now_on(session, [asset_id])
        )[1]
    begin = END - 7_200_000
    # Only the pressure speaks in the second quarter, nothing does in the third, the temperature again in the last.
    spoken = [(number, [*range(0, 1800, 60), *range(5400, 7200, 60)]), (other, [*range(0, 3600, 60)])]
    rows = sorted((begin + 1000 * at, one) for one, all_at in spoken for at in all_at)
    times, numbers = (list(column) for column in zip(*rows, strict=True))
    store.write(Readings.of(numbers, times, [1.0] * len(rows)))
    engine, told = Engine(), []
    watched = {name: Watched(int(name.removeprefix("#"))) for one in context.devices for name in one.series}
    engine.install([Instance(1, definition, {"temperature": Watched(number), **watched}, context)])
    for at, one in rows:
        for outcome in ticked_and_evaluated(engine, one, at):
            told += outcome.transitions
            engine.commit(outcome)
    assert run(database, store)
    with database() as session:
        (alarm,) = session.scalars(select(BacktestAlarm))
        ended = None if alarm.ended_at is None else clock.to_ms(alarm.ended_at)
        assert (clock.to_ms(alarm.raised_at), ended) == (begin + 4_140_000, begin + 5_400_000)
    assert [one.at_ms for one in told if isinstance(one, Raised | Cleared)] == [begin + 4_140_000, begin + 5_400_000]
