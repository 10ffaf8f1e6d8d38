"""Expressions over metrics and assets: what they mean, where they are wrong, and that no more can be said (RUL-8)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from rules import formulas
from rules.conditions import DefinitionRefused
from rules.formulas import FormulaRefused
from tests.rules.probe import Probe, alarm_type, words

HELD = {"p": 3.0, "q": 2.0, "zero": 0.0, "mode": "run", "digits": "7", "none": None, "inlet.p": 4.0}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("p - q > 0.4", True),
        ("p-q>=1 && inlet.p == 4", True),
        ("inlet.p - p > limit", True),
        ("2 + 3 * 4 == 14 && (2 + 3) * 4 == 20", True),
        ("10 - 3 - 2 == 5 && 8 / 4 / 2 == 1", True),
        ("-p < 0 and not (q > p)", True),
        ("!true || false", False),
        ("min(p, q, 1) == 1 && max(p, q) == 3 && abs(-2) == 2", True),
        ("7 % 4 == 3", True),
        ("digits + 1 == 8", True),
        ('mode == "run"', True),
        ("mode != 'run'", False),
        ("mode > 3", None),
        ("p", True),
        ("zero", False),
        ("mode", None),
        ("p / zero > 1", None),
        ("p % zero == 0", None),
        ("1e308 * 10 > 1", None),
        ("none > 1", None),
        ("none > 1 || p > 1", True),
        ("none > 1 && p > 9", False),
        ("none > 1 && p > 1", None),
        ("!(none > 1)", None),
        ("`p` > 1", True),
        ("1 < 2 == true", None),
    ],
)
def test_RUL_8_an_expression_means_what_it_says(text: str, answer: bool | None) -> None:  # noqa: FBT001
    if text == "1 < 2 == true":
        with pytest.raises(FormulaRefused):
            formulas.read(text)
        return
    assert formulas.read(text).ask(HELD, {"limit": 0.5}) is answer


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("p >", 4),
        ("p > > 1", 5),
        ("p > 1)", 6),
        ("(p > 1", 7),
        ("p @ 1", 3),
        ("", 1),
        ("p.map(x, x)", 6),
        ("[1, 2]", 1),
        ("__import__('os')", 11),
        ("p = 1", 3),
        ("p; q", 2),
        ("abs(1, 2)", 6),
        ('"un', 1),
        ("(" * 40 + "1" + ")" * 40, 33),
    ],
)
def test_RUL_8_an_error_is_told_with_its_position(text: str, at: int) -> None:
    with pytest.raises(FormulaRefused) as refused:
        formulas.read(text)
    assert refused.value.at == at


numbers = st.integers(0, 9).map(str)
sums = st.recursive(
    numbers,
    lambda inner: st.builds(lambda a, sign, b: f"({a} {sign} {b})", inner, st.sampled_from("+-*/"), inner),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(left=sums, sign=st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), right=sums)
def test_RUL_8_arithmetic_is_that_of_python_and_a_division_by_zero_is_unknown(left: str, sign: str, right: str) -> None:
    text = f"{left} {sign} {right}"
    try:
        expected: Any = eval(text)  # noqa: S307 - digits, signs and brackets that this test made
    except ZeroDivisionError:
        expected = None
    assert formulas.read(text).ask({}, {}) is expected


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab1.0 +-*/%()<>=!&|,'\"`", max_size=60))
def test_RUL_8_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        assert formulas.read(text).ask({"a": 1.0, "b": None}, {}) in {True, False, None}
    except FormulaRefused:
        assert text.strip() != "a"


def expression(formula: str, **more: Any) -> dict[str, Any]:
    return {"type": "expression", "formula": formula, **more}


def test_RUL_8_an_expression_over_two_assets_raises_and_clears() -> None:
    rule = expression(
        "inlet.p - outlet.p > gap and running", assets={"inlet": "A", "outlet": "B"}, constants={"gap": 0.4}
    )
    definition = alarm_type(major=rule, clear={"type": "automatic"})
    assert definition.metrics() == ("inlet.p", "outlet.p", "running")
    probe = Probe(definition)
    assert probe.feed_rows([(1, 0, 3), (2, 0, 2.7)]) == []
    assert probe.feed_rows([(3, 1, 1)]) == []
    assert words(probe.feed_rows([(2, 2, 2.5)])) == ["Raised major"]
    assert words(probe.feed_rows([(3, 3, 0)])) == ["Cleared major"]


def test_RUL_8_a_division_by_zero_raises_nothing_and_clears_nothing() -> None:
    probe = Probe(alarm_type(major=expression("p / n > 2"), clear={"type": "automatic"}))
    assert probe.feed(0, 6, 0) == []
    assert words(probe.feed(1, 6, 1)) == ["Raised major"]
    assert probe.feed(2, 6, 0) == []
    assert words(probe.feed(3, 1, 1)) == ["Cleared major"]


def test_RUL_8_a_division_by_zero_is_logged_once_for_an_expression() -> None:
    formula = formulas.read("p / zero > 41.7")
    with capture_logs() as logged:
        assert [formula.ask(HELD, {}) for _ in range(3)] == [None, None, None]
    assert [(one["expression"], one["error"]) for one in logged] == [("p / zero > 41.7", "ZeroDivisionError")]


@pytest.mark.parametrize(
    ("made", "field", "said"),
    [
        (expression("p >"), "formula", "At character 4: something is missing."),
        (expression("p @ 1"), "formula", "At character 3: @ does not belong here."),
        (expression("1 > 0"), "", "An expression looks at one metric at least."),
        (expression("p > 1", constants={"p": "x"}), "constants.p", "A number is needed."),
        (
            expression("p > 1 && x.q", assets={"1x": "A"}),
            "assets.1x",
            "This cannot be the key of a metric.",
        ),
    ],
)
def test_RUL_8_what_cannot_be_read_is_refused_and_nothing_is_saved(made: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(DefinitionRefused) as refused:
        alarm_type(major=made)
    path = "create.major.condition"
    assert refused.value.problems[0].field == (f"{path}.{field}" if field else path)
    assert refused.value.problems[0].sentence == said
