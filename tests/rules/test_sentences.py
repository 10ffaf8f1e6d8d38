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
        (leaf(operator="=", limit=5) | {"tolerance": 0.5}, None, "Temperature = 5 °C ± 0.5 °C"),
        (leaf() | {"default": 20.0}, None, "Temperature ≥ 95 °C (20 °C until there is a value)"),
        (leaf() | {"limit": {"metric": "outlet", "plus": 5.0}}, None, "Temperature ≥ outlet + 5 °C"),
        (leaf() | {"limit": {"metric": "outlet", "plus": -5.0}}, None, "Temperature ≥ outlet − 5 °C"),
        (leaf() | {"view": {"type": "previous"}}, None, "previous Temperature ≥ 95 °C"),
        (leaf() | {"view": {"type": "difference"}}, None, "change of Temperature ≥ 95 °C"),
        (leaf(limit=2) | {"view": {"type": "rate"}}, None, "change of Temperature per minute ≥ 2 °C/min"),
        (
            leaf() | {"view": {"type": "window", "function": "avg", "seconds": 600.0}},
            None,
            "mean of Temperature over 10 min ≥ 95 °C",
        ),
        (
            leaf("running", ">", 3) | {"view": {"type": "window", "function": "count", "samples": 5}},
            None,
            "number of samples of Running over the last 5 samples > 3",
        ),
        ({"type": "between", "metric": "pressure", "low": 2.0, "high": 4.0}, None, "Pressure between 2 bar and 4 bar"),
        (
            {"type": "among", "metric": "running", "operator": "not_in", "values": [1.0, 3.0]},
            None,
            "Running is none of 1, 3",
        ),
        ({"type": "boolean", "metric": "running", "operator": "is_not", "value": True}, None, "Running is not true"),
        (
            {"type": "text", "metric": "mode", "operator": "starts", "value": "E4", "default": "ok"},
            None,
            "mode begins with “E4” (ok until there is a value)",
        ),
        (
            {"type": "text", "metric": "mode", "operator": "in", "values": ["run", "idle"]},
            None,
            "mode is one of “run”, “idle”",
        ),
        ({"type": "no_data", "seconds": 60.0, "metric": "pressure"}, None, "no data of Pressure for 1 min"),
        (
            {"type": "no_data", "seconds": 60.0, "of": "device", "metric": "pressure"},
            None,
            "no data from the device of Pressure for 1 min",
        ),
        ({"type": "no_data", "seconds": 60.0, "of": "asset"}, None, "no data from any of its devices for 1 min"),
        (
            {"type": "no_data", "seconds": 60.0, "of": "asset", "which": "any"},
            None,
            "no data from one of its devices for 1 min",
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


@pytest.mark.usefixtures("in_chinese")
def test_what_a_rule_looks_at_reads_in_chinese() -> None:
    mean = leaf() | {"view": {"type": "window", "function": "avg", "seconds": 600.0}}
    mode = {"type": "text", "metric": "mode", "operator": "not_in", "values": ["run", "idle"]}
    said = told({"critical": {"condition": {"type": "all", "of": [mean, mode]}}})
    assert said.create == (("critical", "Temperature 在 10 分钟 内的平均值 ≥ 95 °C 且 mode 不属于 “run”, “idle”"),)


def test_schedules_and_quiet_endings_read_as_sentences() -> None:
    windows = [{"start": "22:00", "end": "06:00", "days": [1, 5]}, {"start": "12:00", "end": "13:00"}]
    schedule = {"type": "weekly", "windows": windows, "holidays": ["2026-10-01"]}
    said = told({"major": {"condition": leaf(), "schedule": schedule}}, {"type": "quiet", "seconds": 600.0})
    when = "in force Mon, Fri 22:00–06:00; daily 12:00–13:00; 1 dates apart"
    assert said.create == (("major", f"Temperature ≥ 95 °C, {when}"),)
    assert said.clear == "ends when it has not recurred for 10 min"
