"""One rule on one asset, fed as a test tells it: metric ``a``, ``b``, … are series 1, 2, …; times are seconds."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rules import conditions
from rules.engine import Engine
from rules.outcome import HOLD_UNKNOWN_MS, Instance, Outcome, State, Transition, Watched

START_MS = 1_795_314_590_000


def over(limit: float, metric: str = "a", **more: Any) -> dict[str, Any]:
    """Return a comparison with a least value."""
    return {"type": "compare", "metric": metric, "operator": ">=", "limit": limit, **more}


def under(limit: float, metric: str = "a", **more: Any) -> dict[str, Any]:
    """Return a comparison with a greatest value."""
    return {"type": "compare", "metric": metric, "operator": "<=", "limit": limit, **more}


def alarm_type(clear: Mapping[str, Any] | None = None, **create: Mapping[str, Any]) -> conditions.AlarmDefinition:
    """Return a definition from create rules by severity; a bare condition stands for a simple rule."""
    rules = {key: rule if "condition" in rule else {"condition": rule} for key, rule in create.items()}
    return conditions.parse({"schema": 1, "create": rules} | ({"clear": dict(clear)} if clear else {}))


class Probe:
    """An engine with one instance, number 1, that commits everything it hears."""

    def __init__(self, definition: conditions.AlarmDefinition, hold_ms: int = HOLD_UNKNOWN_MS) -> None:
        self.instance = Instance(
            1, definition, {name: Watched(i, hold_ms) for i, name in enumerate(definition.metrics(), start=1)}
        )
        self.engine = Engine()
        self.engine.install([self.instance])
        self.stored: dict[int, State] = {}
        self.heard: list[Transition] = []

    def feed(self, at_s: float, *values: float, arrives_s: float | None = None) -> list[Transition]:
        """Send one value of each metric in order, measured at ``at_s``."""
        return self.feed_rows([(i, at_s, value) for i, value in enumerate(values, start=1)], arrives_s)

    def feed_rows(self, rows: list[tuple[int, float, float]], arrives_s: float | None = None) -> list[Transition]:
        """Send one batch of (series, seconds, value)."""
        now_s = max(at for _, at, _ in rows) if arrives_s is None else arrives_s
        return self.commit(self.evaluate(rows, now_s))

    def evaluate(self, rows: list[tuple[int, float, float]], now_s: float) -> Outcome:
        """Evaluate a batch without committing it."""
        series, at_s, value = zip(*rows, strict=True)
        ts_ms = np.array([ms(at) for at in at_s], np.int64)
        return self.engine.evaluate(np.array(series, np.int64), ts_ms, np.array(value, np.float64), ms(now_s))

    def tick(self, now_s: float) -> list[Transition]:
        """Let time pass to ``now_s``."""
        return self.commit(self.engine.tick(ms(now_s)))

    def clear_by_hand(self, now_s: float) -> list[Transition]:
        """Let a person clear the alarm."""
        return self.commit(self.engine.clear_by_hand(1, ms(now_s)))

    def commit(self, outcome: Outcome) -> list[Transition]:
        """Store and commit an outcome; return what happened."""
        for number, state in outcome.states.items():
            if state is None:
                del self.stored[number]
            else:
                self.stored[number] = state
        self.engine.commit(outcome)
        self.heard.extend(outcome.transitions)
        return list(outcome.transitions)

    def restart(self) -> None:
        """Go on in a new engine from what is stored."""
        self.engine = Engine()
        self.engine.install([self.instance])
        assert self.engine.restore(self.stored.values()) == []


def ms(at_s: float) -> int:
    """Return a time of a test as the engine counts."""
    return START_MS + round(1000 * at_s)


def words(transitions: list[Transition]) -> list[str]:
    """Return what happened in words: ``Raised major``, …"""
    return [f"{type(t).__name__} {t.alarm.severity.key}" for t in transitions]
