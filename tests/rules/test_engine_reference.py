"""The columnar engine and the plain evaluator say the same of random rules, samples, batches, restarts and repeats."""

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from assets.attributes import Offered
from kernel import errors
from rules import conditions, dynamic
from rules.engine import Engine
from rules.histories import History, Wanted
from rules.outcome import (
    HOLD_FOREVER_MS,
    LONG_AGO,
    Held,
    HeldColumns,
    Instance,
    Outcome,
    State,
    Watched,
    dump_state,
    load_state,
)
from tests.rules.reference import Reference, Said, Transition, as_number

Batch = list[tuple[int, int, Said]]

START = 59_950
"""Shortly before the minute in which schedules open or close."""
SERIES = (1, 2, 3)
METRICS = ("a", "b", "c")

limits = st.integers(0, 6)
small_seconds = st.sampled_from([-0.001, 0, 0.001, 0.003, 0.008, 0.02])
holds = st.sampled_from([4, 10, 30, HOLD_FOREVER_MS])


@st.composite
def comparison(draw: Any) -> dict[str, Any]:
    operator = draw(st.sampled_from([">", ">=", "<", "<=", "=", "!="]))
    found = {
        "type": "compare",
        "metric": draw(st.sampled_from("aab")),
        "operator": operator,
        "limit": draw(limits),
    }
    if operator[0] in "<>":
        found["deadband"] = draw(st.sampled_from([0, 0, 1, 2]))
    return found


views = st.one_of(
    st.just({"type": "previous"}),
    st.just({"type": "difference"}),
    st.builds(
        lambda function, bound: {"type": "window", "function": function, **bound},
        st.sampled_from(["avg", "min", "max", "sum", "count", "delta"]),
        st.sampled_from([{"seconds": 0.004}, {"seconds": 0.03}, {"samples": 2}, {"samples": 4}]),
    ),
)


metrics = st.sampled_from("aab")
defaults = st.sampled_from([{}, {}, {"default": 3}])
others = st.builds(lambda metric, plus: {"metric": metric, "plus": plus}, metrics, st.sampled_from([0, 1, -2]))
attributes = st.builds(
    lambda name, default: {"attribute": name, "default": default}, st.sampled_from(["two", "bad"]), st.integers(0, 3)
)
bands = st.one_of(st.integers(0, 2), others, attributes)
questions = st.one_of(
    comparison(),
    st.builds(lambda leaf, default: leaf | default, comparison(), defaults),
    # What a view remembers of a late sample that it saw before it ran is beside the point here.
    st.builds(lambda leaf, view, more: leaf | {"view": view, "deadband": 0} | more, comparison(), views, defaults),
    st.builds(lambda leaf, limit, default: leaf | {"limit": limit} | default, comparison(), others, defaults),
    st.builds(
        lambda metric, low, wide, deadband, default: (
            {"type": "between", "metric": metric, "low": low, "high": low + wide} | {"deadband": deadband} | default
        ),
        metrics,
        limits,
        st.integers(0, 3),
        st.integers(0, 1),
        defaults,
    ),
    st.builds(
        lambda metric, low, high, deadband, more: (
            {"type": "between", "metric": metric, "low": low, "high": high} | {"deadband": deadband} | more
        ),
        metrics,
        st.one_of(st.integers(0, 3), others, attributes),
        st.one_of(st.integers(3, 6), others),
        bands,
        st.one_of(defaults, st.builds(lambda view: {"view": view, "deadband": 0}, views)),
    ),
    st.builds(
        lambda leaf, band, limit, default: (
            leaf | limit | default | ({"deadband": band} if leaf["operator"][0] in "<>" else {})
        ),
        comparison(),
        bands,
        st.one_of(st.just({}), st.builds(lambda limit: {"limit": limit}, st.one_of(others, attributes))),
        defaults,
    ),
    st.builds(
        lambda metric, operator, values, tolerance: (
            {"type": "among", "metric": metric, "operator": operator} | {"values": values, "tolerance": tolerance}
        ),
        metrics,
        st.sampled_from(["in", "not_in"]),
        st.lists(limits, min_size=1, max_size=3),
        st.integers(0, 1),
    ),
    st.builds(
        lambda metric, operator, value: {"type": "boolean", "metric": metric, "operator": operator, "value": value},
        metrics,
        st.sampled_from(["is", "is_not"]),
        st.booleans(),
    ),
    st.builds(
        lambda metric, operator, value: (
            {"type": "text", "metric": metric, "operator": operator}
            | ({"values": [value, "2"]} if operator.endswith("in") else {"value": value})
        ),
        metrics,
        st.sampled_from(["is", "is_not", "starts", "ends", "contains", "not_contains", "in", "not_in"]),
        st.sampled_from(["on", "o", "3"]),
    ),
)


trees = st.recursive(
    st.one_of(comparison(), questions),
    lambda inner: st.one_of(
        st.builds(lambda of: {"type": "all", "of": of}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda of: {"type": "any", "of": of}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda of: {"type": "not", "of": of}, inner),
    ),
    max_leaves=4,
)
kinds = st.one_of(
    st.just({"type": "simple"}),
    st.builds(lambda s: {"type": "duration", "seconds": s}, small_seconds),
    st.just({"type": "duration", "seconds": {"attribute": "three_ms", "default": 0}}),
    st.builds(
        lambda more: {"type": "repeating", "times": {"attribute": "two", "default": 3}} | more,
        st.sampled_from([{}, {"window_s": {"attribute": "three_ms", "default": 0.03}}]),
    ),
    st.builds(lambda n: {"type": "repeating", "times": n}, st.integers(-1, 3)),
    st.builds(
        lambda n, s: {"type": "repeating", "times": n, "window_s": s},
        st.integers(-1, 3),
        st.sampled_from([0.004, 0.01, 0.03]),
    ),
)
OPENING = {"type": "weekly", "windows": [{"start": "00:01", "end": "00:02"}]}
CLOSING = {"type": "weekly", "windows": [{"start": "00:00", "end": "00:01"}]}
schedules = st.sampled_from([{}, {}, {}, {"schedule": OPENING}, {"schedule": CLOSING}])
rules = st.builds(lambda tree, kind, schedule: {"condition": tree, "kind": kind} | schedule, trees, kinds, schedules)
clears = st.one_of(
    st.just({"type": "by_hand"}),
    st.builds(
        lambda s: {"type": "automatic", "off_delay_s": s},
        st.sampled_from([0, 0.003, 0.01, {"attribute": "three_ms", "default": 0}]),
    ),
    st.builds(lambda rule: {"type": "rule", **rule}, rules),
    st.builds(
        lambda s: {"type": "quiet", "seconds": s},
        st.sampled_from([0.004, 0.02, {"attribute": "three_ms", "default": 0.02}]),
    ),
)
OFFERS = {"two": [Offered("site", 2)], "bad": [Offered("asset", -1e400)], "three_ms": [Offered("customer", "0.003")]}


def settled(written: dict[str, Any]) -> conditions.AlarmDefinition:
    """Return a definition as it stands on an asset whose attributes hold what is offered."""
    return dynamic.resolved(conditions.parse(written), OFFERS)[0]


definitions = st.builds(
    lambda create, clear, message: {"schema": 1, "create": create, "clear": clear, "message": message},
    st.dictionaries(st.sampled_from(["critical", "major", "info"]), rules, min_size=1, max_size=3),
    clears,
    st.sampled_from(["", "c is ${c}"]),
).map(settled)


@st.composite
def instances(draw: Any) -> list[Instance]:
    shared = draw(definitions)
    made = []
    for number in range(1, draw(st.integers(1, 3)) + 1):
        definition = draw(st.one_of(st.just(shared), definitions))
        metrics = {
            metric: Watched(draw(st.sampled_from(SERIES)), draw(holds)) for metric in METRICS if draw(st.integers(0, 9))
        }
        made.append(Instance(number, definition, metrics))
    return made


said = st.one_of(*[st.integers(0, 7).map(float)] * 8, st.sampled_from([None, "on", "oN", "21"]))
rows = st.lists(st.tuples(st.sampled_from(SERIES), st.integers(-4, 12), said), max_size=8)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["batch", "batch", "batch", "crash", "repeat"]), st.integers(0, 15), rows),
        st.tuples(st.sampled_from(["tick", "tick", "restart", "reshuffle"]), st.integers(0, 25), st.just([])),
        st.tuples(st.just("clear"), st.integers(0, 5), st.just([])),
    ),
    max_size=14,
)


class World:
    """An engine, and what a database would hold of it."""

    def __init__(self, installed: list[Instance], *, is_seeded: bool, is_marked: bool = False) -> None:
        self.installed = installed
        self.is_seeded = is_seeded
        self.is_marked = is_marked
        # What stands in the store of a series of which nothing was ever evaluated is held as if it had been: a rule
        # over several metrics may look at it too soon.
        self.is_ahead = all(len(one.metrics) == 1 for one in installed)
        self.stored: dict[int, str] = {}
        self.known: dict[int, Held] = {}
        self.readings: dict[int, dict[int, Said]] = {}
        self.engine = Engine(self.recall)
        self.engine.install(installed)

    def recall(self, wanted: Mapping[int, Wanted]) -> dict[int, History]:
        found = {}
        for series in wanted:
            numbers = {ts: as_number(said) for ts, said in self.readings.get(series, {}).items()}
            numbers = {ts: number for ts, number in numbers.items() if number is not None}
            found[series] = History(np.array([*numbers], np.int64), np.array([*numbers.values()], np.float64))
        return found

    def evaluate(self, batch: Batch, now: int) -> Outcome:
        for series, ts, value in batch:
            self.readings.setdefault(series, {})[ts] = value
        *numbers, text = columns(batch)
        outcome = self.engine.evaluate(*numbers, now, text)
        assert self.engine.evaluate(*numbers, now, text) == outcome, "dropped outcomes leave no trace"
        return outcome

    def commit(self, outcome: Outcome) -> None:
        for number, state in outcome.states.items():
            if state is None:
                del self.stored[number]
            else:
                self.stored[number] = json.dumps(dump_state(state))
        self.engine.commit(outcome)
        held = self.engine.held()
        for series, *row in zip(held.series, held.ts_ms, held.value, held.arrived_ms, strict=True):
            if series not in self.known or row[0] >= self.known[series].ts_ms:
                ts, value, arrived = (column.item() for column in row)
                said = held.text.get(int(series), None if np.isnan(value) else value)
                self.known[series] = Held("", int(series), ts, said, arrived)

    def restart(self) -> None:
        held = self.engine.held()
        self.engine = Engine(self.recall)
        self.engine.install(self.installed)
        if not (self.is_seeded or self.is_marked):
            self.engine.hold(held)
        assert self.engine.restore([load_state(json.loads(text)) for text in self.stored.values()]) == []
        if self.is_seeded:
            self.engine.seed(HeldColumns.of(self.known.values()))
        if self.is_marked:
            newest = HeldColumns.of(self.in_store())
            self.engine.seed(newest)
            marks = dict(zip(held.series.tolist(), held.ts_ms.tolist(), strict=True))
            mark_ms = [marks.get(number, LONG_AGO) for number in newest.series.tolist()]
            self.engine.mark(newest, np.array(mark_ms, np.int64))

    def in_store(self) -> list[Held]:
        """Return what was evaluated last of each series, or else the newest that is stored of it."""
        if not self.is_ahead:
            return [*self.known.values()]
        newest = [(series, max(said)) for series, said in self.readings.items()]
        stored = {series: Held("", series, ts_ms, self.readings[series][ts_ms], ts_ms) for series, ts_ms in newest}
        return [*(stored | self.known).values()]

    def newest(self) -> int:
        return max((held.ts_ms for held in self.known.values()), default=0)


def columns(batch: Batch) -> tuple[Any, Any, Any, Any]:
    series, ts, said = zip(*batch, strict=True) if batch else ((), (), ())
    text = [one if isinstance(one, str) else None for one in said]
    value = [one if isinstance(one, float) else np.nan for one in said]
    return np.array(series, np.int64), np.array(ts, np.int64), np.array(value, np.float64), text if any(text) else None


def in_order(transitions: Any) -> list[Transition]:
    return sorted(transitions, key=lambda t: (t.at_ms, t.instance))


def walk(world: World, reference: Reference, taken: list[tuple[str, int, Any]], heard: Counter[str]) -> None:
    """Lead both through the same steps, and compare what they say; ``heard`` counts it."""
    now = START
    for verb, later, offsets in taken:
        now += later
        batch = [(series, now + offset, value) for series, offset, value in offsets]
        if world.is_seeded:
            # After a crash nobody knows what was evaluated of the newest values, so only what is newer is judged.
            batch = [row for row in batch if row[1] > world.newest()]
        match verb:
            case "batch" | "crash" | "repeat":
                heard.update(type(one).__name__ for one in judge(world, reference, batch, now, verb).transitions)
            case "tick":
                outcome = world.engine.tick(now)
                assert in_order(outcome.transitions) == in_order(reference.tick(now))
                world.commit(outcome)
                heard.update(type(one).__name__ for one in outcome.transitions)
            case "clear":
                clear_by_hand(world, reference, now)
            case "restart":
                world.restart()
            case "reshuffle":
                world.engine.install([Instance(99, world.installed[0].definition, {"a": Watched(0)})])
                world.engine.remove([99])


def judge(world: World, reference: Reference, batch: Batch, now: int, verb: str) -> Outcome:
    outcome = world.evaluate(batch, now)
    if verb == "crash":
        world.restart()
        again = world.evaluate(batch, now)
        assert again.transitions == outcome.transitions
        assert running(again) == running(outcome)
        outcome = again
    expected, late, duplicates = reference.evaluate(batch, now)
    assert in_order(outcome.transitions) == in_order(expected)
    assert (outcome.late, outcome.duplicates) == (late, duplicates)
    world.commit(outcome)
    if verb == "repeat":
        repeated = world.evaluate(batch, now)
        assert not repeated.transitions
        assert not repeated.states
    return outcome


def running(outcome: Outcome) -> dict[int, State]:
    """Return the states that matter: a restart may find earlier that a latch without a streak has aged out."""
    return {
        number: replace(state, held=tuple(one for one in state.held if one.value is not None))
        for number, state in outcome.states.items()
        if state is not None and state.is_running
    }


def clear_by_hand(world: World, reference: Reference, now: int) -> None:
    for number, subject in reference.subjects.items():
        if subject.alarm is None:
            with pytest.raises(errors.Conflict):
                world.engine.clear_by_hand(number, now)
            continue
        outcome = world.engine.clear_by_hand(number, now)
        assert list(outcome.transitions) == reference.clear_by_hand(number, now)
        world.commit(outcome)


@settings(max_examples=150, deadline=None)
@given(installed=instances(), taken=steps, memory=st.sampled_from(["held", "seeded", "marked"]))
def test_the_columnar_engine_says_what_the_plain_evaluator_says(
    *, installed: list[Instance], taken: list[tuple[str, int, Any]], memory: str
) -> None:
    heard: Counter[str] = Counter()
    for instance in installed:
        note(f"{conditions.dump(instance.definition)} {instance.metrics}")
    note(f"{taken} {memory}")
    world = World(installed, is_seeded=memory == "seeded", is_marked=memory == "marked")
    walk(world, Reference(installed), taken, heard)
    for word in heard:
        event(word)


LIVES = 60
"""Each is a long, eventful life; together they take a few seconds."""
WORDED = 0.03
"""How many samples say no number."""
RICH = 0.2
"""How many comparisons are more than a number and a limit: with few of them, some instances have none."""
MOVING = 0.2
"""How many of those compare with what moves."""


def random_ends(rng: random.Random) -> dict[str, Any]:
    around = {"low": {"metric": "b", "plus": -1}, "high": {"metric": "b", "plus": 1}}
    named = {"low": {"attribute": "two", "default": 0}, "high": {"metric": "c"}}
    return rng.choice([around, named, {"low": 1, "high": {"metric": "b"}}])


def random_moving(rng: random.Random) -> dict[str, Any]:
    """Return a comparison whose limit, ends or deadband another metric or an attribute supplies."""
    metric, operator = rng.choice("aab"), rng.choice([">", ">=", "<", "<="])
    compare = {"type": "compare", "metric": metric, "operator": operator, "limit": rng.randint(1, 4)}
    between = {"type": "between", "metric": metric} | random_ends(rng)
    band = rng.choice(
        [1, {"metric": "c"}, {"metric": "b", "plus": rng.randint(-2, 0)}, {"attribute": "two", "default": 0}]
    )
    return rng.choice([compare, between]) | {"deadband": band}


def random_question(rng: random.Random) -> dict[str, Any]:
    if rng.random() < MOVING:
        return random_moving(rng)
    metric, operator = rng.choice("aab"), rng.choice([">", ">=", "<", "<="])
    window = {"type": "window", "function": rng.choice(["avg", "min", "max", "sum", "count", "delta", "stddev"])}
    window |= rng.choice([{"seconds": 0.006}, {"seconds": 0.02}, {"samples": 3}])
    compare = {"type": "compare", "metric": metric, "operator": operator}
    return rng.choice(
        [
            compare | {"limit": rng.randint(1, 4) + 0.37, "view": window},
            compare | {"limit": rng.choice([-20_000, 20_000, 30_000]), "view": {"type": "rate"}},
            compare | {"limit": rng.randint(-1, 2), "view": {"type": rng.choice(["difference", "previous"])}},
            compare | {"limit": {"metric": "b", "plus": rng.randint(-1, 1)}, "deadband": rng.choice([0, 1])},
            compare | {"limit": rng.randint(1, 4), "default": 3},
            {"type": "between", "metric": metric, "low": 2, "high": 4, "deadband": rng.choice([0, 1])},
            {"type": "among", "metric": metric, "operator": rng.choice(["in", "not_in"]), "values": [1, 4]},
            {"type": "boolean", "metric": metric, "operator": "is", "value": rng.choice([True, False])},
            {"type": "text", "metric": metric, "operator": "in", "values": ["on", "2"]},
        ]
    )


def random_tree(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    kind = rng.choice(["compare"] * 4 + ["all", "any", "not"]) if depth else "compare"
    if kind == "compare" and rng.random() < RICH:
        return random_question(rng)
    if kind == "compare":
        found = {"type": kind, "metric": rng.choice("aaab"), "operator": rng.choice([">", ">=", ">=", "<", "<=", "!="])}
        found["limit"] = rng.randint(1, 5)
        return found if found["operator"] == "!=" else found | {"deadband": rng.choice([0, 0, 1, 2])}
    if kind == "not":
        return {"type": kind, "of": random_tree(rng, depth - 1)}
    return {"type": kind, "of": [random_tree(rng, depth - 1) for _ in range(rng.randint(1, 3))]}


def random_rule(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(
        [
            {"type": "simple"},
            {"type": "duration", "seconds": rng.choice([0.002, 0.005, 0.012])},
            {"type": "repeating", "times": rng.randint(1, 3)},
            {"type": "repeating", "times": rng.randint(1, 3), "window_s": rng.choice([0.004, 0.012])},
        ]
    )
    schedule = {"schedule": rng.choice([OPENING, CLOSING])} if rng.random() < RICH / 2 else {}
    return {"condition": random_tree(rng), "kind": kind} | schedule


def random_instance(rng: random.Random, number: int) -> Instance:
    clear = rng.choice(
        [
            {"type": "automatic", "off_delay_s": rng.choice([0, 0, 0.004, 0.01])},
            {"type": "rule"} | random_rule(rng),
            {"type": "by_hand"},
            {"type": "quiet", "seconds": rng.choice([0.004, 0.02])},
        ]
    )
    create = {key: random_rule(rng) for key in rng.sample(["critical", "major", "info"], rng.randint(1, 3))}
    definition = settled({"schema": 1, "create": create, "clear": clear, "message": rng.choice(["", "", "c is ${c}"])})
    holds_ms = [6, 15, 40, HOLD_FOREVER_MS]
    metrics = {metric: Watched(rng.choice(SERIES), rng.choice(holds_ms)) for metric in METRICS}
    return Instance(number, definition, metrics)


def random_steps(rng: random.Random) -> list[tuple[str, int, Any]]:
    verbs = ["batch"] * 12 + ["crash", "repeat", "repeat", "tick", "tick", "tick", "restart", "reshuffle", "clear"]
    taken = []
    for _ in range(30):
        rows = [
            (
                rng.choice(SERIES),
                rng.choice([-6, -3, 0, 1, 2, 3, 5, 8]),
                float(rng.randint(0, 6)) if rng.random() > WORDED else rng.choice(["on", "oN", "21", None]),
            )
            for _ in range(rng.randint(1, 6))
        ]
        taken.append((rng.choice(verbs), rng.choice([0, 1, 2, 4, 6, 20]), rows))
    return taken


def test_the_columnar_engine_lives_as_long_and_as_well_as_the_plain_evaluator() -> None:
    heard = live(range(LIVES))
    assert min(heard[word] for word in ("Raised", "SeverityChanged", "Updated", "Cleared")) > LIVES // 4


def test_what_the_columnar_engine_compares_with_may_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "RICH", 0.8)
    monkeypatch.setitem(globals(), "MOVING", 1.0)
    heard = live(range(1000, 1000 + LIVES // 3))
    assert min(heard[word] for word in ("Raised", "Updated", "Cleared")) > LIVES // 4


def live(seeds: range) -> Counter[str]:
    """Lead an engine and the plain evaluator through random lives; count what happens in them."""
    heard: Counter[str] = Counter()
    for seed in seeds:
        rng = random.Random(seed)
        installed = [random_instance(rng, number) for number in (1, 2)]
        if seed % 8 == 1:
            installed = [replace(one, metrics={"a": one.metrics["a"]}) for one in installed]
        world = World(installed, is_seeded=seed % 4 == 0, is_marked=seed % 4 == 1)  # The others hold what they held.
        reference = Reference(installed)
        try:
            walk(world, reference, random_steps(rng), heard)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
    return heard
