"""Shifts as stretches of time: nights, changes of the clock, absences."""

import itertools
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from people import hours
from people.hours import Pattern

WEEK = frozenset(range(7))


def day(hour: int, minute: int = 0, *, of: date = date(2026, 11, 18)) -> datetime:
    return datetime.combine(of, time(hour, minute), UTC)


def pattern(starts: str, ends: str, *, zone: str = "UTC", weekdays: frozenset[int] = WEEK, **values: date) -> Pattern:
    since = values.get("valid_from", date(2026, 1, 1))
    return Pattern(
        weekdays, time.fromisoformat(starts), time.fromisoformat(ends), zone, since, values.get("valid_until")
    )


def test_a_day_shift_is_one_stretch_of_its_zones_wall_time() -> None:
    found = hours.stretches([pattern("08:00", "17:00", zone="Asia/Shanghai")], [], day(0), day(23))
    assert found == [(day(0), day(9))]


def test_a_night_shift_belongs_to_the_day_on_which_it_starts() -> None:
    wednesday_night = pattern("22:00", "06:00", weekdays=frozenset({2}))

    assert hours.works_at([wednesday_night], [], day(23))
    assert hours.works_at([wednesday_night], [], day(5, of=date(2026, 11, 19)))
    assert not hours.works_at([wednesday_night], [], day(5))


def test_equal_times_mean_a_whole_day() -> None:
    assert hours.stretches([pattern("08:00", "08:00", weekdays=frozenset({2}))], [], day(0), day(23)) == [
        (day(8), day(23))
    ]


@pytest.mark.parametrize(
    ("on", "hours_worked"),
    [(date(2026, 3, 29), 7), (date(2026, 10, 25), 9), (date(2026, 6, 1), 8)],
    ids=["spring forward", "autumn back", "ordinary"],
)
def test_a_night_shift_over_a_change_of_the_clock_is_as_long_as_the_night(on: date, hours_worked: int) -> None:
    before = on - timedelta(days=1)
    night = pattern("22:00", "06:00", zone="Europe/Berlin", weekdays=frozenset({before.weekday()}))
    [(start, end)] = hours.stretches([night], [], day(12, of=before), day(12, of=on))
    assert end - start == timedelta(hours=hours_worked)


def test_a_wall_time_that_spring_skips_moves_forward_by_the_gap() -> None:
    [(start, _)] = hours.stretches(
        [pattern("02:30", "10:00", zone="Europe/Berlin")],
        [],
        day(0, of=date(2026, 3, 29)),
        day(9, of=date(2026, 3, 29)),
    )
    assert start == day(1, 30, of=date(2026, 3, 29))


def test_an_absence_is_cut_out_and_both_ends_of_the_validity_count() -> None:
    two_days = pattern("08:00", "16:00", valid_from=date(2026, 11, 18), valid_until=date(2026, 11, 19))
    away = (day(10), day(12))

    found = hours.stretches([two_days], [away], day(0, of=date(2026, 11, 10)), day(0, of=date(2026, 11, 30)))

    assert found == [
        (day(8), day(10)),
        (day(12), day(16)),
        (day(8, of=date(2026, 11, 19)), day(16, of=date(2026, 11, 19))),
    ]


moments = st.integers(0, 400).map(lambda n: day(0) + timedelta(minutes=15 * n))
spans = st.tuples(moments, moments).filter(lambda pair: pair[0] < pair[1])


@given(many=st.lists(spans, max_size=8), holes=st.lists(spans, max_size=8), at=moments)
def test_an_instant_is_worked_exactly_when_some_stretch_and_no_hole_covers_it(
    many: list[tuple[datetime, datetime]], holes: list[tuple[datetime, datetime]], at: datetime
) -> None:
    found = hours.without(hours.merged(many), holes)

    covered = any(start <= at < end for start, end in many) and not any(start <= at < end for start, end in holes)
    assert any(start <= at < end for start, end in found) == covered
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))
