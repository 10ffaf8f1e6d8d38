"""Rules said as sentences, in both languages."""

from collections.abc import Iterator
from typing import Any

import pytest

from kernel import i18n
from rules import conditions, sentences
from rules.sentences import Word

WORDS = {
    "temperature": Word("Temperature", "°C"),
    "pressure": Word("Pressure", "bar"),
    "running": Word("Running"),
}


def leaf(metric: str = "temperature", operator: str = ">=", limit: float = 95, deadband: float = 0) -> dict[str, Any]:
    made = {"type": "compare", "metric": metric, "operator": operator, "limit": float(limit)}
    return made | ({"deadband": float(deadband)} if deadband else {})


def told(create: dict[str, Any], clear: dict[str, Any] | None = None) -> sentences.Told:
    stored = {"schema": 1, "create": create} | ({"clear": clear} if clear else {})
    return sentences.told(conditions.parse(stored), WORDS)


@pytest.fixture
def in_chinese() -> Iterator[None]:
    token = i18n.language.set("zh")
    yield
    i18n.language.reset(token)


@pytest.mark.parametrize(
    ("condition", "kind", "sentence"),
    [
        (leaf(), None, "Temperature ≥ 95 °C"),
        (leaf(), {"type": "duration", "seconds": 0.0}, "Temperature ≥ 95 °C"),
        (leaf(), {"type": "duration", "seconds": 90.0}, "Temperature ≥ 95 °C for 90 s"),
        (leaf(), {"type": "duration", "seconds": 600.0}, "Temperature ≥ 95 °C for 10 min"),
        (leaf(), {"type": "duration", "seconds": 7200.0}, "Temperature ≥ 95 °C for 2 h"),
        (leaf(), {"type": "duration", "seconds": -1.0}, "never (Temperature ≥ 95 °C)"),
        (leaf(), {"type": "repeating", "times": 1}, "Temperature ≥ 95 °C"),
        (leaf(), {"type": "repeating", "times": 3}, "Temperature ≥ 95 °C, 3 times in a row"),
        (
            leaf(),
            {"type": "repeating", "times": 3, "window_s": 60.0},
            "Temperature ≥ 95 °C, 3 times within 1 min",
        ),
        (leaf("running", "!=", 1), None, "Running ≠ 1"),
        (leaf("unknown", "<", -2.5), None, "unknown < −2.5"),
        ({"type": "not", "of": leaf()}, None, "not (Temperature ≥ 95 °C)"),
        (
            {
                "type": "all",
                "of": [leaf(), {"type": "any", "of": [leaf("pressure", "<", 2), leaf("running", "=", 0)]}],
            },
            None,
            "Temperature ≥ 95 °C and (Pressure < 2 bar or Running = 0)",
        ),
    ],
)
def test_a_rule_reads_as_a_sentence(condition: dict[str, Any], kind: dict[str, Any] | None, sentence: str) -> None:
    rule = {"condition": condition} | ({"kind": kind} if kind else {})
    assert told({"major": rule}).create == (("major", sentence),)


@pytest.mark.parametrize(
    ("create", "clear", "sentence"),
    [
        ({"major": {"condition": leaf()}}, None, "ends only by hand"),
        ({"major": {"condition": leaf()}}, {"type": "automatic"}, "ends by itself when Temperature < 95 °C"),
        (
            {
                "critical": {"condition": leaf(limit=102, deadband=3)},
                "minor": {"condition": leaf(limit=88, deadband=3)},
            },
            {"type": "automatic", "off_delay_s": 10.0},
            "ends by itself when Temperature < 85 °C for 10 s",
        ),
        (
            {"major": {"condition": leaf("pressure", "<", 2, deadband=0.5)}},
            {"type": "automatic"},
            "ends by itself when Pressure ≥ 2.5 bar",
        ),
        # The critical rule lets go later than the minor one: no single comparison says it.
        (
            {"critical": {"condition": leaf(limit=90, deadband=20)}, "minor": {"condition": leaf(limit=88)}},
            {"type": "automatic"},
            "ends by itself",
        ),
        (
            {"major": {"condition": {"type": "all", "of": [leaf(), leaf("pressure")]}}},
            {"type": "automatic"},
            "ends by itself",
        ),
        ({"major": {"condition": leaf("running", "=", 0)}}, {"type": "automatic"}, "ends by itself"),
        (
            {"major": {"condition": leaf()}},
            {
                "type": "rule",
                "condition": leaf(operator="<", limit=80),
                "kind": {"type": "duration", "seconds": 30.0},
            },
            "ends when Temperature < 80 °C for 30 s",
        ),
    ],
)
def test_the_end_of_an_alarm_reads_as_a_sentence(
    create: dict[str, Any], clear: dict[str, Any] | None, sentence: str
) -> None:
    assert told(create, clear).clear == sentence


@pytest.mark.usefixtures("in_chinese")
def test_a_rule_reads_in_chinese() -> None:
    rule = {"condition": leaf(deadband=5), "kind": {"type": "duration", "seconds": 60.0}}
    said = told({"critical": rule}, {"type": "automatic"})
    assert said.create == (("critical", "Temperature ≥ 95 °C，持续 1 分钟"),)
    assert said.clear == "Temperature < 90 °C 时自动恢复"
