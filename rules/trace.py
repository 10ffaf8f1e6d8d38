"""Why, and why not (RUL-16): each branch of a rule on one asset as it stands now, with values, streaks and timers.

Pure but for ``look``. The answers are the engine's own; here they are laid over the tree that people wrote.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy.orm import Session

from assets.models import Asset
from rules import compiled, evaluation, library, questions, standing
from rules.compiled import Compiled, Length, Truth
from rules.conditions import AlarmDefinition, All, AnyOf, ClearRule, Condition, Not
from rules.leaf import metrics_of
from rules.models import AlarmType
from rules.outcome import Alarm, Insight, Streak, Watched
from rules.questions import Question
from rules.standing import Standing
from telemetry.store import TelemetryStore

Absent = Literal["off", "not_for_it", "not_measured"]


@dataclass(frozen=True, slots=True)
class Value:
    """The newest value of a metric that a branch compares; ``is_stale``: it no longer speaks (A8)."""

    metric: str
    value: float | str | None
    ts_ms: int | None
    is_stale: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """A condition with what it answers now; ``values`` only where it compares, ``parts`` only where it groups."""

    condition: Condition
    truth: Truth
    parts: tuple["Branch", ...] = ()
    values: tuple[Value, ...] = ()

    def leaves(self) -> Iterator["Branch"]:
        """Yield the comparisons of it."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


@dataclass(frozen=True, slots=True)
class Running:
    """The rule of a severity, or the clear rule (``of`` is ``clear``), as it stands now.

    ``began_ms`` and ``matches``: of the streak that runs; ``due_ms``: when that is long enough, if nothing happens
    before; ``times``: how many matches it takes. ``is_open``: whether its schedule lets it be true.
    """

    of: str
    branch: Branch | None
    began_ms: int | None
    matches: int
    due_ms: int | None
    times: int
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Trace:
    """All of it. ``absent``: why nothing is evaluated on this asset at all."""

    absent: Absent | None
    clock_ms: int | None = None
    rules: tuple[Running, ...] = ()
    alarm: Alarm | None = None


def look(session: Session, store: TelemetryStore, kind: AlarmType, asset: Asset, *, now: datetime) -> Trace:
    """Return how an alarm type stands on an asset now."""
    if not library.is_for(session, kind, asset):
        return Trace("not_for_it")
    if not kind.is_enabled:
        return Trace("off")
    found = standing.read(session, alarm_type_ids=[kind.id], asset_ids=[asset.id])
    if not found:
        return Trace("not_measured")
    (rule,) = found
    insight = evaluation.insight(session, store, rule, now=now)
    return Trace("not_measured") if insight is None else laid_over(rule, insight)


def laid_over(rule: Standing, insight: Insight) -> Trace:
    """Return the branches of a rule with what the engine answers."""
    definition = rule.instance.definition
    plan = compiled.compile_definition(definition, rule.instance.context)
    tree = _Tree(insight, rule.instance.metrics)
    streaks = {streak.of: streak for streak in insight.streaks}
    lengths = {create.severity: create.length for create in plan.creates}
    made = []
    for severity, create in definition.create.by_severity():
        # A rule whose length is negative never fires and is not compiled (A5).
        if severity in lengths:
            branch = tree.branch(create.condition, is_negated=False)
            is_open = severity in insight.open
            made.append(_running(severity.key, branch, streaks.get(severity.key), lengths[severity], is_open=is_open))
    tree.separate()
    made.extend(_clearing(definition, plan, tree, streaks.get("clear")))
    return Trace(None, insight.clock_ms, tuple(made), insight.alarm)


def _clearing(definition: AlarmDefinition, plan: Compiled, tree: "_Tree", streak: Streak | None) -> Iterator[Running]:
    if plan.clear is not None:
        policy = definition.clear
        branch = tree.branch(policy.condition, is_negated=False) if isinstance(policy, ClearRule) else None
        yield _running("clear", branch, streak, plan.clear.length, is_open=True)


def _running(of: str, branch: Branch | None, streak: Streak | None, length: Length, *, is_open: bool) -> Running:
    if streak is None:
        return Running(of, branch, None, 0, None, length.times, is_open)
    count = len(streak.matches) if length.window_ms else streak.count
    due_ms = streak.began_ms + length.ms if length.ms else None
    return Running(of, branch, streak.began_ms, count, due_ms, length.times, is_open)


class _Tree:
    """Numbers comparisons as the compiler does, and reads their answers."""

    def __init__(self, insight: Insight, watched: Mapping[str, Watched]) -> None:
        self._truths = insight.truths
        self._clock_ms = insight.clock_ms
        self._held = {held.metric: held for held in insight.held}
        self._watched = watched
        self._known: dict[tuple[Question, bool], int] = {}
        self._count = 0

    def separate(self) -> None:
        """Share no comparison with what came before."""
        self._known.clear()

    def branch(self, condition: Condition, *, is_negated: bool) -> Branch:
        """Return a condition with its answer."""
        match condition:
            case Not():
                part = self.branch(condition.of, is_negated=not is_negated)
                return Branch(condition, _opposite(part.truth), (part,))
            case All():
                parts = tuple(self.branch(one, is_negated=is_negated) for one in condition.of)
                return Branch(condition, _opposite(_any([_opposite(one.truth) for one in parts])), parts)
            case AnyOf():
                parts = tuple(self.branch(one, is_negated=is_negated) for one in condition.of)
                return Branch(condition, _any([one.truth for one in parts]), parts)
            case leaf:
                asked, is_opposite = questions.asked(leaf)
                truths = [self._truths[self._number(one, is_negated=is_negated != is_opposite)] for one in asked]
                truth = _any(truths)
                values = tuple(self._value(metric) for metric in metrics_of(leaf))
                return Branch(condition, _opposite(truth) if is_opposite else truth, (), values)

    def _number(self, asked: Question, *, is_negated: bool) -> int:
        number = self._known.setdefault((asked, is_negated), self._count)
        self._count = max(self._count, number + 1)
        return number

    def _value(self, metric: str) -> Value:
        held = self._held.get(metric)
        if held is None:
            return Value(metric, None, None, is_stale=False)
        watched = self._watched.get(metric)
        hold_ms = 0 if watched is None else watched.hold_ms
        return Value(metric, held.value, held.ts_ms, is_stale=self._clock_ms - held.ts_ms > hold_ms)


def _opposite(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _any(truths: Sequence[Truth]) -> Truth:
    return True if True in truths else None if None in truths else False
