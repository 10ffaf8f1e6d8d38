"""Every comparison of the grammar as closed intervals: a question is true while a number lies in its interval.

For ``rules.compiled``. "Not equal" and its like are no intervals; they are the opposite of one, or of several.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rules.conditions import ClearPolicy, ClearRule, Kind
from rules.leaf import (
    Among,
    Between,
    Boolean,
    Comparison,
    Expression,
    FromAttribute,
    Leaf,
    OtherMetric,
    Resolved,
    Silent,
    Supply,
    Text,
    View,
    Window,
    metrics_of,
    plain,
)
from rules.outcome import Limit, Supplied

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Question:
    """A number and the interval in which it makes this true; ``keep`` is where it stays so (its deadband).

    ``metrics``: the one it is about, and those it depends on. ``less``: one whose number is taken off first; ``ends``:
    what it lies between where that moves, so that the number is how far inside it is; ``slack``: a deadband that moves.
    ``text`` is looked for in what the metric says, and comes to 1 or 0. ``key`` tells questions apart that remember.
    """

    metrics: tuple[str, ...]
    true: Interval
    keep: Interval
    key: tuple[str, str, float]
    view: View | None = None
    text: Text | None = None
    default: float | None = None
    silence: Silent | None = None
    is_ageless: bool = False
    expression: Expression | None = None
    less: str | None = None
    ends: tuple[Supply, Supply] | None = None
    slack: OtherMetric | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it only looks at the number that one metric holds."""
        is_number = len(self.metrics) == 1 and self.view is None and self.text is None and self.default is None
        return is_number and self.silence is None and self.expression is None and not self.is_ageless


def asked(leaf: Leaf) -> tuple[tuple[Question, ...], bool]:
    """Return the questions one of which must be true, and whether the comparison is the opposite of that."""
    match leaf:
        case Comparison():
            return (_compared(leaf),), leaf.operator == "!="
        case Between():
            return (_between(leaf),), False
        case Among():
            return tuple(_one_of(leaf, value) for value in leaf.values), leaf.operator == "not_in"
        case Boolean():
            true = (math.nextafter(0, 1), math.inf)
            default = None if leaf.default is None else float(leaf.default)
            return (Question((leaf.metric,), true, true, (leaf.metric, "is", 1), default=default),), not leaf.wants
        case Text():
            is_opposite = leaf.operator in {"is_not", "not_contains", "not_in"}
            return (Question((leaf.metric,), (1, 1), (1, 1), (leaf.metric, "text", 1), text=leaf),), is_opposite
        case Silent() | Expression():
            return (_whole(leaf),), False


def _whole(leaf: Silent | Expression) -> Question:
    """Return the question of what is more than the value of a metric; it comes to 1 where it is so."""
    if isinstance(leaf, Expression):
        return Question(metrics_of(leaf), (1, 1), (1, 1), (leaf.formula, "expression", 1), expression=leaf)
    key = (f"no data {leaf.of} {leaf.metric or leaf.which}", "for", plain(leaf.seconds))
    return Question(metrics_of(leaf), (1, 1), (1, 1), key, silence=leaf)


def limits(leaf: Leaf) -> tuple[Limit, ...]:
    """Return a comparison as the evidence of an alarm names it."""
    match leaf:
        case Comparison():
            return (_limit(leaf, leaf.operator, leaf.limit),)
        case Between():
            return tuple(_limit(leaf, sign, end) for sign, end in ((">=", leaf.low), ("<=", leaf.high)))
    return (_words(leaf),)


def _limit(leaf: Comparison | Between, operator: str, limit: Supply) -> Limit:
    return Limit(
        leaf.metric,
        operator,
        fixed(limit),
        fixed(leaf.deadband),
        _shown(leaf.view),
        _metric_of(limit),
        source_of(limit),
        _metric_of(leaf.deadband),
        source_of(leaf.deadband),
    )


def fixed(value: Supply) -> float:
    """Return the number that is known of what a comparison uses: of another metric, what is added to it."""
    return value.plus if isinstance(value, OtherMetric) else plain(value)


def supplied(kind: Kind | ClearPolicy, path: str = "") -> Iterator[Supplied]:
    """Yield the lengths and counts that attributes supplied, as the evidence of an alarm names them."""
    inner = supplied(kind.kind, path) if isinstance(kind, ClearRule) else ()
    yield from inner
    for field, value in kind:
        source = source_of(value) if isinstance(value, FromAttribute) else None
        if source is not None:
            yield Supplied(f"{path}{field}", plain(value), source)


def source_of(value: float | OtherMetric | FromAttribute | None) -> str | None:
    """Return the attribute that supplied a number and its level, as evidence names them."""
    return f"{value.attribute}@{value.level}" if isinstance(value, Resolved) else None


def _metric_of(value: Supply) -> str | None:
    return value.metric if isinstance(value, OtherMetric) else None


def _words(leaf: Among | Boolean | Text | Silent | Expression) -> Limit:
    """Return a comparison that has no limit by number alone."""
    match leaf:
        case Among():
            listed = ", ".join(f"{value:.10g}" for value in leaf.values)
            return Limit(leaf.metric, leaf.operator, listed, 0.0, _shown(leaf.view))
        case Boolean():
            return Limit(leaf.metric, leaf.operator, "true" if leaf.value else "false", 0.0)
        case Text():
            return Limit(leaf.metric, leaf.operator, ", ".join(leaf.wanted), 0.0)
        case Expression():
            return Limit(leaf.names[0], "expression", leaf.formula, 0.0)
        case Silent():
            source = source_of(leaf.seconds)
            return Limit(leaf.metric or leaf.of, "no_data", plain(leaf.seconds), 0.0, leaf.of, source=source)


def interval(operator: str, limit: float, tolerance: float = 0.0) -> Interval:
    """Return where a number is, compared with a limit; for ``!=`` where it is not."""
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
            return limit - tolerance, limit + tolerance


def _compared(leaf: Comparison) -> Question:
    # A number is above another exactly when their difference is above nought.
    limit, slack = fixed(leaf.limit), leaf.deadband if isinstance(leaf.deadband, OtherMetric) else None
    deadband = 0.0 if isinstance(leaf.deadband, OtherMetric) else plain(leaf.deadband)
    true = keep = interval(leaf.operator, limit, leaf.tolerance)
    if leaf.operator.startswith(">"):
        keep = interval(leaf.operator, limit - deadband)
    elif leaf.operator.startswith("<"):
        keep = interval(leaf.operator, limit + deadband)
    key = (_name(leaf), leaf.operator, limit)
    less = _metric_of(leaf.limit)
    return Question(metrics_of(leaf), true, keep, key, leaf.view, default=leaf.default, less=less, slack=slack)


def _between(leaf: Between) -> Question:
    low, high, metrics = fixed(leaf.low), fixed(leaf.high), metrics_of(leaf)
    key = (_name(leaf), f"between {high!r}", low)
    if len(metrics) == 1:
        deadband = fixed(leaf.deadband)
        true, keep = (low, high), (low - deadband, high + deadband)
        return Question(metrics, true, keep, key, leaf.view, default=leaf.default)
    # How far inside a number is of the nearer end is not negative exactly when it lies between them.
    slack = leaf.deadband if isinstance(leaf.deadband, OtherMetric) else None
    keep = (0.0 if slack is not None else -fixed(leaf.deadband), math.inf)
    ends = (leaf.low, leaf.high)
    return Question(metrics, (0.0, math.inf), keep, key, leaf.view, default=leaf.default, ends=ends, slack=slack)


def _one_of(leaf: Among, value: float) -> Question:
    true = interval("=", value, leaf.tolerance)
    return Question(metrics_of(leaf), true, true, (_name(leaf), "in", value), leaf.view, default=leaf.default)


def _name(leaf: Comparison | Between | Among) -> str:
    """Return what is compared, as the key of what a deadband remembers."""
    parts = [*metrics_of(leaf), *([] if leaf.view is None else [leaf.view.model_dump_json(exclude_none=True)])]
    return " ".join(parts)


def _shown(view: View | None) -> str | None:
    return None if view is None else view.function if isinstance(view, Window) else view.type
