"""What people and time do to alarms, in rows: shelves that end, reminders, escalation, re-alarm; only legal states."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from kernel import audit, db
from kernel.errors import Conflict, FixwrightError, Invalid
from kernel.models import Event
from people import notices
from people.models import Account, Notice, OrgUnit
from rules import alarms, attention, calling, holding, holds, policies, states, timers
from rules.episodes import Fault, Over, Seen
from rules.events import AlarmAnnounced, AlarmEscalated, AlarmReminded
from rules.hold_tables import AlarmHold
from rules.models import Alarm, AlarmType
from tests import factories, plant
from tests.plant import BORN, Plant

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def works(session: Session) -> Plant:
    return plant.build(session, machines=2)


def fault(works: Plant, number: int = 0) -> Fault:
    asset = works.assets[number]
    return Fault(f"asset:{asset.id}", "overheat", "rule", "rule:1", asset.company_id, asset.unit_id, asset.id, None)


def raised(session: Session, works: Plant, number: int = 0, at: datetime = NOW) -> Alarm:
    alarm = session.get_one(Alarm, alarms.raise_(session, Seen(fault(works, number), "major", BORN, BORN), now=at))
    session.refresh(alarm)
    return alarm


def happened(session: Session, *kinds: str) -> list[dict[str, object]]:
    found = session.scalars(select(Event).where(Event.kind.in_(kinds)).order_by(Event.id))
    return [dict(one.payload) for one in found]


def shelve(session: Session, alarm: Alarm, minutes: int = 30, at: datetime = NOW) -> None:
    until = at + minutes * MINUTE
    attention.shelve(session, alarm, until=until, reason="Being looked at", longest=8 * HOUR, by="account:1", now=at)


def test_ALM_4_a_shelf_ends_on_time_across_a_restart_and_what_still_stands_is_announced_once(
    database: sessionmaker[Session],
) -> None:
    with db.transaction(database) as session:
        works = plant.build(session, machines=1)
        alarm = raised(session, works)
        shelve(session, alarm)
        alarm_id = alarm.id
        assert alarm.is_shelved
    # Whoever shelved it is gone; nothing is remembered but the rows. Several start at once.

    def tick(at: datetime) -> int:
        with db.transaction(database) as session:
            return timers.run_holds(session, at)

    assert tick(NOW + 29 * MINUTE) == 0
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(tick, [NOW + 30 * MINUTE] * 4))
    assert sum(ended) == 1
    with database() as session:
        assert not session.get_one(Alarm, alarm_id).is_shelved
        whys = [one["why"] for one in happened(session, "AlarmAnnounced")]
        assert whys == ["raised", "released"]
        assert list(audit.verify(session)) == []


def test_a_shelf_outlives_the_alarm_and_holds_the_next_one(session: Session, works: Plant) -> None:
    first = raised(session, works)
    shelve(session, first)
    alarms.end(session, fault(works), at=BORN + MINUTE, now=NOW)
    second = raised(session, works, at=NOW + MINUTE)
    assert (second.id != first.id, second.is_shelved) == (True, True)
    assert [one["why"] for one in happened(session, "AlarmAnnounced")] == ["raised"]


def test_a_shelf_for_once_ends_with_the_alarm(session: Session, works: Plant) -> None:
    alarm = raised(session, works)
    attention.shelve(
        session, alarm, until=None, is_once=True, reason="Known", longest=8 * HOUR, by="account:1", now=NOW
    )
    alarms.end(session, fault(works), at=BORN + MINUTE, now=NOW)
    session.refresh(alarm)
    assert "unshelve" not in states.verbs(attention.marks_of(alarm)), "there is no shelf to take it from"
    assert not raised(session, works, at=NOW + MINUTE).is_shelved
    assert session.scalars(select(AlarmHold.state)).all() == ["ended"]


def test_a_shelf_that_ends_ends_for_every_alarm_of_its_fault(session: Session, works: Plant) -> None:
    first = raised(session, works)
    shelve(session, first)
    alarms.end(session, fault(works), at=BORN + MINUTE, now=NOW)
    alarms.acknowledge(session, first, by="account:1", now=NOW)
    second = raised(session, works, at=NOW + MINUTE)
    attention.unshelve(session, first, by="account:1", now=NOW + 2 * MINUTE)
    session.refresh(second)
    assert (first.is_shelved, second.is_shelved) == (False, False)
    assert [one["why"] for one in happened(session, "AlarmAnnounced")] == ["raised", "released"]
    shelve(session, second, at=NOW + 3 * MINUTE)
    alarms.end(session, fault(works), at=BORN + 4 * MINUTE, now=NOW + 4 * MINUTE)
    alarms.acknowledge(session, second, by="account:1", now=NOW + 4 * MINUTE)
    timers.run_holds(session, NOW + 33 * MINUTE)
    session.refresh(second)
    assert "unshelve" not in states.verbs(attention.marks_of(second)), "time has ended the shelf"


def test_how_long_somebody_may_shelve_depends_on_their_role(session: Session) -> None:
    acme = factories.company(session)
    technician, manager = (factories.account(session, acme, role, "harbour") for role in ("technician", "manager"))
    unit_id = acme.units["harbour"].id
    assert holds.longest_shelf(session, technician.id, unit_id) == 8 * HOUR
    assert holds.longest_shelf(session, manager.id, unit_id) == timedelta(days=7)


def test_out_of_service_until_a_review_stays_and_asks(session: Session, works: Plant) -> None:
    alarm = raised(session, works)
    with pytest.raises(Invalid):
        attention.take_out(session, alarm, reason="Valve is out", by="account:1", now=NOW)
    attention.take_out(session, alarm, review_at=NOW + HOUR, reason="Valve is out", by="account:1", now=NOW)
    assert timers.run_holds(session, NOW + HOUR) == 1
    assert timers.run_holds(session, NOW + HOUR) == 0
    session.refresh(alarm)
    assert alarm.is_out_of_service
    assert len(happened(session, "AlarmHoldDue")) == 1
    attention.put_back(session, alarm, by="account:1", now=NOW + 2 * HOUR)
    assert [one["why"] for one in happened(session, "AlarmAnnounced")] == ["raised", "released"]
    with pytest.raises(Conflict):
        attention.put_back(session, alarm, by="account:1", now=NOW + 2 * HOUR)


def test_a_window_of_maintenance_begins_and_ends_by_itself(session: Session, works: Plant) -> None:
    asset = works.assets[0]
    holds.on_asset(
        session, asset, "suppressed", cause="window", reason="Yearly service", by="account:1", now=NOW,
        began_at=NOW + HOUR, until=NOW + 2 * HOUR,
    )  # fmt: skip
    early = raised(session, works)
    assert not early.is_held
    timers.run_holds(session, NOW + HOUR)
    session.refresh(early)
    assert early.suppressed_by == "window"
    timers.run_holds(session, NOW + 2 * HOUR)
    session.refresh(early)
    assert not early.is_held
    assert [one["why"] for one in happened(session, "AlarmAnnounced")] == ["raised", "released"]


def test_a_hold_that_ended_at_the_moment_of_the_raise_is_noticed_by_the_next_look(
    session: Session, works: Plant
) -> None:
    alarm = raised(session, works)
    alarm.suppressed_by, alarm.is_shelved = "gateway", True
    session.flush()
    assert timers.run_held(session, NOW + MINUTE) == 1
    assert timers.run_held(session, NOW + MINUTE) == 0
    session.refresh(alarm)
    assert not alarm.is_held


def test_ALM_6_an_unacknowledged_alarm_is_repeated_three_times_then_escalated_and_has_one_raise(
    session: Session, works: Plant
) -> None:
    alarm = raised(session, works)
    for minute in range(0, 300, 5):
        timers.run_followed(session, NOW + minute * MINUTE)
    assert [one["number"] for one in happened(session, "AlarmReminded")] == [1, 2, 3]
    assert [one["role"] for one in happened(session, "AlarmEscalated")] == ["manager"]
    assert len(happened(session, "AlarmAnnounced")) == 1
    session.refresh(alarm)
    assert alarm.next_at == NOW + timedelta(hours=24), "nothing is left but to become stale"
    timers.run_followed(session, NOW + timedelta(hours=24))
    session.refresh(alarm)
    assert alarm.stale_at == NOW + timedelta(hours=24)
    assert session.scalar(select(Alarm.next_at)) is None
    assert happened(session, "AlarmFlagged") == [{"alarm_id": alarm.id, "flag": "stale"}]


def test_ALM_6_acknowledging_stops_the_reminders(session: Session, works: Plant) -> None:
    alarm = raised(session, works)
    timers.run_followed(session, NOW + 16 * MINUTE)
    alarms.acknowledge(session, alarm, by="account:1", now=NOW + 17 * MINUTE)
    for minute in range(17, 300, 5):
        timers.run_followed(session, NOW + minute * MINUTE)
    assert len(happened(session, "AlarmReminded", "AlarmEscalated")) == 1


def _policy(session: Session, unit: OrgUnit, **fields: object) -> None:
    whole = {"name": "Ours", "severity": "info", "repeats": 0, "realarms": 0, "steps": [], **fields}
    policies.save(session, unit, whole, by="account:1", now=NOW)


def test_A17_an_acknowledged_alarm_that_stands_is_announced_again_at_most_the_set_number_of_times(
    session: Session, works: Plant
) -> None:
    _policy(session, works.company, realarm_min=60, realarms=2)
    alarm = raised(session, works)
    for minute in range(0, 600, 10):
        timers.run_followed(session, NOW + minute * MINUTE)
        alarms.acknowledge(session, alarm, by="account:1", now=NOW + minute * MINUTE)
    assert [one["why"] for one in happened(session, "AlarmAnnounced")] == ["raised", "rearmed", "rearmed"]
    session.refresh(alarm)
    assert (alarm.realarms, session.scalar(select(func.count()).select_from(Alarm))) == (2, 1)


def test_what_is_held_is_neither_repeated_nor_escalated(session: Session, works: Plant) -> None:
    alarm = raised(session, works)
    shelve(session, alarm, minutes=400)
    for minute in range(0, 390, 10):
        timers.run_followed(session, NOW + minute * MINUTE)
    assert happened(session, "AlarmReminded", "AlarmEscalated") == []


def test_the_closest_policy_holds(session: Session, works: Plant) -> None:
    kind = AlarmType(
        company_id=works.company.id, unit_id=works.unit.id, key="overheat", name="Hot", asset_type_id=works.type.id,
        changed_at=BORN,
    )  # fmt: skip
    session.add(kind)
    session.flush()
    alarm = raised(session, works)
    assert policies.of_alarms(session, [alarm])[alarm.id].repeats == 3, "the default"
    fitting: list[tuple[OrgUnit, dict[str, object]]] = [
        (works.company, {"severity": "info"}),
        (works.company, {"severity": "major"}),
        (works.unit, {"severity": "info"}),
        (works.company, {"severity": "info", "alarm_type_id": kind.id}),
    ]
    for number, (unit, fields) in enumerate(fitting, 10):
        _policy(session, unit, repeats=number, **fields)
        if "alarm_type_id" in fields:
            alarm.alarm_type_id = kind.id
        assert policies.of_alarms(session, [alarm])[alarm.id].repeats == number
    _policy(session, works.unit, severity="critical", repeats=20)
    assert policies.of_alarms(session, [alarm])[alarm.id].repeats == 13, "it is not that severe"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": " "},
        {"severity": "huge"},
        {"repeat_min": 0},
        {"repeats": 1000},
        {"steps": [{"after_min": 5}]},
        {"steps": [{"after_min": 5, "role": "nobody"}]},
        {"steps": [{"after_min": -1, "role": "manager"}]},
        {"alarm_type_id": 999},
    ],
)
def test_a_policy_beyond_its_limits_is_refused(session: Session, works: Plant, wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        _policy(session, works.company, **wrong)


def test_whoever_is_on_shift_is_called_and_all_of_them_where_nobody_is(session: Session) -> None:
    acme = factories.company(session)
    working, resting = (
        factories.account(session, acme, "dispatcher", "company", username=name) for name in ("early", "late")
    )
    factories.shift(session, working)
    alarm = factories.alarm(session, factories.asset(session, acme, "harbour"), announced_at=factories.NOW)
    at_work = next(
        factories.NOW + n * HOUR
        for n in range(200)
        if notices.on_shift(session, "dispatcher", alarm.unit_id, factories.NOW + n * HOUR) == [working.id]
    )
    calling.on_announced(session, AlarmAnnounced(alarm.id, "raised"), at_work)
    calling.on_reminded(session, AlarmReminded(alarm.id, 1), at_work)
    assert set(session.scalars(select(Notice.account_id))) == {working.id}
    assert notices.unread(session, working.id) == 2
    assert notices.read(session, working.id, None, now=at_work) == 2
    assert notices.unread(session, working.id) == 0
    calling.on_escalated(session, AlarmEscalated(alarm.id, 1, None, resting.id), at_work)
    assert [one.href for one in notices.listed(session, resting.id, before=None, limit=5)] == [f"/alarms/{alarm.id}"]
    account = session.get_one(Account, working.id)
    account.is_active = False
    session.flush()
    assert notices.on_shift(session, "dispatcher", alarm.unit_id, at_work) == [resting.id], "never silence"


def test_ALM_2_an_alarm_is_given_to_somebody_who_may_act_on_it(session: Session) -> None:
    acme = factories.company(session)
    technician = factories.account(session, acme, "technician", "harbour")
    storekeeper = factories.account(session, acme, "storekeeper", "harbour")
    alarm = factories.alarm(session, factories.asset(session, acme, "harbour"))
    with pytest.raises(Invalid):
        attention.assign(session, alarm, storekeeper, by="account:1", now=NOW)
    attention.assign(session, alarm, technician, by="account:1", now=NOW)
    attention.assign(session, alarm, technician, by="account:1", now=NOW)
    assert alarm.assignee_id == technician.id
    assert happened(session, "AlarmAssigned") == [{"alarm_id": alarm.id, "account_id": technician.id}]


def test_a_latched_alarm_waits_for_its_reset(session: Session, works: Plant) -> None:
    kind = AlarmType(
        company_id=works.company.id, unit_id=works.unit.id, key="overheat", name="Hot", asset_type_id=works.type.id,
        changed_at=BORN, latches=True,
    )  # fmt: skip
    session.add(kind)
    session.flush()
    what = Fault(
        fault(works).subject, "overheat", "rule", "rule:1", works.company.id, works.unit.id, works.assets[0].id, None,
        kind.id,
    )  # fmt: skip
    alarm = session.get_one(Alarm, alarms.raise_(session, Seen(what, "major", BORN, BORN), now=NOW))
    session.refresh(alarm)
    with pytest.raises(Conflict):
        attention.reset(session, alarm, by="account:1", now=NOW)
    alarms.acknowledge(session, alarm, by="account:1", now=NOW)
    alarms.end(session, what, at=BORN + MINUTE, now=NOW)
    session.refresh(alarm)
    assert attention.marks_of(alarm).state == "latched"
    attention.reset(session, alarm, by="account:1", now=NOW)
    assert attention.marks_of(alarm).state == "normal"


_STEPS = st.lists(
    st.sampled_from(
        [
            "raise", "worse", "clear", "toggle", "acknowledge", "shelve", "once", "unshelve", "take_out", "put_back",
            "window", "end_window", "clear_by_hand", "restart", "wait",
        ]
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
@example(steps=["raise", "once", "clear", "unshelve"])
def test_D08_whatever_happens_in_whatever_order_only_legal_states_are_reached(
    database: sessionmaker[Session], steps: list[str]
) -> None:
    with database() as session:
        works = plant.build(session, machines=1)
        for second, step in enumerate(steps):
            now = NOW + second * MINUTE
            alarm = session.scalars(select(Alarm).order_by(Alarm.id.desc()).limit(1)).first()
            if alarm is not None:
                session.refresh(alarm)
            try:
                with session.begin_nested():
                    _step(session, works, alarm, step, now, second)
            except FixwrightError:
                assert alarm is not None
                assert step not in states.verbs(attention.marks_of(alarm))
            _is_legal(session)
        session.rollback()


def _step(session: Session, works: Plant, alarm: Alarm | None, step: str, now: datetime, second: int) -> None:
    at, what = BORN + second * timedelta(seconds=1), fault(works)
    window = session.scalars(select(AlarmHold).where(AlarmHold.state == "live", AlarmHold.kind == "suppressed")).first()
    if step == "raise":
        alarms.take(session, [Seen(what, "minor", at, at)], now=now)
    elif step == "worse":
        alarms.take(session, [Seen(what, "critical", at, at, opens=False)], now=now)
    elif step == "clear":
        alarms.take(session, [Over(what, at)], now=now)
    elif step == "toggle":
        alarms.take(session, [one for _ in range(4) for one in (Seen(what, "minor", at, at), Over(what, at))], now=now)
    elif step == "window" and window is None:
        held = holds.on_asset(
            session, works.assets[0], "suppressed", cause="window", reason="Test", by="account:1",
            until=now + 5 * MINUTE, now=now,
        )  # fmt: skip
        alarms.settle(session, holds.concerned_alarms(session, [held]), now=now)
    elif step == "end_window" and window is not None:
        holds.end(session, window, by="account:1", now=now)
        alarms.settle(session, holds.concerned_alarms(session, [window]), now=now)
    elif step in {"restart", "wait"}:
        session.expire_all()
        later = now + (10 * MINUTE if step == "wait" else timedelta())
        for run in (timers.run_holds, timers.run_held, timers.run_floods, timers.run_followed):
            run(session, later)
    elif alarm is not None:
        _act(session, alarm, step, now)


def _act(session: Session, alarm: Alarm, step: str, now: datetime) -> None:
    by = "account:1"
    if step == "acknowledge":
        alarms.acknowledge(session, alarm, by=by, now=now)
    elif step == "shelve":
        shelve(session, alarm, minutes=3, at=now)
    elif step == "once":
        attention.shelve(session, alarm, until=None, is_once=True, reason="Known", longest=HOUR, by=by, now=now)
    elif step == "unshelve":
        attention.unshelve(session, alarm, by=by, now=now)
    elif step == "take_out":
        attention.take_out(session, alarm, until=now + 4 * MINUTE, reason="Test", by=by, now=now)
    elif step == "put_back":
        attention.put_back(session, alarm, by=by, now=now)
    elif step == "clear_by_hand":
        alarms.clear_by_hand(session, alarm, by=by, reason="Test", now=now)


def _is_legal(session: Session) -> None:
    session.expire_all()
    found = session.scalars(select(Alarm)).all()
    assert sum(one.is_active for one in found) <= 1
    for one in found:
        marks = attention.marks_of(one)
        assert marks.state in states.STATES
        assert one.is_active or not one.is_chattering
        assert (one.ended_at is None) == one.is_active
        if one.is_active:
            (held,) = holding.of(session, [one.id])
            assert not held.is_changed, "the marks are what the rows say"
            assert one.is_held or one.announced_at is not None, "what nothing holds was announced"
    for hold in session.scalars(select(AlarmHold).where(AlarmHold.state == "live")):
        assert hold.next_at is not None or hold.review_at is not None
