"""Turns an alarm definition into what the engine runs: intervals for comparisons, functions for trees, lengths in ms.

Every comparison becomes a closed interval ``[low, high]`` in which it is true and a wider one,
``[keep_low, keep_high]``, in which it stays true (its deadband), so that one pair of array operations tests them all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from rules import formulas, questions
from rules.conditions import (
    AlarmDefinition,
    All,
    AnyOf,
    Automatic,
    ByHand,
    ClearRule,
    Condition,
    Duration,
    Kind,
    Not,
    Quiet,
    Repeating,
    Severity,
    Simple,
    leaves,
    weekly,
)
from rules.context import NOWHERE, Context, watched_names
from rules.formulas import Formula
from rules.histories import Reach
from rules.leaf import Expression, OtherMetric, Silent, Supply, View, Window, metrics_of, plain
from rules.looks import End, Look, Silence, text_test
from rules.outcome import Limit, Supplied
from rules.questions import Question
from rules.schedules import Openings, Schedule, openings

Truth = bool | None
Tree = Callable[[Sequence[Truth]], Truth]
"""From the truths of all comparisons of a definition to the truth of a tree, in three-valued logic (A4)."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison; ``metric`` is an index into the metrics of the definition.

    ``is_negated``: the tree uses its opposite, so its becoming false can make the root true. ``look``: what it compares
    where that is not just the number the metric holds.
    """

    metric: int
    low: float
    high: float
    keep_low: float
    keep_high: float
    is_negated: bool
    key: tuple[str, str, float]
    look: Look | None = None

    @property
    def has_deadband(self) -> bool:
        """Whether being true must be remembered."""
        if self.look is not None and (self.look.silence is not None or self.look.slack is not None):
            return True
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
    """A tree with its length; ``metrics`` is a bit mask of those it compares.

    ``begins_by_time``: it can begin to match without a sample, because nothing came. ``supplied``: the lengths that
    attributes supplied to it and to what ends its alarm.
    """

    of: str
    tree: Tree
    length: Length
    metrics: int
    limits: tuple[Limit, ...]
    openings: Openings | None = None
    begins_by_time: bool = False
    supplied: tuple[Supplied, ...] = ()

    def is_open(self, at_ms: int) -> bool:
        """Return whether its schedule lets it be true at an instant."""
        return self.openings is None or self.openings.is_open(at_ms)


@dataclass(frozen=True, slots=True)
class Create(Rule):
    """A rule that makes an alarm of ``severity``."""

    severity: Severity = Severity.INFO


@dataclass(eq=False, slots=True, weakref_slot=True)
class Compiled:
    """One definition, ready to run.

    ``leaves`` holds the comparisons of create rules first (``create_leaves`` of them), then those of the clear
    rule. ``clear_automatically``: the clear rule has no tree; it asks whether no create tree matches.
    ``lead``: the metric the worst rule compares first; ``peak_sign``: +1 when a greater value of it is worse, -1
    when a smaller one is, 0 when neither. ``is_plain``: it compares numbers that its metrics hold and nothing else, so
    that columns do for it; ``reach``: how far back it looks at each metric. ``quiet_ms``: after how long
    without a match the alarm clears, 0 where that is not what clears it.
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
    is_plain: bool
    reach: tuple[Reach, ...]
    quiet_ms: int
    hears_silence: bool
    is_scheduled: bool

    @property
    def looks_back(self) -> bool:
        """Whether it needs more of the past than what its metrics hold."""
        return any(self.reach)

    @property
    def is_timed(self) -> bool:
        """Whether time alone can begin something where nothing runs."""
        return self.is_scheduled or self.hears_silence


def compile_definition(definition: AlarmDefinition, context: Context = NOWHERE) -> Compiled:
    """Compile a definition for where it stands; rules whose length is negative never fire (A5) and are left out."""
    metrics = watched_names(definition, context)
    met = _Leaves(metrics, context)
    creates = []
    ending = tuple(questions.supplied(definition.clear, "clear."))
    for severity, rule in definition.create.by_severity():
        length = _length(rule.kind)
        if length is not None:
            made = met.rule(severity.key, rule.condition, length, weekly(rule.schedule))
            opened, by_time = made.openings, made.begins_by_time
            supplied = (*questions.supplied(rule.kind), *ending)
            creates.append(
                Create(made.of, made.tree, length, made.metrics, made.limits, opened, by_time, supplied, severity)
            )
    create_leaves = len(met.found)
    met.separate()
    clear = _clear(definition, met)
    found = tuple(met.found)
    rules = creates if clear is None else [*creates, clear]
    is_scheduled = any(rule.openings is not None for rule in rules)
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
        is_plain=all(leaf.look is None for leaf in found) and not is_scheduled,
        reach=tuple(_reach(found, metric) for metric in range(len(metrics))),
        quiet_ms=round(1000 * plain(definition.clear.seconds)) if isinstance(definition.clear, Quiet) else 0,
        hears_silence=any(leaf.look is not None and leaf.look.silence is not None for leaf in found),
        is_scheduled=is_scheduled,
    )


class _Leaves:
    """The comparisons met so far, each once."""

    def __init__(self, metrics: tuple[str, ...], context: Context) -> None:
        self._context = context
        self._number = {name: i for i, name in enumerate(metrics)}
        self._known: dict[tuple[Question, bool], int] = {}
        self.found: list[Leaf] = []

    def rule(self, of: str, condition: Condition, length: Length, schedule: Schedule | None) -> Rule:
        compared = list(leaves(condition))
        hears_silence = any(isinstance(leaf, Silent) for leaf in compared)
        tree = self._tree(condition, is_negated=False, is_ageless=hears_silence)
        mask = sum({1 << self._number[name] for leaf in compared for name in metrics_of(leaf)})
        limits = tuple(limit for leaf in compared for limit in questions.limits(leaf))
        opened = None if schedule is None else openings(schedule, self._context.zone)
        return Rule(of, tree, length, mask, limits, opened, hears_silence)

    def separate(self) -> None:
        """Share no comparison with what came before: the memory of a clear rule is its own."""
        self._known.clear()

    def _tree(self, condition: Condition, *, is_negated: bool, is_ageless: bool) -> Tree:
        match condition:
            case Not():
                return _opposite(self._tree(condition.of, is_negated=not is_negated, is_ageless=is_ageless))
            case All():
                return _all([self._tree(part, is_negated=is_negated, is_ageless=is_ageless) for part in condition.of])
            case AnyOf():
                return _any([self._tree(part, is_negated=is_negated, is_ageless=is_ageless) for part in condition.of])
            case leaf:
                asked, is_opposite = questions.asked(leaf)
                ageless = [replace(one, is_ageless=True) for one in asked] if is_ageless else asked
                places = [self._leaf(one, is_negated=is_negated != is_opposite) for one in ageless]
                parts: list[Tree] = [itemgetter(place) for place in places]
                tree = parts[0] if len(parts) == 1 else _any(parts)
                return _opposite(tree) if is_opposite else tree

    def _leaf(self, asked: Question, *, is_negated: bool) -> int:
        number = self._known.setdefault((asked, is_negated), len(self.found))
        if number == len(self.found):
            look = None if asked.is_plain else self._look(asked)
            metric = self._number[asked.metrics[0]] if look is None else look.metrics[0]
            self.found.append(Leaf(metric, *asked.true, *asked.keep, is_negated, asked.key, look))
        return number

    def _look(self, asked: Question) -> Look:
        default = asked.default
        test = None if asked.text is None else text_test(asked.text)
        if asked.text is not None and test is not None and asked.text.default is not None:
            default = float(test(asked.text.default))
        metrics = tuple(self._number[name] for name in asked.metrics)
        ends = None if asked.ends is None else (_end(asked.ends[0], asked.metrics), _end(asked.ends[1], asked.metrics))
        silence = None if asked.silence is None else self._silence(asked.silence)
        if silence is not None:
            metrics = tuple(dict.fromkeys((*metrics, *(metric for group in silence.groups for metric in group))))
        return Look(
            metrics,
            asked.view,
            test,
            less=None if asked.less is None else _other(asked.less, asked.metrics),
            ends=ends,
            slack=None if asked.slack is None else _end(asked.slack, asked.metrics),
            default=default,
            is_directed=silence is None and ends is None and asked.expression is None and _is_directed(asked.view),
            silence=silence,
            is_ageless=asked.is_ageless,
            formula=None if asked.expression is None else _named_only(asked.expression),
            constants=() if asked.expression is None else tuple(asked.expression.constants.items()),
        )

    def _silence(self, asked: Silent) -> Silence:
        devices = [(tuple(self._number[name] for name in one.series), one.metrics) for one in self._context.devices]
        groups = tuple(series for series, metrics in devices if asked.of == "asset" or asked.metric in metrics)
        if asked.of == "metric" or not groups:
            # Where nobody said which devices there are, the metrics themselves stand for them.
            names = self._number if asked.metric is None else [asked.metric]
            groups = (tuple(self._number[name] for name in names),)
        return Silence(round(1000 * plain(asked.seconds)), groups, of_all=asked.which == "all")


def _end(supply: Supply, metrics: tuple[str, ...]) -> End:
    if isinstance(supply, OtherMetric):
        return End(_other(supply.metric, metrics), supply.plus)
    return End(None, plain(supply))


def _other(metric: str, metrics: tuple[str, ...]) -> int:
    """Return the place of a metric among those a comparison depends on, after the one it is about."""
    return metrics.index(metric, 1)


def _named_only(expression: Expression) -> Formula:
    """Return the formula with the names of metrics alone, in their order."""
    return replace(formulas.read(expression.formula), names=expression.names)


def _reach(found: tuple[Leaf, ...], metric: int) -> Reach:
    reach = Reach()
    for leaf in found:
        if leaf.look is not None and leaf.metric == metric:
            reach |= leaf.look.reach
    return reach


def _is_directed(view: View | None) -> bool:
    """Return whether more of a metric is more of what is seen of it."""
    return view is None or (isinstance(view, Window) and view.function in {"avg", "min", "max", "sum"})


def _direction(leaf: Leaf) -> int:
    if math.isfinite(leaf.low) and math.isfinite(leaf.high):
        return 0
    if leaf.look is not None and not leaf.look.is_directed:
        return 0
    sign = 1 if leaf.high == math.inf else -1
    return -sign if leaf.is_negated else sign


def _length(kind: Kind) -> Length | None:
    match kind:
        case Duration():
            ms = round(1000 * plain(kind.seconds))
            return Length(kind.type, ms=ms) if ms >= 0 else None
        case Repeating():
            times = int(plain(kind.times))
            if times == 0:
                return Length(kind.type)
            window_ms = 0 if kind.window_s is None else round(1000 * plain(kind.window_s))
            return Length(kind.type, times=times, window_ms=window_ms) if times > 0 else None
        case Simple():
            return Length(kind.type)


def _clear(definition: AlarmDefinition, met: _Leaves) -> Rule | None:
    match definition.clear:
        case ByHand():
            return None
        case Automatic(off_delay_s=delay):
            return Rule("clear", _never_asked, Length("duration", ms=round(1000 * plain(delay))), 0, ())
        case Quiet(seconds=seconds):
            return Rule("clear", _never_asked, Length("quiet", ms=round(1000 * plain(seconds))), 0, ())
        case ClearRule(condition=condition, kind=kind, schedule=schedule):
            length = _length(kind)
            return None if length is None else met.rule("clear", condition, length, weekly(schedule))


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
