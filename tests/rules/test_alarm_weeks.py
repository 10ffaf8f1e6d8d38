"""Figures from weeks that were set aside are those of the alarms themselves, whatever becomes of these meanwhile."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.orm import Session

from people import scope
from people.scope import Viewer
from rules import alarm_figures, alarm_weeks
from rules.models import SEVERITIES, Alarm
from rules.week_tables import AlarmWeek, AlarmWeekFault, AlarmWeekTouched
from tests import factories
from tests.factories import NOW, Company

END = NOW.replace(minute=0, second=0, microsecond=0)
START = END - timedelta(days=30)
PERIODS = (
    (START, END),
    (START + timedelta(days=4, minutes=3), END - timedelta(days=2, seconds=7)),
    (END - timedelta(days=2), END),
)


def made(company: Company, dice: random.Random) -> dict[str, Any]:
    """Return an alarm as any worker may write it at any time, late or not, announced or not, over or not."""
    unit = company.units[dice.choice(("harbour", "mill", "quarry"))]
    raised = START + timedelta(seconds=dice.uniform(-9 * 86400, 30 * 86400))
    detected = raised + timedelta(seconds=dice.choice((0.25, 1, 70, 4 * 86400)) * dice.random())
    ended = None if dice.random() < 0.2 else raised + timedelta(seconds=dice.choice((5, 60, 4000, 200_000)))
    return {
        "company_id": company.id, "unit_id": unit.id, "subject": f"asset:{dice.randrange(4)}",
        "type_key": f"E{dice.randrange(5)}", "origin": "device", "severity": dice.choice(SEVERITIES),
        "peak_severity": "major", "message": "", "is_active": False, "is_acknowledged": False, "began_at": raised,
        "raised_at": raised, "detected_at": detected, "last_seen_at": raised, "ended_at": ended, "count": 1,
        "announced_at": None if dice.random() < 0.3 else detected, "evidence": {},
    }  # fmt: skip


def amendments(company: Company, dice: random.Random) -> list[dict[Any, Any]]:
    """Return what may become of alarms long after they were raised."""
    took = Alarm.detected_at + timedelta(seconds=dice.expovariate(1 / 600))
    return [
        {"is_acknowledged": True, "acknowledged_at": took},
        {"is_acknowledged": False, "acknowledged_at": None},
        {"severity": dice.choice(SEVERITIES)},
        {"ended_at": Alarm.raised_at + timedelta(seconds=dice.choice((0.5, 30, 100_000)))},
        {"announced_at": Alarm.detected_at + timedelta(days=3)},
        {"announced_at": None},
        {"raised_at": Alarm.raised_at - timedelta(seconds=40)},
        {"unit_id": company.units[dice.choice(("harbour", "quarry"))].id},
        {"detected_at": Alarm.detected_at + timedelta(days=dice.choice((-7, 0.5)))},
        {"subject": "asset:9"},
        {"type_key": "E9"},
        {"count": Alarm.count + 1},
    ]


def amend(session: Session, dice: random.Random, values: dict[Any, Any]) -> None:
    session.execute(
        update(Alarm).where(some(session, dice)).values(values), execution_options={"synchronize_session": False}
    )


def some(session: Session, dice: random.Random) -> Any:
    ids = session.scalars(select(Alarm.id).order_by(Alarm.id)).all()
    return Alarm.id.in_(dice.sample(ids, min(len(ids), 12)))


STEPS: dict[str, Callable[[Session, Company, random.Random], object]] = {
    "raise": lambda session, company, dice: session.execute(insert(Alarm), [made(company, dice) for _ in range(60)]),
    "amend": lambda session, company, dice: amend(session, dice, dice.choice(amendments(company, dice))),
    "remove": lambda session, _, dice: session.execute(
        delete(Alarm).where(some(session, dice)), execution_options={"synchronize_session": False}
    ),
    "set a week aside": lambda session, *_: alarm_weeks.set_aside(session, NOW),
    "set all aside": lambda session, *_: all_aside(session),
}


def all_aside(session: Session) -> None:
    while alarm_weeks.set_aside(session, NOW):
        pass


def everything(session: Session, viewers: list[Viewer], unit: int) -> list[Any]:
    return [
        alarm_figures.measure(session, viewer, *period, unit_id=chosen)
        for viewer in viewers
        for period in PERIODS
        for chosen in (None, unit)
    ]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 30),
    steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=3, max_size=12).map(
        lambda steps: ["raise", "set all aside", *steps]
    ),
)
def test_ALM_13_figures_from_weeks_set_aside_equal_those_from_the_alarms(
    session: Session, seed: int, steps: list[str]
) -> None:
    dice = random.Random(seed)
    company = factories.company(session)
    north = scope.viewer_of(session, factories.account(session, company, "dispatcher", "north"))
    viewers, unit = [scope.operator(company.units["company"]), north], company.units["south"].id
    for step in steps:
        STEPS[step](session, company, dice)
    found = everything(session, viewers, unit)
    forget(session)
    assert found == everything(session, viewers, unit)
    session.rollback()


def forget(session: Session) -> None:
    """Leave the alarms alone: nothing is set aside, every week is noted."""
    for table in (AlarmWeek, AlarmWeekFault, AlarmWeekTouched):
        session.execute(delete(table))
    session.execute(
        text(
            "INSERT INTO alarm_week_touched (unit_id, began_at) SELECT DISTINCT unit_id,"
            " date_bin('7 days', detected_at, '2001-01-01 00:00:00+00') FROM alarm WHERE announced_at IS NOT NULL"
        )
    )


def test_ALM_13_no_amendment_is_missed_once_all_weeks_are_set_aside(session: Session) -> None:
    company, dice = factories.company(session), random.Random(7)
    session.execute(insert(Alarm), [made(company, dice) for _ in range(80)])
    viewer = scope.operator(company.units["company"])
    for values in amendments(company, dice):
        all_aside(session)
        amend(session, dice, values)
        found = alarm_figures.measure(session, viewer, START, END)
        forget(session)
        assert found == alarm_figures.measure(session, viewer, START, END), list(values)


def test_ALM_13_what_changes_no_figure_touches_no_week(session: Session) -> None:
    company = factories.company(session)
    session.execute(insert(Alarm), [made(company, random.Random(one)) for one in range(50)])
    all_aside(session)
    session.execute(update(Alarm).values(count=Alarm.count + 1, last_seen_at=NOW, message="again"))
    assert not session.scalar(select(func.count()).select_from(AlarmWeekTouched))
    session.execute(update(Alarm).where(Alarm.announced_at.is_not(None)).values(severity="info"))
    assert session.scalar(select(func.count()).select_from(AlarmWeekTouched))
