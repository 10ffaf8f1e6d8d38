"""The gate: what is free is announced once, what is held is recorded with its reason, floods are told as one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from kernel.models import Event
from rules import alarms, floods
from rules.episodes import CALM_AFTER, Fault, Over, Seen
from rules.hold_tables import AlarmFlood, AlarmHold
from rules.holding import Share
from rules.models import Alarm, AlarmType
from tests import plant
from tests.plant import BORN, Plant

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def works(session: Session) -> Plant:
    return plant.build(session, machines=30)


def fault(works: Plant, number: int = 0, type_key: str = "overheat") -> Fault:
    asset, device = works.assets[number], works.devices[number]
    return Fault(
        f"asset:{asset.id}", type_key, "device", "device:1", asset.company_id, asset.unit_id, asset.id, device.id
    )


def seen(what: Fault, severity: str = "major", second: float = 0) -> Seen:
    at = BORN + second * SECOND
    return Seen(what, severity, at, at)


def announced(session: Session) -> list[tuple[int, str]]:
    found = session.scalars(select(Event).where(Event.kind == "AlarmAnnounced").order_by(Event.id))
    return [(one.payload["alarm_id"], one.payload["why"]) for one in found]


def held_by(works: Plant, **values: object) -> AlarmHold:
    return AlarmHold(
        **{
            "company_id": works.company.id, "unit_id": works.unit.id, "state": "live", "cause": "person",
            "reason": "test", "by": "account:1", "began_at": BORN, "until": NOW + timedelta(hours=1), **values,
        }
    )  # fmt: skip


def test_a_raise_and_each_rise_are_announced_and_a_fall_is_not(session: Session, works: Plant) -> None:
    what = fault(works)
    one = alarms.raise_(session, seen(what, "major"), now=NOW)
    alarms.take(session, [seen(what, "critical", 1), seen(what, "minor", 2), seen(what, "major", 3)], now=NOW)
    assert announced(session) == [(one, "raised"), (one, "severity"), (one, "severity")]
    assert session.get_one(Alarm, one).announced_at == NOW


@pytest.mark.parametrize("kind", ["shelved", "out_of_service", "suppressed"])
def test_what_is_held_is_recorded_and_never_announced_until_it_is_released(
    session: Session, works: Plant, kind: str
) -> None:
    what = fault(works)
    target = {"asset_id": what.asset_id} if kind == "suppressed" else {"subject": what.subject, "type_key": "overheat"}
    hold = held_by(works, kind=kind, **target)
    session.add(hold)
    session.flush()
    one = alarms.raise_(session, seen(what), now=NOW)
    alarms.take(session, [seen(what, "critical", 1)], now=NOW)
    alarm = session.get_one(Alarm, one)
    session.refresh(alarm)
    assert alarm.is_held
    assert alarm.count == 2
    assert announced(session) == []
    hold.state = "ended"
    session.flush()
    later = NOW + SECOND
    alarms.settle(session, [one], now=later)
    alarms.settle(session, [one], now=later)
    assert announced(session) == [(one, "released")], "once"


def test_what_cleared_while_it_was_held_is_not_announced_afterwards(session: Session, works: Plant) -> None:
    what = fault(works)
    hold = held_by(works, kind="out_of_service", asset_id=what.asset_id)
    session.add(hold)
    session.flush()
    one = alarms.raise_(session, seen(what), now=NOW)
    alarms.take(session, [Over(what, BORN + SECOND)], now=NOW)
    hold.state = "ended"
    session.flush()
    alarms.settle(session, [one], now=NOW)
    assert announced(session) == []


def test_only_the_last_of_several_holds_releases(session: Session, works: Plant) -> None:
    what = fault(works)
    shelf = held_by(works, kind="shelved", subject=what.subject, type_key="overheat")
    window = held_by(works, kind="suppressed", asset_id=what.asset_id, cause="window")
    session.add_all([shelf, window])
    session.flush()
    one = alarms.raise_(session, seen(what), now=NOW)
    shelf.state = "ended"
    session.flush()
    alarms.settle(session, [one], now=NOW)
    assert announced(session) == []
    window.state = "ended"
    session.flush()
    alarms.settle(session, [one], now=NOW)
    assert announced(session) == [(one, "released")]


def test_a_part_is_suppressed_while_an_alarm_of_the_whole_explains_it(session: Session, works: Plant) -> None:
    whole, part = works.assets[0], works.assets[1]
    part.parent_id, part.path = whole.id, f"/{whole.id}/{part.id}/"
    kind = AlarmType(
        company_id=works.company.id, unit_id=works.unit.id, key="power", name="Power is off",
        asset_type_id=works.type.id, changed_at=BORN, suppresses_below=True,
    )  # fmt: skip
    session.add(kind)
    session.flush()
    power = replace(fault(works, 0, "power"), alarm_type_id=kind.id)
    cause = alarms.raise_(session, seen(power), now=NOW)
    one = alarms.raise_(session, seen(fault(works, 1)), now=NOW)
    alarm = session.get_one(Alarm, one)
    session.refresh(alarm)
    assert (alarm.suppressed_by, alarm.parent_id) == ("parent", cause)
    alarms.take(session, [Over(power, BORN + SECOND)], now=NOW)
    alarms.settle(session, [one], now=NOW)
    assert announced(session) == [(cause, "raised"), (one, "released")]


def test_a_machine_that_is_switched_off_has_its_alarms_suppressed(session: Session, works: Plant) -> None:
    kind = AlarmType(
        company_id=works.company.id, unit_id=works.unit.id, key="cold", name="Too cold", asset_type_id=works.type.id,
        changed_at=BORN, suppressed_while={"attribute": "mode", "in": ["off", "standby"]},
    )  # fmt: skip
    works.devices[0].attributes = {"mode": "off"}
    session.add(kind)
    session.flush()
    one = alarms.raise_(session, seen(replace(fault(works, 0, "cold"), alarm_type_id=kind.id)), now=NOW)
    alarm = session.get_one(Alarm, one)
    session.refresh(alarm)
    assert alarm.suppressed_by == "plant_state"
    works.devices[0].attributes = {"mode": "run"}
    session.flush()
    alarms.settle(session, [one], now=NOW)
    assert announced(session) == [(one, "released")]


def test_ALM_7_three_hundred_alarms_behind_a_dead_gateway_are_one_message_in_few_statements(
    session: Session, works: Plant
) -> None:
    gateway = plant.device(session, works, "gateway", connection="offline")
    for device in works.devices:
        device.gateway_id, device.connection = gateway.id, "unreachable"
    session.flush()
    down = Fault(
        f"device:{gateway.id}", "gateway_down", "device", "device:1", works.company.id, works.unit.id, None, gateway.id
    )
    cause = alarms.raise_(session, seen(down), now=NOW)
    many = [seen(fault(works, number, f"E{code}")) for number in range(30) for code in range(10)]
    statements: list[str] = []
    event.listen(session.connection(), "before_cursor_execute", lambda *given: statements.append(given[2]))
    taken = alarms.take(session, many, now=NOW)
    assert len(set(taken)) == 300
    assert len(statements) <= 20
    assert announced(session) == [(cause, "raised")]
    held = select(func.count()).where(Alarm.suppressed_by == "gateway", Alarm.parent_id == cause)
    assert session.scalar(held) == 300


def test_ALM_7_a_flood_of_the_parts_of_one_line_is_told_as_one_after_ten(session: Session, works: Plant) -> None:
    line = plant.asset(session, works, "line")
    for asset in works.assets:
        asset.path = f"/{line.id}/{asset.id}/"
    session.flush()
    taken = alarms.take(session, [seen(fault(works, number)) for number in range(25)], now=NOW)
    flood = session.scalars(select(Alarm).where(Alarm.type_key == floods.FLOOD)).one()
    assert (flood.subject, flood.severity) == (f"asset:{line.id}", "major")
    first = sorted(one or 0 for one in taken)[:10]
    assert announced(session) == [*((one, "raised") for one in first), (flood.id, "raised")]
    assert session.scalar(select(func.count()).where(Alarm.parent_id == flood.id)) == 15
    (late,) = alarms.take(session, [seen(fault(works, 26), "critical")], now=NOW + SECOND)
    session.refresh(flood)
    assert flood.severity == "critical", "the worst of its children is heard of"
    assert announced(session)[-1] == (flood.id, "severity")
    assert session.get_one(Alarm, late or 0).parent_id == flood.id


def test_faults_that_share_only_the_desk_stay_faults_of_their_own(session: Session, works: Plant) -> None:
    taken = alarms.take(session, [seen(fault(works, number)) for number in range(30)], now=NOW)
    assert sorted(announced(session)) == sorted((one, "raised") for one in taken)
    assert session.scalars(select(AlarmFlood.subject)).all() == [f"unit:{works.unit.id}"]


def test_a_flood_ends_below_five_and_the_few_that_stand_are_told_then(session: Session, works: Plant) -> None:
    gateway = plant.device(session, works, "gateway", connection="online")
    for device in works.devices:
        device.gateway_id = gateway.id
    session.flush()
    taken = alarms.take(session, [seen(fault(works, number)) for number in range(14)], now=NOW)
    flood = session.scalars(select(Alarm).where(Alarm.type_key == floods.FLOOD)).one()
    assert alarms.end_floods(session, now=NOW + timedelta(minutes=5)) == 0
    assert alarms.end_floods(session, now=NOW + timedelta(minutes=11)) == 1
    session.refresh(flood)
    assert not flood.is_active
    assert announced(session)[11:] == [(one, "released") for one in sorted(one or 0 for one in taken)[10:]]


_SHARES = st.lists(
    st.builds(
        Share,
        id=st.integers(1, 10_000),
        subject=st.integers(1, 40).map("asset:{}".format),
        severity=st.sampled_from(["critical", "major", "minor"]),
        gateway_id=st.none() | st.integers(1, 2),
        line=st.lists(st.integers(50, 53), max_size=2, unique=True).map(tuple),
    ),
    max_size=60,
    unique_by=lambda one: one.id,
)


@given(waiting=_SHARES, lately=_SHARES)
def test_every_alarm_is_told_or_counted_and_no_thing_is_told_of_more_than_ten_parts(
    waiting: list[Share], lately: list[Share]
) -> None:
    parted = floods.split(waiting, lately, ())
    counted = [one for group in parted.groups.values() for one in group]
    assert sorted([*parted.told, *counted]) == sorted(one.id for one in waiting)
    for subject in parted.groups:
        told = [one for one in waiting if one.id in parted.told and subject in one.above()]
        assert len(told) <= floods.ABOVE


def test_ALM_8_ten_hertz_for_ten_minutes_is_one_order_few_messages_and_a_flag(session: Session, works: Plant) -> None:
    what = fault(works)
    for second in range(0, 600, 20):
        toggles = [
            one
            for step in range(200)
            for one in (seen(what, second=second + step / 10), Over(what, BORN + (second + step / 10 + 0.05) * SECOND))
        ]
        alarms.take(session, toggles, now=NOW + second * SECOND)
    found = session.scalars(select(Alarm).order_by(Alarm.id)).all()
    assert len(found) == 4, "the three pairs that show it, and the one that is held"
    held = found[-1]
    assert (held.is_active, held.is_chattering, held.count) == (True, True, 5997)
    assert announced(session) == [(one.id, "raised") for one in found[:3]]
    flagged = session.scalars(select(Event.payload).where(Event.kind == "AlarmFlagged")).all()
    assert flagged == [{"alarm_id": held.id, "flag": "chattering"}]
    assert alarms.calm(session, now=NOW + 581 * SECOND) == 0
    assert alarms.calm(session, now=NOW + 580 * SECOND + CALM_AFTER) == 1
    session.refresh(held)
    assert not held.is_chattering
    assert held.ended_at is not None


def test_a_chattering_alarm_that_stays_is_announced_when_it_is_calm(session: Session, works: Plant) -> None:
    what = fault(works)
    toggles = [one for step in range(3) for one in (seen(what, second=step), Over(what, BORN + (step + 0.5) * SECOND))]
    alarms.take(session, [*toggles, seen(what, second=4)], now=NOW)
    assert len(announced(session)) == 3
    assert alarms.calm(session, now=NOW + CALM_AFTER) == 1
    assert announced(session)[3:] == [(session.scalars(select(func.max(Alarm.id))).one(), "released")]
