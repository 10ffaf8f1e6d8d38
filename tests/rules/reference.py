"""What the engine must do, written as plainly as possible and without regard to speed.

Every millisecond is looked at, trees are walked as they stand in the definition, and whether a rule is long enough is
read from the history of all instants since the last clear. Only the words for what happened are shared with the engine.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

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
    Severity,
    comparisons,
)
from rules.outcome import Alarm, Cleared, Evidence, Instance, Limit, Raised, Sample, SeverityChanged, Updated

Truth = bool | None
Transition = Raised | SeverityChanged | Updated | Cleared


@dataclass
class Look:
    """One instant as a rule saw it. ``is_counted``: a sample of its metrics came."""

    at: int
    root: Truth
    is_counted: bool


@dataclass
class Answer:
    """Whether a rule is true; where a streak runs, since when and with how many matches."""

    is_true: bool
    began: int | None
    count: int


@dataclass
class Value:
    ts: int
    value: float
    arrived: int


@dataclass
class Subject:
    """One instance."""

    instance: Instance
    at: int | None = None
    values: dict[str, Value] = field(default_factory=dict)
    memory: dict[tuple[str, int], Truth] = field(default_factory=dict)
    looks: dict[Severity, list[Look]] = field(default_factory=dict)
    asked: list[Look] = field(default_factory=list)
    alarm: Alarm | None = None
    peak: float | None = None
    told: list[Transition] = field(default_factory=list)

    @property
    def definition(self) -> AlarmDefinition:
        return self.instance.definition

    def trees(self) -> dict[str, Condition]:
        found = {severity.key: rule.condition for severity, rule in self.definition.create.by_severity()}
        if isinstance(self.definition.clear, ClearRule):
            found["clear"] = self.definition.clear.condition
        return found

    # Values ----------------------------------------------------------------------------------------------------

    def is_held(self, metric: str, at: int) -> bool:
        held = self.values.get(metric)
        return held is not None and at - held.ts <= self.instance.metrics[metric].hold_ms

    def forget_stale(self, at: int) -> None:
        for where, tree in self.trees().items():
            for number, leaf in enumerate(comparisons(tree)):
                if not self.is_held(leaf.metric, at):
                    self.memory[where, number] = None

    def take(self, metric: str, ts: int, value: float, now: int) -> None:
        self.values[metric] = Value(ts, value, now)
        for where, tree in self.trees().items():
            for number, leaf in enumerate(comparisons(tree)):
                if leaf.metric == metric:
                    was_true = self.memory.get((where, number)) is True
                    self.memory[where, number] = holds(leaf, value, was_true=was_true)

    def root(self, where: str) -> Truth:
        tree = self.trees()[where]
        numbers = iter(range(1000))
        return self.walk(tree, where, numbers)

    def walk(self, tree: Condition, where: str, numbers: Iterator[int]) -> Truth:
        match tree:
            case Comparison():
                return self.memory.get((where, next(numbers)))
            case Not(of=part):
                truth = self.walk(part, where, numbers)
                return None if truth is None else not truth
            case All(of=parts):
                truths = [self.walk(part, where, numbers) for part in parts]
                return False if False in truths else None if None in truths else True
            case AnyOf(of=parts):
                truths = [self.walk(part, where, numbers) for part in parts]
                return True if True in truths else None if None in truths else False

    # Instants --------------------------------------------------------------------------------------------------

    def sample(self, ts: int, values: dict[str, float], now: int) -> None:
        at = ts if self.at is None else max(ts, self.at)
        self.pass_time(at)
        for metric, value in values.items():
            self.take(metric, ts, value, now)
        self.run(at, set(values))

    def pass_time(self, until: int) -> None:
        if self.at is not None:
            for at in range(self.at + 1, until + 1):
                self.run(at, set())

    def clock(self, now: int) -> int:
        if not self.values:
            return now
        newest = max(self.values.values(), key=lambda held: (held.ts, held.arrived))
        return newest.ts + max(0, now - newest.arrived)

    def tick(self, now: int) -> "Subject":
        """Return the subject as it is after the last thing that time alone made happen; otherwise unchanged."""
        kept, seen = self, copy.deepcopy(self)
        if seen.at is None:
            return kept
        for at in range(seen.at + 1, self.clock(now) + 1):
            told = len(seen.told)
            seen.run(at, set())
            if len(seen.told) > told:
                kept = copy.deepcopy(seen)
        return kept

    def run(self, at: int, fresh: set[str]) -> None:
        self.at = at
        self.forget_stale(at)
        roots = {}
        answers = {}
        for severity, rule in self.definition.create.by_severity():
            metrics = {leaf.metric for leaf in comparisons(rule.condition)}
            roots[severity] = self.root(severity.key)
            looks = self.looks.setdefault(severity, [])
            looks.append(Look(at, roots[severity], bool(fresh & metrics)))
            answers[severity] = answer(rule.kind, looks, begins_only_by_sample=True)
        useful = [s for s, rule in self.definition.create.by_severity() if can_fire(rule.kind)]
        winner = max((s for s in useful if answers[s].is_true), default=None)
        lead = self.lead(useful)
        if self.alarm is None:
            self.asked.clear()
            if all(answers[s].began is None for s in useful) or self.has_gone_quiet(useful, at):
                self.peak = None
            if any(roots[s] is True for s in useful) and lead in fresh and self.is_running(answers, useful):
                self.note_peak(useful)
            if winner is not None:
                self.begin(winner, answers[winner], at, fresh, useful)
        elif winner is None:
            self.ask_to_clear(at, fresh, {s: roots[s] for s in useful})
        else:
            self.asked.clear()
            self.keep(winner, answers[winner], roots[winner], at, fresh, useful)

    def is_running(self, answers: dict[Severity, Answer], useful: list[Severity]) -> bool:
        return any(answers[s].began is not None for s in useful)

    def has_gone_quiet(self, useful: list[Severity], at: int) -> bool:
        """Whether nothing that ran before this instant still runs, so that what runs now is new."""
        before = {s: self.looks[s][:-1] for s in useful}
        rules = dict(self.definition.create.by_severity())
        for severity, looks in before.items():
            kind = rules[severity].kind
            if isinstance(kind, Repeating) and kind.window_s and kind.times:
                if any(look.root is True and look.is_counted and look.at >= at - ms(kind.window_s) for look in looks):
                    return False
            elif looks and answer(kind, looks, begins_only_by_sample=True).began is not None:
                return False
        return True

    def lead(self, useful: list[Severity]) -> str | None:
        rules = dict(self.definition.create.by_severity())
        return next(comparisons(rules[useful[0]].condition)).metric if useful else None

    def note_peak(self, useful: list[Severity]) -> None:
        rules = dict(self.definition.create.by_severity())
        condition = rules[useful[0]].condition
        leaf = next(comparisons(condition))
        value = self.values[leaf.metric].value
        direction = {">": 1, "<": -1}.get(leaf.operator[0], 0) * (-1) ** nots_before_first(condition)
        if self.peak is None or not direction:
            self.peak = value
        else:
            self.peak = max(self.peak * direction, value * direction) * direction

    # The alarm -------------------------------------------------------------------------------------------------

    def begin(self, winner: Severity, found: Answer, at: int, fresh: set[str], useful: list[Severity]) -> None:
        metrics = {leaf.metric for leaf in comparisons(dict(self.definition.create.by_severity())[winner].condition)}
        newest = max(self.values[m].ts for m in metrics if m in self.values)
        lead = self.lead(useful)
        self.alarm = Alarm(
            severity=winner,
            peak_severity=winner,
            began_ms=found.began,
            raised_ms=at,
            last_seen_ms=at if fresh & metrics else max(newest, found.began),
            matched=max(1, found.count),
            repeats=found.count,
            metric=lead,
            value=self.values[lead].value if self.is_held(lead, at) else None,
            peak=self.peak,
        )
        if "clear" in self.trees():
            for number, leaf in enumerate(comparisons(self.trees()["clear"])):
                if self.memory.get(("clear", number)) is not None:
                    self.memory["clear", number] = holds(leaf, self.values[leaf.metric].value, was_true=False)
        self.told.append(Raised(self.instance.id, at, self.alarm, self.evidence(winner, at)))

    def keep(
        self, winner: Severity, found: Answer, root: Truth, at: int, fresh: set[str], useful: list[Severity]
    ) -> None:
        rules = dict(self.definition.create.by_severity())
        is_match = root is True and bool(fresh & {leaf.metric for leaf in comparisons(rules[winner].condition)})
        before = self.alarm.severity
        lead = self.lead(useful)
        if is_match:
            if lead in fresh:
                self.note_peak(useful)
            self.alarm = replace(
                self.alarm,
                matched=self.alarm.matched + 1,
                last_seen_ms=at,
                repeats=found.count,
                value=self.values[lead].value if self.is_held(lead, at) else None,
                peak=self.peak,
            )
        if winner != before:
            peak_severity = max(self.alarm.peak_severity, winner)
            self.alarm = replace(self.alarm, severity=winner, peak_severity=peak_severity, repeats=found.count)
            self.told.append(SeverityChanged(self.instance.id, at, before, self.alarm, self.evidence(winner, at)))
        elif is_match:
            self.told.append(Updated(self.instance.id, at, self.alarm))

    def ask_to_clear(self, at: int, fresh: set[str], roots: dict[Severity, Truth]) -> None:
        match self.definition.clear:
            case ByHand():
                return
            case Automatic(off_delay_s=delay):
                some = list(roots.values())
                quiet = False if True in some else None if None in some else True
                self.asked.append(Look(at, quiet, is_counted=False))
                found = answer(Duration(type="duration", seconds=delay), self.asked, begins_only_by_sample=False)
            case ClearRule(kind=kind, condition=condition):
                is_counted = bool(fresh & {leaf.metric for leaf in comparisons(condition)})
                self.asked.append(Look(at, self.root("clear"), is_counted))
                found = answer(kind, self.asked, begins_only_by_sample=False)
        if found.is_true:
            self.end(at, found.began, is_by_hand=False)

    def clear_by_hand(self, now: int) -> None:
        at = max(self.at, self.clock(now))
        self.at = at
        self.forget_stale(at)
        self.end(at, at, is_by_hand=True)

    def end(self, at: int, recovered: int, *, is_by_hand: bool) -> None:
        samples = self.samples(at)
        self.told.append(Cleared(self.instance.id, at, recovered, is_by_hand, self.alarm, samples))
        self.alarm = None
        self.peak = None
        self.looks.clear()
        self.asked.clear()

    def samples(self, at: int) -> tuple[Sample, ...]:
        return tuple(
            Sample(metric, self.values[metric].ts, self.values[metric].value)
            for metric in self.definition.metrics()
            if self.is_held(metric, at)
        )

    def evidence(self, severity: Severity, at: int) -> Evidence:
        rule = dict(self.definition.create.by_severity())[severity]
        limits = [Limit(c.metric, c.operator, c.limit, c.deadband) for c in comparisons(rule.condition)]
        return Evidence(self.samples(at), tuple(limits))


class Reference:
    """All instances, and the newest sample of each series."""

    def __init__(self, instances: list[Instance]) -> None:
        self.subjects = {instance.id: Subject(instance) for instance in instances}
        self.newest: dict[int, tuple[int, float]] = {}

    def evaluate(self, rows: list[tuple[int, int, float]], now: int) -> tuple[list[Transition], int, int]:
        """Take (series, time, value) rows; return what happened, how many were late and how many repeated."""
        watched = {
            watched.series
            for subject in self.subjects.values()
            for metric, watched in subject.instance.metrics.items()
            if metric in subject.definition.metrics()
        }
        rows = [row for row in rows if row[0] in watched and math.isfinite(row[2])]
        wanted = {(series, ts): value for series, ts, value in rows}
        late = sum(1 for series, ts, _ in rows if ts < self.newest.get(series, (-math.inf, 0))[0])
        taken = {
            (series, ts): value
            for (series, ts), value in wanted.items()
            if ts >= self.newest.get(series, (-math.inf, 0))[0] and self.newest.get(series) != (ts, value)
        }
        for subject in self.subjects.values():
            for instant in sorted({ts for _, ts in taken}):
                values = {
                    metric: taken[w.series, instant]
                    for metric, w in subject.instance.metrics.items()
                    if (w.series, instant) in taken and metric in subject.definition.metrics()
                }
                if values:
                    subject.sample(instant, values, now)
        for (series, ts), value in sorted(taken.items()):
            self.newest[series] = (ts, value)
        return self.listen(), late, len(rows) - late - len(taken)

    def tick(self, now: int) -> list[Transition]:
        self.subjects = {number: subject.tick(now) for number, subject in self.subjects.items()}
        return self.listen()

    def clear_by_hand(self, number: int, now: int) -> list[Transition]:
        self.subjects[number].clear_by_hand(now)
        return self.listen()

    def listen(self) -> list[Transition]:
        heard: list[Transition] = []
        for subject in self.subjects.values():
            told, subject.told = subject.told, []
            for i, transition in enumerate(told):
                following = told[i + 1] if i + 1 < len(told) else None
                if not (isinstance(transition, Updated) and isinstance(following, Updated)):
                    heard.append(transition)
        return heard


def holds(leaf: Comparison, value: float, *, was_true: bool) -> bool:
    moved = leaf.deadband if was_true else 0.0
    match leaf.operator:
        case ">":
            return value > leaf.limit - moved
        case ">=":
            return value >= leaf.limit - moved
        case "<":
            return value < leaf.limit + moved
        case "<=":
            return value <= leaf.limit + moved
        case "=":
            return value == leaf.limit
        case _:
            return value != leaf.limit


def ms(seconds: float) -> int:
    return round(1000 * seconds)


def can_fire(kind: Kind) -> bool:
    match kind:
        case Duration(seconds=seconds):
            return seconds >= 0
        case Repeating(times=times):
            return times >= 0
        case _:
            return True


def answer(kind: Kind, looks: list[Look], *, begins_only_by_sample: bool) -> Answer:
    """Read from a rule's history whether it is true at the last instant of it."""
    now = looks[-1].at
    if isinstance(kind, Repeating) and kind.window_s and kind.times > 0:
        window = ms(kind.window_s)
        matches = [look.at for look in looks if look.root is True and look.is_counted]
        reached = [at for at in matches if at >= now - window]
        if not reached:
            return Answer(is_true=False, began=None, count=0)
        count = 1
        while count < len(matches) and matches[-count] - matches[-count - 1] <= window:
            count += 1
        return Answer(len(reached) >= kind.times, reached[-kind.times :][0], count)
    streak: list[Look] = []
    for look in looks:
        if look.root is not True:
            streak = []
        elif streak or look.is_counted or not begins_only_by_sample:
            streak.append(look)
    if not streak or not can_fire(kind):
        return Answer(is_true=False, began=None, count=0)
    count = sum(look.is_counted for look in streak)
    began = streak[0].at
    match kind:
        case Duration(seconds=seconds):
            return Answer(now - began >= ms(seconds), began, count)
        case Repeating(times=times):
            return Answer(count >= times, began, count)
        case _:
            return Answer(is_true=True, began=began, count=count)


def nots_before_first(tree: Condition) -> int:
    match tree:
        case Comparison():
            return 0
        case Not(of=part):
            return 1 + nots_before_first(part)
        case All(of=parts) | AnyOf(of=parts):
            return nots_before_first(parts[0])
