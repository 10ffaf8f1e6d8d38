"""A planned due date gives exactly one order, however often and wherever the tick runs (promise P5)."""

import threading
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.errors import Conflict, Invalid, NotFound
from maintenance.orders.models import Order
from maintenance.plans import answers, planning, recurrence, schedule
from maintenance.plans.models import Occurrence, Plan
from tests import factories

MONDAY = datetime(2026, 11, 2, 6, tzinfo=UTC)


@pytest.fixture
def plan(session: Session) -> Plan:
    """Return a plan for every day at 08:00, orders made one day ahead."""
    acme = factories.company(session)
    machine = factories.asset(session, acme, "quarry")
    round_ = factories.checklist(session, acme, "quarry")
    wish = planning.Wish(
        name="Daily round", rrule="FREQ=DAILY", starts_on=date(2026, 11, 2), at_time=time(8), lead_days=1,
        checklist_id=round_.id,
    )  # fmt: skip
    made = planning.make(session, machine, wish, actor="account:1", now=MONDAY)
    session.commit()
    return made


def orders(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Order)) or 0


@pytest.mark.usefixtures("plan")
def test_PM_6_a_due_date_gives_one_order_however_often_the_tick_runs(
    database: sessionmaker[Session], session: Session
) -> None:
    for _ in range(3):
        with db.transaction(database) as own:
            schedule.run_due(own, MONDAY)
    assert orders(session) == 1, "today's; tomorrow's is still more than the lead time of one day away"
    keys = session.scalars(select(Occurrence.key).order_by(Occurrence.key)).all()
    assert keys == ["2026-11-02T08:00"], keys


@pytest.mark.usefixtures("plan")
def test_PM_6_two_workers_at_once_make_one_order(database: sessionmaker[Session], session: Session) -> None:
    gate = threading.Barrier(8)

    def tick() -> None:
        gate.wait()
        with db.transaction(database) as own:
            schedule.run_due(own, MONDAY)

    threads = [threading.Thread(target=tick) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = session.execute(select(Occurrence.key, Occurrence.order_id)).all()
    assert Counter(key for key, _ in made).most_common(1)[0][1] == 1
    assert orders(session) == len(made)


@pytest.mark.usefixtures("plan")
def test_PM_6_a_tick_that_dies_before_its_commit_leaves_the_date_to_the_next(
    database: sessionmaker[Session], session: Session
) -> None:
    with database() as dying:
        schedule.run_due(dying, MONDAY)
        dying.rollback()
    with db.transaction(database) as own:
        schedule.run_due(own, MONDAY)
    assert orders(session) == 1


@pytest.mark.parametrize(("policy", "ordered", "missed"), [("once", 2, 2), ("all", 4, 0), ("skip", 1, 3)])
def test_after_three_days_off_each_policy_gives_the_stated_orders(
    database: sessionmaker[Session], session: Session, plan: Plan, policy: str, ordered: int, missed: int
) -> None:
    plan.catch_up = policy
    plan.lead_days = 0
    session.commit()
    back = datetime(2026, 11, 5, 8, 30, tzinfo=UTC)
    for _ in range(2):
        with db.transaction(database) as own:
            schedule.run_due(own, back)
    states = Counter(session.scalars(select(Occurrence.state)))
    assert (states["ordered"], states["missed"]) == (ordered, missed)
    assert orders(session) == ordered


def test_a_forecast_equals_what_a_simulated_clock_makes(
    database: sessionmaker[Session], session: Session, plan: Plan
) -> None:
    until = MONDAY + timedelta(days=30)
    expected = [target.key for target in schedule.ahead(plan, until=until + timedelta(days=1))]
    now = MONDAY
    while now <= until:
        with db.transaction(database) as own:
            schedule.run_due(own, now)
        now += timedelta(hours=7)
    made = session.scalars(select(Occurrence.key).order_by(Occurrence.due_at)).all()
    assert list(made) == expected[: len(made)]
    assert len(made) >= 30


def test_a_plan_that_rested_does_not_catch_up(database: sessionmaker[Session], session: Session, plan: Plan) -> None:
    with db.transaction(database) as own:
        schedule.run_due(own, MONDAY)
    planning.pause(session, plan, actor="account:1", now=MONDAY)
    planning.resume(session, plan, actor="account:1", now=MONDAY + timedelta(days=10))
    session.commit()
    with db.transaction(database) as own:
        schedule.run_due(own, MONDAY + timedelta(days=10))
    dates = [key[:10] for key in session.scalars(select(Occurrence.key).order_by(Occurrence.due_at))]
    assert dates[0] == "2026-11-02"
    assert dates[1] == "2026-11-12", "the first target after it was resumed"


def test_wall_time_is_kept_through_a_change_of_clocks(session: Session) -> None:
    acme = factories.company(session)
    mill = factories.asset(session, acme, "mill")
    wish = planning.Wish(name="Round", rrule="FREQ=DAILY", starts_on=date(2026, 10, 24), at_time=time(8))
    made = planning.make(session, mill, wish, actor="a", now=datetime(2026, 10, 23, tzinfo=UTC))
    hours = [target.due_at.hour for target in schedule.ahead(made, until=datetime(2026, 10, 26, 12, tzinfo=UTC))]
    assert hours == [6, 7, 7], "08:00 in Berlin is 06:00 UTC in summer and 07:00 UTC in winter"


def test_a_rule_without_a_future_date_is_refused(session: Session) -> None:
    acme = factories.company(session)
    machine = factories.asset(session, acme, "quarry")
    wish = planning.Wish(
        name="Never", rrule="FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", starts_on=date(2026, 1, 1), at_time=time(8)
    )
    with pytest.raises(Invalid) as refused:
        planning.make(session, machine, wish, actor="a", now=MONDAY)
    assert refused.value.field == "rrule"


@pytest.mark.usefixtures("plan")
def test_the_checklist_of_an_order_takes_answers_and_judges_them(
    database: sessionmaker[Session], session: Session
) -> None:
    with db.transaction(database) as own:
        schedule.run_due(own, MONDAY)
    order = session.scalars(select(Order).order_by(Order.id)).first()
    assert order is not None
    with pytest.raises(Conflict):
        answers.answer(session, order, "oil", True, actor="account:1", now=MONDAY)
    order.phase = "working"
    assert answers.answer(session, order, "oil", True, actor="account:1", now=MONDAY).verdict == "pass"
    assert answers.answer(session, order, "temp", 95, actor="account:1", now=MONDAY).verdict == "fail"
    assert answers.answer(session, order, "temp", 55.5, actor="account:1", now=MONDAY).verdict == "pass"
    assert len(answers.results_of(session, order)) == 2
    for item, value, error in (("temp", "hot", Invalid), ("oil", 3, Invalid), ("nothing", True, NotFound)):
        with pytest.raises(error):
            answers.answer(session, order, item, value, actor="account:1", now=MONDAY)


def test_targets_are_read_from_the_rule_alone() -> None:
    rule = recurrence.Recurrence("FREQ=DAILY", date(2026, 11, 2), time(8), "UTC")
    assert recurrence.following(rule, None) == recurrence.Target("2026-11-02T08:00", MONDAY.replace(hour=8))
