"""What the engine must do, written as plainly as possible and without regard to speed.

Every millisecond is looked at, trees are walked as they stand in the definition, and whether a rule is long enough is
read from the history of all instants since the last clear. Only the words for what happened are shared with the engine.
"""

import copy
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rules.compiled import compile_definition
from rules.conditions import (
    AlarmDefinition,
    All,
    AnyOf,
    Automatic,
    ByHand,
    ClearPolicy,
    ClearRule,
    Comparison,
    Condition,
    Duration,
    Kind,
    Not,
    Quiet,
    Repeating,
    Severity,
    leaves,
)
from rules.leaf import (
    Among,
    Between,
    Boolean,
    Difference,
    Leaf,
    OtherMetric,
    Previous,
    Rate,
    Resolved,
    Supply,
    Text,
    View,
    Window,
    metrics_of,
    plain,
    supplies,
)
from rules.outcome import Alarm, Cleared, Evidence, Instance, Limit, Raised, Sample, SeverityChanged, Supplied, Updated
from rules.schedules import Openings, Schedule

Truth = bool | None
Transition = Raised | SeverityChanged | Updated | Cleared
Said = float | str | None
"""What a sample says; None: nothing."""


@dataclass
class Look:
    """One instant as a rule saw it. ``is_counted``: a sample came; ``is_opening``: its schedule opened."""

    at: int
    root: Truth
    is_counted: bool
    is_opening: bool = False


@dataclass
class Answer:
    """Whether a rule is true; where a streak runs, since when and with how many matches."""

    is_true: bool
    began: int | None
    count: int


class History(dict[int, dict[int, "Said"]]):
    """What every series ever said; one for all, also for copies of a subject."""

    def __deepcopy__(self, memo: object) -> "History":
        return self


@dataclass
class Value:
    ts: int
    value: Said
    arrived: int


@dataclass
class Subject:
    """One instance."""

    instance: Instance
    history: History = field(default_factory=History)
    at: int | None = None
    values: dict[str, Value] = field(default_factory=dict)
    memory: dict[tuple[str, int], Truth] = field(default_factory=dict)
    looks: dict[Severity, list[Look]] = field(default_factory=dict)
    asked: list[Look] = field(default_factory=list)
    alarm: Alarm | None = None
    peak: float | None = None
    matched: int = 0
    told: list[Transition] = field(default_factory=list)

    @property
    def definition(self) -> AlarmDefinition:
        return self.instance.definition

    def reads(self, said: Said) -> Said:
        """Where only numbers are compared, texts are not even remembered."""
        return as_number(said) if compile_definition(self.definition).is_plain else said

    def trees(self) -> dict[str, Condition]:
        found = {severity.key: rule.condition for severity, rule in self.definition.create.by_severity()}
        if isinstance(self.definition.clear, ClearRule):
            found["clear"] = self.definition.clear.condition
        return found

    # Values ----------------------------------------------------------------------------------------------------

    def is_held(self, metric: str, at: int) -> bool:
        held = self.values.get(metric)
        return held is not None and held.value is not None and at - held.ts <= self.instance.metrics[metric].hold_ms

    def stands_by_default(self, leaf: Leaf) -> bool:
        return leaf.default is not None and leaf.metric not in self.values

    def speaks(self, leaf: Leaf, at: int) -> bool:
        first, *others = metrics_of(leaf)
        is_first = self.stands_by_default(leaf) or self.is_held(first, at)
        return is_first and all(self.is_held(other, at) for other in others)

    def forget_stale(self, at: int) -> None:
        for where, tree in self.trees().items():
            for number, leaf in enumerate(leaves(tree)):
                if not self.speaks(leaf, at):
                    self.memory[where, number] = None
                elif self.memory.get((where, number)) is None:
                    self.memory[where, number] = self.ask(leaf, was_true=False)

    def take(self, values: dict[str, Said], ts: int, now: int) -> None:
        first = set(values) - set(self.values)
        for metric, value in values.items():
            self.values[metric] = Value(ts, value, now)
        for where, tree in self.trees().items():
            for number, leaf in enumerate(leaves(tree)):
                if set(metrics_of(leaf)) & set(values):
                    was_true = self.memory.get((where, number)) is True
                    if getattr(leaf, "default", None) is not None and leaf.metric in first:
                        was_true = False
                    if self.speaks(leaf, ts if self.at is None else max(ts, self.at)):
                        self.memory[where, number] = self.ask(leaf, was_true=was_true)

    def ask(self, leaf: Leaf, *, was_true: bool) -> Truth:
        value = leaf.default if self.stands_by_default(leaf) else self.values[leaf.metric].value
        if isinstance(leaf, Text):
            return says(leaf, words(value))
        number = as_number(value)
        there = {name: self.supplied(value) for name, value in supplies(leaf)}
        if None in there.values():
            return None
        if getattr(leaf, "view", None) is not None and number is not None and not self.stands_by_default(leaf):
            number = self.view(leaf.view, leaf.metric)
        return None if number is None else answers(leaf, number, there, was_true=was_true)

    def supplied(self, value: Supply) -> float | None:
        """Return the number a comparison uses: its own, or that of another metric as it stands."""
        if not isinstance(value, OtherMetric):
            return plain(value)
        there = as_number(self.values[value.metric].value)
        return None if there is None else there + value.plus

    def view(self, view: View, metric: str) -> float | None:
        """Look at the whole history of a series, up to the newest sample that was taken."""
        watched, held = self.instance.metrics[metric], self.values[metric]
        known = self.history.get(watched.series, {}) | {held.ts: held.value}
        numbers = {ts: as_number(said) for ts, said in known.items() if ts <= held.ts}
        numbers = {ts: number for ts, number in sorted(numbers.items()) if number is not None}
        if isinstance(view, Window):
            found = list(numbers.values())
            if view.samples is not None:
                found = found[-view.samples :] if len(found) >= view.samples else []
            else:
                found = [number for ts, number in numbers.items() if ts >= held.ts - ms(view.seconds)]
            return figure(view.function, found) if found else None
        before = max((ts for ts in numbers if ts < held.ts), default=None)
        if before is None or held.ts - before > watched.hold_ms:
            return None
        change = numbers[held.ts] - numbers[before]
        match view:
            case Previous():
                return numbers[before]
            case Difference():
                return change
            case Rate():
                return change * 60_000 / (held.ts - before)

    def root(self, where: str) -> Truth:
        tree = self.trees()[where]
        numbers = iter(range(1000))
        return self.walk(tree, where, numbers)

    def walk(self, tree: Condition, where: str, numbers: Iterator[int]) -> Truth:
        match tree:
            case Not(of=part):
                truth = self.walk(part, where, numbers)
                return None if truth is None else not truth
            case All(of=parts):
                truths = [self.walk(part, where, numbers) for part in parts]
                return False if False in truths else None if None in truths else True
            case AnyOf(of=parts):
                truths = [self.walk(part, where, numbers) for part in parts]
                return True if True in truths else None if None in truths else False
            case _:
                return self.memory.get((where, next(numbers)))

    # Instants --------------------------------------------------------------------------------------------------

    def sample(self, ts: int, values: dict[str, Said], now: int) -> None:
        at = ts if self.at is None else max(ts, self.at)
        self.pass_time(at)
        self.take(values, ts, now)
        self.run(at, set(values))

    def look_again(self, late: set[int]) -> None:
        """See what views show now that more is known of some series."""
        asked = [(w, n, leaf) for w, tree in self.trees().items() for n, leaf in enumerate(leaves(tree))]
        seen = [one for one in asked if getattr(one[2], "view", None) is not None]
        if self.at is None or not {self.series(leaf.metric) for _, _, leaf in seen} & late:
            return
        for where, number, leaf in seen:
            if self.speaks(leaf, self.at):
                was_true = self.memory.get((where, number)) is True
                self.memory[where, number] = self.ask(leaf, was_true=was_true)
        self.run(self.at, set())

    def series(self, metric: str) -> int | None:
        watched = self.instance.metrics.get(metric)
        return None if watched is None else watched.series

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
        before, self.at = self.at, at
        self.forget_stale(at)
        roots = {}
        answers = {}
        for severity, rule in self.definition.create.by_severity():
            metrics = named(rule.condition)
            roots[severity] = self.root(severity.key) if is_open(rule.schedule, at) else None
            looks = self.looks.setdefault(severity, [])
            opens = not is_open(rule.schedule, before) and is_open(rule.schedule, at)
            if not is_open(rule.schedule, at):
                looks.clear()
            looks.append(Look(at, roots[severity], bool(fresh & metrics), opens))
            answers[severity] = answer(rule.kind, looks, begins_only_by_sample=True)
        useful = [s for s, rule in self.definition.create.by_severity() if can_fire(rule.kind)]
        winner = max((s for s in useful if answers[s].is_true), default=None)
        lead = self.lead(useful)
        rules = dict(self.definition.create.by_severity())
        if self.alarm is not None and any(roots[s] is True and fresh & named(rules[s].condition) for s in useful):
            self.matched = at
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
            if isinstance(kind, Repeating) and kind.window_s and plain(kind.times):
                since = at - ms(plain(kind.window_s))
                if any(look.root is True and look.is_counted and look.at >= since for look in looks):
                    return False
            elif looks and answer(kind, looks, begins_only_by_sample=True).began is not None:
                return False
        return True

    def lead(self, useful: list[Severity]) -> str | None:
        rules = dict(self.definition.create.by_severity())
        return next(leaves(rules[useful[0]].condition)).metric if useful else None

    def note_peak(self, useful: list[Severity]) -> None:
        rules = dict(self.definition.create.by_severity())
        condition = rules[useful[0]].condition
        leaf = next(leaves(condition))
        value = as_number(self.values[leaf.metric].value)
        if value is None:
            return
        direction = toward(leaf) * (-1) ** nots_before_first(condition)
        if self.peak is None or not direction:
            self.peak = value
        else:
            self.peak = max(self.peak * direction, value * direction) * direction

    # The alarm -------------------------------------------------------------------------------------------------

    def begin(self, winner: Severity, found: Answer, at: int, fresh: set[str], useful: list[Severity]) -> None:
        metrics = named(dict(self.definition.create.by_severity())[winner].condition)
        newest = max((self.values[m].ts for m in metrics if m in self.values), default=-math.inf)
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
            value=as_number(self.values[lead].value) if self.is_held(lead, at) else None,
            peak=self.peak,
        )
        self.matched = self.alarm.last_seen_ms
        if "clear" in self.trees():
            for number, leaf in enumerate(leaves(self.trees()["clear"])):
                if self.memory.get(("clear", number)) is not None:
                    self.memory["clear", number] = self.ask(leaf, was_true=False)
        self.told.append(Raised(self.instance.id, at, self.alarm, self.evidence(winner, at)))

    def keep(
        self, winner: Severity, found: Answer, root: Truth, at: int, fresh: set[str], useful: list[Severity]
    ) -> None:
        rules = dict(self.definition.create.by_severity())
        is_match = root is True and bool(fresh & named(rules[winner].condition))
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
                value=as_number(self.values[lead].value) if self.is_held(lead, at) else None,
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
                found = answer(Duration(type="duration", seconds=plain(delay)), self.asked, begins_only_by_sample=False)
            case Quiet(seconds=seconds):
                if True not in roots.values() and at - self.matched >= ms(plain(seconds)):
                    self.end(at, self.matched, is_by_hand=False)
                return
            case ClearRule(kind=kind, condition=condition, schedule=schedule):
                is_counted = bool(fresh & named(condition))
                self.asked.append(Look(at, self.root("clear") if is_open(schedule, at) else None, is_counted))
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
        told = tuple(limit for leaf in leaves(rule.condition) for limit in limits(leaf))
        return Evidence(self.samples(at), told, tuple(lengths(rule.kind, self.definition.clear)))


class Reference:
    """All instances, and the newest sample of each series."""

    def __init__(self, instances: list[Instance]) -> None:
        self.history = History()
        self.subjects = {instance.id: Subject(instance, self.history) for instance in instances}
        self.newest: dict[int, tuple[int, Said]] = {}
        # Where nobody looks at texts, what is no number is nothing.
        self.worded = {
            watched.series
            for instance in instances
            if not compile_definition(instance.definition).is_plain
            for metric, watched in instance.metrics.items()
            if metric in instance.definition.metrics()
        }

    def evaluate(self, rows: list[tuple[int, int, Said]], now: int) -> tuple[list[Transition], int, int]:
        """Take (series, time, value) rows; return what happened, how many were late and how many repeated."""
        watched = {
            watched.series
            for subject in self.subjects.values()
            for metric, watched in subject.instance.metrics.items()
            if metric in subject.definition.metrics()
        }
        rows = [
            (series, ts, value if series in self.worded else as_number(value))
            for series, ts, value in rows
            if series in watched and value not in (math.inf, -math.inf)
        ]
        for series, ts, value in rows:
            self.history.setdefault(series, {})[ts] = value
        wanted = {(series, ts): value for series, ts, value in rows}
        late = sum(1 for series, ts, _ in rows if ts < self.newest.get(series, (-math.inf, 0))[0])
        taken = {
            (series, ts): value
            for (series, ts), value in wanted.items()
            if ts >= self.newest.get(series, (-math.inf, 0))[0] and self.newest.get(series) != (ts, value)
        }
        late_series = {series for series, ts, _ in rows if ts < self.newest.get(series, (-math.inf, 0))[0]}
        for subject in self.subjects.values():
            subject.look_again(late_series)
            for instant in sorted({ts for _, ts in taken}):
                values = {
                    metric: subject.reads(taken[w.series, instant])
                    for metric, w in subject.instance.metrics.items()
                    if (w.series, instant) in taken and metric in subject.definition.metrics()
                }
                if values:
                    subject.sample(instant, values, now)
        for (series, ts), value in sorted(taken.items(), key=lambda item: item[0]):
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


def is_open(schedule: Schedule | None, at: int | None) -> bool:
    return schedule is None or (at is not None and Openings(schedule, "UTC").is_open(at))


def named(condition: Condition) -> set[str]:
    return {metric for leaf in leaves(condition) for metric in metrics_of(leaf)}


def limits(leaf: Leaf) -> list[Limit]:
    seen = getattr(leaf, "view", None)
    view = getattr(seen, "function", None) or getattr(seen, "type", None)
    told: list[tuple[float | str | None, ...]] = []
    match leaf:
        case Text():
            told = [(leaf.operator, ", ".join(leaf.values or [leaf.value]), 0.0, None, None)]
        case Boolean():
            told = [(leaf.operator, str(leaf.value).lower(), 0.0, None, None)]
        case Between():
            told = [named_limit(leaf, ">=", leaf.low, view), named_limit(leaf, "<=", leaf.high, view)]
        case Among():
            told = [(leaf.operator, ", ".join(f"{one:g}" for one in leaf.values), 0.0, view, None)]
        case Comparison():
            told = [named_limit(leaf, leaf.operator, leaf.limit, view)]
    return [Limit(leaf.metric, *one) for one in told]


def named_limit(
    leaf: Comparison | Between, sign: str, limit: Supply, view: str | None
) -> tuple[float | str | None, ...]:
    found = []
    for value in (limit, leaf.deadband):
        number = value.plus if isinstance(value, OtherMetric) else plain(value)
        other = value.metric if isinstance(value, OtherMetric) else None
        found.append((number, other, f"{value.attribute}@{value.level}" if isinstance(value, Resolved) else None))
    (number, other, source), (deadband, *rest) = found
    return (sign, number, deadband, view, other, source, *rest)


def lengths(kind: Kind, clear: ClearPolicy) -> Iterator[Supplied]:
    parts = [("", kind), *([("clear.", clear.kind)] if isinstance(clear, ClearRule) else []), ("clear.", clear)]
    for path, part in parts:
        for name in ("seconds", "times", "window_s", "off_delay_s"):
            value = getattr(part, name, None)
            if isinstance(value, Resolved):
                yield Supplied(path + name, value.found, f"{value.attribute}@{value.level}")


def as_number(said: Said) -> float | None:
    if not isinstance(said, str):
        return said
    try:
        number = float(said.replace("_", "?"))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def words(said: Said) -> str:
    return said if isinstance(said, str) else f"{said:g}"


def says(leaf: Text, text: str) -> bool:
    wanted = [leaf.value] if leaf.values is None else list(leaf.values)
    if leaf.ignore_case:
        text, wanted = text.lower(), [one.lower() for one in wanted]
    positive = leaf.operator.removeprefix("not_").removesuffix("_not")
    answer = {
        "is": text == wanted[0],
        "starts": text.startswith(wanted[0]),
        "ends": text.endswith(wanted[0]),
        "contains": wanted[0] in text,
        "in": text in wanted,
    }[positive]
    return answer == (positive == leaf.operator)


def figure(function: str, found: list[float]) -> float:
    return {
        "avg": lambda: sum(found) / len(found),
        "min": lambda: min(found),
        "max": lambda: max(found),
        "sum": lambda: sum(found),
        "count": lambda: len(found),
        "stddev": lambda: statistics.pstdev(found),
        "delta": lambda: found[-1] - found[0],
    }[function]()


def toward(leaf: Leaf) -> int:
    """Which way is worse: 1 up, -1 down, 0 neither."""
    if isinstance(leaf, Boolean):
        return 1 if leaf.value == (leaf.operator == "is") else -1
    if not isinstance(leaf, Comparison):
        return 0
    if leaf.view is not None and getattr(leaf.view, "function", None) not in {"avg", "min", "max", "sum"}:
        return 0
    return {">": 1, "<": -1}.get(leaf.operator[0], 0)


def answers(leaf: Leaf, number: float, there: dict[str, float], *, was_true: bool) -> bool:
    moved = max(0.0, there["deadband"]) if was_true and "deadband" in there else 0.0
    match leaf:
        case Boolean():
            return (number > 0) == (leaf.value == (leaf.operator == "is"))
        case Between():
            return there["low"] - moved <= number <= there["high"] + moved
        case Among():
            is_in = any(abs(number - one) <= leaf.tolerance for one in leaf.values)
            return is_in == (leaf.operator == "in")
    return holds(leaf, number, there["limit"], moved)


def holds(leaf: Comparison, value: float, limit: float, moved: float) -> bool:
    match leaf.operator:
        case ">":
            return value > limit - moved
        case ">=":
            return value >= limit - moved
        case "<":
            return value < limit + moved
        case "<=":
            return value <= limit + moved
        case "=":
            return abs(value - limit) <= leaf.tolerance
        case _:
            return abs(value - limit) > leaf.tolerance


def ms(seconds: float) -> int:
    return round(1000 * seconds)


def can_fire(kind: Kind) -> bool:
    match kind:
        case Duration(seconds=seconds):
            return plain(seconds) >= 0
        case Repeating(times=times):
            return plain(times) >= 0
        case _:
            return True


def answer(kind: Kind, looks: list[Look], *, begins_only_by_sample: bool) -> Answer:
    """Read from a rule's history whether it is true at the last instant of it."""
    now = looks[-1].at
    if isinstance(kind, Repeating) and kind.window_s and plain(kind.times) > 0:
        window = ms(plain(kind.window_s))
        matches = [look.at for look in looks if look.root is True and look.is_counted]
        reached = [at for at in matches if at >= now - window]
        if not reached:
            return Answer(is_true=False, began=None, count=0)
        count = 1
        while count < len(matches) and matches[-count] - matches[-count - 1] <= window:
            count += 1
        times = int(plain(kind.times))
        return Answer(len(reached) >= times, reached[-times:][0], count)
    streak: list[Look] = []
    for look in looks:
        if look.root is not True:
            streak = []
        elif streak or look.is_counted or look.is_opening or not begins_only_by_sample:
            streak.append(look)
    if not streak or not can_fire(kind):
        return Answer(is_true=False, began=None, count=0)
    count = sum(look.is_counted for look in streak)
    began = streak[0].at
    match kind:
        case Duration(seconds=seconds):
            return Answer(now - began >= ms(plain(seconds)), began, count)
        case Repeating(times=times):
            return Answer(count >= plain(times), began, count)
        case _:
            return Answer(is_true=True, began=began, count=count)


def nots_before_first(tree: Condition) -> int:
    match tree:
        case Not(of=part):
            return 1 + nots_before_first(part)
        case All(of=parts) | AnyOf(of=parts):
            return nots_before_first(parts[0])
        case _:
            return 0
