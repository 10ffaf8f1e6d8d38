"""RUL-12: a history that arrives in any order ends with the episodes of the same history in order."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from rules import compiled, conditions, hindsight, replay, rest
from rules.engine import Engine
from rules.hindsight import Known
from rules.outcome import Alarm, Cleared, Instance, Outcome, Raised, Watched
from rules.rest import Occupied
from rules.tape import Samples
from tests.rules.test_engine_reference import definitions, holds, kinds

Row = tuple[int, int, float]
DAY = 86_400_000


@dataclass
class Record:
    """One alarm as a table holds it."""

    alarm: Alarm
    ended_ms: int | None = None
    is_supported: bool = True

    def told(self) -> tuple[Any, ...]:
        one = self.alarm
        return one.began_ms, one.raised_ms, self.ended_ms, one.peak_severity, one.matched, one.peak


@dataclass
class World:
    """An engine, what it stored of readings and alarms, and what it noted as late."""

    instance: Instance
    engine: Engine = field(default_factory=Engine)
    rows: dict[tuple[int, int], float] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    late: tuple[int, int] | None = None
    now: int = 10_000

    def __post_init__(self) -> None:
        self.engine.install([self.instance])
        self.plan = compiled.compile_definition(self.instance.definition)

    def deliver(self, batch: list[Row]) -> None:
        series, ts, value = (np.array(column) for column in zip(*batch, strict=True))
        self.rows |= {(number, at): one for number, at, one in batch}
        outcome = self.engine.evaluate(series, ts, value.astype(np.float64), self.now)
        if outcome.late:
            spans, too_late = self.engine.late(series[outcome.late_rows], ts[outcome.late_rows], DAY)
            assert not too_late
            for first, last in spans.values():
                known = self.late or (first, last)
                self.late = min(known[0], first), max(known[1], last)
        self.take(outcome)

    def take(self, outcome: Outcome) -> None:
        for one in outcome.transitions:
            stands = next((record for record in self.records if record.ended_ms is None), None)
            if isinstance(one, Raised) and stands is None:
                self.records.append(Record(one.alarm))
            elif stands is not None:
                stands.alarm = one.alarm
                stands.is_supported |= isinstance(one, Raised)
                if isinstance(one, Cleared):
                    stands.ended_ms = one.ended_ms
        self.engine.commit(outcome)

    def samples(self, begin: int | None = None) -> dict[str, Samples]:
        found = {}
        for number, name in enumerate(self.instance.definition.metrics()):
            mine = sorted(
                (at, one) for (n, at), one in self.rows.items() if n == number and (begin is None or at >= begin)
            )
            if mine and name in self.instance.metrics:
                ts, value = zip(*mine, strict=True)
                found[name] = Samples.of(np.array(ts), np.array(value))
        return found

    def judge(self, look_back: int) -> None:
        """Lead the history again from the last rest before what came late, looking ever further back for one."""
        if self.late is None:
            return
        from_ms, _ = self.late
        oldest = min(at for _, at in self.rows)
        occupied = [Occupied(one.alarm.raised_ms, one.ended_ms) for one in self.records if one.is_supported]
        rest_ms, begin = None, from_ms
        while rest_ms is None and begin > oldest:
            begin -= look_back
            look_back *= 4
            samples = self.samples(begin)
            is_whole = begin <= oldest
            rest_ms = rest.last_rest(
                self.plan, self.instance, samples, from_ms, occupied, from_ms=None if is_whole else begin
            )
        samples = self.samples()
        if rest_ms is not None:
            samples = rest.since(samples, self.instance, rest_ms)
            event("from a rest")
        until_ms = self.engine.clock_of(1, self.now)
        assert until_ms is not None
        found = replay.replay(self.instance, samples, until_ms, plan=self.plan)
        known = [
            Known(n, one.alarm.began_ms, one.alarm.raised_ms, one.ended_ms, one.is_supported)
            for n, one in enumerate(self.records)
            if rest_ms is None or one.ended_ms is None or one.ended_ms > rest_ms
        ]
        told = hindsight.compare(known, found.episodes, from_ms)
        for pair, episode in told.amended:
            self.records[pair.id] = Record(episode.last, episode.ended_ms)
        for one in told.unsupported:
            self.records[one.id] = replace(self.records[one.id], is_supported=False)
        stands = next((record for record in self.records if record.ended_ms is None), None)
        self.records += [Record(one.last, one.ended_ms) for one in told.recorded]
        for one in told.raised:
            assert stands is None
            self.records.append(Record(one.last))
        self.engine.commit(self.engine.correct(1, found.state, self.now))
        self.late = None
        again = hindsight.compare(
            [
                Known(n, one.alarm.began_ms, one.alarm.raised_ms, one.ended_ms, one.is_supported)
                for n, one in enumerate(self.records)
                if rest_ms is None or one.ended_ms is None or one.ended_ms > rest_ms
            ],
            found.episodes,
            from_ms,
        )
        assert not again.recorded
        assert not again.raised
        assert not again.unsupported

    def episodes(self) -> list[tuple[Any, ...]]:
        state = self.engine.state_of(1)
        for one in self.records:
            if one.ended_ms is None and state is not None and state.alarm is not None and one.is_supported:
                one.alarm = state.alarm
        return sorted((one.told() for one in self.records if one.is_supported), key=lambda told: told[1])


@st.composite
def histories(draw: Any) -> tuple[Instance, list[list[Row]]]:
    """Return a rule and messages, each holding all metrics of one instant; few values, so that things last."""
    definition = draw(definitions)
    names = definition.metrics()
    instance = Instance(1, definition, {name: Watched(n, draw(holds)) for n, name in enumerate(names)})
    at, value = 1_000, [0.0] * len(names)
    messages = []
    for step in draw(st.lists(st.sampled_from([1, 1, 1, 2, 5, 40]), min_size=2, max_size=25)):
        at += step
        for n in range(len(names)):
            if draw(st.integers(0, 2)) == 0:
                value[n] = float(draw(st.integers(0, 7)))
        messages.append([(n, at, one) for n, one in enumerate(value)])
    return instance, messages


@st.composite
def busy(draw: Any) -> tuple[Instance, list[list[Row]]]:
    """Return a rule that comes and goes, and a longer history of one metric."""
    compare = {
        "type": "compare",
        "metric": "a",
        "operator": ">=",
        "limit": 4,
        "deadband": draw(st.sampled_from([0, 2])),
    }
    clear = {**compare, "operator": "<", "limit": 3, "deadband": draw(st.sampled_from([0, 1]))}
    definition = conditions.parse({
        "schema": 1,
        "create": {
            "critical": {"condition": {**compare, "limit": 6}, "kind": draw(kinds)},
            "major": {"condition": compare, "kind": draw(kinds)},
        },
        "clear": draw(st.sampled_from([
            {"type": "automatic"},
            {"type": "automatic", "off_delay_s": 0.003},
            {"type": "rule", "condition": clear, "kind": {"type": "duration", "seconds": 0.004}},
        ])),
    })  # fmt: skip
    at, messages = 1_000, []
    for step in draw(st.lists(st.sampled_from([1, 1, 1, 2, 3, 12]), min_size=10, max_size=50)):
        at += step
        value = float(draw(st.integers(0, 7))) if not messages or draw(st.booleans()) else messages[-1][0][2]
        messages.append([(0, at, value)])
    return Instance(1, definition, {"a": Watched(0, draw(st.sampled_from([4, 10, 30])))}), messages


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(histories(), busy(), busy()),
    st.randoms(use_true_random=False),
    st.integers(1, 60),
    st.sampled_from([1, 5, 50]),
)
def test_RUL_12_a_history_in_any_order_ends_as_it_does_in_order(
    history: tuple[Instance, list[list[Row]]], random: Any, later: int, look_back: int
) -> None:
    instance, messages = history
    straight, shuffled = World(instance), World(instance)
    for message in messages:
        straight.deliver(message)
    order = messages[:]
    random.shuffle(order)
    for message in order:
        shuffled.deliver(message)
        if random.random() < 0.4:
            shuffled.judge(look_back)
    shuffled.judge(look_back)
    for world in (straight, shuffled):
        world.take(world.engine.tick(world.now + later))
    assert shuffled.episodes() == straight.episodes()
    event(f"{min(len(straight.records), 3)} alarms")
