"""What an alarm type says: create rules by severity, a clear policy and a message, as they stand in JSON.

This is the edge between people's rules and the engine: everything is checked here once, and an error names the
field to mend. The grammar grows by adding node types to a union; what is stored stays readable, because each
definition carries the number of its schema.
"""

import enum
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from kernel import i18n
from rules import trees
from rules.faults import DefinitionRefused, Problem, found_by
from rules.leaf import (
    DIRECTION_NEEDED,
    Among,
    AttributeName,
    Between,
    Boolean,
    Comparison,
    Expression,
    Finite,
    FromAttribute,
    Leaf,
    Node,
    NotNegative,
    NotNegativeFromAttribute,
    OtherMetric,
    PositiveFromAttribute,
    Silent,
    Supply,
    Text,
    metrics_of,
    plain,
    shape,
    supplies,
)
from rules.schedules import Schedule
from rules.trees import All, AnyOf, Condition, Not, comparisons, leaves, map_comparisons

__all__ = [
    "DIRECTION_NEEDED",
    "All",
    "Among",
    "AnyOf",
    "Between",
    "Boolean",
    "Comparison",
    "Condition",
    "Finite",
    "Leaf",
    "Not",
    "NotNegative",
    "Silent",
    "Text",
    "comparisons",
    "leaves",
    "map_comparisons",
]  # fmt: skip

SCHEMA = 1
MAX_DEPTH = 16
MAX_COMPARISONS = 200
TEN_YEARS_S = 315_360_000
MOST_TIMES = 1_000_000

_TOO_DEEP = i18n.noop("Groups may be nested {depth} deep.")
_TOO_MANY = i18n.noop("A rule holds at most {most} comparisons.")
_NO_METRIC = i18n.noop("There is no numeric metric {metric}.")
_NO_TEXT = i18n.noop("There is no metric {metric} that holds texts.")
_NONE_AT_ALL = i18n.noop("There is no metric {metric}.")
_TOO_WIDE = i18n.noop("This is wider than the range of {metric}.")
_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")

Seconds = Annotated[float, Field(ge=-TEN_YEARS_S, le=TEN_YEARS_S, allow_inf_nan=False)]
"""0 behaves like no length at all, a negative one never fires (A5)."""
Delay = Annotated[float, Field(ge=0, le=TEN_YEARS_S, allow_inf_nan=False)]
LengthOfTime = Annotated[
    Annotated[float, Field(gt=0, le=TEN_YEARS_S, allow_inf_nan=False), Tag("[number]")]
    | Annotated[PositiveFromAttribute, Tag("[attribute]")],
    Discriminator(shape),
]


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


class Simple(Node):
    """True while the condition is."""

    type: Literal["simple"]


class Duration(Node):
    """True once the condition has held without interruption for at least ``seconds``."""

    type: Literal["duration"]
    seconds: Annotated[
        Annotated[Seconds, Tag("[number]")] | Annotated[FromAttribute, Tag("[attribute]")], Discriminator(shape)
    ]


class Repeating(Node):
    """True at the n-th matching sample in a row or, with ``window_s``, the n-th within that time."""

    type: Literal["repeating"]
    times: Annotated[
        Annotated[int, Field(le=MOST_TIMES), Tag("[number]")] | Annotated[FromAttribute, Tag("[attribute]")],
        Discriminator(shape),
    ]
    window_s: LengthOfTime | None = None


Kind = Annotated[Simple | Duration | Repeating, Field(discriminator="type")]
SIMPLE = Simple(type="simple")


class ScheduleFromAttribute(Node):
    """A schedule that an attribute holds, else the default; without one, always (A15)."""

    attribute: AttributeName
    default: Schedule | None = None


def _when(value: object) -> str:
    is_named = isinstance(value, ScheduleFromAttribute) or (isinstance(value, dict) and "attribute" in value)
    return "[attribute]" if is_named else "[weekly]"


InForce = Annotated[
    Annotated[Schedule, Tag("[weekly]")] | Annotated[ScheduleFromAttribute, Tag("[attribute]")], Discriminator(_when)
]


def weekly(schedule: Schedule | ScheduleFromAttribute | None) -> Schedule | None:
    """Return a schedule, or the default of one that an attribute holds, where nobody looked."""
    return schedule.default if isinstance(schedule, ScheduleFromAttribute) else schedule


class CreateRule(Node):
    """When an alarm of one severity exists; outside its schedule it is never true (A14)."""

    condition: Condition
    kind: Kind = SIMPLE
    schedule: InForce | None = None


class CreateRules(Node):
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


class ByHand(Node):
    """Only a person clears the alarm."""

    type: Literal["by_hand"]


class Automatic(Node):
    """The alarm clears once no create condition matches, for ``off_delay_s`` without interruption (A17)."""

    type: Literal["automatic"]
    off_delay_s: Annotated[
        Annotated[Delay, Tag("[number]")] | Annotated[NotNegativeFromAttribute, Tag("[attribute]")],
        Discriminator(shape),
    ] = 0.0


class ClearRule(Node):
    """The alarm clears by a condition of its own, asked only while no create rule is true."""

    type: Literal["rule"]
    condition: Condition
    kind: Kind = SIMPLE
    schedule: InForce | None = None


class Quiet(Node):
    """The alarm clears when no sample has matched for ``seconds``, once no create condition matches."""

    type: Literal["quiet"]
    seconds: LengthOfTime


ClearPolicy = Annotated[ByHand | Automatic | ClearRule | Quiet, Field(discriminator="type")]
BY_HAND = ByHand(type="by_hand")


class AlarmDefinition(Node):
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
        named = [name for _, tree in self.conditions() for leaf in leaves(tree) for name in metrics_of(leaf)]
        return tuple(dict.fromkeys([*named, *self.placeholders()]))


def parse(stored: Any) -> AlarmDefinition:  # noqa: ANN401 - whatever JSON holds
    """Read a definition from decoded JSON.

    Raises:
        DefinitionRefused: it breaks the grammar; every fault is listed with the path of its field.
    """
    deepest = 2 * MAX_DEPTH + 8
    if trees.json_depth(stored, deepest) > deepest:
        raise DefinitionRefused([Problem("create", _TOO_DEEP, {"depth": MAX_DEPTH})])
    try:
        definition = AlarmDefinition.model_validate(stored)
    except ValidationError as error:
        raise DefinitionRefused(found_by(error)) from None
    problems = []
    for field, tree in definition.conditions():
        if trees.depth(tree) > MAX_DEPTH:
            problems.append(Problem(field, _TOO_DEEP, {"depth": MAX_DEPTH}))
        if sum(1 for _ in leaves(tree)) > MAX_COMPARISONS:
            problems.append(Problem(field, _TOO_MANY, {"most": MAX_COMPARISONS}))
    if problems:
        raise DefinitionRefused(problems)
    return definition


def dump(definition: AlarmDefinition) -> dict[str, Any]:
    """Return the definition as JSON holds it: what was parsed comes out again, nothing added."""
    return definition.model_dump(mode="json", exclude_unset=True)


def check_metrics(
    definition: AlarmDefinition, ranges: Mapping[str, tuple[float, float] | None], texts: Collection[str] = ()
) -> None:
    """Check a definition against the numeric metrics there are and their ranges, and those that hold texts.

    A range of None is not known. A metric may hold both, as one that tells a state does.

    Raises:
        DefinitionRefused: an unknown metric, one of the wrong type, or a deadband wider than the metric's range.
    """
    problems = [
        Problem("message", _NONE_AT_ALL, {"metric": name})
        for name in definition.placeholders()
        if name not in ranges and name not in texts
    ]
    for field, tree in definition.conditions():
        for path, leaf in trees.placed(tree, field):
            problems.extend(_misfits(path, leaf, ranges, texts))
    if problems:
        raise DefinitionRefused(problems)


def _misfits(
    path: str, leaf: Leaf, ranges: Mapping[str, tuple[float, float] | None], texts: Collection[str]
) -> Iterator[Problem]:
    if isinstance(leaf, Silent):
        if leaf.metric is not None and leaf.metric not in ranges and leaf.metric not in texts:
            yield Problem(f"{path}.metric", _NONE_AT_ALL, {"metric": leaf.metric})
        return
    if isinstance(leaf, Expression):
        elsewhere = leaf.elsewhere()
        unknown = [n for n in leaf.names if n not in elsewhere and n not in ranges and n not in texts]
        yield from (Problem(f"{path}.formula", _NONE_AT_ALL, {"metric": name}) for name in unknown)
        return
    own, *_others = metrics_of(leaf)
    if isinstance(leaf, Text):
        if own not in texts:
            yield Problem(f"{path}.metric", _NO_TEXT, {"metric": own})
        return
    if own not in ranges:
        yield Problem(f"{path}.metric", _NO_METRIC, {"metric": own})
    for field, value in supplies(leaf):
        if isinstance(value, OtherMetric) and value.metric not in ranges:
            yield Problem(f"{path}.{field}.metric", _NO_METRIC, {"metric": value.metric})
    span = ranges.get(own)
    if isinstance(leaf, Comparison | Between) and span is not None and _widest(leaf.deadband) > span[1] - span[0]:
        yield Problem(f"{path}.deadband", _TOO_WIDE, {"metric": own})


def _widest(deadband: Supply) -> float:
    """Return how wide a deadband is as far as the definition says; what another metric holds is not known."""
    return deadband.plus if isinstance(deadband, OtherMetric) else plain(deadband)


def render(message: str, values: Mapping[str, float | str]) -> str:
    """Fill ``${metric}`` with values; a metric without one shows as a dash."""

    def shown(found: re.Match[str]) -> str:
        value = values.get(found[1].strip())
        if isinstance(value, str):
            return value
        return "–" if value is None or math.isnan(value) else format(value, ".10g")

    return _PLACEHOLDER.sub(shown, message)
