"""SEMANTICS M9 as a table, and what is refused."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Invalid
from maintenance.plans import recurrence
from maintenance.plans.recurrence import Recurrence

WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def due(rule: str, starts: date, at: time = time(8), zone: str = "UTC", count: int = 4) -> list[str]:
    made = Recurrence(recurrence.parse(rule), starts, at, zone)
    found: list[recurrence.Target] = []
    after = None
    while len(found) < count and (target := recurrence.following(made, after)):
        found.append(target)
        after = target.due_at
    return [target.key for target in found]


@pytest.mark.parametrize(
    ("rule", "starts", "expected"),
    [
        ("FREQ=MONTHLY;BYMONTHDAY=31", date(2025, 1, 31), ["2025-01-31", "2025-03-31", "2025-05-31", "2025-07-31"]),
        ("FREQ=MONTHLY;BYMONTHDAY=-1", date(2025, 1, 31), ["2025-01-31", "2025-02-28", "2025-03-31", "2025-04-30"]),
        (
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE",
            date(2025, 1, 2),
            ["2025-01-13", "2025-01-15", "2025-01-27", "2025-01-29"],
        ),
        ("FREQ=MONTHLY;BYDAY=-1FR", date(2025, 1, 1), ["2025-01-31", "2025-02-28", "2025-03-28", "2025-04-25"]),
        (
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
            date(2024, 1, 1),
            ["2024-02-29", "2028-02-29", "2032-02-29", "2036-02-29"],
        ),
        ("FREQ=DAILY;COUNT=2", date(2025, 1, 1), ["2025-01-01", "2025-01-02"]),
    ],
)
def test_a_rule_gives_its_dates(rule: str, starts: date, expected: list[str]) -> None:
    assert [key[:10] for key in due(rule, starts)] == expected


def test_a_wall_time_in_the_spring_gap_is_read_with_the_offset_before_it() -> None:
    berlin = Recurrence("FREQ=DAILY", date(2025, 3, 29), time(2, 30), "Europe/Berlin")
    first = recurrence.following(berlin, datetime(2025, 3, 29, 12, tzinfo=UTC))
    assert first == recurrence.Target("2025-03-30T02:30", datetime(2025, 3, 30, 1, 30, tzinfo=UTC))


def test_a_wall_time_that_comes_twice_means_the_first() -> None:
    berlin = Recurrence("FREQ=DAILY", date(2025, 10, 25), time(2, 30), "Europe/Berlin")
    first = recurrence.following(berlin, datetime(2025, 10, 25, 12, tzinfo=UTC))
    assert first == recurrence.Target("2025-10-26T02:30", datetime(2025, 10, 26, 0, 30, tzinfo=UTC))


def test_a_rule_that_never_matches_ends() -> None:
    assert due("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", date(2025, 1, 1)) == []


@pytest.mark.parametrize(
    "rule",
    [
        "", "FREQ=HOURLY", "FREQ=DAILY;BYSETPOS=1", "FREQ=YEARLY;BYWEEKNO=20", "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;COUNT=x",
        "FREQ=WEEKLY;BYDAY=1MO", "FREQ=WEEKLY;BYMONTHDAY=3", "FREQ=DAILY;FREQ=DAILY", "FREQ=MONTHLY;BYDAY=XX",
        "FREQ=DAILY;UNTIL=20250101", "FREQ=WEEKLY;WKST=SU", "FREQ=MONTHLY;BYMONTHDAY=0", "FREQ=YEARLY;BYDAY=MO",
    ],
)  # fmt: skip
def test_what_is_outside_the_subset_is_refused_by_name(rule: str) -> None:
    with pytest.raises(Invalid) as refused:
        recurrence.parse(rule)
    assert refused.value.field == "rrule"


@given(
    interval=st.integers(1, 9),
    count=st.none() | st.integers(1, 40),
    months=st.none() | st.sets(st.integers(1, 12), min_size=1, max_size=4),
    days=st.none() | st.sets(st.integers(1, 31) | st.integers(-31, -1), min_size=1, max_size=4),
    weekdays=st.none() | st.sets(st.sampled_from(WEEKDAYS), min_size=1),
    starts=st.dates(date(2023, 12, 1), date(2025, 3, 31)),
)
def test_PM_6_a_daily_rule_falls_on_every_nth_day_that_fits_all_its_parts(
    interval: int,
    count: int | None,
    months: set[int] | None,
    days: set[int] | None,
    weekdays: set[str] | None,
    starts: date,
) -> None:
    said = {"COUNT": count and {count}, "BYMONTH": months, "BYMONTHDAY": days, "BYDAY": weekdays}
    rule = f"FREQ=DAILY;INTERVAL={interval}" + "".join(
        f";{name}={','.join(map(str, chosen))}" for name, chosen in said.items() if chosen
    )
    until = date(2028, 3, 1)
    expected = [
        one
        for one in (starts + timedelta(days=n) for n in range(0, (until - starts).days, interval))
        if (months is None or one.month in months)
        and (days is None or one.day in days or one.day - monthrange(one.year, one.month)[1] - 1 in days)
        and (weekdays is None or WEEKDAYS[one.weekday()] in weekdays)
    ][:count]
    made = Recurrence(recurrence.parse(rule), starts, time(12), "UTC")
    found = recurrence.targets(made, after=None, until=datetime.combine(until, time(0), UTC))
    assert [one.due_at.date() for one in found] == expected
