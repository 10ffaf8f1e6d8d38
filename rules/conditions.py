"""What an alarm type says: create rules by severity, a clear policy and a message, as they stand in JSON.

This is the edge between people's rules and the engine: everything is checked here once, and an error names the
field to mend. The grammar grows by adding node types to a union; what is stored stays readable, because each
definition carries the number of its schema.
"""

import enum
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from kernel import i18n
from rules.faults import DefinitionRefused, Problem, found_by

SCHEMA = 1
MAX_DEPTH = 16
MAX_COMPARISONS = 200
TEN_YEARS_S = 315_360_000

DIRECTION_NEEDED = i18n.noop("A deadband needs a limit with a direction: >, >=, < or <=.")
_TOO_DEEP = i18n.noop("Groups may be nested {depth} deep.")
_TOO_MANY = i18n.noop("A rule holds at most {most} comparisons.")
_NO_METRIC = i18n.noop("There is no numeric metric {metric}.")
_TOO_WIDE = i18n.noop("This is wider than the range of {metric}.")
_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")

Metric = Annotated[str, StringConstraints(pattern=r"^[^\s${}][^${}]*$", max_length=80)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=-TEN_YEARS_S, le=TEN_YEARS_S, allow_inf_nan=False)]
"""0 behaves like no length at all, a negative one never fires (A5)."""
Delay = Annotated[float, Field(ge=0, le=TEN_YEARS_S, allow_inf_nan=False)]
Operator = Literal[">", ">=", "<", "<=", "=", "!="]


class Severity(enum.IntEnum):
    """How bad it is; the greater, the worse."""

    INFO = 1
    WARNING = 2
    MINOR = 3
    MAJOR = 4
    CRITICAL = 5

    @property
    def key(self) -> str:
        """The word used in JSON and in tables."""
        return self.name.lower()


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Comparison(_Node):
    """One number against one limit. Once true, it is tested against the limit moved by ``deadband`` (A16)."""

    type: Literal["compare"]
    metric: Metric
    operator: Operator
    limit: Finite
    deadband: NotNegative = 0.0

    @model_validator(mode="after")
    def _deadband_needs_a_direction(self) -> Self:
        if self.deadband and self.operator in {"=", "!="}:
            raise ValueError(DIRECTION_NEEDED)
        return self


class All(_Node):
    """True when every part is; false as soon as one is false."""

    type: Literal["all"]
    of: tuple["Condition", ...] = Field(min_length=1, strict=False)


class AnyOf(_Node):
    """True as soon as one part is; false when every part is."""

    type: Literal["any"]
    of: tuple["Condition", ...] = Field(min_length=1, strict=False)


class Not(_Node):
    """The opposite; unknown stays unknown."""

    type: Literal["not"]
    of: "Condition"


Condition = Annotated[Comparison | All | AnyOf | Not, Field(discriminator="type")]


class Simple(_Node):
    """True while the condition is."""

    type: Literal["simple"]


class Duration(_Node):
    """True once the condition has held without interruption for at least ``seconds``."""

    type: Literal["duration"]
    seconds: Seconds


class Repeating(_Node):
    """True at the n-th matching sample in a row or, with ``window_s``, the n-th within that time."""

    type: Literal["repeating"]
    times: int = Field(le=1_000_000)
    window_s: Annotated[float, Field(gt=0, le=TEN_YEARS_S)] | None = None


Kind = Annotated[Simple | Duration | Repeating, Field(discriminator="type")]
SIMPLE = Simple(type="simple")


class CreateRule(_Node):
    """When an alarm of one severity exists."""

    condition: Condition
    kind: Kind = SIMPLE


class CreateRules(_Node):
    """At most one rule a severity, at least one in all."""

    critical: CreateRule | None = None
    major: CreateRule | None = None
    minor: CreateRule | None = None
    warning: CreateRule | None = None
    info: CreateRule | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not any(True for _ in self.by_severity()):
            raise ValueError(i18n.noop("At least one severity needs a rule."))
        return self

    def by_severity(self) -> Iterator[tuple[Severity, CreateRule]]:
        """Yield the rules there are, the worst severity first."""
        for severity in sorted(Severity, reverse=True):
            rule: CreateRule | None = getattr(self, severity.key)
            if rule is not None:
                yield severity, rule


class ByHand(_Node):
    """Only a person clears the alarm."""

    type: Literal["by_hand"]


class Automatic(_Node):
    """The alarm clears once no create condition matches, for ``off_delay_s`` without interruption (A17)."""

    type: Literal["automatic"]
    off_delay_s: Delay = 0.0


class ClearRule(_Node):
    """The alarm clears by a condition of its own, asked only while no create rule is true."""

    type: Literal["rule"]
    condition: Condition
    kind: Kind = SIMPLE


ClearPolicy = Annotated[ByHand | Automatic | ClearRule, Field(discriminator="type")]
BY_HAND = ByHand(type="by_hand")


class AlarmDefinition(_Node):
    """Everything a version of an alarm type says. ``message`` may hold ``${metric}`` placeholders."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    schema_: Literal[1] = Field(alias="schema")
    create: CreateRules
    clear: ClearPolicy = BY_HAND
    message: Annotated[str, StringConstraints(max_length=500)] = ""

    @field_validator("message")
    @classmethod
    def _placeholders_are_well_formed(cls, message: str) -> str:
        if "${" in _PLACEHOLDER.sub("", message) or not all(map(str.strip, _PLACEHOLDER.findall(message))):
            raise ValueError(i18n.noop("A placeholder reads ${metric}."))
        return message

    def placeholders(self) -> list[str]:
        """Return the metrics the message shows, in order."""
        return [name.strip() for name in _PLACEHOLDER.findall(self.message)]

    def conditions(self) -> Iterator[tuple[str, "Condition"]]:
        """Yield every condition tree with the path of its field."""
        for severity, rule in self.create.by_severity():
            yield f"create.{severity.key}.condition", rule.condition
        if isinstance(self.clear, ClearRule):
            yield "clear.condition", self.clear.condition

    def metrics(self) -> tuple[str, ...]:
        """Return every metric that a condition or the message names, each once, in order of first mention."""
        named = [leaf.metric for _, tree in self.conditions() for leaf in comparisons(tree)]
        return tuple(dict.fromkeys([*named, *self.placeholders()]))


def parse(stored: Any) -> AlarmDefinition:  # noqa: ANN401 - whatever JSON holds
    """Read a definition from decoded JSON.

    Raises:
        DefinitionRefused: it breaks the grammar; every fault is listed with the path of its field.
    """
    if _depth(stored) > 2 * MAX_DEPTH + 8:
        raise DefinitionRefused([Problem("create", _TOO_DEEP, {"depth": MAX_DEPTH})])
    try:
        definition = AlarmDefinition.model_validate(stored)
    except ValidationError as error:
        raise DefinitionRefused(found_by(error)) from None
    problems = []
    for field, tree in definition.conditions():
        if _tree_depth(tree) > MAX_DEPTH:
            problems.append(Problem(field, _TOO_DEEP, {"depth": MAX_DEPTH}))
        if sum(1 for _ in comparisons(tree)) > MAX_COMPARISONS:
            problems.append(Problem(field, _TOO_MANY, {"most": MAX_COMPARISONS}))
    if problems:
        raise DefinitionRefused(problems)
    return definition


def dump(definition: AlarmDefinition) -> dict[str, Any]:
    """Return the definition as JSON holds it: what was parsed comes out again, nothing added."""
    return definition.model_dump(mode="json", exclude_unset=True)


def check_metrics(definition: AlarmDefinition, ranges: Mapping[str, tuple[float, float] | None]) -> None:
    """Check a definition against the numeric metrics there are and their ranges (None: no range is known).

    Raises:
        DefinitionRefused: an unknown metric, or a deadband wider than the metric's range.
    """
    problems = [
        Problem("message", _NO_METRIC, {"metric": name}) for name in definition.placeholders() if name not in ranges
    ]
    for field, tree in definition.conditions():
        for leaf in comparisons(tree):
            span = ranges.get(leaf.metric)
            if leaf.metric not in ranges:
                problems.append(Problem(f"{field}.metric", _NO_METRIC, {"metric": leaf.metric}))
            elif span is not None and leaf.deadband > span[1] - span[0]:
                problems.append(Problem(f"{field}.deadband", _TOO_WIDE, {"metric": leaf.metric}))
    if problems:
        raise DefinitionRefused(problems)


def render(message: str, values: Mapping[str, float]) -> str:
    """Fill ``${metric}`` with values; a metric without one shows as a dash."""

    def shown(found: re.Match[str]) -> str:
        value = values.get(found[1].strip())
        return "–" if value is None or math.isnan(value) else format(value, ".10g")

    return _PLACEHOLDER.sub(shown, message)


def comparisons(tree: Condition) -> Iterator[Comparison]:
    """Yield the comparisons of a tree from left to right."""
    match tree:
        case Comparison():
            yield tree
        case Not():
            yield from comparisons(tree.of)
        case All() | AnyOf():
            for part in tree.of:
                yield from comparisons(part)


def map_comparisons(tree: Condition, change: Callable[[Comparison], Comparison]) -> Condition:
    """Return the tree with each comparison replaced by ``change(comparison)``."""
    match tree:
        case Comparison():
            return change(tree)
        case Not():
            return tree.model_copy(update={"of": map_comparisons(tree.of, change)})
        case All() | AnyOf():
            return tree.model_copy(update={"of": tuple(map_comparisons(part, change) for part in tree.of)})


def _tree_depth(tree: Condition) -> int:
    match tree:
        case Comparison():
            return 0
        case Not():
            return 1 + _tree_depth(tree.of)
        case All() | AnyOf():
            return 1 + max(_tree_depth(part) for part in tree.of)


def _depth(stored: object) -> int:
    """Count the levels of nested JSON without recursion, so that a hostile one cannot exhaust the stack."""
    depth, level = 0, [stored]
    while level and depth <= 2 * MAX_DEPTH + 8:
        depth += 1
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list | tuple):
                inner.extend(value)
        level = inner
    return depth
