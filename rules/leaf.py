"""What one comparison of a condition may look at, as it stands in JSON: a leaf of the trees in ``rules.trees``.

A leaf looks at what a metric holds, or at a view of it (its change, its rate, a window of it), at a text, at a silence
or at an expression over several metrics, and asks one question that can be true, false or unknown.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from kernel import i18n
from rules import formulas

DIRECTION_NEEDED: Final = i18n.noop("A deadband needs a limit with a direction: >, >=, < or <=.")
LONGEST_WINDOW_S: Final = 30 * 86_400
MOST_SAMPLES: Final = 100_000
"""A window reaches back 30 days and over 100,000 samples at most."""

Metric = Annotated[str, StringConstraints(pattern=r"^[^\s${}][^${}]*$", max_length=80)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AttributeName = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$", max_length=80)]
Operator = Literal[">", ">=", "<", "<=", "=", "!="]
Words = Annotated[str, StringConstraints(max_length=1000)]


class Node(BaseModel):
    """A part of a definition: frozen, and nothing in it that we do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# Views of a metric ----------------------------------------------------------------------------------------------


class Previous(Node):
    """The value before the newest one."""

    type: Literal["previous"]


class Difference(Node):
    """The newest value less the one before it."""

    type: Literal["difference"]


class Rate(Node):
    """That difference for each minute between the two."""

    type: Literal["rate"]


class Window(Node):
    """A figure over the window that ends with the newest sample: a length of time, both ends included, or n samples.

    ``delta`` is the last value less the first; ``stddev`` that of the values as they are, not an estimate for others.
    """

    type: Literal["window"]
    function: Literal["avg", "min", "max", "sum", "count", "stddev", "delta"]
    seconds: Annotated[float, Field(gt=0, le=LONGEST_WINDOW_S, allow_inf_nan=False)] | None = None
    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = None

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if (self.seconds is None) == (self.samples is None):
            raise ValueError(i18n.noop("A window has a length in seconds or a number of samples."))
        return self


View = Annotated[Previous | Difference | Rate | Window, Field(discriminator="type")]


# Comparisons ----------------------------------------------------------------------------------------------------


class OtherMetric(Node):
    """A limit that is what another metric holds, moved by ``plus``."""

    metric: Metric
    plus: Finite = 0.0


class FromAttribute(Node):
    """A value that an attribute holds, of the device, the asset or what it belongs to, else the default (A15)."""

    attribute: AttributeName
    default: Finite

    @property
    def number(self) -> float:
        """The number that stands for it, where nobody looked."""
        return self.default


class Resolved(FromAttribute):
    """The same once somebody looked: what was found, and the level that supplied it. Never stored."""

    found: Finite
    level: str

    @property
    def number(self) -> float:
        """The number that was found."""
        return self.found


def plain(value: float | FromAttribute) -> float:
    """Return a number, or that of an attribute."""
    return value.number if isinstance(value, FromAttribute) else value


def shape(value: object) -> str:
    """Return what JSON or a node stands for a number, as a tag: a number, another metric or an attribute."""
    if isinstance(value, dict):
        return "[attribute]" if "attribute" in value else "[metric]"
    return "[attribute]" if isinstance(value, FromAttribute) else "[metric]" if isinstance(value, Node) else "[number]"


def _not_negative(value: FromAttribute) -> FromAttribute:
    if value.default < 0:
        raise ValueError(i18n.noop("The default is never negative here."))
    return value


def _positive(value: FromAttribute) -> FromAttribute:
    if value.default <= 0:
        raise ValueError(i18n.noop("The default is greater than 0 here."))
    return value


NotNegativeFromAttribute = Annotated[FromAttribute, AfterValidator(_not_negative)]
PositiveFromAttribute = Annotated[FromAttribute, AfterValidator(_positive)]
Limit = Annotated[
    Annotated[Finite, Tag("[number]")]
    | Annotated[OtherMetric, Tag("[metric]")]
    | Annotated[FromAttribute, Tag("[attribute]")],
    Discriminator(shape),
]
Deadband = Annotated[
    Annotated[NotNegative, Tag("[number]")]
    | Annotated[OtherMetric, Tag("[metric]")]
    | Annotated[NotNegativeFromAttribute, Tag("[attribute]")],
    Discriminator(shape),
]
"""One that another metric holds counts as nothing while that is negative."""
Supply = float | OtherMetric | FromAttribute
"""A number that a comparison uses, or where it takes it from."""


class _Numeric(Node):
    metric: Metric
    view: View | None = None
    default: Finite | None = None
    """Stands for the number while there is none yet (A4)."""


class Comparison(_Numeric):
    """One number against one limit. Once true, it is tested against the limit moved by ``deadband`` (A16).

    ``=`` and ``!=`` are exact, or mean within ``tolerance`` of the limit.
    """

    type: Literal["compare"]
    operator: Operator
    limit: Limit
    deadband: Deadband = 0.0
    tolerance: NotNegative = 0.0

    @model_validator(mode="after")
    def _deadband_needs_a_direction(self) -> Self:
        if self.deadband and self.operator in {"=", "!="}:
            raise ValueError(DIRECTION_NEEDED)
        if self.tolerance and self.operator not in {"=", "!="}:
            raise ValueError(i18n.noop("A tolerance belongs to = and !=; others have a deadband."))
        return self

    @property
    def number(self) -> float | None:
        """The limit, where it is a number, be it that of an attribute."""
        return None if isinstance(self.limit, OtherMetric) else plain(self.limit)

    @property
    def is_bare(self) -> bool:
        """Whether it compares what the metric holds with a number, and says no more."""
        return self.is_simple and not any(isinstance(one, FromAttribute) for one in (self.limit, self.deadband))

    @property
    def is_simple(self) -> bool:
        """Whether it compares what the metric holds with a number or an attribute, and says no more."""
        takes_metric = isinstance(self.limit, OtherMetric) or isinstance(self.deadband, OtherMetric)
        return self.view is None and self.default is None and not self.tolerance and not takes_metric


class Between(_Numeric):
    """Whether a number lies between two others, both included. Once true, ``deadband`` moves both outwards."""

    type: Literal["between"]
    low: Limit
    high: Limit
    deadband: Deadband = 0.0

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if isinstance(self.low, OtherMetric) or isinstance(self.high, OtherMetric):
            return self
        if plain(self.low) > plain(self.high):
            raise ValueError(i18n.noop("The lower end comes before the upper one."))
        return self


class Among(_Numeric):
    """Whether a number is one of some, each within ``tolerance``."""

    type: Literal["among"]
    operator: Literal["in", "not_in"]
    values: tuple[Finite, ...] = Field(min_length=1, max_length=100, strict=False)
    tolerance: NotNegative = 0.0


class Boolean(Node):
    """Whether something is so: a positive number is, another is not (A3)."""

    type: Literal["boolean"]
    metric: Metric
    operator: Literal["is", "is_not"]
    value: bool
    default: bool | None = None

    @property
    def wants(self) -> bool:
        """What it is to be."""
        return self.value == (self.operator == "is")


class Text(Node):
    """What a metric says in words. Upper and lower case differ unless ``ignore_case``; a number reads as it is written.

    ``in`` and ``not_in`` name ``values``, the others one ``value``.
    """

    type: Literal["text"]
    metric: Metric
    operator: Literal["is", "is_not", "starts", "ends", "contains", "not_contains", "in", "not_in"]
    value: Words | None = None
    values: Annotated[tuple[Words, ...], Field(min_length=1, max_length=100, strict=False)] | None = None
    ignore_case: bool = False
    default: Words | None = None

    @model_validator(mode="after")
    def _has_what_its_operator_needs(self) -> Self:
        if (self.values is not None) != (self.operator in {"in", "not_in"}) or (self.value is None) == (
            self.values is None
        ):
            raise ValueError(i18n.noop("*in* and *not in* take a list of values, the others one value."))
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """The texts it looks for."""
        return self.values if self.values is not None else (self.value or "",)


class Silent(Node):
    """Nothing new came for ``seconds``, on our clock: of a metric, of the device that measures it, or of the asset.

    Of an asset with several devices: of ``all`` of them, or of ``any``. Beside it values are read whatever their age.
    """

    type: Literal["no_data"]
    seconds: Annotated[
        Annotated[float, Field(gt=0, le=LONGEST_WINDOW_S, allow_inf_nan=False), Tag("[number]")]
        | Annotated[PositiveFromAttribute, Tag("[attribute]")],
        Discriminator(shape),
    ]
    of: Literal["metric", "device", "asset"] = "metric"
    metric: Metric | None = None
    which: Literal["all", "any"] = "all"

    @model_validator(mode="after")
    def _names_a_metric(self) -> Self:
        if (self.metric is None) != (self.of == "asset"):
            raise ValueError(i18n.noop("Name a metric, or ask for the whole asset."))
        return self


Alias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$", max_length=40)]


class Expression(Node):
    """Whether an expression over several metrics is true, as in ``inlet.p - outlet.p > gap && running``.

    ``assets`` gives names to other assets: their codes, or ``parent``, what this one is part of. ``constants`` are
    numbers with a name.
    """

    type: Literal["expression"]
    formula: Annotated[str, StringConstraints(max_length=formulas.LONGEST)]
    assets: dict[Alias, Annotated[str, StringConstraints(min_length=1, max_length=60)]] = Field(
        default_factory=dict, max_length=20
    )
    constants: dict[Alias, Finite] = Field(default_factory=dict, max_length=50)

    @field_validator("formula")
    @classmethod
    def _can_be_read(cls, formula: str) -> str:
        formulas.read(formula)
        return formula

    @model_validator(mode="after")
    def _looks_at_something(self) -> Self:
        if not self.names:
            raise ValueError(i18n.noop("An expression looks at one metric at least."))
        return self

    def __hash__(self) -> int:
        return hash((self.formula, tuple(self.assets.items()), tuple(self.constants.items())))

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics it looks at; those of another asset begin with its name here."""
        return tuple(name for name in formulas.read(self.formula).names if name not in self.constants)

    def elsewhere(self) -> dict[str, tuple[str, str]]:
        """Return the names that are of other assets: whose, as a code or ``parent``, and which metric."""
        parts = ((name, *name.partition(".")) for name in self.names)
        return {
            name: (self.assets[alias], metric) for name, alias, _, metric in parts if metric and alias in self.assets
        }


Leaf = Comparison | Between | Among | Boolean | Text | Silent | Expression


def metrics_of(leaf: Leaf) -> tuple[str, ...]:
    """Return the metrics that something asked depends on, the one it is about first."""
    if isinstance(leaf, Comparison | Between):
        others = (value.metric for _, value in supplies(leaf) if isinstance(value, OtherMetric))
        return (leaf.metric, *dict.fromkeys(others))
    if isinstance(leaf, Expression):
        return leaf.names
    return () if leaf.metric is None else (leaf.metric,)


def supplies(leaf: Leaf) -> Iterator[tuple[str, Supply]]:
    """Yield the fields of a comparison that may take their number from elsewhere, with what they say."""
    match leaf:
        case Comparison():
            yield from (("limit", leaf.limit), ("deadband", leaf.deadband))
        case Between():
            yield from (("low", leaf.low), ("high", leaf.high), ("deadband", leaf.deadband))
        case Silent():
            yield "seconds", leaf.seconds
