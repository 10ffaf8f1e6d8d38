"""Schedules against a walk through every minute, and the nights on which clocks change (A14)."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules import schedules
from rules.outcome import LONG_AGO, NEVER
from rules.schedules import Openings, Schedule

MINUTE_MS = 60_000


def weekly(*windows: tuple[str, str, list[int]], **more: Any) -> Schedule:
    listed = [{"start": start, "end": end, "days": days} for start, end, days in windows]
    return schedules.parse({"type": "weekly", "windows": listed, **more})


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NIGHTS = weekly(("22:00", "06:00", [1, 2, 3, 4, 5, 6, 7]))


@pytest.mark.parametrize(
    ("opens", "closes", "hours"),
    [("2025-03-29T21:00", "2025-03-30T04:00", 7), ("2025-10-25T20:00", "2025-10-26T05:00", 9)],
)
def test_RUL_9_a_night_in_berlin_is_shorter_or_longer_when_clocks_change(opens: str, closes: str, hours: int) -> None:
    berlin = Openings(NIGHTS, "Europe/Berlin")
    assert berlin.next_edge_ms(at(opens) - 1) == at(opens)
    assert berlin.next_edge_ms(at(opens)) == at(closes)
    assert at(closes) - at(opens) == hours * 3_600_000
    assert [berlin.is_open(at(edge) + move) for edge in (opens, closes) for move in (-1, 0)] == [
        False,
        True,
        True,
        False,
    ]


def test_RUL_9_an_overnight_window_belongs_to_the_day_on_which_it_starts() -> None:
    fridays = Openings(weekly(("22:00", "06:00", [5])), "UTC")
    assert fridays.is_open(at("2025-06-07T05:59")), "Saturday morning"
    assert not fridays.is_open(at("2025-06-06T05:00")), "Friday morning is Thursday's"


def test_RUL_9_exceptions_make_up_workdays_and_holidays_come_in_this_order() -> None:
    made = weekly(
        ("08:00", "18:00", [1, 2, 3, 4]),
        ("08:00", "12:00", [5]),
        holidays=["2024-10-01", "2024-10-12", "2024-10-02"],
        workdays=[{"date": "2024-10-12"}, {"date": "2024-10-13", "weekday": 5}, {"date": "2024-10-02", "weekday": 5}],
        exceptions=[{"date": "2024-10-02", "windows": [{"start": "20:00", "end": "21:00"}]}, {"date": "2024-10-03"}],
    )
    china = Openings(made, "Asia/Shanghai")

    def is_open(day: str, hour: int) -> bool:
        return china.is_open(at(f"{day}T{hour:02}:00") - 8 * 3_600_000)

    assert not is_open("2024-10-01", 9), "a holiday"
    assert (is_open("2024-10-12", 17), is_open("2024-10-13", 11), is_open("2024-10-13", 13)) == (True, True, False)
    assert (is_open("2024-10-02", 9), is_open("2024-10-02", 20)) == (False, True), "the exception comes first"
    assert not is_open("2024-10-03", 9), "an exception without hours closes"


def test_RUL_9_always_and_never_have_no_edges() -> None:
    always, never = (Openings(one, "UTC") for one in (weekly(("00:00", "00:00", [1, 2, 3, 4, 5, 6, 7])), weekly()))
    now = at("2025-06-07T05:59")
    assert (always.is_open(now), always.next_edge_ms(now)) == (True, NEVER)
    assert (never.is_open(now), never.next_edge_ms(now)) == (False, NEVER)
    assert (always.is_open(LONG_AGO), always.next_edge_ms(LONG_AGO)) == (False, NEVER)


def test_RUL_9_an_edge_may_be_months_away() -> None:
    once = weekly(exceptions=[{"date": "2025-12-24", "windows": [{"start": "10:00", "end": "10:01"}]}])
    openings = Openings(once, "UTC")
    assert openings.next_edge_ms(at("2025-03-01T00:00")) == at("2025-12-24T10:00")
    assert openings.next_edge_ms(at("2025-12-24T10:00")) == at("2025-12-24T10:01")
    assert openings.next_edge_ms(at("2025-12-24T10:01")) == NEVER


walls = st.builds(lambda h, m: f"{h:02}:{m:02}", st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
hours_of = st.builds(lambda start, end: {"start": start, "end": end}, walls, walls)
windows = st.builds(
    lambda one, days: one | {"days": sorted(days)}, hours_of, st.sets(st.integers(1, 7), min_size=1, max_size=7)
)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Shanghai"]
STARTS = [date(2025, 3, 28), date(2025, 10, 24), date(2025, 3, 7), date(2025, 10, 31), date(2025, 4, 4)]


def is_open_by_the_book(schedule: Schedule, zone: ZoneInfo, moment: datetime) -> bool:
    """Look at every window of yesterday and today."""
    today = moment.astimezone(zone).date()
    for day in (today - timedelta(days=1), today):
        text = day.isoformat()
        exceptions = [one for one in schedule.exceptions if one.date == text]
        named = [one for one in schedule.workdays if one.date == text]
        if exceptions:
            found: Any = exceptions[-1].windows
        elif named:
            found = [one for one in schedule.windows if named[-1].weekday in one.days]
        elif text in schedule.holidays:
            found = []
        else:
            found = [one for one in schedule.windows if day.isoweekday() in one.days]
        for one in found:
            start = datetime.fromisoformat(f"{text}T{one.start}").replace(tzinfo=zone)
            end = datetime.fromisoformat(f"{text}T{one.end}").replace(tzinfo=zone)
            if one.end <= one.start:
                end = datetime.fromisoformat(f"{day + timedelta(days=1)}T{one.end}").replace(tzinfo=zone)
            if start.astimezone(UTC) <= moment < end.astimezone(UTC):
                return True
    return False


@settings(max_examples=25, deadline=None)
@given(
    windows=st.lists(windows, max_size=3),
    place=st.integers(0, 4),
    dated=st.lists(st.tuples(st.integers(0, 4), st.lists(hours_of, max_size=2)), max_size=2),
    workdays=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 7)), max_size=2),
    holidays=st.lists(st.integers(0, 4), max_size=2),
)
def test_RUL_9_membership_and_edges_are_those_of_a_walk_through_every_minute(
    windows: list[Any], place: int, dated: list[Any], workdays: list[Any], holidays: list[int]
) -> None:
    first = STARTS[place]
    days = [(first + timedelta(days=offset)).isoformat() for offset in range(5)]
    schedule = schedules.parse(
        {
            "type": "weekly",
            "windows": windows,
            "exceptions": [{"date": days[day], "windows": some} for day, some in dated],
            "workdays": [{"date": days[day], "weekday": weekday} for day, weekday in workdays],
            "holidays": [days[day] for day in holidays],
        }
    )
    zone = ZoneInfo(ZONES[place])
    openings = Openings(schedule, zone.key)
    begin_ms = at(first.isoformat())
    walked = []
    for minute in range(0, 4 * 1440, 3):
        at_ms = begin_ms + minute * MINUTE_MS
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
        walked.append(is_open_by_the_book(schedule, zone, moment))
        assert openings.is_open(at_ms) == walked[-1], moment
    # Every change lies within the three minutes after the last edge that was told.
    edge = openings.next_edge_ms(begin_ms)
    for step, (before, after) in enumerate(pairwise(walked)):
        at_ms = begin_ms + 3 * step * MINUTE_MS
        edges = []
        while edge <= at_ms + 3 * MINUTE_MS:
            edges.append(edge)
            edge = openings.next_edge_ms(edge)
        assert len(edges) % 2 == (before != after)


@pytest.mark.parametrize(
    ("made", "field"),
    [
        ({"windows": [{"start": "24:00", "end": "01:00"}]}, "windows"),
        ({"windows": [{"start": "8:00", "end": "09:00"}]}, "windows"),
        ({"windows": [{"start": "08:00", "end": "09:00", "days": [8]}]}, "windows"),
        ({"holidays": ["2025-02-30"]}, "holidays"),
        ({"exceptions": [{"date": "2025-13-01"}]}, "exceptions"),
        ({"zone": "Mars/Base"}, ""),
    ],
)
def test_RUL_9_what_is_no_schedule_is_refused(made: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field or "zone"):
        schedules.parse({"type": "weekly", **made})
