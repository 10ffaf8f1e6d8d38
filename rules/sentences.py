"""What a rule says, as sentences in the reader's language: "temperature ≥ 95 °C for 60 s".

For rule pages, alarm pages and the API. Pure; the language is that of the request (``kernel.i18n``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kernel.i18n import gettext as _
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
    Repeating,
)

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
        (severity.key, _with_kind(condition(rule.condition, words), rule.kind))
        for severity, rule in definition.create.by_severity()
    )
    return Told(create, _clear(definition, words))


def condition(tree: Condition, words: Mapping[str, Word]) -> str:
    """Return a condition tree in words; groups inside groups stand in brackets."""
    match tree:
        case Comparison():
            return compared(tree, words)
        case All():
            return _(" and ").join(_bracketed(part, words) for part in tree.of)
        case AnyOf():
            return _(" or ").join(_bracketed(part, words) for part in tree.of)
        case Not():
            return _("not ({condition})", condition=condition(tree.of, words))


def compared(leaf: Comparison, words: Mapping[str, Word]) -> str:
    """Return one comparison in words, e.g. ``Temperature ≥ 95 °C``."""
    word = words.get(leaf.metric, Word(leaf.metric))
    return f"{word.name} {SIGNS[leaf.operator]} {quantity(leaf.limit, word.unit)}"


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
    match kind:
        case Duration() if kind.seconds < 0:
            return _("never ({condition})", condition=text)
        case Duration() if kind.seconds > 0:
            return _("{condition} for {span}", condition=text, span=span(kind.seconds))
        case Repeating() if kind.times < 0:
            return _("never ({condition})", condition=text)
        case Repeating() if kind.times > 1 and kind.window_s is not None:
            return _("{condition}, {n} times within {span}", condition=text, n=kind.times, span=span(kind.window_s))
        case Repeating() if kind.times > 1:
            return _("{condition}, {n} times in a row", condition=text, n=kind.times)
    return text


def _clear(definition: AlarmDefinition, words: Mapping[str, Word]) -> str:
    match definition.clear:
        case ByHand():
            return _("ends only by hand")
        case ClearRule() as rule:
            text = _with_kind(condition(rule.condition, words), rule.kind)
            return _("ends when {condition}", condition=text)
        case Automatic() as policy:
            back = _back(definition, words)
            text = _("ends by itself when {condition}", condition=back) if back else _("ends by itself")
            return _("{ending} for {span}", ending=text, span=span(policy.off_delay_s)) if policy.off_delay_s else text


def _back(definition: AlarmDefinition, words: Mapping[str, Word]) -> str | None:
    """Return when the least severe rule lets go, deadband included, where that can be said in one comparison."""
    *_worse, (_severity, least) = definition.create.by_severity()
    leaf = least.condition
    if not isinstance(leaf, Comparison) or leaf.operator not in _BACK:
        return None
    others = [one for _path, tree in definition.conditions() for one in conditions.comparisons(tree)]
    if any((one.metric, one.operator) != (leaf.metric, leaf.operator) for one in others):
        return None
    is_upper = leaf.operator.startswith(">")
    released = leaf.limit - leaf.deadband if is_upper else leaf.limit + leaf.deadband
    if any(
        (one.limit - one.deadband < released) if is_upper else (one.limit + one.deadband > released) for one in others
    ):
        return None
    word = words.get(leaf.metric, Word(leaf.metric))
    return f"{word.name} {_BACK[leaf.operator]} {quantity(released, word.unit)}"
