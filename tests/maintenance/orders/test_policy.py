"""What an alarm asks for, decided without a database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Invalid
from maintenance.orders import policy
from maintenance.orders.policy import Line
from rules.models import SEVERITIES


def line(does: str, **more: object) -> Line:
    return Line(**{"severity": "critical", "does": does, **more})


def test_IN_1_the_types_lines_come_before_the_companys_and_those_before_what_is_delivered() -> None:
    company = [line("request"), line("none", severity="major")]
    assert policy.choose([line("none")], company, "rule", "critical").level == "type"
    assert policy.choose([], company, "rule", "critical").line.does == "request"
    assert policy.choose([line("none")], company, "rule", "major").level == "company"
    chosen = policy.choose([line("none")], company, "rule", "minor")
    assert (chosen.level, chosen.line.does) == ("delivered", "none")


def test_IN_1_a_site_is_narrower_than_a_criticality_and_both_than_either() -> None:
    lines = [
        line("none"),
        line("request", criticality=3),
        line("order", criticality=1),
        line("order", site_id=7, delay_s=60),
        line("order", site_id=7, criticality=2, delay_s=5),
    ]

    def chosen(**where: int | None) -> Line:
        return policy.choose(lines, [], "rule", "critical", **where).line

    assert chosen(site_id=1, criticality=4) == lines[0]
    assert chosen(site_id=1, criticality=2) == lines[1]
    assert chosen(site_id=1, criticality=1) == lines[2]
    assert chosen(site_id=7, criticality=4) == lines[3]
    assert chosen(site_id=7, criticality=1) == lines[4]
    assert chosen() == lines[0], "a device without an asset stands nowhere and matters to nobody in particular"


@pytest.mark.parametrize(("source", "least"), [("rule", "major"), ("device", "minor")])
def test_where_nobody_said_anything_rules_open_orders_from_major_and_codes_from_minor(source: str, least: str) -> None:
    assert policy.least([], [], source) == least


@given(st.sampled_from([*SEVERITIES, None]))
def test_a_least_severity_survives_the_way_through_the_table(severity: str | None) -> None:
    lines = policy.from_least(severity)
    policy.check(lines)
    assert policy.least(lines, [], "rule") == severity


def test_a_least_severity_keeps_what_is_narrowed_and_what_a_line_says_besides() -> None:
    kept = [line("order", delay_s=600), line("none", site_id=3)]
    lines = policy.from_least("major", kept)
    assert lines[0] == kept[0]
    assert lines[-1] == kept[1]


@pytest.mark.parametrize(
    ("lines", "field"),
    [
        ([line("order"), line("none")], "lines"),
        ([line("shout")], "does"),
        ([line("order", severity="loud")], "severity"),
        ([line("order", delay_s=-1)], "delay"),
        ([line("order", priority=5)], "priority"),
        ([line("order", criticality=0)], "criticality"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(lines: list[Line], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        policy.check(lines)
    assert refused.value.field == field


@given(
    st.lists(
        st.builds(
            Line,
            severity=st.sampled_from(SEVERITIES),
            does=st.sampled_from(list(policy.DOES)),
            site_id=st.none() | st.integers(1, 3),
            criticality=st.none() | st.integers(1, 4),
        ),
        unique_by=lambda one: one.place,
    ),
    st.sampled_from(SEVERITIES),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(1, 4),
)
def test_whatever_is_written_one_line_decides_and_it_fits(
    lines: list[Line], severity: str, site_id: int | None, criticality: int | None
) -> None:
    chosen = policy.choose(lines, [], "rule", severity, site_id=site_id, criticality=criticality)
    assert chosen.line.severity == severity
    assert chosen.line.site_id in {None, site_id}
    assert chosen.line.criticality is None or (criticality is not None and criticality <= chosen.line.criticality)
