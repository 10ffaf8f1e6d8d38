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
    ClearRule,
    Condition,
    CreateRule,
    Duration,
    Kind,
    Repeating,
    ScheduleFromAttribute,
)
from rules.leaf import Comparison, FromAttribute, Resolved
from rules.said import number_of
from rules.schedules import Schedule
from rules.trees import comparisons, map_comparisons

Usable = TypeVar("Usable")
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
    clear = lookup.rule(definition.clear) if isinstance(definition.clear, ClearRule) else definition.clear
    made = definition.model_copy(update={"create": create, "clear": clear})
    return made, tuple(dict.fromkeys(lookup.skipped))


class _Lookup:
    """Puts what is offered in the place of attributes; ``skipped`` collects what could not be used."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers
        self.skipped: list[Unusable] = []

    def rule(self, rule: CreateRule | ClearRule) -> CreateRule | ClearRule:
        changed: dict[str, Condition | Kind | Schedule | None] = {
            "condition": map_comparisons(rule.condition, self._limit),
            "kind": self._kind(rule.kind),
            "schedule": self._schedule(rule.schedule),
        }
        # What was not said is not said now either, so that the rule reads as it was written.
        said = {word: value for word, value in changed.items() if word in rule.model_fields_set}
        return rule.model_copy(update=said)

    def _limit(self, leaf: Comparison) -> Comparison:
        if not isinstance(leaf.limit, FromAttribute):
            return leaf
        return leaf.model_copy(update={"limit": self._number(leaf.limit, _number)})

    def _kind(self, kind: Kind) -> Kind:
        if isinstance(kind, Duration) and isinstance(kind.seconds, FromAttribute):
            return kind.model_copy(update={"seconds": self._number(kind.seconds, _seconds)})
        if isinstance(kind, Repeating) and isinstance(kind.times, FromAttribute):
            return kind.model_copy(update={"times": self._number(kind.times, _count)})
        return kind

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
    rules: list[CreateRule | ClearRule] = [rule for _, rule in definition.create.by_severity()]
    if isinstance(definition.clear, ClearRule):
        rules.append(definition.clear)
    for rule in rules:
        values: list[object] = [leaf.limit for leaf in comparisons(rule.condition)]
        if isinstance(rule.kind, Duration):
            values.append(rule.kind.seconds)
        if isinstance(rule.kind, Repeating):
            values.append(rule.kind.times)
        values.append(rule.schedule)
        yield from (one.attribute for one in values if isinstance(one, FromAttribute | ScheduleFromAttribute))


def _number(value: Any) -> float | None:  # noqa: ANN401 - whatever an attribute holds
    """Return a value as a number: one, or a text that reads as one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = number_of(value if isinstance(value, str) else float(value))
    return found if found is not None and math.isfinite(found) else None


def _seconds(value: Any) -> float | None:  # noqa: ANN401 - whatever an attribute holds
    found = _number(value)
    return found if found is not None and abs(found) <= TEN_YEARS_S else None


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
