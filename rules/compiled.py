"""Turns an alarm definition into what the engine runs: intervals for comparisons, functions for trees, lengths in ms.

Every comparison becomes a closed interval ``[low, high]`` in which it is true and a wider one,
``[keep_low, keep_high]``, in which it stays true (its deadband), so that one pair of array operations tests them all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from rules.conditions import (
    AlarmDefinition,
    All,
    AnyOf,
    Automatic,
    ByHand,
    ClearRule,
    Comparison,
    Condition,
    Duration,
    Kind,
    Not,
    Repeating,
    Severity,
    Simple,
    comparisons,
)
from rules.outcome import Limit

Truth = bool | None
Tree = Callable[[Sequence[Truth]], Truth]
"""From the truths of all comparisons of a definition to the truth of a tree, in three-valued logic (A4)."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison; ``metric`` is an index into the metrics of the definition.

    ``is_negated``: the tree uses its opposite, so its becoming false can make the root true.
    """

    metric: int
    low: float
    high: float
    keep_low: float
    keep_high: float
    is_negated: bool
    key: tuple[str, str, float]

    @property
    def has_deadband(self) -> bool:
        """Whether being true must be remembered."""
        return self.keep_low < self.low or self.keep_high > self.high

    def holds(self, value: float, *, was_true: bool) -> bool:
        """Compare a value (A16)."""
        if was_true:
            return self.keep_low <= value <= self.keep_high
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Length:
    """When a streak is long enough: after ``ms`` and ``times`` matches, or ``times`` within ``window_ms``.

    ``kind`` is the word of the definition; state outlives an edit only where it stays the same (A21).
    """

    kind: str
    ms: int = 0
    times: int = 0
    window_ms: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A tree with its length; ``metrics`` is a bit mask of those it compares."""

    of: str
    tree: Tree
    length: Length
    metrics: int
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Create(Rule):
    """A rule that makes an alarm of ``severity``."""

    severity: Severity


@dataclass(eq=False, slots=True, weakref_slot=True)
class Compiled:
    """One definition, ready to run.

    ``leaves`` holds the comparisons of create rules first (``create_leaves`` of them), then those of the clear
    rule. ``clear_automatically``: the clear rule has no tree; it asks whether no create tree matches.
    ``lead``: the metric the worst rule compares first; ``peak_sign``: +1 when a greater value of it is worse, -1
    when a smaller one is, 0 when neither.
    """

    definition: AlarmDefinition
    metrics: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    create_leaves: int
    leaves_of_metric: tuple[tuple[int, ...], ...]
    creates: tuple[Create, ...]
    clear: Rule | None
    clear_automatically: bool
    lead: int
    peak_sign: int


def compile_definition(definition: AlarmDefinition) -> Compiled:
    """Compile a definition; rules whose length is negative never fire (A5) and are left out."""
    metrics = definition.metrics()
    leaves = _Leaves(metrics)
    creates = []
    for severity, rule in definition.create.by_severity():
        length = _length(rule.kind)
        if length is not None:
            made = leaves.rule(severity.key, rule.condition, length)
            creates.append(Create(made.of, made.tree, made.length, made.metrics, made.limits, severity))
    create_leaves = len(leaves.found)
    leaves.separate()
    clear = _clear(definition, leaves)
    found = tuple(leaves.found)
    return Compiled(
        definition=definition,
        metrics=metrics,
        leaves=found,
        create_leaves=create_leaves,
        leaves_of_metric=tuple(
            tuple(i for i, leaf in enumerate(found) if leaf.metric == m) for m in range(len(metrics))
        ),
        creates=tuple(creates),
        clear=clear,
        clear_automatically=isinstance(definition.clear, Automatic),
        lead=found[0].metric if create_leaves else 0,
        peak_sign=_direction(found[0]) if create_leaves else 0,
    )


class _Leaves:
    """The comparisons met so far, each once."""

    def __init__(self, metrics: tuple[str, ...]) -> None:
        self._number = {name: i for i, name in enumerate(metrics)}
        self._known: dict[tuple[Comparison, bool], int] = {}
        self.found: list[Leaf] = []

    def rule(self, of: str, condition: Condition, length: Length) -> Rule:
        compared = list(comparisons(condition))
        tree = self._tree(condition, is_negated=False)
        mask = sum({1 << self._number[leaf.metric] for leaf in compared})
        limits = tuple(Limit(leaf.metric, leaf.operator, leaf.limit, leaf.deadband) for leaf in compared)
        return Rule(of, tree, length, mask, limits)

    def separate(self) -> None:
        """Share no comparison with what came before: the memory of a clear rule is its own."""
        self._known.clear()

    def _tree(self, condition: Condition, *, is_negated: bool) -> Tree:
        match condition:
            case Comparison():
                # "Not equal" is no interval; it is the opposite of the one for "equal".
                if condition.operator == "!=":
                    return _opposite(itemgetter(self._leaf(condition, is_negated=not is_negated)))
                return itemgetter(self._leaf(condition, is_negated=is_negated))
            case Not():
                return _opposite(self._tree(condition.of, is_negated=not is_negated))
            case All():
                return _all([self._tree(part, is_negated=is_negated) for part in condition.of])
            case AnyOf():
                return _any([self._tree(part, is_negated=is_negated) for part in condition.of])

    def _leaf(self, comparison: Comparison, *, is_negated: bool) -> int:
        number = self._known.setdefault((comparison, is_negated), len(self.found))
        if number == len(self.found):
            low, high = _interval(comparison.operator, comparison.limit)
            keep_low, keep_high = low, high
            if comparison.operator.startswith(">"):
                keep_low, _ = _interval(comparison.operator, comparison.limit - comparison.deadband)
            elif comparison.operator.startswith("<"):
                _, keep_high = _interval(comparison.operator, comparison.limit + comparison.deadband)
            key = (comparison.metric, comparison.operator, comparison.limit)
            metric = self._number[comparison.metric]
            self.found.append(Leaf(metric, low, high, keep_low, keep_high, is_negated, key))
        return number


def _interval(operator: str, limit: float) -> tuple[float, float]:
    match operator:
        case ">":
            return math.nextafter(limit, math.inf), math.inf
        case ">=":
            return limit, math.inf
        case "<":
            return -math.inf, math.nextafter(limit, -math.inf)
        case "<=":
            return -math.inf, limit
        case _:
            return limit, limit


def _direction(leaf: Leaf) -> int:
    if math.isfinite(leaf.low) and math.isfinite(leaf.high):
        return 0
    sign = 1 if leaf.high == math.inf else -1
    return -sign if leaf.is_negated else sign


def _length(kind: Kind) -> Length | None:
    match kind:
        case Duration():
            return Length(kind.type, ms=round(1000 * kind.seconds)) if kind.seconds >= 0 else None
        case Repeating(times=0):
            return Length(kind.type)
        case Repeating():
            window_ms = round(1000 * (kind.window_s or 0))
            return Length(kind.type, times=kind.times, window_ms=window_ms) if kind.times > 0 else None
        case Simple():
            return Length(kind.type)


def _clear(definition: AlarmDefinition, leaves: _Leaves) -> Rule | None:
    match definition.clear:
        case ByHand():
            return None
        case Automatic(off_delay_s=delay):
            return Rule("clear", _never_asked, Length("duration", ms=round(1000 * delay)), 0, ())
        case ClearRule(condition=condition, kind=kind):
            length = _length(kind)
            return None if length is None else leaves.rule("clear", condition, length)


def _never_asked(truths: Sequence[Truth]) -> Truth:  # noqa: ARG001 - has the shape of a tree
    return None


def _opposite(part: Tree) -> Tree:
    def tree(truths: Sequence[Truth]) -> Truth:
        truth = part(truths)
        return None if truth is None else not truth

    return tree


def _all(parts: list[Tree]) -> Tree:
    def tree(truths: Sequence[Truth]) -> Truth:
        answer: Truth = True
        for part in parts:
            truth = part(truths)
            if truth is False:
                return False
            if truth is None:
                answer = None
        return answer

    return tree


def _any(parts: list[Tree]) -> Tree:
    def tree(truths: Sequence[Truth]) -> Truth:
        answer: Truth = False
        for part in parts:
            truth = part(truths)
            if truth is True:
                return True
            if truth is None:
                answer = None
        return answer

    return tree
