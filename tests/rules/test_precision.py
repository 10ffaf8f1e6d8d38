"""How often a rule was right, and the limit that is suggested: worked examples and what holds of any findings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import precision
from rules.precision import Judged


def judged(finding: str, peak: float, operator: str = ">=", limit: float = 95.0) -> Judged:
    return Judged(finding, "temperature", operator, limit, peak)


EIGHT_REAL = [judged("real", peak) for peak in (104, 108, 110, 101, 120, 115, 103, 109)]
TWO_FALSE = [judged("false_alarm", 96.2), judged("false_alarm", 97)]


def test_RUL_16_eight_real_and_two_false_are_80_percent_and_nothing_found_decides_nothing() -> None:
    found = precision.quality([*EIGHT_REAL, *TWO_FALSE, Judged("nothing_found")])
    assert (found.real, found.false, found.nothing, found.percent) == (8, 2, 1, 80.0)
    assert precision.quality([Judged("nothing_found")]).percent is None


def test_RUL_16_the_suggested_limit_keeps_all_real_alarms_and_drops_false_ones() -> None:
    [one] = precision.suggestions([*EIGHT_REAL, *TWO_FALSE])
    assert (one.limit, one.suggested, one.real, one.false, one.spared) == (95.0, 99.0, 8, 2, 2)
    upside_down = [judged(one.finding, -(one.peak or 0), "<", -95.0) for one in (*EIGHT_REAL, *TWO_FALSE)]
    assert [one.suggested for one in precision.suggestions(upside_down)] == [-99.0]


@pytest.mark.parametrize(
    "findings",
    [
        EIGHT_REAL,
        [*EIGHT_REAL[:2], *TWO_FALSE],
        [*EIGHT_REAL, judged("false_alarm", 130)],
        [*EIGHT_REAL, judged("real", 95), *TWO_FALSE],
        [Judged(one.finding) for one in (*EIGHT_REAL, *TWO_FALSE)],
        [judged(one.finding, one.peak or 0, "==") for one in (*EIGHT_REAL, *TWO_FALSE)],
    ],
)
def test_RUL_16_nothing_is_suggested_where_findings_show_nothing_better(findings: list[Judged]) -> None:
    assert precision.suggestions(findings) == []


@given(st.lists(st.tuples(st.sampled_from(["real", "false_alarm", "nothing_found"]), st.floats(95, 200)), max_size=40))
def test_RUL_16_a_suggestion_is_stricter_and_loses_no_real_alarm(findings: list[tuple[str, float]]) -> None:
    for one in precision.suggestions([judged(finding, peak) for finding, peak in findings]):
        assert one.suggested > one.limit
        assert all(peak >= one.suggested for finding, peak in findings if finding == "real")
        missed = sum(peak < one.suggested for finding, peak in findings if finding == "false_alarm")
        assert one.spared == missed > 0
