"""What the engine and its caller exchange: instances in, transitions and states out.

All of it is frozen values. A caller writes the transitions and states of one outcome in one transaction and then
commits the outcome to the engine; states are what a restarted engine needs to go on as if nothing had happened.
Times ending in ``_ms`` are device time in milliseconds since 1970 unless a line says otherwise.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rules.conditions import AlarmDefinition, Severity
from rules.context import NOWHERE, Context, watched_names
from rules.said import number_of
from rules.schedules import NEVER, Opening

__all__ = ["NEVER"]

HOLD_UNKNOWN_MS = 600_000
HOLD_FOREVER_MS = 2**60
LONG_AGO = -(2**61)
"""The time of a value that does not exist: further back than any hold reaches."""


def hold_ms(expected_interval_s: float | None, *, is_on_change: bool = False) -> int:
    """Return for how long a sample speaks (A8): three expected intervals, 10 min when unknown, else without end."""
    if is_on_change:
        return HOLD_FOREVER_MS
    return HOLD_UNKNOWN_MS if expected_interval_s is None else round(3000 * expected_interval_s)


@dataclass(frozen=True, slots=True)
class Watched:
    """The series that stands for a metric of one instance; its number is not negative."""

    series: int
    hold_ms: int = HOLD_UNKNOWN_MS


@dataclass(frozen=True, slots=True)
class Instance:
    """One alarm type on one asset or device. A metric without a series is unknown for ever.

    Share one ``definition`` object between instances that have the same: it is compiled once.
    """

    id: int
    definition: AlarmDefinition
    metrics: Mapping[str, Watched]
    context: Context = NOWHERE


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """n instances as columns. ``definitions[which[i]]`` is that of instance i, ``contexts[which[i]]`` where it stands.

    ``series`` and ``hold_ms``: for each metric that each instance watches, in its order, one instance after the other;
    the series of a metric that has none is -1. All int64. Without ``contexts`` they stand nowhere in particular.
    """

    id: NDArray[np.int64]
    definitions: Sequence[AlarmDefinition]
    which: NDArray[np.int64]
    series: NDArray[np.int64]
    hold_ms: NDArray[np.int64]
    contexts: Sequence[Context] = ()

    @classmethod
    def of(cls, instances: Sequence[Instance]) -> "Instances":
        """Return instances as columns."""
        kinds = {(id(one.definition), one.context): one for one in instances}
        place = {key: number for number, key in enumerate(kinds)}
        metrics = [watched_names(one.definition, one.context) for one in kinds.values()]
        which = [place[id(one.definition), one.context] for one in instances]
        nothing = Watched(-1)
        watched = [
            (found.series, found.hold_ms)
            for one, number in zip(instances, which, strict=True)
            for found in (one.metrics.get(name, nothing) for name in metrics[number])
        ]
        series, hold_ms = np.array(watched, np.int64).reshape(-1, 2).T
        ids = np.array([one.id for one in instances], np.int64)
        definitions = [one.definition for one in kinds.values()]
        contexts = [one.context for one in kinds.values()]
        return cls(ids, definitions, np.array(which, np.int64), series, hold_ms, contexts)


@dataclass(frozen=True, slots=True)
class Sample:
    """The value of one metric as it stood."""

    metric: str
    ts_ms: int
    value: float | str


@dataclass(frozen=True, slots=True)
class Limit:
    """One comparison of a rule, as it was tested.

    ``limit`` in words where it is no number. ``view``: of what, if not of the value itself; ``other``: the metric that
    the limit is added to; ``source``: the attribute that supplied it and its level, as in ``t_max@site`` (A15). So
    for the deadband: ``deadband_other`` and ``deadband_source``.
    """

    metric: str
    operator: str
    limit: float | str
    deadband: float
    view: str | None = None
    other: str | None = None
    source: str | None = None
    deadband_other: str | None = None
    deadband_source: str | None = None


@dataclass(frozen=True, slots=True)
class Supplied:
    """A length or count that an attribute supplied: which, as the definition calls it, and from where (A15)."""

    of: str
    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why the winning rule was true: every value the instance holds, and the rule's comparisons.

    ``supplied``: the lengths and counts that attributes supplied; those of the ending begin with ``clear.``.
    ``opening``: the window of the rule's schedule in which it was, None where it is always in force.
    """

    samples: tuple[Sample, ...]
    limits: tuple[Limit, ...]
    supplied: tuple[Supplied, ...] = ()
    opening: Opening | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm as the rules see it.

    ``metric``: the one the worst rule compares first; ``value`` is its value at ``last_seen_ms``, ``peak`` the
    most extreme one, in the direction of that comparison, among the matching samples. ``matched``: matching
    samples in all; ``repeats``: those of the current streak of the winning rule.
    """

    severity: Severity
    peak_severity: Severity
    began_ms: int
    raised_ms: int
    last_seen_ms: int
    matched: int
    repeats: int
    metric: str
    value: float | None
    peak: float | None


@dataclass(frozen=True, slots=True)
class Raised:
    """A new alarm; ``at_ms`` equals ``alarm.raised_ms``."""

    instance: int
    at_ms: int
    alarm: Alarm
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class SeverityChanged:
    """Another rule wins. A rise is announced, a fall is only recorded (A10)."""

    instance: int
    at_ms: int
    before: Severity
    alarm: Alarm
    evidence: Evidence

    @property
    def is_announced(self) -> bool:
        """Whether people hear of it."""
        return self.alarm.severity > self.before


@dataclass(frozen=True, slots=True)
class Updated:
    """Further samples matched; one for all of a batch, ``alarm`` holding the totals."""

    instance: int
    at_ms: int
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Cleared:
    """The alarm is over at ``ended_ms``; ``recovered_ms`` is the first instant of the streak that cleared it."""

    instance: int
    ended_ms: int
    recovered_ms: int
    is_by_hand: bool
    alarm: Alarm
    samples: tuple[Sample, ...]

    @property
    def at_ms(self) -> int:
        """When it happened, as for the other transitions."""
        return self.ended_ms


Transition = Raised | SeverityChanged | Updated | Cleared


@dataclass(frozen=True, slots=True)
class Held:
    """The newest evaluated sample of one metric; ``arrived_ms`` is server time; None: a value that says nothing."""

    metric: str
    series: int
    ts_ms: int
    value: float | str | None
    arrived_ms: int


@dataclass(frozen=True, slots=True)
class Streak:
    """Matches that are running: of a severity's rule or of ``clear``; ``matches`` only where a window counts."""

    of: str
    kind: str
    began_ms: int
    count: int = 0
    matches: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """What one instance must remember: stored while anything runs, counts, latches or is open.

    ``at_ms``: the instant it was last evaluated for. ``latched``: (metric, operator, limit) of comparisons that
    are true and have a deadband. ``needs_sample``: a condition matches but its streak may only begin with a sample,
    as after a clear by hand. ``settled_ms``: server time since when it is idle; it is kept for a while, so that
    messages delivered again are recognised, and then dropped by ``tick``.
    """

    instance: int
    at_ms: int
    held: tuple[Held, ...]
    latched: tuple[tuple[str, str, float], ...] = ()
    streaks: tuple[Streak, ...] = ()
    alarm: Alarm | None = None
    peak: float | None = None
    needs_sample: bool = False
    settled_ms: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether each new sample of the instance matters, even one that changes no comparison."""
        return self.alarm is not None or bool(self.streaks) or self.needs_sample


def dump_state(state: State) -> dict[str, Any]:
    """Return the state as JSON holds it."""
    dumped: dict[str, Any] = msgspec.to_builtins(state)
    return dumped


def load_state(stored: Mapping[str, Any]) -> State:
    """Read back what ``dump_state`` wrote.

    Raises:
        msgspec.ValidationError: it was not written by ``dump_state``.
    """
    return msgspec.convert(stored, State)


@dataclass(frozen=True, slots=True)
class Insight:
    """How an instance stands at an instant of its event clock, for whoever asks why.

    ``truths``: of all comparisons in compiled order; ``held``: the newest sample of each metric; ``open``: the
    severities whose schedule is open.
    """

    clock_ms: int
    truths: tuple[bool | None, ...]
    held: tuple[Held, ...]
    streaks: tuple[Streak, ...]
    alarm: Alarm | None
    open: frozenset[Severity]


@dataclass(frozen=True, slots=True, eq=False)
class HeldColumns:
    """The newest samples of series: four columns of equal length, of two rows of one series the later holding.

    ``text``: what those say in words that do, by series; their value is NaN, or the number that they read as.
    """

    series: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    arrived_ms: NDArray[np.int64]
    text: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, held: Iterable[Held]) -> "HeldColumns":
        """Return them as columns, sorted by time."""
        found = sorted(held, key=attrgetter("ts_ms"))
        last = {h.series: h.value for h in found}
        return cls(
            np.array([h.series for h in found], np.int64),
            np.array([h.ts_ms for h in found], np.int64),
            np.array([_number(h.value) for h in found], np.float64),
            np.array([h.arrived_ms for h in found], np.int64),
            {number: said for number, said in last.items() if isinstance(said, str)},
        )


def _number(value: float | str | None) -> float:
    number = math.nan if value is None else number_of(value)
    return math.nan if number is None else number


@dataclass(frozen=True, slots=True, eq=False)
class InstanceUpdate:
    """What one stepped instance leaves behind in the engine."""

    slot: int
    state: State | None
    is_steady: bool
    wake_ms: int
    """Server time of its next timer, ``NEVER`` when none runs."""
    truths: tuple[bool | None, ...] | None
    """Of the create comparisons in compiled order; None: unchanged."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch, a tick or a person's act leads to; nothing of it holds in the engine until committed.

    ``transitions`` are ordered by time. ``states`` maps instance id to the state to store, or None to delete it.
    Counts are rows of the input: ``evaluated``; ``late`` (older than the newest evaluated of the series;
    ``late_rows`` holds their numbers); ``duplicates`` (the same series, time and value again, or replaced by another
    value of the same time later in the batch); ``unusable`` (not a finite number). Rows of series that no rule
    uses are counted nowhere. ``comparisons``: how many were made for the rows evaluated. ``late_spans``: by instance
    id, the first and last of the late samples that are judged at their own time.
    """

    transitions: tuple[Transition, ...] = ()
    states: Mapping[int, State | None] = field(default_factory=dict)
    evaluated: int = 0
    comparisons: int = 0
    duplicates: int = 0
    unusable: int = 0
    late_rows: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp), compare=False)
    late_spans: Mapping[int, tuple[int, int]] = field(default_factory=dict, compare=False)
    version: int = field(default=0, compare=False, repr=False)
    held: HeldColumns | None = field(default=None, compare=False, repr=False)
    instance_updates: tuple[InstanceUpdate, ...] = field(default=(), compare=False, repr=False)

    @property
    def late(self) -> int:
        """How many rows were older than the newest evaluated of their series."""
        return len(self.late_rows)

    @property
    def has_news(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.transitions or self.states or self.late_spans)
