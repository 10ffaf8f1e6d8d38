"""The figures of the alarm system against plain SQL over the same rows, written by somebody else (ALM-13)."""

import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from people import scope
from people.scope import Viewer
from rules import alarm_desk, alarm_figures
from rules.alarm_desk import Wanted
from rules.alarm_figures import Figures
from rules.models import SEVERITIES, Alarm, AlarmEntry
from tests import factories
from tests.factories import NOW, Company

START, END = NOW - timedelta(days=3), NOW
PERIOD = {"start": START, "end": END}


def rows(session: Session, company: Company) -> list[dict[str, Any]]:
    """Return what three days leave behind on two sites of one region and one of another, reproducibly."""
    dice = random.Random(20261120)
    made: list[dict[str, Any]] = []

    def add(asset: Any, key: str, at: Any, lasts_s: float | None, severity: str) -> None:
        number = len(made)
        taken = at + timedelta(seconds=dice.expovariate(1 / 600)) if dice.random() < 0.7 else None
        ended = None if lasts_s is None else at + timedelta(seconds=lasts_s)
        made.append(
            {"company_id": asset.company_id, "unit_id": asset.unit_id, "subject": f"asset:{asset.id}", "type_key": key,
             "asset_id": asset.id, "origin": "device", "severity": severity, "peak_severity": severity, "message": "",
             "is_active": ended is None, "is_acknowledged": taken is not None, "acknowledged_at": taken,
             "began_at": at, "raised_at": at, "detected_at": at + timedelta(seconds=1),
             "announced_at": None if severity == "info" and number % 4 == 0 else at + timedelta(seconds=1),
             "last_seen_at": at,
             "ended_at": ended, "count": 1, "evidence": {}}
        )  # fmt: skip

    machines = [factories.asset(session, company, where) for where in ("harbour", "mill", "quarry") for _ in range(4)]
    for number in range(400):
        at = START - timedelta(hours=6) + timedelta(seconds=dice.uniform(0, 80 * 3600))
        lasts = max(1.0, dice.expovariate(1 / 900))
        add(dice.choice(machines), f"E{min(14, int(dice.expovariate(0.4)))}", at, lasts, SEVERITIES[number % 5])
    for at in (START + timedelta(hours=5), START + timedelta(hours=50)):
        for _ in range(45):
            add(dice.choice(machines[:4]), "E50", at + timedelta(seconds=dice.uniform(0, 1500)), 100, "minor")
    for beat in range(9):
        add(machines[0], "E60", START + timedelta(hours=9, seconds=20 * beat), 5, "warning")
    for number, hours in enumerate((1, 23, 25, 60, 90)):
        add(machines[number], "E70", END - timedelta(hours=hours), None, "major")
    return made


@pytest.fixture
def viewers(session: Session) -> dict[str, tuple[Viewer, list[int]]]:
    """Return a viewer of the company and one of the north, each with the units their sight reaches."""
    company = factories.company(session)
    session.execute(insert(Alarm), rows(session, company))
    other = factories.company(session, "other")
    factories.alarm(session, factories.asset(session, other), detected_at=NOW - timedelta(hours=1))
    everything = [unit.id for unit in company.units.values()]
    north = [company.units[name].id for name in ("north", "harbour", "mill")]
    return {
        "company": (scope.viewer_of(session, factories.account(session, company, "dispatcher", "company")), everything),
        "north": (scope.viewer_of(session, factories.account(session, company, "dispatcher", "north")), north),
    }


def sql(session: Session, statement: str) -> Any:
    return session.execute(text(statement), PERIOD)


def counted(session: Session, units: list[int]) -> None:
    """Make the tables ``mine``, of a period's alarms, and ``every``, of all its spans of ten minutes."""
    session.execute(
        text("""CREATE TEMP TABLE mine ON COMMIT DROP AS
            SELECT * FROM alarm WHERE unit_id = ANY(:units) AND detected_at >= :start AND detected_at < :end
            AND announced_at IS NOT NULL"""),
        {**PERIOD, "units": units},
    )
    sql(
        session,
        """CREATE TEMP TABLE every ON COMMIT DROP AS
           SELECT s AS span, count(mine.id) AS n FROM generate_series(0, 431) s
           LEFT JOIN mine ON floor(extract(epoch FROM detected_at - :start) / 600) = s GROUP BY s""",
    )


@pytest.mark.parametrize("who", ["company", "north"])
def test_ALM_13_the_figures_equal_plain_sql(
    session: Session, viewers: dict[str, tuple[Viewer, list[int]]], who: str
) -> None:
    viewer, units = viewers[who]
    found = alarm_figures.measure(session, viewer, START, END)
    counted(session, units)
    assert found.load.announced == sql(session, "SELECT count(*) FROM mine").scalar_one()
    assert found.load.average == pytest.approx(sql(session, "SELECT sum(n)::float / 432 FROM every").scalar_one())
    assert found.load.peak == sql(session, "SELECT max(n) FROM every").scalar_one()
    # A span is in a flood when the last span so far that was above ten or below five was above ten.
    in_flood = """
        SELECT count(*) FROM every e WHERE (SELECT n FROM every b WHERE b.span <= e.span AND (n > 10 OR n < 5)
                                            ORDER BY b.span DESC LIMIT 1) > 10"""
    seconds = sql(session, in_flood).scalar_one()
    assert seconds >= 4, "the fixture has floods"
    assert found.load.flood_percent == pytest.approx(100 * seconds / 432)
    top = sql(
        session,
        "SELECT subject, type_key, count(*) FROM mine GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 10",
    ).all()
    assert [(one.subject, one.type_key, one.count) for one in found.top] == [tuple(row) for row in top]
    assert found.top_percent == pytest.approx(100 * sum(row[2] for row in top) / found.load.announced)
    mix = dict(sql(session, "SELECT severity, count(*) FROM mine GROUP BY 1").all())
    assert dict(found.severities) == mix
    assert found.priorities["high"] == pytest.approx(100 * mix["critical"] / sum(mix.values()))
    assert sum(found.priorities.values()) == pytest.approx(100)
    short = "SELECT count(*) FROM mine WHERE extract(epoch FROM ended_at - raised_at) < 60"
    assert found.fleeting == sql(session, short).scalar_one()
    old = """SELECT count(*) FROM alarm WHERE unit_id = ANY(:units) AND announced_at IS NOT NULL
             AND raised_at < :end - interval '24 h'
             AND (ended_at IS NULL OR ended_at > :end)"""
    assert found.stale == session.execute(text(old), {"units": units, "end": END}).scalar_one() > 2
    paired = """
        SELECT count(*) FROM mine a WHERE 2 <= (
            SELECT count(*) FROM alarm b WHERE b.subject = a.subject AND b.type_key = a.type_key AND b.id <> a.id
            AND b.ended_at IS NOT NULL AND b.raised_at <= a.raised_at
            AND a.ended_at - b.raised_at <= interval '60 s')"""
    assert found.chattering == sql(session, paired).scalar_one() >= 7
    took = """
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM acknowledged_at - detected_at)),
               percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM acknowledged_at - detected_at)),
               count(acknowledged_at), count(*) FILTER (WHERE NOT is_acknowledged) FROM mine"""
    median, slow, done, waiting = sql(session, took).one()
    assert (found.reaction.median_s, found.reaction.slow_s) == (pytest.approx(median), pytest.approx(slow))
    assert (found.reaction.acknowledged, found.reaction.waiting) == (done, waiting)


def test_ALM_13_the_alarms_behind_a_figure_are_as_many_as_it_says(
    session: Session, viewers: dict[str, tuple[Viewer, list[int]]]
) -> None:
    viewer, _ = viewers["company"]
    found = alarm_figures.measure(session, viewer, START, END)

    def behind(**wanted: Any) -> int:
        filter_ = Wanted(state="all", **{"since": START, "until": END, "is_announced": True, **wanted})
        return len(alarm_desk.newest_first(session, viewer, filter_, limit=5000))

    assert behind() == found.load.announced
    for actor in ("fleeting", "stale", "chattering"):
        assert behind(actor=actor) == getattr(found, actor) > 0, actor
    peak = found.load.peak_at
    assert peak is not None
    assert behind(since=peak, until=peak + timedelta(minutes=10)) == found.load.peak
    for one in found.load.floods:
        assert behind(since=found.span_at(one.first), until=found.span_at(one.last + 1)) == one.alarms
    assert behind(subject=found.top[0].subject, type_key=found.top[0].type_key) == found.top[0].count
    assert behind(severity="major") == found.severities["major"]
    for unit, load in found.desks:
        assert behind(unit_id=unit) == load.announced
    assert sum(load.announced for _, load in found.desks) == found.load.announced


def test_ALM_13_a_unit_alone_is_a_desk_and_an_empty_period_has_no_figures(
    session: Session, viewers: dict[str, tuple[Viewer, list[int]]]
) -> None:
    viewer, _ = viewers["company"]
    north, units = viewers["north"]
    chosen = alarm_figures.measure(session, viewer, START, END, unit_id=units[0])
    own = alarm_figures.measure(session, north, START, END)
    assert _without_desks(chosen) == _without_desks(own)
    empty = alarm_figures.measure(session, viewer, END + timedelta(days=1), END + timedelta(days=2))
    assert (empty.load.announced, empty.load.peak, empty.load.peak_at, empty.top_percent) == (0, 0, None, 0)
    assert empty.reaction.median_s is None


def _without_desks(found: Figures) -> tuple[Any, ...]:
    return found.load, found.top, found.severities, found.fleeting, found.stale, found.chattering, found.reaction


def test_ALM_8_what_was_held_as_one_for_chattering_is_named_first_whatever_was_counted_of_it(session: Session) -> None:
    company = factories.company(session)
    honest, undecided = (factories.asset(session, company) for _ in range(2))
    for minute in range(5):
        at = NOW - timedelta(minutes=60 - minute)
        factories.alarm(session, honest, type_key="E1", raised_at=at, detected_at=at, announced_at=at, is_active=False)
    at = NOW - timedelta(minutes=90)
    told = factories.alarm(
        session, undecided, type_key="E1", raised_at=at, detected_at=at, announced_at=at, is_active=False
    )
    held = factories.alarm(session, undecided, type_key="E1", raised_at=at, detected_at=at, is_chattering=True)
    session.add(AlarmEntry(alarm_id=held.id, at=at, actor="system", kind="flagged", detail={"flag": "chattering"}))
    session.flush()
    week = alarm_figures.measure(session, scope.operator(company.units["company"]), *alarm_figures.last(7, NOW))
    assert [(one.subject, one.count, one.is_chattering) for one in week.top] == [
        (told.subject, 1, True),
        (f"asset:{honest.id}", 5, False),
    ]
    before = alarm_figures.measure(session, scope.operator(company.units["company"]), NOW - timedelta(minutes=61), NOW)
    assert [one.is_chattering for one in before.top] == [False], "of another period"
