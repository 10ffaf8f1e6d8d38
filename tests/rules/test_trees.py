"""What a comparison may look at, case by case: operators and types, defaults, other metrics, views of the past."""

import random
from typing import Any

import numpy as np
import pytest

from rules import conditions
from rules.compiled import compile_definition
from rules.computed import Computed
from rules.conditions import DefinitionRefused
from rules.outcome import HOLD_FOREVER_MS, Instance, Watched
from rules.values import Values
from tests.rules.probe import Probe, alarm_type, ms, over, words
from tests.rules.reference import Said, Subject, Value, as_number

NAN = float("nan")


def compare(operator: str, limit: Any, **more: Any) -> dict[str, Any]:
    return {"type": "compare", "metric": "a", "operator": operator, "limit": limit, **more}


def text(operator: str, *values: str, **more: Any) -> dict[str, Any]:
    wanted: dict[str, Any] = {"values": list(values)} if operator.endswith("in") else {"value": values[0]}
    return {"type": "text", "metric": "a", "operator": operator, **wanted, **more}


def boolean(operator: str, *, value: bool, **more: Any) -> dict[str, Any]:
    return {"type": "boolean", "metric": "a", "operator": operator, "value": value, **more}


def between(low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"type": "between", "metric": "a", "low": low, "high": high, **more}


def among(operator: str, *values: float, **more: Any) -> dict[str, Any]:
    return {"type": "among", "metric": "a", "operator": operator, "values": list(values), **more}


CASES: list[tuple[dict[str, Any], Said, bool | None]] = [
    (compare("=", 5), 5.0, True),
    (compare("=", 5), 5.000001, False),
    (compare("=", 5, tolerance=0.5), 5.5, True),
    (compare("=", 5, tolerance=0.5), 5.51, False),
    (compare("!=", 5), 5.0, False),
    (compare("!=", 5), 4.0, True),
    (compare("!=", 5, tolerance=0.5), 5.4, False),
    (compare("!=", 5, tolerance=0.5), 4.4, True),
    (compare(">", 5), 5.0, False),
    (compare(">", 5), 5.1, True),
    (compare(">=", 5), 5.0, True),
    (compare(">=", 5), 4.9, False),
    (compare("<", 5), 5.0, False),
    (compare("<", 5), -5.0, True),
    (compare("<=", 5), 5.0, True),
    (compare("<=", 5), 5.1, False),
    (compare(">=", 5), "7.5", True),
    (compare(">=", 5), " -1e1 ", False),
    (compare(">=", 5), "1_000", None),
    (compare(">=", 5), "hot", None),
    (compare("!=", 5), "nan", None),
    (compare(">=", 5), None, None),
    (compare("!=", 5), None, None),
    (between(2, 4), 2.0, True),
    (between(2, 4), 4.0, True),
    (between(2, 4), 4.1, False),
    (between(2, 4), "3", True),
    (between(2, 4), "x", None),
    (among("in", 1, 3), 3.0, True),
    (among("in", 1, 3), 2.0, False),
    (among("in", 1, 3, tolerance=0.25), 2.75, True),
    (among("in", 1, 3), "3", True),
    (among("not_in", 1, 3), 2.0, True),
    (among("not_in", 1, 3), 1.0, False),
    (among("not_in", 1, 3), None, None),
    (boolean("is", value=True), 1.0, True),
    (boolean("is", value=True), 0.0, False),
    (boolean("is", value=True), 0.2, True),
    (boolean("is", value=True), -3.0, False),
    (boolean("is", value=False), 0.0, True),
    (boolean("is", value=False), 1.0, False),
    (boolean("is_not", value=True), 0.0, True),
    (boolean("is_not", value=True), 1.0, False),
    (boolean("is_not", value=False), 1.0, True),
    (boolean("is", value=True), "1", True),
    (boolean("is", value=True), "open", None),
    (text("is", "run"), "run", True),
    (text("is", "run"), "Run", False),
    (text("is", "run", ignore_case=True), "RUN", True),
    (text("is_not", "run"), "stop", True),
    (text("is_not", "run"), "run", False),
    (text("starts", "E4"), "E42", True),
    (text("starts", "E4"), "AE4", False),
    (text("ends", "42"), "E42", True),
    (text("ends", "42"), "E421", False),
    (text("contains", "rro"), "an error", True),
    (text("contains", "rro"), "fine", False),
    (text("not_contains", "error"), "fine", True),
    (text("not_contains", "error"), "an error", False),
    (text("in", "run", "idle"), "idle", True),
    (text("in", "run", "idle"), "stop", False),
    (text("not_in", "run", "idle"), "stop", True),
    (text("not_in", "run", "idle"), "run", False),
    (text("is", "7"), 7.0, True),
    (text("is", "7.5"), 7.5, True),
    (text("is", "007"), "007", True),
    (text("is", "7"), "007", False),
    (text("is", "run"), None, None),
    (text("is_not", "run"), None, None),
]


@pytest.mark.parametrize(("leaf", "said", "truth"), CASES)
def test_RUL_1_every_operator_and_type(leaf: dict[str, Any], said: Said, truth: bool | None) -> None:  # noqa: FBT001
    # Unknown is told from false by its opposite: neither raises.
    opposite = {"type": "not", "of": leaf}
    assert raises(leaf, said) is (truth is True)
    assert raises(opposite, said) is (truth is False)


def raises(tree: dict[str, Any], said: Said) -> bool:
    probe = Probe(alarm_type(major=tree))
    return bool(feed(probe, 0, said))


def feed(probe: Probe, at_s: float, said: Said) -> list[Any]:
    number = said if isinstance(said, float) else NAN
    columns = (np.array([1]), np.array([ms(at_s)]), np.array([number]))
    told = [said] if isinstance(said, str) else None
    return probe.commit(probe.engine.evaluate(*columns, ms(at_s), told))


def test_A4_a_default_stands_for_a_value_only_as_long_as_there_has_been_none() -> None:
    both = {"type": "all", "of": [over(50, "a"), compare("<", 5, metric="b", default=1)]}
    probe = Probe(alarm_type(major=both, clear={"type": "automatic"}), hold_ms=10_000)
    assert words(probe.feed_rows([(1, 0, 60)])) == ["Raised major"]
    assert words(probe.feed_rows([(2, 1, 7)])) == ["Cleared major"]
    # It has been there and has grown old: that is unknown, not the default.
    assert probe.feed_rows([(1, 30, 60)]) == []


def test_A4_a_default_of_a_text_and_of_a_boolean() -> None:
    # The instance hears of another metric; the first has never said anything.
    for leaf in (text("starts", "ok", default="ok so far"), boolean("is", value=True, default=True)):
        probe = Probe(alarm_type(major={"type": "all", "of": [leaf, over(1, "b")]}))
        assert words(probe.feed_rows([(2, 0, 2)])) == ["Raised major"]


def test_a_metric_is_compared_with_another_and_both_must_speak() -> None:
    leaf = compare(">", {"metric": "b", "plus": 2}, deadband=1)
    probe = Probe(alarm_type(major=leaf, clear={"type": "automatic"}), hold_ms=10_000)
    assert probe.feed_rows([(1, 0, 60)]) == []
    assert words(probe.feed_rows([(2, 1, 57)])) == ["Raised major"]
    assert words(probe.feed_rows([(2, 2, 58.5)])) == ["Updated major"]
    assert words(probe.feed_rows([(2, 3, 59)])) == ["Cleared major"]
    assert probe.feed_rows([(2, 20, 0)]) == [], "the other value no longer speaks"
    [limit] = probe.heard[0].evidence.limits
    assert (limit.metric, limit.operator, limit.limit, limit.other) == ("a", ">", 2.0, "b")


def test_a_value_that_says_nothing_ends_a_streak_and_is_not_counted() -> None:
    probe = Probe(alarm_type(major={"condition": over(50), "kind": {"type": "repeating", "times": 3}}))
    for at, value in enumerate([60, 60, NAN, 60, 60]):
        assert probe.feed(at, value) == []
    assert words(probe.feed(5, 60)) == ["Raised major"]
    assert [probe.feed(at, value) for at, value in [(6, NAN), (7, 60), (8, 60)]] == [[], [], []]
    assert probe.feed(9, 60)[0].alarm.repeats == 3


def window(function: str, **bound: float) -> dict[str, Any]:
    return {"type": "window", "function": function, **bound}


RISE = compare(">=", 6, view=window("delta", seconds=600))


@pytest.mark.parametrize(("minutes", "expected"), [(10, ["Raised major"]), (30, [])])
def test_RUL_7_six_degrees_in_ten_minutes_raise_and_in_thirty_do_not(minutes: int, expected: list[str]) -> None:
    probe = Probe(alarm_type(major=RISE))
    heard = [t for at in range(minutes + 1) for t in probe.feed(60 * at, 20 + 6 * at / minutes)]
    assert words(heard) == expected


def test_RUL_7_a_late_sample_inside_the_window_changes_the_result() -> None:
    peak = compare(">=", 50, view=window("max", seconds=600))
    probe = Probe(alarm_type(major=peak, clear={"type": "automatic"}))
    assert probe.feed(0, 20) == []
    assert probe.feed(300, 20) == []
    assert probe.feed(200, 55, arrives_s=301) == [], "only a sample of its own begins a streak"
    assert words(probe.feed(302, 20)) == ["Raised major"]
    assert words(probe.feed(250, 10, arrives_s=303)) == []
    assert words(probe.feed(302, 20, arrives_s=304)) == []
    assert words(probe.feed(200, 15, arrives_s=305)) == ["Cleared major"], "it is corrected"


@pytest.mark.parametrize(
    ("view", "number"),
    [
        ({"type": "previous"}, 4.0),
        ({"type": "difference"}, 3.0),
        ({"type": "rate"}, 1.5),
        (window("avg", seconds=600), 4.0),
        (window("avg", samples=2), 5.5),
        (window("min", seconds=240), 1.0),
        (window("max", samples=3), 7.0),
        (window("sum", seconds=600), 12.0),
        (window("count", seconds=600), 3.0),
        (window("count", seconds=120), 2.0),
        (window("delta", seconds=600), 6.0),
        (window("stddev", seconds=600), 6**0.5),
    ],
)
def test_RUL_7_each_view_of_the_samples_1_4_7_two_minutes_apart(view: dict[str, Any], number: float) -> None:
    probe = Probe(alarm_type(major=compare("=", number, view=view, tolerance=1e-9)))
    heard = [probe.feed(120 * at, value) for at, value in enumerate([1, 4, 7])]
    assert heard[-1], "it is true at the last sample"


def test_RUL_7_too_few_samples_and_a_value_too_old_are_unknown() -> None:
    for view in (window("avg", samples=3), {"type": "previous"}, {"type": "rate"}):
        probe = Probe(alarm_type(major={"type": "not", "of": compare(">", 1e9, view=view)}), hold_ms=10_000)
        assert probe.feed(0, 1) == []
        if view["type"] != "window":
            assert probe.feed(60, 1) == [], "what was before is older than it speaks"
        else:
            assert probe.feed(1, 1) == []


def depth_six(rng: random.Random, depth: int = 6) -> dict[str, Any]:
    if not depth:
        leaf: dict[str, Any] = dict(rng.choice(CASES)[0])
        return leaf | {"metric": rng.choice("abcd")}
    if rng.random() < 0.25:
        return {"type": "not", "of": depth_six(rng, depth - 1)}
    return {"type": rng.choice(["all", "any"]), "of": [depth_six(rng, depth - 1) for _ in range(rng.choice([1, 2, 2]))]}


def test_RUL_1_trees_of_depth_six_say_what_the_plain_evaluator_says_of_10_000_inputs() -> None:
    rng = random.Random(6)
    said = [value for _, value, _ in CASES]
    seen = set()
    for _ in range(50):
        tree = depth_six(rng)
        definition = alarm_type(major=tree)
        plan = compile_definition(definition)
        for _ in range(200):
            values = {metric: rng.choice(said) for metric in definition.metrics()}
            if plan.is_plain:
                values = {metric: as_number(value) for metric, value in values.items()}
            block = (
                [*range(len(values))],
                [1] * len(values),
                [NAN if value is None else value for value in values.values()],
                [1] * len(values),
                [HOLD_FOREVER_MS] * len(values),
            )
            kept = (Values if plan.is_plain else Computed)(plan, block, 1, ())
            watched = {metric: Watched(place, HOLD_FOREVER_MS) for place, metric in enumerate(values)}
            plain = Subject(Instance(1, definition, watched), at=1)
            plain.values = {metric: Value(1, value, 1) for metric, value in values.items()}
            plain.forget_stale(1)
            truth = plan.creates[0].tree(kept.truths)
            assert truth is plain.root("major"), (tree, values)
            seen.add(truth)
    assert seen == {True, False, None}


@pytest.mark.parametrize(
    ("leaf", "field"),
    [
        (compare(">", 5, view=window("avg")), "view"),
        (compare(">", 5, view=window("avg", seconds=5, samples=2)), "view"),
        (compare(">", 5, view=window("avg", seconds=31 * 86_400)), "view.seconds"),
        (compare(">", 5, view=window("avg", samples=100_001)), "view.samples"),
        (compare(">", 5, view=window("median", seconds=5)), "view.function"),
        (compare(">", 5, view={"type": "average"}), "view"),
        (compare(">", 5, tolerance=1), ""),
        (compare("=", 5, tolerance=-1), "tolerance"),
        (compare(">", {"metric": "b", "plus": "x"}), "limit.plus"),
        (compare(">", {"metrics": "b"}), "limit.metric"),
        (compare(">", "b"), "limit"),
        (between(5, 4), ""),
        (among("in"), "values"),
        (text("is", "x") | {"values": ["y"]}, ""),
        (text("in", "x") | {"values": None, "value": "x"}, ""),
        (boolean("is", value=True) | {"value": 1}, "value"),
    ],
)
def test_RUL_1_what_cannot_be_asked_is_refused_with_its_path(leaf: dict[str, Any], field: str) -> None:
    with pytest.raises(DefinitionRefused) as refused:
        alarm_type(major={"type": "all", "of": [over(1), leaf]})
    path = "create.major.condition.of.1"
    assert refused.value.problems[0].field == (f"{path}.{field}" if field else path)


def test_RUL_1_unknown_metrics_and_wrong_types_are_refused_with_their_path() -> None:
    leaves = [over(1, "mode"), text("is", "x"), compare(">", {"metric": "c"}), boolean("is", value=True, metric="d")]
    definition = alarm_type(major={"type": "any", "of": leaves})
    with pytest.raises(DefinitionRefused) as refused:
        conditions.check_metrics(definition, {"a": None}, {"mode"})
    assert [problem.field for problem in refused.value.problems] == [
        "create.major.condition.of.0.metric",
        "create.major.condition.of.1.metric",
        "create.major.condition.of.2.limit.metric",
        "create.major.condition.of.3.metric",
    ]
