"""What a comparison looks at where it is not just the number that one metric holds: a number at an instant, or none.

For ``rules.compiled``, which makes them, and ``rules.computed``, which asks them. Every look comes to one number, so
that the same interval tests them all; what a text says comes to 1 where it is as wanted, and to 0 where not.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rules.formulas import Formula
from rules.histories import History, Reach
from rules.leaf import Difference, Previous, Rate, Text, View, Window
from rules.said import Value, number_of, text_of


@dataclass(frozen=True, slots=True)
class Past:
    """The sample a view is taken at, and what came before it."""

    history: History
    ts_ms: int
    value: float
    hold_ms: int


@dataclass(frozen=True, slots=True)
class End:
    """A number that moves with a metric, given by its place in a look: what that holds and ``plus``; or ``plus``."""

    place: int | None
    plus: float

    def now(self, values: Sequence[Value]) -> float | None:
        """Return the number, None where the metric says none."""
        if self.place is None:
            return self.plus
        found = number_of(values[self.place])
        return None if found is None else found + self.plus


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing came for ``ms`` on our clock from one group of metrics, or from each; a group is silent as a whole."""

    ms: int
    groups: tuple[tuple[int, ...], ...]
    of_all: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What a comparison looks at. ``metrics`` must all speak; the first is the one it is about.

    ``view``: of that metric, from its history. ``test``: of what it says in words. ``less``: the place of a metric
    whose number is taken off. ``ends``: it comes to how far the number is inside of both, negative where outside.
    ``slack``: a deadband that moves, which ``eased`` allows for once the comparison is true. ``default``: the number
    while the first metric has none yet. ``is_directed``: whether more of the metric is more of the number.
    ``is_ageless``: values are read whatever their age, as beside a silence (A8).
    """

    metrics: tuple[int, ...]
    view: View | None = None
    test: Callable[[str], bool] | None = None
    less: int | None = None
    ends: tuple[End, End] | None = None
    slack: End | None = None
    default: float | None = None
    is_directed: bool = True
    silence: Silence | None = None
    is_ageless: bool = False
    formula: Formula | None = None
    constants: tuple[tuple[str, float], ...] = ()

    @property
    def reach(self) -> Reach:
        """How far back it looks."""
        return reach(self.view)

    def answer(self, values: Sequence[Value | None]) -> float | None:
        """Return 1 where its expression is true of what the metrics hold, 0 where not, None where that is unknown."""
        assert self.formula is not None  # noqa: S101 - asked by the caller
        truth = self.formula.ask(dict(zip(self.formula.names, values, strict=False)), dict(self.constants))
        return None if truth is None else float(truth)

    def number(self, values: tuple[Value, ...], past: Callable[[], Past]) -> float | None:
        """Return the number for what the metrics hold, None where there is none."""
        if self.test is not None:
            return float(self.test(text_of(values[0])))
        found = number_of(values[0])
        if found is not None and self.view is not None:
            found = viewed(self.view, past())
        return None if found is None else self.placed(found, values)

    def placed(self, number: float, values: Sequence[Value]) -> float | None:
        """Return where a number is beside what other metrics hold, None where one of these says no number."""
        if self.slack is not None and self.slack.now(values) is None:
            return None
        if self.ends is not None:
            low, high = (end.now(values) for end in self.ends)
            return None if low is None or high is None else min(number - low, high - number)
        if self.less is None:
            return number
        less = number_of(values[self.less])
        return None if less is None else number - less

    def eased(self, number: float, values: Sequence[Value], *, upwards: bool) -> float:
        """Return a number moved by the deadband towards where the comparison is true."""
        slack = None if self.slack is None else self.slack.now(values)
        if slack is None or slack <= 0:
            return number
        return number + slack if upwards else number - slack


def reach(view: View | None) -> Reach:
    """Return how far back a view looks."""
    match view:
        case None:
            return Reach()
        case Window(samples=int(count)):
            return Reach(samples=count)
        case Window(seconds=seconds):
            return Reach(ms=round(1000 * (seconds or 0)))
        case _:
            return Reach(samples=2)


def viewed(view: View, past: Past) -> float | None:
    """Return what a view shows at a sample, None where too little is known."""
    match view:
        case Window():
            return _over_window(view, past)
        case Previous() | Difference() | Rate():
            before = past.history.before(past.ts_ms)
            # What is older than a value speaks is not known to have held until now (A8).
            if before is None or past.ts_ms - before[0] > past.hold_ms:
                return None
            if isinstance(view, Previous):
                return before[1]
            change = past.value - before[1]
            if isinstance(view, Rate):
                change = change * 60_000 / (past.ts_ms - before[0])
            return change if math.isfinite(change) else None


def _over_window(view: Window, past: Past) -> float | None:
    if view.samples is not None:
        values = past.history.newest(past.ts_ms, view.samples)
    else:
        values = past.history.within(past.ts_ms, round(1000 * (view.seconds or 0)))
    if values is None or not len(values):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        match view.function:
            case "avg":
                found = float(values.sum()) / len(values)
            case "min":
                found = float(values.min())
            case "max":
                found = float(values.max())
            case "sum":
                found = float(values.sum())
            case "count":
                found = float(len(values))
            case "stddev":
                found = float(values.std())
            case "delta":
                found = float(values[-1]) - float(values[0])
    return found if math.isfinite(found) else None


def text_test(leaf: Text) -> Callable[[str], bool]:
    """Return the positive question that a comparison of texts asks; *not* is the opposite of its answer."""
    wanted = tuple(_plain(text, leaf) for text in leaf.wanted)
    match leaf.operator:
        case "is" | "is_not" | "in" | "not_in":
            return lambda text: _plain(text, leaf) in wanted
        case "starts":
            return lambda text: _plain(text, leaf).startswith(wanted)
        case "ends":
            return lambda text: _plain(text, leaf).endswith(wanted)
        case "contains" | "not_contains":
            return lambda text: wanted[0] in _plain(text, leaf)


def _plain(text: str, leaf: Text) -> str:
    return text.casefold() if leaf.ignore_case else text
