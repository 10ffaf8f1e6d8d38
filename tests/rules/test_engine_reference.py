"""The columnar engine and the plain evaluator say the same of random rules, samples, batches, restarts and repeats."""

import json
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from kernel import errors
from rules import conditions
from rules.engine import Engine
from rules.outcome import (
    HOLD_FOREVER_MS,
    Held,
    HeldColumns,
    Instance,
    Outcome,
    State,
    Watched,
    dump_state,
    load_state,
)
from tests.rules.reference import Reference, Transition

Batch = list[tuple[int, int, float]]

START = 1_000
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


trees = st.recursive(
    comparison(),
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
    st.builds(lambda n: {"type": "repeating", "times": n}, st.integers(-1, 3)),
    st.builds(
        lambda n, s: {"type": "repeating", "times": n, "window_s": s},
        st.integers(-1, 3),
        st.sampled_from([0.004, 0.01, 0.03]),
    ),
)
rules = st.builds(lambda tree, kind: {"condition": tree, "kind": kind}, trees, kinds)
clears = st.one_of(
    st.just({"type": "by_hand"}),
    st.builds(lambda s: {"type": "automatic", "off_delay_s": s}, st.sampled_from([0, 0.003, 0.01])),
    st.builds(lambda rule: {"type": "rule", **rule}, rules),
)
definitions = st.builds(
    lambda create, clear, message: {"schema": 1, "create": create, "clear": clear, "message": message},
    st.dictionaries(st.sampled_from(["critical", "major", "info"]), rules, min_size=1, max_size=3),
    clears,
    st.sampled_from(["", "c is ${c}"]),
).map(conditions.parse)


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


rows = st.lists(st.tuples(st.sampled_from(SERIES), st.integers(-4, 12), st.integers(0, 7)), max_size=8)
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

    def __init__(self, installed: list[Instance], *, is_seeded: bool) -> None:
        self.installed = installed
        self.is_seeded = is_seeded
        self.stored: dict[int, str] = {}
        self.known: dict[int, Held] = {}
        self.engine = Engine()
        self.engine.install(installed)

    def evaluate(self, batch: Batch, now: int) -> Outcome:
        outcome = self.engine.evaluate(*columns(batch), now)
        assert self.engine.evaluate(*columns(batch), now) == outcome, "dropped outcomes leave no trace"
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
                self.known[series] = Held("", int(series), *(column.item() for column in row))

    def restart(self) -> None:
        held = self.engine.held()
        self.engine = Engine()
        self.engine.install(self.installed)
        if not self.is_seeded:
            self.engine.hold(held)
        assert self.engine.restore([load_state(json.loads(text)) for text in self.stored.values()]) == []
        if self.is_seeded:
            self.engine.seed(HeldColumns.of(self.known.values()))

    def newest(self) -> int:
        return max((held.ts_ms for held in self.known.values()), default=0)


def columns(batch: Batch) -> tuple[Any, Any, Any]:
    series, ts, value = zip(*batch, strict=True) if batch else ((), (), ())
    return np.array(series, np.int64), np.array(ts, np.int64), np.array(value, np.float64)


def in_order(transitions: Any) -> list[Transition]:
    return sorted(transitions, key=lambda t: (t.at_ms, t.instance))


def walk(world: World, reference: Reference, taken: list[tuple[str, int, Any]], heard: Counter[str]) -> None:
    """Lead both through the same steps, and compare what they say; ``heard`` counts it."""
    now = START
    for verb, later, offsets in taken:
        now += later
        batch = [(series, now + offset, float(value)) for series, offset, value in offsets]
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
    return {number: state for number, state in outcome.states.items() if state is not None and state.is_running}


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
@given(installed=instances(), taken=steps, is_seeded=st.booleans())
def test_the_columnar_engine_says_what_the_plain_evaluator_says(
    *, installed: list[Instance], taken: list[tuple[str, int, Any]], is_seeded: bool
) -> None:
    heard: Counter[str] = Counter()
    for instance in installed:
        note(f"{conditions.dump(instance.definition)} {instance.metrics}")
    note(f"{taken} {is_seeded=}")
    walk(World(installed, is_seeded=is_seeded), Reference(installed), taken, heard)
    for word in heard:
        event(word)


LIVES = 40
"""Each is a long, eventful life; together they take a few seconds."""


def random_tree(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    kind = rng.choice(["compare"] * 4 + ["all", "any", "not"]) if depth else "compare"
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
    return {"condition": random_tree(rng), "kind": kind}


def random_instance(rng: random.Random, number: int) -> Instance:
    clear = rng.choice(
        [
            {"type": "automatic", "off_delay_s": rng.choice([0, 0, 0.004, 0.01])},
            {"type": "rule"} | random_rule(rng),
            {"type": "by_hand"},
        ]
    )
    create = {key: random_rule(rng) for key in rng.sample(["critical", "major", "info"], rng.randint(1, 3))}
    definition = conditions.parse(
        {"schema": 1, "create": create, "clear": clear, "message": rng.choice(["", "", "c is ${c}"])}
    )
    holds_ms = [6, 15, 40, HOLD_FOREVER_MS]
    metrics = {metric: Watched(rng.choice(SERIES), rng.choice(holds_ms)) for metric in METRICS}
    return Instance(number, definition, metrics)


def random_steps(rng: random.Random) -> list[tuple[str, int, Any]]:
    verbs = ["batch"] * 12 + ["crash", "repeat", "repeat", "tick", "tick", "tick", "restart", "reshuffle", "clear"]
    taken = []
    for _ in range(30):
        rows = [
            (rng.choice(SERIES), rng.choice([-6, -3, 0, 1, 2, 3, 5, 8]), rng.randint(0, 6))
            for _ in range(rng.randint(1, 6))
        ]
        taken.append((rng.choice(verbs), rng.choice([0, 1, 2, 4, 6, 20]), rows))
    return taken


def test_the_columnar_engine_lives_as_long_and_as_well_as_the_plain_evaluator() -> None:
    heard: Counter[str] = Counter()
    for seed in range(LIVES):
        rng = random.Random(seed)
        installed = [random_instance(rng, number) for number in (1, 2)]
        world, reference = World(installed, is_seeded=seed % 4 == 0), Reference(installed)
        try:
            walk(world, reference, random_steps(rng), heard)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
    assert min(heard[word] for word in ("Raised", "SeverityChanged", "Updated", "Cleared")) > LIVES // 4
