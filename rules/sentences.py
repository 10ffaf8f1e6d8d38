"""What a rule says, as sentences in the reader's language: "temperature ≥ 95 °C for 60 s".

For rule pages, alarm pages and the API. Pure; the language is that of the request (``kernel.i18n``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kernel.i18n import gettext as _
from kernel.i18n import noop
from rules import conditions
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
    Quiet,
    Repeating,
    ScheduleFromAttribute,
)
from rules.leaf import (
    Among,
    Between,
    Boolean,
    Difference,
    Expression,
    FromAttribute,
    Leaf,
    OtherMetric,
    Previous,
    Rate,
    Resolved,
    Silent,
    Supply,
    Text,
    View,
    Window,
    plain,
)
from rules.schedules import Schedule
from rules.schedules import Window as ScheduleWindow

SIGNS = {">": ">", ">=": "≥", "<": "<", "<=": "≤", "=": "=", "!=": "≠"}
_BACK = {">": "≤", ">=": "<", "<": "≥", "<=": ">"}


@dataclass(frozen=True, slots=True)
class Word:
    """How a metric is called in a sentence."""

    name: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A definition as sentences: when an alarm of each severity exists, and how it ends."""

    create: tuple[tuple[str, str], ...]
    """(severity key, sentence), the worst first."""
    clear: str


def told(definition: AlarmDefinition, words: Mapping[str, Word]) -> Told:
    """Return a definition as sentences; ``words`` calls metrics by name, those missing by their key."""
    create = tuple(
        (severity.key, _in_force(_with_kind(condition(rule.condition, words), rule.kind), rule.schedule))
        for severity, rule in definition.create.by_severity()
    )
    return Told(create, _clear(definition, words))


def condition(tree: Condition, words: Mapping[str, Word]) -> str:
    """Return a condition tree in words; groups inside groups stand in brackets."""
    match tree:
        case All():
            return _(" and ").join(_bracketed(part, words) for part in tree.of)
        case AnyOf():
            return _(" or ").join(_bracketed(part, words) for part in tree.of)
        case Not():
            return _("not ({condition})", condition=condition(tree.of, words))
        case leaf:
            return asked(leaf, words)


def asked(leaf: Leaf, words: Mapping[str, Word]) -> str:
    """Return one comparison in words, with the default that stands for a missing value."""
    match leaf:
        case Comparison():
            name, unit = seen(leaf.metric, leaf.view, words)
            text = compared(leaf, words)
        case Between():
            name, unit = seen(leaf.metric, leaf.view, words)
            low, high = _limit(leaf.low, unit, words), _limit(leaf.high, unit, words)
            text = _("{what} between {low} and {high}", what=name, low=low, high=high)
            text = _eased(text, leaf.deadband, unit, words)
        case Among():
            name, unit = seen(leaf.metric, leaf.view, words)
            values = ", ".join(quantity(value, unit) for value in leaf.values)
            phrase = _("{what} is one of {values}") if leaf.operator == "in" else _("{what} is none of {values}")
            text = phrase.format(what=name, values=values) + _tolerance(leaf.tolerance, unit)
        case Boolean():
            name, unit = seen(leaf.metric, None, words)
            text = _("{what} is true", what=name) if leaf.wants else _("{what} is not true", what=name)
        case Text():
            name, unit = seen(leaf.metric, None, words)
            values = ", ".join(f"“{text}”" for text in leaf.wanted)
            text = _(_SAYINGS[leaf.operator], what=name, values=values)
        case Silent():
            return _silent(leaf, words)
        case Expression():
            return leaf.formula
    return text if leaf.default is None else _("{condition} ({default})", condition=text, default=_default(leaf, unit))


def _silent(leaf: Silent, words: Mapping[str, Word]) -> str:
    length = _amount(leaf.seconds, span(plain(leaf.seconds)))
    if leaf.metric is None:
        phrase = (
            _("no data from any of its devices for {span}")
            if leaf.which == "all"
            else _("no data from one of its devices for {span}")
        )
        return phrase.format(span=length)
    name, _unit = seen(leaf.metric, None, words)
    if leaf.of == "device":
        return _("no data from the device of {metric} for {span}", metric=name, span=length)
    return _("no data of {metric} for {span}", metric=name, span=length)


_SAYINGS = {
    "is": noop("{what} is {values}"),
    "is_not": noop("{what} is not {values}"),
    "starts": noop("{what} begins with {values}"),
    "ends": noop("{what} ends with {values}"),
    "contains": noop("{what} contains {values}"),
    "not_contains": noop("{what} does not contain {values}"),
    "in": noop("{what} is one of {values}"),
    "not_in": noop("{what} is none of {values}"),
}


def compared(leaf: Comparison, words: Mapping[str, Word]) -> str:
    """Return one comparison in words, e.g. ``Temperature ≥ 95 °C``."""
    name, unit = seen(leaf.metric, leaf.view, words)
    text = f"{name} {SIGNS[leaf.operator]} {_limit(leaf.limit, unit, words)}" + _tolerance(leaf.tolerance, unit)
    return _eased(text, leaf.deadband, unit, words)


def seen(metric: str, view: View | None, words: Mapping[str, Word]) -> tuple[str, str]:
    """Return what is looked at in words, and its unit."""
    word = words.get(metric, Word(metric))
    match view:
        case None:
            return word.name, word.unit
        case Previous():
            return _("previous {metric}", metric=word.name), word.unit
        case Difference():
            return _("change of {metric}", metric=word.name), word.unit
        case Rate():
            return _("change of {metric} per minute", metric=word.name), word.unit and f"{word.unit}/min"
        case Window():
            over = _("the last {n} samples", n=view.samples) if view.seconds is None else span(view.seconds)
            name = _(
                "{figure} of {metric} over {window}", figure=_(_FIGURES[view.function]), metric=word.name, window=over
            )
            return name, "" if view.function == "count" else word.unit


_FIGURES = {
    "avg": noop("mean"),
    "min": noop("least value"),
    "max": noop("greatest value"),
    "sum": noop("sum"),
    "count": noop("number of samples"),
    "stddev": noop("standard deviation"),
    "delta": noop("rise"),
}


def _limit(limit: float | OtherMetric | FromAttribute, unit: str, words: Mapping[str, Word]) -> str:
    if isinstance(limit, FromAttribute):
        return _named(limit, quantity(limit.number, unit))
    if not isinstance(limit, OtherMetric):
        return quantity(limit, unit)
    other, _unit = seen(limit.metric, None, words)
    if not limit.plus:
        return other
    sign = "+" if limit.plus > 0 else "−"
    return f"{other} {sign} {quantity(abs(limit.plus), unit)}"


def _eased(text: str, deadband: Supply, unit: str, words: Mapping[str, Word]) -> str:
    """Return a comparison with a deadband that is taken from elsewhere; a plain one is told with the ending."""
    if not isinstance(deadband, OtherMetric | FromAttribute):
        return text
    return _("{condition} with a deadband of {band}", condition=text, band=_limit(deadband, unit, words))


def _named(value: FromAttribute, shown: str) -> str:
    """Return a value that an attribute holds, with where it came from or what it is otherwise."""
    if isinstance(value, Resolved):
        level = _(_LEVELS[value.level])
        return _("{value} ({attribute} of the {level})", value=shown, attribute=value.attribute, level=level)
    return _("{attribute} (otherwise {value})", attribute=value.attribute, value=shown)


_LEVELS = {
    "device": noop("device"),
    "asset": noop("asset"),
    "parent": noop("asset above"),
    "site": noop("site"),
    "customer": noop("customer"),
    "organisation": noop("organisation"),
    "default": noop("rule itself"),
}


def _tolerance(tolerance: float, unit: str) -> str:
    return f" ± {quantity(tolerance, unit)}" if tolerance else ""


def _default(leaf: Comparison | Between | Among | Boolean | Text, unit: str) -> str:
    value = leaf.default
    if isinstance(value, bool):
        shown = _("true") if value else _("not true")
    else:
        shown = value if isinstance(value, str) else quantity(value or 0.0, unit)
    return _("{value} until there is a value", value=shown)


def quantity(number: float, unit: str) -> str:
    """Return a number with its unit, with no idle zeros."""
    text = f"{number:.10g}".replace("-", "−")
    return f"{text} {unit}" if unit else text


def span(seconds: float) -> str:
    """Return a length of time exactly, in its largest even unit: ``90 s``, ``10 min``, ``2 h``."""
    for length, phrase in ((86_400, _("{n} d")), (3600, _("{n} h")), (60, _("{n} min"))):
        if seconds >= length and math.isclose(seconds % length, 0):
            return phrase.format(n=f"{seconds / length:g}")
    return _("{n} s", n=f"{seconds:g}")


def _bracketed(tree: Condition, words: Mapping[str, Word]) -> str:
    text = condition(tree, words)
    return f"({text})" if isinstance(tree, All | AnyOf) and len(tree.of) > 1 else text


def _with_kind(text: str, kind: Kind) -> str:
    value = kind.seconds if isinstance(kind, Duration) else kind.times if isinstance(kind, Repeating) else 0
    number, is_named = plain(value), isinstance(value, FromAttribute)
    if number < 0 and not is_named:
        return _("never ({condition})", condition=text)
    if isinstance(kind, Duration) and (number > 0 or is_named):
        return _("{condition} for {span}", condition=text, span=_amount(value, span(number)))
    if isinstance(kind, Repeating) and (number > 1 or is_named):
        n = _amount(value, f"{number:g}")
        if kind.window_s is not None:
            within = _amount(kind.window_s, span(plain(kind.window_s)))
            return _("{condition}, {n} times within {span}", condition=text, n=n, span=within)
        return _("{condition}, {n} times in a row", condition=text, n=n)
    return text


def _amount(value: float | FromAttribute, shown: str) -> str:
    return _named(value, shown) if isinstance(value, FromAttribute) else shown


def _in_force(text: str, schedule: Schedule | ScheduleFromAttribute | None) -> str:
    if schedule is None:
        return text
    if isinstance(schedule, ScheduleFromAttribute):
        when = _("as the attribute {attribute} says", attribute=schedule.attribute)
        return _("{condition}, in force {when}", condition=text, when=when)
    parts = [*map(_window, schedule.windows)]
    if schedule.exceptions or schedule.workdays or schedule.holidays:
        dated = [one.date for one in schedule.exceptions] + [one.date for one in schedule.workdays]
        parts.append(_("{n} dates apart", n=len({*schedule.holidays, *dated})))
    return _("{condition}, in force {when}", condition=text, when="; ".join(parts) or _("at no time"))


def _window(window: ScheduleWindow) -> str:
    names = (_("Mon"), _("Tue"), _("Wed"), _("Thu"), _("Fri"), _("Sat"), _("Sun"))
    days = (
        _("daily") if len(set(window.days)) == len(names) else ", ".join(names[day - 1] for day in sorted(window.days))
    )
    return f"{days} {window.start}–{window.end}"


def _clear(definition: AlarmDefinition, words: Mapping[str, Word]) -> str:
    match definition.clear:
        case ByHand():
            return _("ends only by hand")
        case ClearRule() as rule:
            text = _with_kind(condition(rule.condition, words), rule.kind)
            return _("ends when {condition}", condition=_in_force(text, rule.schedule))
        case Quiet() as quiet:
            length = _amount(quiet.seconds, span(plain(quiet.seconds)))
            return _("ends when it has not recurred for {span}", span=length)
        case Automatic() as policy:
            back = _back(definition, words)
            text = _("ends by itself when {condition}", condition=back) if back else _("ends by itself")
            delay = _amount(policy.off_delay_s, span(plain(policy.off_delay_s)))
            if not policy.off_delay_s:
                return text
            if back is None:
                return _("ends by itself after a calm of {span}", span=delay)
            return _("{ending} for {span}", ending=text, span=delay)


def _back(definition: AlarmDefinition, words: Mapping[str, Word]) -> str | None:
    """Return when the least severe rule lets go, deadband included, where that can be said in one comparison."""
    *_worse, (_severity, least) = definition.create.by_severity()
    leaf = least.condition
    if not isinstance(leaf, Comparison) or leaf.operator not in _BACK or leaf.number is None:
        return None
    asked_too = [one for _path, tree in definition.conditions() for one in conditions.leaves(tree)]
    others = [(one, one.number) for one in asked_too if isinstance(one, Comparison) and one.number is not None]
    if len(others) < len(asked_too) or not all(one.is_bare for one, _limit in others):
        return None
    if any((one.metric, one.operator) != (leaf.metric, leaf.operator) for one, _limit in others):
        return None
    is_upper = leaf.operator.startswith(">")
    released = _released(leaf, leaf.number)
    if any(
        (_released(one, limit) < released) if is_upper else (_released(one, limit) > released) for one, limit in others
    ):
        return None
    word = words.get(leaf.metric, Word(leaf.metric))
    return f"{word.name} {_BACK[leaf.operator]} {quantity(released, word.unit)}"


def _released(leaf: Comparison, limit: float) -> float:
    """Return where a comparison lets go whose deadband is a number."""
    deadband = 0.0 if isinstance(leaf.deadband, OtherMetric) else plain(leaf.deadband)
    return limit - deadband if leaf.operator.startswith(">") else limit + deadband
