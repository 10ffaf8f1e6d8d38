"""What an alarm type may say, what is refused and where the fault lies, and what one asset does differently."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kernel import i18n
from rules import conditions, overrides
from rules.conditions import DefinitionRefused, Severity
from tests.rules.probe import over, under

RULES = Path(conditions.__file__).parent

FULL: dict[str, Any] = {
    "schema": 1,
    "create": {
        "critical": {
            "condition": {
                "type": "all",
                "of": [
                    over(100.0, "temperature", deadband=5.0),
                    {
                        "type": "not",
                        "of": {"type": "any", "of": [under(3.0, "pressure"), over(9.0, "pressure")]},
                    },
                ],
            },
            "kind": {"type": "duration", "seconds": 60.0},
        },
        "major": {
            "condition": over(80.0, "temperature"),
            "kind": {"type": "repeating", "times": 3, "window_s": 60.0},
        },
        "warning": {"condition": over(70.0, "temperature", deadband=2.0), "kind": {"type": "simple"}},
    },
    "clear": {
        "type": "rule",
        "condition": under(60.0, "temperature"),
        "kind": {"type": "duration", "seconds": 30.0},
    },
    "message": "temperature is ${temperature}, humidity is ${ humidity }",
}
SHORT: dict[str, Any] = {"schema": 1, "create": {"info": {"condition": over(1.5)}}}


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the full definition with one field replaced."""
    definition: Any = json.loads(json.dumps(FULL))
    *way, last = path.split(".")
    at = definition
    for step in way:
        at = at[int(step) if step.isdigit() else step]
    at[last] = value
    return definition


@pytest.mark.parametrize("stored", [FULL, SHORT], ids=["full", "short"])
def test_a_definition_comes_out_as_it_went_in(stored: dict[str, Any]) -> None:
    definition = conditions.parse(stored)
    assert conditions.dump(definition) == stored
    assert conditions.parse(json.loads(json.dumps(conditions.dump(definition)))) == definition


def test_a_definition_names_its_severities_and_metrics_in_order() -> None:
    definition = conditions.parse(FULL)
    assert [severity for severity, _ in definition.create.by_severity()] == [
        Severity.CRITICAL,
        Severity.MAJOR,
        Severity.WARNING,
    ]
    assert definition.metrics() == ("temperature", "pressure", "humidity")
    assert max(Severity) == Severity.CRITICAL
    assert [one.key for one in sorted(Severity, reverse=True)] == [
        "critical",
        "major",
        "minor",
        "warning",
        "info",
    ]


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("schema", 2, "schema"),
        ("create", {}, "create"),
        ("create.worst", {"condition": over(1)}, "create.worst"),
        ("create.major.condition.limit", "80", "create.major.condition.limit"),
        ("create.major.condition.limit", True, "create.major.condition.limit"),
        ("create.major.condition.limit", float("nan"), "create.major.condition.limit"),
        ("create.major.condition.operator", "~", "create.major.condition.operator"),
        ("create.major.condition.metric", "", "create.major.condition.metric"),
        ("create.major.condition.deadband", -1.0, "create.major.condition.deadband"),
        ("create.major.condition.type", "maybe", "create.major.condition"),
        ("create.major.condition.colour", "red", "create.major.condition.colour"),
        ("create.critical.condition.of", [], "create.critical.condition.of"),
        ("create.critical.condition.of.0.limit", None, "create.critical.condition.of.0.limit"),
        ("create.critical.kind.seconds", "60", "create.critical.kind.seconds"),
        ("create.major.kind.times", 2.5, "create.major.kind.times"),
        ("create.major.kind.window_s", 0, "create.major.kind.window_s"),
        ("clear", {"type": "automatic", "off_delay_s": -1}, "clear.off_delay_s"),
        ("clear", {"type": "sometimes"}, "clear"),
        ("message", "at ${", "message"),
        ("message", "at ${}", "message"),
        ("message", 5, "message"),
    ],
)
def test_a_fault_is_refused_with_the_path_of_its_field(path: str, value: object, field: str) -> None:
    with pytest.raises(DefinitionRefused) as refused:
        conditions.parse(changed(path, value))
    assert refused.value.problems[0].field == field
    assert refused.value.problems[0].sentence


@pytest.mark.parametrize("stored", [None, [], "x", 7, {}, {"schema": 1}])
def test_what_is_no_definition_at_all_is_refused(stored: object) -> None:
    with pytest.raises(DefinitionRefused):
        conditions.parse(stored)


def test_faults_are_told_in_the_readers_language() -> None:
    with pytest.raises(DefinitionRefused) as refused:
        conditions.parse(changed("create.major.condition.deadband", -1.0))
    token = i18n.language.set("zh")
    try:
        assert refused.value.problems[0].sentence == "不得小于 0。"
    finally:
        i18n.language.reset(token)


def test_every_sentence_about_faults_has_its_chinese() -> None:
    said = {
        sentence
        for module in ("conditions", "faults", "overrides")
        for sentence in re.findall(r'noop\(\s*"(.+?)"', (RULES / f"{module}.py").read_text())
    }
    assert len(said) > 20
    assert said - set(i18n.catalogue("zh")) == set()


def test_every_fault_is_listed() -> None:
    stored = changed("create.major.condition.limit", "x")
    stored["clear"]["condition"]["limit"] = "y"
    with pytest.raises(DefinitionRefused) as refused:
        conditions.parse(stored)
    assert [problem.field for problem in refused.value.problems] == [
        "create.major.condition.limit",
        "clear.condition.limit",
    ]


@pytest.mark.parametrize("levels", [17, 5_000])
def test_nesting_without_end_is_refused(levels: int) -> None:
    tree: dict[str, Any] = over(1)
    for _ in range(levels):
        tree = {"type": "not", "of": tree}
    with pytest.raises(DefinitionRefused, match="deep"):
        conditions.parse({"schema": 1, "create": {"major": {"condition": tree}}})


def test_a_tree_of_sixteen_levels_is_accepted_whatever_its_groups() -> None:
    tree: dict[str, Any] = over(1)
    for level in range(16):
        tree = {"type": "not", "of": tree} if level % 2 else {"type": "all", "of": [tree]}
    stored = {"schema": 1, "create": {"major": {"condition": tree}}}
    assert conditions.dump(conditions.parse(stored)) == stored


def test_a_deadband_without_direction_is_refused() -> None:
    equal = {"type": "compare", "metric": "a", "operator": "=", "limit": 3, "deadband": 1.0}
    with pytest.raises(DefinitionRefused, match="direction"):
        conditions.parse({"schema": 1, "create": {"major": {"condition": equal}}})


def test_RUL_11_unknown_metrics_and_a_deadband_wider_than_the_range_are_refused() -> None:
    definition = conditions.parse(FULL)
    conditions.check_metrics(definition, {"temperature": (0, 200), "pressure": None, "humidity": None})
    with pytest.raises(DefinitionRefused) as refused:
        conditions.check_metrics(definition, {"temperature": (0, 4), "humidity": None})
    assert {problem.field for problem in refused.value.problems} == {
        "create.critical.condition.of.1.of.of.0.metric",
        "create.critical.condition.of.1.of.of.1.metric",
        "create.critical.condition.of.0.deadband",
    }


def test_the_message_shows_values_and_a_dash_for_what_is_unknown() -> None:
    values = {"temperature": 50.0, "humidity": 51.25}
    assert conditions.render(FULL["message"], values) == "temperature is 50, humidity is 51.25"
    assert conditions.render("${a} and ${b}", {"a": float("nan")}) == "– and –"


def test_an_override_changes_limits_deadbands_and_durations_only() -> None:
    patch = {
        "limits": {"critical": {"temperature": 95.0}, "major": 85.0, "clear": 55.0},
        "deadbands": {"warning": 1.0},
        "durations_s": {"critical": 120, "clear": 5.0},
    }
    expected = json.loads(json.dumps(FULL))
    expected["create"]["critical"]["condition"]["of"][0]["limit"] = 95.0
    expected["create"]["critical"]["kind"]["seconds"] = 120
    expected["create"]["major"]["condition"]["limit"] = 85.0
    expected["create"]["warning"]["condition"]["deadband"] = 1.0
    expected["clear"]["condition"]["limit"] = 55.0
    expected["clear"]["kind"]["seconds"] = 5.0
    definition = conditions.parse(FULL)
    patched = overrides.with_overrides(definition, patch)
    assert conditions.dump(patched) == expected
    assert conditions.parse(expected) == patched
    assert conditions.dump(definition) == FULL
    assert overrides.with_overrides(definition, {}) == definition


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"limits": {"minor": 5.0}}, "minor"),
        ({"limits": {"critical": 95.0}}, "limits.critical"),
        ({"limits": {"critical": {"pressure": 4.0}}}, "limits.critical"),
        ({"limits": {"major": {"humidity": 4.0}}}, "limits.major"),
        ({"limits": {"major": {"temperature": "x"}}}, "limits.major.temperature"),
        ({"limits": {"major": "95"}}, "limits.major"),
        ({"limits": {"major": 60.0}}, "limits.major"),
        ({"limits": {"worst": 95.0}}, "limits.worst"),
        ({"limits": 95.0}, "limits"),
        ({"deadbands": {"major": -1.0}}, "deadbands.major"),
        ({"durations_s": {"major": 5.0}}, "durations_s.major"),
        ({"colours": {}}, "colours"),
    ],
)
def test_a_nonsensical_override_is_refused(patch: dict[str, Any], field: str) -> None:
    with pytest.raises(DefinitionRefused) as refused:
        overrides.with_overrides(conditions.parse(FULL), patch)
    assert [problem.field for problem in refused.value.problems] == [field]


def test_an_override_of_the_clear_policy_needs_one_that_has_what_it_changes() -> None:
    automatic = conditions.parse(SHORT | {"clear": {"type": "automatic", "off_delay_s": 1.0}})
    longer = overrides.with_overrides(automatic, {"durations_s": {"clear": 9.0}})
    assert conditions.dump(longer)["clear"] == {"type": "automatic", "off_delay_s": 9.0}
    for definition, patch in [
        (automatic, {"limits": {"clear": 9.0}}),
        (automatic, {"durations_s": {"clear": -9.0}}),
        (conditions.parse(SHORT), {"durations_s": {"clear": 9.0}}),
    ]:
        with pytest.raises(DefinitionRefused):
            overrides.with_overrides(definition, patch)
