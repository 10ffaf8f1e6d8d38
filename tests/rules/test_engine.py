"""The engine between its callers: what holds when, what is delivered twice, what survives, and what costs nothing."""

import json
import sys
from typing import Any

import numpy as np
import pytest

from kernel import errors
from rules.engine import Engine
from rules.installed import KEEP_SETTLED_MS
from rules.outcome import (
    HOLD_FOREVER_MS,
    HOLD_UNKNOWN_MS,
    HeldColumns,
    Instance,
    Raised,
    Watched,
    dump_state,
    hold_ms,
    load_state,
)
from tests.rules.probe import Probe, alarm_type, ms, over, words

AUTOMATIC = {"type": "automatic"}
FOR_10_S = {"condition": over(50), "kind": {"type": "duration", "seconds": 10}}
THREE_TIMES = {"condition": over(50), "kind": {"type": "repeating", "times": 3}}


def columns(rows: list[tuple[int, float, float]]) -> tuple[Any, Any, Any]:
    series, at_s, value = zip(*rows, strict=True)
    return np.array(series), np.array([ms(at) for at in at_s]), np.array(value, np.float64)


def test_an_outcome_that_is_dropped_leaves_no_trace() -> None:
    probe = Probe(alarm_type(major=THREE_TIMES))
    probe.feed(0, 60)
    first = probe.evaluate([(1, 1, 60), (1, 2, 60)], 2)
    probe.evaluate([(1, 5, 10)], 5)
    again = probe.evaluate([(1, 1, 60), (1, 2, 60)], 2)
    assert again == first
    assert words(probe.commit(again)) == ["Raised major"]


def test_an_outcome_is_refused_once_the_engine_has_moved_on() -> None:
    probe = Probe(alarm_type(major=over(50)))
    first = probe.evaluate([(1, 0, 60)], 0)
    probe.feed(1, 40)
    with pytest.raises(errors.Stale):
        probe.engine.commit(first)


def test_a_batch_delivered_again_raises_no_second_alarm() -> None:
    probe = Probe(alarm_type(major=over(50), clear=AUTOMATIC))
    rows = [(1, 0.0, 60.0), (1, 1.0, 40.0)]
    assert words(probe.feed_rows(rows)) == ["Raised major", "Cleared major"]
    again = probe.evaluate(rows, 2)
    assert (again.transitions, again.states, again.late, again.duplicates) == ((), {}, 1, 1)


def test_a_batch_delivered_again_after_a_restart_raises_no_second_alarm() -> None:
    probe = Probe(alarm_type(major=over(50), clear=AUTOMATIC))
    batches = [[(1, 0.0, 60.0), (1, 1.0, 40.0)], [(1, 2.0, 60.0)], [(1, 3.0, 40.0)]]
    for rows in batches:
        probe.feed_rows(rows)
    assert [type(one).__name__ for one in probe.heard] == ["Raised", "Cleared"] * 2
    probe.restart()
    for rows in batches:
        assert probe.feed_rows(rows) == []


def test_a_streak_that_ended_is_not_begun_again_by_a_part_delivered_twice() -> None:
    probe = Probe(alarm_type(major=THREE_TIMES))
    probe.feed_rows([(1, 0, 60), (1, 1, 60), (1, 2, 40)])
    probe.restart()
    probe.feed_rows([(1, 0, 60), (1, 1, 60)])
    assert probe.feed(3, 60) == []


def test_a_batch_whose_transaction_failed_gives_the_same_after_a_restart() -> None:
    probe = Probe(alarm_type(major=THREE_TIMES))
    probe.feed(0, 60)
    lost = probe.evaluate([(1, 1, 60), (1, 2, 60)], 2)
    probe.restart()
    assert probe.evaluate([(1, 1, 60), (1, 2, 60)], 2) == lost


def test_states_are_gone_a_day_after_an_instance_became_idle() -> None:
    probe = Probe(alarm_type(major=over(50), clear=AUTOMATIC))
    probe.feed(0, 60)
    probe.feed(1, 40)
    assert list(probe.stored) == [1]
    probe.restart()
    day_s = KEEP_SETTLED_MS / 1000
    assert probe.engine.tick(ms(1 + day_s) - 1).states == {}
    outcome = probe.engine.tick(ms(1 + day_s))
    assert outcome.states == {1: None}
    probe.commit(outcome)
    assert probe.engine.tick(ms(2 + day_s)).states == {}


def test_instances_that_never_ran_have_no_state() -> None:
    probe = Probe(alarm_type(major=over(50, deadband=5.0), clear=AUTOMATIC))
    for at in range(20):
        assert probe.evaluate([(1, at, 40.0 + at % 5)], at).states == {}


def test_overdue_timers_run_first_after_a_start_in_order_and_once() -> None:
    definition = alarm_type(critical=FOR_10_S)
    engine = Engine()
    instances = [Instance(i, definition, {"a": Watched(i)}) for i in (1, 2)]
    engine.install(instances)
    stored = dict(engine.evaluate(*columns([(1, 5, 60), (2, 3, 60)]), ms(5)).states)
    restarted = Engine()
    restarted.install(instances)
    restarted.restore([state for state in stored.values() if state is not None])
    outcome = restarted.tick(ms(3600))
    assert [(one.instance, one.at_ms) for one in outcome.transitions] == [(2, ms(13)), (1, ms(15))]
    restarted.commit(outcome)
    assert restarted.tick(ms(3601)).transitions == ()


def test_time_that_decides_nothing_leaves_no_trace_for_a_sample_still_under_way() -> None:
    probe = Probe(alarm_type(major=FOR_10_S), hold_ms=6_000)
    probe.feed(0, 60)
    assert probe.tick(9) == []
    assert probe.feed(5, 60, arrives_s=9) == []
    assert words(probe.tick(14)) == ["Raised major"]


def test_late_repeated_and_unusable_rows_are_counted_and_not_evaluated() -> None:
    probe = Probe(alarm_type(major=over(50)))
    probe.feed(10, 40)
    rows = [(1, 5, 60), (1, 10, 40), (9, 11, 60), (1, 11, 41), (1, 11, 41), (1, 12, np.nan), (1, 12, np.inf)]
    outcome = probe.evaluate(rows, 12)
    assert outcome.late_rows.tolist() == [0]
    assert (outcome.evaluated, outcome.late, outcome.duplicates, outcome.unusable) == (2, 1, 2, 1)
    assert outcome.transitions == ()


def test_the_later_of_two_values_of_one_instant_holds() -> None:
    probe = Probe(alarm_type(major=over(50)))
    assert probe.feed_rows([(1, 1, 60), (1, 1, 40)]) == []
    assert words(probe.feed_rows([(1, 1, 60)])) == ["Raised major"]


def test_time_never_runs_backwards_for_an_alarm() -> None:
    probe = Probe(alarm_type(major=FOR_10_S, clear=AUTOMATIC))
    probe.feed(0, 60)
    probe.tick(10)
    probe.feed(9, 40, arrives_s=10.5)
    assert words(probe.heard) == ["Raised major", "Cleared major"]
    assert [one.at_ms for one in probe.heard] == [ms(10), ms(10)]


def test_a_rule_over_several_metrics_knows_seeded_values_and_evaluates_their_samples_nonetheless() -> None:
    both = {"type": "all", "of": [over(50, "a"), over(5, "b")]}
    probe = Probe(alarm_type(major=both))
    probe.feed(0, 60, 1)
    seeds = HeldColumns(np.array([1, 2]), np.array([ms(1), ms(2)]), np.array([70.0, 6.0]), np.array([ms(2)] * 2))
    probe.restart()
    probe.engine.seed(seeds)
    assert words(probe.feed_rows([(1, 1, 70), (2, 2, 6)])) == ["Raised major"]
    assert [(one.metric, one.value) for one in probe.heard[0].evidence.samples] == [("a", 70.0), ("b", 6.0)]  # type: ignore[union-attr]


def test_state_outlives_an_edit_where_the_kind_is_unchanged() -> None:
    probe = Probe(alarm_type(major=THREE_TIMES))
    probe.feed(0, 60)
    probe.feed(1, 60)
    shorter = {"condition": over(40), "kind": {"type": "repeating", "times": 4}}
    probe.engine.install([Probe(alarm_type(major=shorter)).instance])
    assert probe.feed(2, 60) == []
    assert [one.alarm.repeats for one in probe.feed(3, 60)] == [4]
    probe.engine.install([Probe(alarm_type(major=FOR_10_S, minor=over(40))).instance])
    assert words(probe.feed(4, 60)) == ["SeverityChanged minor"]
    assert words(probe.tick(14)) == ["SeverityChanged major"]


def test_instances_come_and_go_while_others_keep_what_they_hold() -> None:
    engine = Engine()
    definition = alarm_type(major=THREE_TIMES)
    engine.install([Instance(i, definition, {"a": Watched(10_000_000_000 * i)}) for i in range(1, 6)])
    rows = [(10_000_000_000 * i, at, 60.0) for i in range(1, 6) for at in (0, 1)]
    engine.commit(engine.evaluate(*columns(rows), ms(1)))
    engine.remove([1, 2, 4])
    engine.install([Instance(7, definition, {"a": Watched(10_000_000_000)})])
    outcome = engine.evaluate(*columns([(10_000_000_000 * i, 2, 60.0) for i in range(1, 6)]), ms(2))
    assert [one.instance for one in outcome.transitions] == [3, 5]
    assert len(engine) == 3


def test_what_cannot_be_installed_or_cleared_is_refused() -> None:
    probe = Probe(alarm_type(major=over(50)))
    with pytest.raises(ValueError, match="twice"):
        probe.engine.install([probe.instance, probe.instance])
    with pytest.raises(ValueError, match="negative"):
        probe.engine.install([Instance(2, probe.instance.definition, {"a": Watched(-1)})])
    with pytest.raises(errors.Conflict):
        probe.engine.clear_by_hand(1, ms(0))
    with pytest.raises(errors.NotFound):
        probe.engine.clear_by_hand(2, ms(0))
    with pytest.raises(ValueError, match="length"):
        probe.engine.evaluate(np.array([1]), np.array([], np.int64), np.array([1.0]), 0)
    assert len(probe.engine) == 1


def test_states_of_instances_that_are_gone_are_named() -> None:
    probe = Probe(alarm_type(major=over(50)))
    probe.feed(0, 60)
    assert Engine().restore(probe.stored.values()) == [1]


def test_states_survive_json() -> None:
    window = {"condition": over(50, deadband=3.0), "kind": {"type": "repeating", "times": 2, "window_s": 60}}
    probe = Probe(alarm_type(major=window, critical=over(90)))
    for at in range(3):
        probe.feed(at, 60)
        state = probe.stored[1]
        assert load_state(json.loads(json.dumps(dump_state(state)))) == state


def test_a_metric_without_a_series_is_unknown_for_ever() -> None:
    either = {"type": "any", "of": [over(50, "a"), over(50, "b")]}
    both = {"type": "all", "of": [over(50, "a"), over(50, "b")]}
    engine = Engine()
    definition = alarm_type(major=either, critical=both)
    engine.install([Instance(1, definition, {"b": Watched(4)})])
    outcome = engine.evaluate(*columns([(4, 0, 60.0)]), ms(0))
    assert [one.alarm.severity.key for one in outcome.transitions if isinstance(one, Raised)] == ["major"]


def test_hold_is_three_expected_intervals_ten_minutes_or_without_end() -> None:
    assert hold_ms(20) == 60_000
    assert hold_ms(None) == HOLD_UNKNOWN_MS == 600_000
    assert hold_ms(20, is_on_change=True) == HOLD_FOREVER_MS


def test_a_batch_that_changes_nothing_runs_as_much_python_for_many_rows_as_for_few() -> None:
    engine = Engine()
    definition = alarm_type(major=over(50, deadband=5.0), minor=over(45))
    engine.install([Instance(i, definition, {"a": Watched(i)}) for i in range(2_000)])

    def calls(rows: int, at_s: float) -> int:
        made = 0

        def count(_frame: Any, kind: str, _argument: Any) -> None:
            nonlocal made
            made += kind in {"call", "c_call"}

        batch = columns([(i % 2_000, at_s + i // 2_000, float(i % 40)) for i in range(rows)])
        sys.setprofile(count)
        outcome = engine.evaluate(*batch, ms(at_s))
        sys.setprofile(None)
        engine.commit(outcome)
        assert outcome.evaluated == rows
        return made

    calls(2_000, 0)
    assert calls(20_000, 100) <= calls(100, 200) + 10


def test_the_order_of_rows_in_a_batch_does_not_matter() -> None:
    rng = np.random.default_rng(6)
    rows = [(1, float(at), float(value)) for at, value in enumerate(rng.integers(30, 70, 200))]
    sorted_probe, shuffled_probe = (Probe(alarm_type(major=THREE_TIMES, clear=AUTOMATIC)) for _ in range(2))
    sorted_probe.feed_rows(rows)
    shuffled_probe.feed_rows([rows[i] for i in rng.permutation(200)])
    assert shuffled_probe.heard == sorted_probe.heard
    assert len(sorted_probe.heard) > 10


def test_how_a_stream_is_cut_into_batches_does_not_matter() -> None:
    rng = np.random.default_rng(7)
    rows = [(1, float(at), float(value)) for at, value in enumerate(rng.integers(30, 70, 200))]
    whole, cut = (Probe(alarm_type(major=THREE_TIMES, critical=FOR_10_S, clear=AUTOMATIC)) for _ in range(2))
    whole.feed_rows(rows)
    for begin in range(0, 200, 7):
        cut.feed_rows(rows[begin : begin + 7])
    told = [[one for one in probe.heard if type(one).__name__ != "Updated"] for probe in (whole, cut)]
    assert told[0] == told[1]
    assert len(told[0]) > 10
