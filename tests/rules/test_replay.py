"""Stored history gives what the live engine gave, however its samples were cut into batches (RUL-15)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from rules import compiled, replay
from rules.engine import Engine
from rules.outcome import Instance, State, Transition, Updated, Watched
from rules.replay import Replayed
from rules.tape import Samples
from tests.rules import probe
from tests.rules.probe import START_MS, alarm_type, over, under
from tests.rules.test_engine_reference import definitions, holds

Rows = list[tuple[int, int, float]]


@st.composite
def histories(draw: Any) -> tuple[Instance, Rows]:
    """Return a rule and (metric, time, value) rows: few values, so that stretches without a turn are common."""
    definition = draw(definitions)
    names = definition.metrics()
    instance = Instance(
        1, definition, {name: Watched(n, draw(holds)) for n, name in enumerate(names) if draw(st.integers(0, 9))}
    )
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 5, 40]), min_size=1, max_size=40))
    rows: Rows = []
    at = 1_000
    value = [0.0] * len(names)
    for step in steps:
        at += step
        for n in range(len(names)):
            if draw(st.integers(0, 5)) == 0:
                value[n] = float(draw(st.integers(0, 7)))
            if draw(st.integers(0, 4)):
                rows.append((n, at, value[n]))
    return instance, rows


def live(instance: Instance, rows: Rows, cuts: list[int], until_ms: int) -> tuple[list[Transition], State | None]:
    """Feed an engine in batches that end at some instants; time passes only between them."""
    engine = Engine()
    engine.install([instance])
    heard: list[Transition] = []
    instants = sorted({at for _, at, _ in rows})
    begin = 0
    for end in sorted({min(cut, len(instants)) for cut in cuts} | {len(instants)}):
        chosen = set(instants[begin:end])
        batch = [row for row in rows if row[1] in chosen]
        begin = end
        if batch:
            series, ts, value = zip(*batch, strict=True)
            outcome = engine.evaluate(
                np.array(series, np.int64), np.array(ts, np.int64), np.array(value, np.float64), max(ts)
            )
            engine.commit(outcome)
            heard.extend(outcome.transitions)
    outcome = engine.tick(until_ms)
    engine.commit(outcome)
    heard.extend(outcome.transitions)
    return heard, engine.state_of(1)


def replayed(instance: Instance, rows: Rows, until_ms: int) -> Replayed:
    return replay.replay(instance, samples(instance, rows), until_ms)


def samples(instance: Instance, rows: Rows) -> dict[str, Samples]:
    found = {}
    for n, name in enumerate(instance.definition.metrics()):
        mine = [(at, value) for metric, at, value in rows if metric == n]
        if name in instance.metrics and mine:
            ts, value = zip(*mine, strict=True)
            found[name] = Samples.of(np.array(ts, np.int64), np.array(value, np.float64))
    return found


@settings(max_examples=200, deadline=None)
@given(histories(), st.lists(st.integers(1, 40), max_size=6), st.integers(0, 60))
def test_RUL_15_history_gives_what_the_live_engine_raised(
    history: tuple[Instance, Rows], cuts: list[int], later: int
) -> None:
    instance, rows = history
    until_ms = max((at for _, at, _ in rows), default=1_000) + later
    expected, after = live(instance, rows, cuts, until_ms)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "_WORTH", 1)
        found = replayed(instance, rows, until_ms)
    told = [one for one in expected if not isinstance(one, Updated)]
    assert list(found.transitions) == told
    assert (found.state and found.state.alarm) == (after and after.alarm)
    assert [one.raised for one in found.episodes] == [one for one in told if type(one).__name__ == "Raised"]
    event(f"{min(len(found.episodes), 3)} episodes")


@settings(max_examples=50, deadline=None)
@given(histories(), st.integers(0, 60))
def test_a_plan_the_tape_does_not_know_is_led_by_an_engine_to_the_same_end(
    history: tuple[Instance, Rows], later: int
) -> None:
    instance, rows = history
    until_ms = max((at for _, at, _ in rows), default=1_000) + later
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "is_plain", lambda _plan: False)
        patch.setattr(replay, "_BATCH", 7)
        through_engine = replayed(instance, rows, until_ms)
    assert through_engine.transitions == replayed(instance, rows, until_ms).transitions


@settings(max_examples=50, deadline=None)
@given(histories(), st.integers(0, 30), st.integers(0, 60))
def test_what_a_person_cleared_is_cleared_in_history_too(
    history: tuple[Instance, Rows], early: int, later: int
) -> None:
    instance, rows = history
    newest = max((at for _, at, _ in rows), default=1_000)
    cleared = [newest - early]
    found = replay.replay(instance, samples(instance, rows), newest + later, cleared_ms=cleared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "is_plain", lambda _plan: False)
        other = replay.replay(instance, samples(instance, rows), newest + later, cleared_ms=cleared)
    assert found.transitions == other.transitions


def test_a_long_steady_history_is_passed_over() -> None:
    size = 200_000
    definition = alarm_type({"type": "automatic"}, critical=over(100, deadband=5), major=over(80))
    value = np.full(size, 50.0)
    value[60_000:90_000] = np.linspace(81.0, 97.0, 30_000)
    value[150_000:] = 120.0
    history = {"a": Samples.of(START_MS + 10_000 * np.arange(size), value)}
    instance = Instance(1, definition, {"a": Watched(1)})
    stepped: list[int] = []

    class Counting(replay._Led):
        __slots__ = ()

        def sample(self, ts_ms: int, values: Any, now_ms: int) -> None:
            stepped.append(ts_ms)
            super().sample(ts_ms, values, now_ms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "_Led", Counting)
        found = replay.replay(instance, history, int(history["a"].ts_ms[-1]))
    first, second = found.episodes
    assert len(stepped) < 20
    assert (first.last.matched, first.last.peak, first.raised_ms) == (30_000, 97.0, START_MS + 600_000_000)
    assert (second.last.severity.key, second.last.matched, second.ended_ms) == ("critical", 50_000, None)


def test_a_streak_of_samples_and_a_streak_of_time_end_where_they_should() -> None:
    definition = alarm_type(
        {"type": "rule", "condition": under(20), "kind": {"type": "duration", "seconds": 100}},
        critical={"condition": over(50), "kind": {"type": "duration", "seconds": 300}},
        warning={"condition": over(50), "kind": {"type": "repeating", "times": 12}},
    )
    value = np.r_[np.full(40, 10.0), np.full(60, 60.0), np.full(60, 10.0)]
    history = {"a": Samples.of(START_MS + 10_000 * np.arange(len(value)), value)}
    (one,) = replay.replay(Instance(1, definition, {"a": Watched(1)}), history, START_MS + 10_000_000).episodes
    assert (one.began_ms, one.raised_ms) == (probe.ms(400), probe.ms(510))
    assert one.ended_ms == probe.ms(1100)
    assert one.worst.key == "critical"
    assert one.last.matched == 60


def test_equal_columns_of_several_metrics_are_one_row_of_instants() -> None:
    definition = alarm_type({"type": "automatic"}, major={"type": "all", "of": [over(50), over(50, "b")]})
    at = START_MS + 1_000 * np.arange(100)
    high = np.full(100, 60.0)
    history = {"a": Samples.of(at, high), "b": Samples.of(at[:50], high[:50])}
    instance = Instance(1, definition, {"a": Watched(1, 5_000), "b": Watched(2, 5_000)})
    (one,) = replay.replay(instance, history, int(at[-1]), plan=compiled.compile_definition(definition)).episodes
    # Unknown never clears: b has nothing to say any more.
    assert (one.ended_ms, one.last.matched, one.last.last_seen_ms) == (None, 55, int(at[54]))


def test_silence_in_history_is_heard_when_it_was() -> None:
    silent = {"type": "no_data", "metric": "a", "seconds": 300}
    definition = alarm_type({"type": "automatic"}, major=silent)
    at = START_MS + np.r_[np.arange(0, 600, 10), np.arange(1500, 2100, 10)] * 1000
    history = {"a": Samples.of(at, np.full(len(at), 5.0))}
    found = replay.replay(Instance(1, definition, {"a": Watched(1)}), history, probe.ms(3000)).episodes
    assert [(one.raised_ms, one.ended_ms) for one in found] == [
        (probe.ms(890), probe.ms(1500)),
        (probe.ms(2390), None),
    ]


def test_silence_falls_due_while_another_metric_speaks() -> None:
    silent = {"type": "no_data", "metric": "a", "seconds": 300}
    definition = alarm_type({"type": "automatic"}, major={"type": "all", "of": [over(50, "b"), silent]})
    at = START_MS + np.r_[np.arange(0, 600, 10), np.arange(1500, 2100, 10)] * 1000
    beside = START_MS + 70_000 * np.arange(40)
    history = {"a": Samples.of(at, np.full(len(at), 5.0)), "b": Samples.of(beside, np.full(40, 60.0))}
    found = replay.replay(Instance(1, definition, {"a": Watched(1), "b": Watched(2)}), history, probe.ms(3000)).episodes
    assert [(one.raised_ms, one.ended_ms) for one in found] == [
        (probe.ms(890), probe.ms(1500)),
        (probe.ms(2390), None),
    ]
