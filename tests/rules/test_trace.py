"""RUL-16: why, and why not: the answers of the engine laid over the tree that people wrote."""

from typing import Any

import numpy as np
from hypothesis import given, settings

from rules import compiled, conditions, trace
from rules.engine import Engine
from rules.episodes import Fault
from rules.outcome import Instance
from rules.standing import Standing
from rules.trace import Trace
from tests.rules import probe
from tests.rules.probe import Probe, alarm_type, over, under
from tests.rules.test_replay import Rows, histories

FAULT = Fault("asset:1", "hot", "rule", "rule:1", 1, 1, 1, None, 1)


def traced(engine: Engine, instance: Instance, now_ms: int) -> Trace:
    insight = engine.insight(instance.id, now_ms)
    assert insight is not None
    return trace.laid_over(Standing(instance, FAULT, 1, 1, 1, is_overridden=False), insight)


def test_RUL_16_why_not_shows_the_false_branch() -> None:
    definition = alarm_type(
        {"type": "automatic"},
        critical={
            "condition": {"type": "all", "of": [over(90), {"type": "any", "of": [over(3, "b"), under(1, "c")]}]},
            "kind": {"type": "duration", "seconds": 60},
        },
    )
    led = Probe(definition)
    led.feed_rows([(1, 0, 95.0), (2, 0, 2.5)])
    found = traced(led.engine, led.instance, probe.ms(10))
    (critical, clear) = found.rules
    assert critical.branch is not None
    hot, either = critical.branch.parts
    assert [part.truth for part in (critical.branch, hot, either)] == [None, True, None]
    assert [(leaf.truth, leaf.values[0].value) for leaf in either.leaves()] == [(False, 2.5), (None, None)]
    assert (critical.began_ms, found.alarm, clear.branch) == (None, None, None)
    led.feed_rows([(3, 20, 0.5)])
    found = traced(led.engine, led.instance, probe.ms(30))
    (critical, _) = found.rules
    assert critical.branch is not None
    assert critical.branch.truth is True
    assert (critical.began_ms, critical.due_ms, critical.matches) == (probe.ms(20), probe.ms(80), 1)
    assert traced(led.engine, led.instance, probe.ms(81)).alarm is not None
    assert led.heard == [], "to ask changes nothing"
    found = traced(led.engine, led.instance, probe.ms(700))
    assert found.rules[0].branch is not None
    assert [value.is_stale for leaf in found.rules[0].branch.leaves() for value in leaf.values] == [True, True, True]


@settings(max_examples=60, deadline=None)
@given(histories())
def test_each_branch_answers_as_the_compiled_tree_does(history: tuple[Instance, Rows]) -> None:
    instance, rows = history
    engine = Engine()
    engine.install([instance])
    columns: Any = zip(*rows, strict=True) if rows else ((), (), ())
    series, ts, value = (np.array(column) for column in columns)
    now_ms = int(ts.max()) if len(ts) else 1_000
    engine.commit(engine.evaluate(series.astype(np.int64), ts.astype(np.int64), value.astype(np.float64), now_ms))
    insight = engine.insight(1, now_ms)
    assert insight is not None
    plan = compiled.compile_definition(instance.definition, instance.context)
    found = traced(engine, instance, now_ms)
    creates = [one for one in found.rules if one.of != "clear"]
    assert [one.of for one in creates] == [create.severity.key for create in plan.creates]
    for one, create in zip(creates, plan.creates, strict=True):
        assert one.branch is not None
        assert one.branch.truth == create.tree(insight.truths)
    clear = [one for one in found.rules if one.of == "clear" and one.branch is not None]
    if isinstance(instance.definition.clear, conditions.ClearRule) and plan.clear is not None:
        assert clear[0].branch is not None
        assert clear[0].branch.truth == plan.clear.tree(insight.truths)
