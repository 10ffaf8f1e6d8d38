from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maintenance.dispatch import scoring
from maintenance.dispatch.scoring import Held, Job, Person, Position
from people.hours import Pattern

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)  # a Friday
DAYS = frozenset(range(7))
ALWAYS = (Pattern(DAYS, time(0), time(0), "UTC", date(2026, 1, 1)),)
JOB = Job(at=NOW, now=NOW, zone="UTC", skill="hydraulics", due_at=NOW + timedelta(hours=8))
SKILL = (Held("hydraulics"),)


def person(identity: int, **values: object) -> Person:
    return Person(**{"id": identity, "name": f"P{identity}", "shifts": ALWAYS, "skills": SKILL, **values})


def chosen(job: Job, *people: Person) -> int | None:
    found = scoring.choice(scoring.rank(job, people))
    return found.person.id if found else None


@pytest.mark.parametrize(
    ("values", "by"),
    [
        ({"is_active": False}, "account"),
        ({"may_work": False}, "account"),
        ({"skills": ()}, "skill"),
        ({"skills": (Held("welding"),)}, "skill"),
        ({"skills": (Held("hydraulics", valid_until=date(2026, 11, 20)),)}, "skill"),
        ({"skills": (Held("hydraulics", valid_from=date(2026, 11, 21)),)}, "skill"),
        ({"shifts": ()}, "shift"),
        ({"absences": ((NOW - timedelta(hours=1), NOW + timedelta(hours=1)),)}, "shift"),
        ({"reaches_site": False}, "area"),
        ({"is_active": False, "skills": (), "shifts": ()}, "account"),
        ({"skills": (), "shifts": ()}, "skill"),
    ],
)
def test_each_filter_removes_in_order_and_says_why(values: dict[str, object], by: str) -> None:
    removed = scoring.rank(JOB, [person(1, **values)])[0].removal
    assert removed is not None
    assert removed.by == by
    assert removed.why.format(**removed.values)


def test_DI_3_a_certificate_that_ends_the_day_before_the_visit_excludes_and_the_reason_names_the_day() -> None:
    visit = replace(JOB, at=NOW + timedelta(days=1), is_planned=True)
    removed = scoring.removal(visit, person(1, skills=(Held("hydraulics", valid_until=date(2026, 11, 21)),)))
    assert removed is not None
    assert removed.why.format(**removed.values) == "The certificate for hydraulics ended on 2026-11-21."
    assert scoring.removal(JOB, person(1, skills=(Held("hydraulics", valid_until=date(2026, 11, 21)),))) is None


def test_a_level_below_what_is_needed_removes() -> None:
    job = replace(JOB, level=2)
    assert chosen(job, person(1), person(2, skills=(Held("hydraulics", level=2),))) == 2


def test_who_refused_before_is_passed_over() -> None:
    assert chosen(replace(JOB, refused_by=frozenset({1})), person(1), person(2, open_minutes=400)) == 2


def test_who_is_not_in_the_team_of_the_order_is_removed() -> None:
    assert chosen(replace(JOB, team_id=7), person(1), person(2, open_minutes=400, teams=frozenset({7}))) == 2


def test_a_booked_visit_may_not_overlap_another() -> None:
    job = replace(JOB, is_planned=True, estimated_minutes=60)
    touching = (NOW + timedelta(minutes=60), NOW + timedelta(minutes=90), "WO-1")
    over = (NOW + timedelta(minutes=59), NOW + timedelta(minutes=90), "WO-2")
    assert chosen(job, person(1, visits=(touching,))) == 1
    removed = scoring.removal(job, person(1, visits=(over,)))
    assert removed is not None
    assert (removed.by, removed.values) == ("booked", {"number": "WO-2"})


def test_the_night_shift_counts_in_its_own_zone_until_its_end() -> None:
    night = (Pattern(frozenset({3}), time(22), time(6), "Asia/Shanghai", date(2026, 1, 1)),)
    six_in_shanghai = datetime(2026, 11, 19, 22, 0, tzinfo=UTC)  # Friday 06:00 there
    before = replace(JOB, at=six_in_shanghai - timedelta(minutes=1))
    assert chosen(before, person(1, shifts=night)) == 1
    removed = scoring.removal(replace(JOB, at=six_in_shanghai, zone="Asia/Shanghai"), person(1, shifts=night))
    assert removed is not None
    assert removed.why.format(**removed.values) == "Not on shift until 2026-11-26 22:00."


def test_D5_nobody_qualified_is_nobody_however_near() -> None:
    near = Position(31.0, 121.0, NOW)
    job = replace(JOB, latitude=31.0, longitude=121.0)
    assert chosen(job, person(1, skills=(), position=near), person(2, shifts=(), position=near)) is None


def test_DI_5_the_lowest_load_wins_and_equal_load_gives_the_same_person_on_every_run() -> None:
    people = [person(number, open_minutes=60) for number in (3, 1, 2)]
    assert chosen(JOB, *people, person(9, open_minutes=0)) == 9
    assert {chosen(JOB, *people) for _run in range(10)} == {1}


def test_equal_scores_go_to_who_waited_longest() -> None:
    long, short = NOW - timedelta(days=9), NOW - timedelta(days=3)
    assert chosen(JOB, person(1, last_assigned_at=short), person(2, last_assigned_at=long)) == 2
    assert chosen(JOB, person(1, last_assigned_at=long), person(2, last_assigned_at=None)) == 2


def test_DI_6_the_nearest_wins_and_a_stale_position_is_unknown_not_near() -> None:
    job = replace(JOB, latitude=0.0, longitude=0.0)
    at = [person(number, position=Position(0.0, 0.1 * number, NOW)) for number in (1, 2, 3, 4)]
    ranked = scoring.rank(job, [*at, person(5, position=Position(0.0, 0.0, NOW - timedelta(minutes=31)))])
    assert [one.person.id for one in ranked] == [1, 2, 3, 4, 5]
    assert ranked[-1].scores["distance"] == 0


def test_D4_the_distance_is_the_great_circle() -> None:
    assert scoring.distance_km(0, 0, 0, 1) == pytest.approx(111.195, abs=0.01)
    assert scoring.distance_km(31.2304, 121.4737, 39.9042, 116.4074) == pytest.approx(1067, abs=2)
    assert scoring.distance_km(0, 0, 0, 180) == pytest.approx(20015.1, abs=0.1)


@given(
    st.lists(
        st.builds(
            person,
            st.integers(1, 10_000),
            open_minutes=st.integers(0, 3000),
            last_assigned_at=st.none() | st.datetimes(timezones=st.just(UTC), min_value=datetime(2026, 1, 1),  # noqa: DTZ001
                                                     max_value=datetime(2026, 11, 20)),  # noqa: DTZ001
            skills=st.sampled_from([(), SKILL, (Held("hydraulics", 3),)]),
            shifts=st.sampled_from([(), ALWAYS]),
        ),
        unique_by=lambda one: one.id,
        max_size=12,
    ),
    st.randoms(),
)  # fmt: skip
def test_scores_lie_between_0_and_1_and_the_order_of_input_changes_nothing(people: list[Person], shuffle) -> None:  # noqa: ANN001
    first = scoring.rank(JOB, people)
    mixed = list(people)
    shuffle.shuffle(mixed)
    assert scoring.rank(JOB, mixed) == first
    for one in first:
        assert all(0 <= score <= 1 for score in one.scores.values())
        assert (one.removal is None) == bool(one.person.skills and one.person.shifts)
    fit = [one.total for one in first if one.removal is None]
    assert fit == sorted(fit, reverse=True)


def test_the_weights_are_one_in_sum() -> None:
    assert sum(scoring.WEIGHTS.values()) == pytest.approx(1)
    assert set(scoring.WEIGHTS) == set(scoring.OBJECTIVES)
