"""Every comparison of the grammar as closed intervals: a question is true while a number lies in its interval.

For ``rules.compiled``. "Not equal" and its like are no intervals; they are the opposite of one, or of several.
"""

import math
from dataclasses import dataclass

from rules.leaf import (
    Among,
    Between,
    Boolean,
    Comparison,
    Expression,
    Leaf,
    OtherMetric,
    Resolved,
    Silent,
    Text,
    View,
    Window,
    metrics_of,
    plain,
)
from rules.outcome import Limit

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Question:
    """A number and the interval in which it makes this true; ``keep`` is where it stays so (its deadband).

    ``metrics``: the one it is about, and one whose number is taken off first. ``text`` is looked for in what the
    metric says, and comes to 1 or 0. ``key`` tells questions apart that remember.
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
            true, keep = (leaf.low, leaf.high), (leaf.low - leaf.deadband, leaf.high + leaf.deadband)
            key = (_name(leaf), f"between {leaf.high!r}", leaf.low)
            return (Question(metrics_of(leaf), true, keep, key, leaf.view, default=leaf.default),), False
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
    key = (f"no data {leaf.of} {leaf.metric or leaf.which}", "for", leaf.seconds)
    return Question(metrics_of(leaf), (1, 1), (1, 1), key, silence=leaf)


def limits(leaf: Leaf) -> tuple[Limit, ...]:
    """Return a comparison as the evidence of an alarm names it."""
    match leaf:
        case Comparison(limit=limit):
            other = limit.metric if isinstance(limit, OtherMetric) else None
            number = limit.plus if isinstance(limit, OtherMetric) else plain(limit)
            source = f"{limit.attribute}@{limit.level}" if isinstance(limit, Resolved) else None
            return (Limit(leaf.metric, leaf.operator, number, leaf.deadband, _shown(leaf.view), other, source),)
        case Between():
            ends = ((">=", leaf.low), ("<=", leaf.high))
            return tuple(Limit(leaf.metric, sign, end, leaf.deadband, _shown(leaf.view)) for sign, end in ends)
    return (_words(leaf),)


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
            return Limit(leaf.metric or leaf.of, "no_data", leaf.seconds, 0.0, leaf.of)


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
    limit = leaf.limit.plus if isinstance(leaf.limit, OtherMetric) else plain(leaf.limit)
    true = keep = interval(leaf.operator, limit, leaf.tolerance)
    if leaf.operator.startswith(">"):
        keep = interval(leaf.operator, limit - leaf.deadband)
    elif leaf.operator.startswith("<"):
        keep = interval(leaf.operator, limit + leaf.deadband)
    key = (_name(leaf), leaf.operator, limit)
    return Question(metrics_of(leaf), true, keep, key, leaf.view, default=leaf.default)


def _one_of(leaf: Among, value: float) -> Question:
    true = interval("=", value, leaf.tolerance)
    return Question(metrics_of(leaf), true, true, (_name(leaf), "in", value), leaf.view, default=leaf.default)


def _name(leaf: Comparison | Between | Among) -> str:
    """Return what is compared, as the key of what a deadband remembers."""
    parts = [*metrics_of(leaf), *([] if leaf.view is None else [leaf.view.model_dump_json(exclude_none=True)])]
    return " ".join(parts)


def _shown(view: View | None) -> str | None:
    return None if view is None else view.function if isinstance(view, Window) else view.type
