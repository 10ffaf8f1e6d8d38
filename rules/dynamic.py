"""Values that a rule takes from attributes: what is asked for, which offer can be used, and the rule with it (A15).

Pure. The first level with a usable value wins; one that cannot be used is skipped and told of. The resolved rule has
the same shape as the one that was written, so everything that reads rules reads it too.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from assets.attributes import Offered
from rules import schedules
from rules.conditions import (
    MOST_TIMES,
    TEN_YEARS_S,
    AlarmDefinition,
    Automatic,
    ClearPolicy,
    ClearRule,
    Condition,
    CreateRule,
    Duration,
    Kind,
    Quiet,
    Repeating,
    ScheduleFromAttribute,
)
from rules.leaf import LONGEST_WINDOW_S, FromAttribute, Leaf, Resolved, supplies
from rules.said import number_of
from rules.schedules import Schedule
from rules.trees import leaves, map_leaves

Usable = TypeVar("Usable")
Held = TypeVar("Held", CreateRule, ClearRule)
Offers = Mapping[str, Sequence[Offered]]


@dataclass(frozen=True, slots=True)
class Unusable:
    """A value that was skipped."""

    attribute: str
    level: str


def attributes_of(definition: AlarmDefinition) -> frozenset[str]:
    """Return the attributes that a rule asks for."""
    return frozenset(_asked(definition))


def resolved(definition: AlarmDefinition, offers: Offers) -> tuple[AlarmDefinition, tuple[Unusable, ...]]:
    """Return the rule with what its attributes hold, and what could not be used."""
    lookup = _Lookup(offers)
    create = definition.create.model_copy(
        update={severity.key: lookup.rule(rule) for severity, rule in definition.create.by_severity()}
    )
    made = definition.model_copy(update={"create": create, "clear": lookup.clear(definition.clear)})
    return made, tuple(dict.fromkeys(lookup.skipped))


class _Lookup:
    """Puts what is offered in the place of attributes; ``skipped`` collects what could not be used."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers
        self.skipped: list[Unusable] = []

    def rule(self, rule: Held) -> Held:
        changed: dict[str, Condition | Kind | Schedule | None] = {
            "condition": map_leaves(rule.condition, self._leaf),
            "kind": self._kind(rule.kind),
            "schedule": self._schedule(rule.schedule),
        }
        # What was not said is not said now either, so that the rule reads as it was written.
        said = {word: value for word, value in changed.items() if word in rule.model_fields_set}
        return rule.model_copy(update=said)

    def clear(self, policy: ClearPolicy) -> ClearPolicy:
        match policy:
            case ClearRule():
                return self.rule(policy)
            case Automatic(off_delay_s=FromAttribute() as delay):
                return policy.model_copy(update={"off_delay_s": self._number(delay, _delay)})
            case Quiet(seconds=FromAttribute() as seconds):
                return policy.model_copy(update={"seconds": self._number(seconds, _length)})
        return policy

    def _leaf(self, leaf: Leaf) -> Leaf:
        found = {
            field: self._number(value, _USABLE[field])
            for field, value in supplies(leaf)
            if isinstance(value, FromAttribute)
        }
        return leaf.model_copy(update=found) if found else leaf

    def _kind(self, kind: Kind) -> Kind:
        found = {
            field: self._number(value, _USABLE_OF_KIND[field])
            for field, value in _lengths(kind)
            if isinstance(value, FromAttribute)
        }
        return kind.model_copy(update=found) if found else kind

    def _schedule(self, schedule: Schedule | ScheduleFromAttribute | None) -> Schedule | None:
        if not isinstance(schedule, ScheduleFromAttribute):
            return schedule
        found, _level = self._first(schedule.attribute, _schedule)
        return schedule.default if found is None else found

    def _number(self, value: FromAttribute, usable: Callable[[Any], float | None]) -> Resolved:
        found, level = self._first(value.attribute, usable)
        number = value.default if found is None else found
        return Resolved(attribute=value.attribute, default=value.default, found=number, level=level)

    def _first(self, attribute: str, usable: Callable[[Any], Usable | None]) -> tuple[Usable | None, str]:
        """Return the first offer that can be used, and its level."""
        for offer in self._offers.get(attribute, ()):
            found = usable(offer.value)
            if found is not None:
                return found, offer.level
            self.skipped.append(Unusable(attribute, offer.level))
        return None, "default"


def _asked(definition: AlarmDefinition) -> Iterator[str]:
    values: list[object] = []
    rules: list[CreateRule | ClearRule] = [rule for _, rule in definition.create.by_severity()]
    match definition.clear:
        case ClearRule() as ending:
            rules.append(ending)
        case Automatic(off_delay_s=delay):
            values.append(delay)
        case Quiet(seconds=seconds):
            values.append(seconds)
    for rule in rules:
        values += [value for leaf in leaves(rule.condition) for _, value in supplies(leaf)]
        values += [value for _, value in _lengths(rule.kind)]
        values.append(rule.schedule)
    yield from (one.attribute for one in values if isinstance(one, FromAttribute | ScheduleFromAttribute))


def _lengths(kind: Kind) -> Iterator[tuple[str, float | FromAttribute | None]]:
    match kind:
        case Duration():
            yield "seconds", kind.seconds
        case Repeating():
            yield from (("times", kind.times), ("window_s", kind.window_s))


def _number(value: Any) -> float | None:  # noqa: ANN401 - whatever an attribute holds
    """Return a value as a number: one, or a text that reads as one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = number_of(value if isinstance(value, str) else float(value))
    return found if found is not None and math.isfinite(found) else None


def _seconds(value: Any) -> float | None:  # noqa: ANN401 - whatever an attribute holds
    found = _number(value)
    return found if found is not None and abs(found) <= TEN_YEARS_S else None


def _delay(value: Any) -> float | None:  # noqa: ANN401 - whatever an attribute holds
    found = _seconds(value)
    return found if found is not None and found >= 0 else None


def _length(value: Any) -> float | None:  # noqa: ANN401 - whatever an attribute holds
    found = _seconds(value)
    return found if found is not None and found > 0 else None


def _silence(value: Any) -> float | None:  # noqa: ANN401 - whatever an attribute holds
    found = _length(value)
    return found if found is not None and found <= LONGEST_WINDOW_S else None


def _deadband(value: Any) -> float | None:  # noqa: ANN401 - whatever an attribute holds
    found = _number(value)
    return found if found is not None and found >= 0 else None


def _count(value: Any) -> float | None:  # noqa: ANN401 - whatever an attribute holds
    found = _number(value)
    return found if found is not None and found.is_integer() and abs(found) <= MOST_TIMES else None


_SWITCHES: Final = {
    True: Schedule(type="weekly", windows=(schedules.Window(start="00:00", end="00:00"),)),
    False: Schedule(type="weekly"),
}


def _schedule(value: Any) -> Schedule | None:  # noqa: ANN401 - whatever an attribute holds
    """Return a schedule; true is always, false never."""
    if isinstance(value, bool):
        return _SWITCHES[value]
    try:
        return schedules.parse(value)
    except ValidationError:
        return None


_USABLE: Final[Mapping[str, Callable[[Any], float | None]]] = {
    "limit": _number,
    "low": _number,
    "high": _number,
    "deadband": _deadband,
    "seconds": _silence,
}
_USABLE_OF_KIND: Final[Mapping[str, Callable[[Any], float | None]]] = {
    "seconds": _seconds,
    "times": _count,
    "window_s": _length,
}
