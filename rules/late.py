"""Readings that came late are judged at their own time (A18): noted with their batch, led again from a rest, compared.

For ingest. ``note`` writes, in the batch's transaction, which rules on which assets are concerned and from when on.
``read`` takes from the store, beside the path, what the rule judged from the last instant of rest before that.
``judge`` says between two batches what the history comes to, and ``write`` brings the record to it; the note goes in
the same transaction. So a kill at any place loses nothing, and what is done again finds nothing to do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, DateTime, cast, delete, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session, sessionmaker

from assets.measured import FOREVER_MS, Span
from kernel import clock, db, log
from rules import alarm_rows, alarms, compiled, episodes, hindsight, history, replay, rest, standing
from rules.compiled import Compiled
from rules.episodes import Line, Over, Seen
from rules.events import AlarmAmended, AlarmCleared, AlarmFoundLate, AlarmQuestioned, AlarmSeverityChanged
from rules.hindsight import Findings, Known
from rules.models import Alarm, AlarmEntry, LateSpan, RuleVersion
from rules.replay import Episode, Replayed
from rules.rest import Occupied
from rules.standing import Standing
from rules.tape import Samples
from telemetry.store import TelemetryStore

QUIET_FOR: Final = timedelta(seconds=1)
"""A span is judged when nothing was added for so long, so that a back-fill of many batches is judged once, …"""
WAIT_AT_MOST: Final = timedelta(seconds=30)
"""… or when it has waited so long."""
PUT_OFF: Final = timedelta(minutes=1)
LIMIT: Final = timedelta(hours=24)
FIRST_LOOK_MS: Final = 4 * 3_600_000
MOST_SAMPLES: Final = 4_000_000
"""So many samples before the late one at most are looked at for an instant of rest."""
_ALL_MS: Final = 253_402_300_000_000

_log = log.of(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """One rule on one asset with late samples. ``since_ms``: the first of them; ``revision``: as the note stood."""

    rule: Standing
    since_ms: int
    revision: int

    @property
    def key(self) -> tuple[int, int]:
        """Alarm type and asset."""
        return self.rule.alarm_type_id, self.rule.asset_id


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What was read for a task: the samples from a rest on. ``rest_ms`` None: they begin with the history."""

    task: Task
    plan: Compiled
    spans: list[Span]
    bad: frozenset[str]
    samples: dict[str, Samples]
    rest_ms: int | None


# Noted ------------------------------------------------------------------------------------------------------------


def note(session: Session, spans: Mapping[int, tuple[int, int]], *, now: datetime) -> None:
    """Note the late samples of instances (by engine number): from the first to the last, in device time."""
    if not spans:
        return
    numbers = sorted(spans)
    kinds, things = zip(*(standing.split_id(number) for number in numbers), strict=True)
    ends = [[clock.from_ms(spans[number][end]) for number in numbers] for end in (0, 1)]
    rows = (
        func.unnest(
            cast(list(kinds), ARRAY(BigInteger)),
            cast(list(things), ARRAY(BigInteger)),
            *(cast(column, ARRAY(DateTime(timezone=True))) for column in ends),
        )
        .table_valued("kind", "thing", "since", "until", name="noted")
        .render_derived()
    )
    said = select(
        rows.c.kind, rows.c.thing, rows.c.since, rows.c.until, literal(1), literal(now), literal(now + QUIET_FOR)
    )
    names = ["alarm_type_id", "asset_id", "since", "until", "revision", "noted_at", "due_at"]
    statement = upsert(LateSpan).from_select(names, said)
    fresh, known = statement.excluded, LateSpan.__table__.c
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[LateSpan.alarm_type_id, LateSpan.asset_id],
            set_={
                "since": func.least(known.since, fresh.since),
                "until": func.greatest(known.until, fresh.until),
                "revision": known.revision + 1,
                "due_at": func.least(fresh.due_at, known.noted_at + WAIT_AT_MOST),
            },
        )
    )


def due(session: Session, *, now: datetime, limit: int) -> list[tuple[int, int, int, int]]:
    """Return what is to be judged now: alarm type, asset, first late sample (ms), revision."""
    found = session.execute(
        select(LateSpan.alarm_type_id, LateSpan.asset_id, LateSpan.since, LateSpan.revision)
        .where(LateSpan.due_at <= now)
        .order_by(LateSpan.due_at)
        .limit(limit)
    )
    return [(kind, asset, clock.to_ms(since), revision) for kind, asset, since, revision in found]


def forget(session: Session, keys: Iterable[tuple[int, int]]) -> None:
    """Forget notes of rules that stand no more."""
    for kind, asset in keys:
        session.execute(delete(LateSpan).where(LateSpan.alarm_type_id == kind, LateSpan.asset_id == asset))


def put_off(session: Session, task: Task, *, by: timedelta = PUT_OFF, now: datetime) -> None:
    """Try a task again later, because it could not be judged."""
    row = session.get(LateSpan, task.key)
    if row is not None:
        row.due_at = now + by


# Read, beside the path --------------------------------------------------------------------------------------------


def read(sessions: sessionmaker[Session], store: TelemetryStore, task: Task) -> History:
    """Read what a rule judged from the last rest before its late samples on, looking ever further back for one."""
    rule, instance = task.rule, task.rule.instance
    plan = compiled.compile_definition(instance.definition, instance.context)
    with db.transaction(sessions) as session:
        spans = _spans(session, rule)
        bad = frozenset(name for name, one in history.described(session, rule.asset_id).items() if one.uses_bad)
        occupied = _occupied(session, rule)
    after = history.samples(store, spans, task.since_ms, _ALL_MS, bad=bad)
    before: dict[str, Samples] = {}
    begin_ms, look_ms = task.since_ms, FIRST_LOOK_MS
    if not replay.is_plain(plan):
        begin_ms = max(0, rest.warm_up(plan, instance, task.since_ms, occupied))
        before = history.samples(store, spans, begin_ms, task.since_ms, bad=bad)
        return History(task, plan, spans, bad, _together(before, after), begin_ms)
    while True:
        end_ms, begin_ms = begin_ms, max(0, begin_ms - look_ms)
        before = _together(history.samples(store, spans, begin_ms, end_ms, bad=bad), before)
        is_whole = begin_ms == 0 or not any(len(store.samples(one.series, 0, begin_ms, limit=1)) for one in spans)
        rest_ms = rest.last_rest(
            plan, instance, before, task.since_ms, occupied, from_ms=None if is_whole else begin_ms
        )
        samples = _together(before, after)
        if rest_ms is not None:
            return History(task, plan, spans, bad, rest.since(samples, instance, rest_ms), rest_ms)
        if is_whole:
            return History(task, plan, spans, bad, samples, None)
        if sum(map(len, before.values())) > MOST_SAMPLES:
            _log.warning("no rest was found before late readings", alarm_type=task.key[0], asset=task.key[1])
            return History(task, plan, spans, bad, samples, begin_ms)
        look_ms *= 4


def _spans(session: Session, rule: Standing) -> list[Span]:
    """Return where the rule's readings are: of what speaks now, and of what spoke before it was bound."""
    watched = {metric: one.series for metric, one in rule.instance.metrics.items()}
    found: dict[str, list[Span]] = {}
    for span in history.spans_of(session, rule.asset_id, watched):
        if span.ends_ms < FOREVER_MS or span.series == watched[span.metric]:
            found.setdefault(span.metric, []).append(span)
    # A device is bound when its first message has come; what it measured before that was judged as well.
    own = [replace(one, starts_ms=0) if one is some[0] else one for some in found.values() for one in some]
    # What a rule looks at on other assets is read as it is evaluated, from the series that speaks now.
    elsewhere = watched.keys() - {one.metric for one in own}
    return own + [Span(name, watched[name], 0, 0, FOREVER_MS) for name in sorted(elsewhere)]


def _occupied(session: Session, rule: Standing) -> list[Occupied]:
    query = select(Alarm.raised_at, Alarm.ended_at).where(*_of(rule), ~Alarm.is_unsupported)
    return [
        Occupied(clock.to_ms(raised), None if ended is None else clock.to_ms(ended))
        for raised, ended in session.execute(query)
    ]


def _of(rule: Standing) -> tuple[Any, ...]:
    return Alarm.asset_id == rule.asset_id, Alarm.alarm_type_id == rule.alarm_type_id, Alarm.origin == "rule"


def _together(*parts: Mapping[str, Samples]) -> dict[str, Samples]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: Samples.joined([part[name] for part in parts if name in part and len(part[name])]) for name in names}


def catch_up(store: TelemetryStore, found: History) -> History:
    """Read what was stored since; between two batches, so that all of it has been evaluated."""
    newer: dict[str, Samples] = {}
    for metric, one in found.samples.items():
        spans = [span for span in found.spans if span.metric == metric]
        since_ms = int(one.ts_ms[-1]) + 1 if len(one) else found.task.since_ms
        newer |= history.samples(store, spans, since_ms, _ALL_MS, bad=found.bad)
    return replace(found, samples=_together(found.samples, newer))


def until(found: History, at_ms: int) -> History:
    """Return what was read up to an instant, that one included."""
    return replace(found, samples={metric: one.until(at_ms) for metric, one in found.samples.items()})


# Judged and written, between two batches --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a corrected history comes to, and what the record needs so that it says the same."""

    replayed: Replayed
    findings: Findings
    held: dict[int, episodes.Episode]


def judge(session: Session, found: History, until_ms: int) -> Verdict | None:
    """Lead the rule through its history up to an instant of its event clock, and compare it with the locked record.

    None when more came late since ``found`` was read.
    """
    task = found.task
    row = session.get(LateSpan, task.key, with_for_update=True, populate_existing=True)
    if row is None or row.revision != task.revision:
        return None
    since = None if found.rest_ms is None else clock.from_ms(found.rest_ms)
    query = select(Alarm).where(*_of(task.rule)).order_by(Alarm.raised_at)
    if since is not None:
        query = query.where(or_(Alarm.is_active, Alarm.ended_at > since))
    ids = session.scalars(query.with_only_columns(Alarm.id)).all()
    held = alarm_rows.lock(session, ids)
    rows = session.scalars(query.execution_options(populate_existing=True)).all()
    by_hand = set(
        session.scalars(
            select(AlarmEntry.alarm_id).where(
                AlarmEntry.alarm_id.in_(ids), AlarmEntry.kind == "cleared", AlarmEntry.detail["by_hand"].as_boolean()
            )
        )
    )
    known = [_known(one, task.rule, is_by_hand=one.id in by_hand) for one in rows]
    cleared = sorted(one.ended_ms for one in known if one.is_by_hand and one.ended_ms is not None and one.is_supported)
    cleared = [min(at_ms, until_ms) for at_ms in cleared]
    told = replay.replay(task.rule.instance, found.samples, until_ms, cleared_ms=cleared, plan=found.plan)
    made = session.scalars(select(func.min(RuleVersion.at)).where(RuleVersion.alarm_type_id == task.key[0])).one()
    from_ms = max(task.since_ms, clock.to_ms(made)) if made is not None else task.since_ms
    return Verdict(told, hindsight.compare(known, told.episodes, from_ms), held)


def _known(row: Alarm, rule: Standing, *, is_by_hand: bool) -> Known:
    # What chattered is several episodes in one row; what another version raised, that version knows.
    is_judged = row.rule_version == rule.version and not row.is_chattering and not row.count_before
    return Known(
        row.id,
        clock.to_ms(row.began_at),
        clock.to_ms(row.raised_at),
        None if row.ended_at is None else clock.to_ms(row.ended_at),
        is_supported=not row.is_unsupported,
        is_judged=is_judged,
        is_by_hand=is_by_hand,
    )


def write(session: Session, task: Task, verdict: Verdict, told: Mapping[int, Sequence[Seen]], *, now: datetime) -> None:
    """Bring the record to a verdict, and forget the note.

    ``told``: by the number of an episode, its raise and how it stood last, as the evaluator says it.
    """
    findings, rule = verdict.findings, task.rule
    number = {id(one): n for n, one in enumerate(verdict.replayed.episodes)}
    changed = [
        _amended(verdict.held[known.id], known, one, rule, now)
        for known, one in findings.amended
        if _differs(verdict.held[known.id], one)
    ]
    before = sorted(verdict.held.values(), key=lambda one: one.row["raised_at"])
    changed += [_recorded(rule, one, told[number[id(one)]], before, now) for one in findings.recorded]
    if changed:
        alarms.amend(session, changed, now=now)
    late = [one.id for one in changed if one.is_new]
    _mark(session, late, {"is_late": True})
    _question(session, rule, [one.id for one in findings.unsupported], is_supported=False, now=now)
    again = [known.id for known, _ in findings.amended if not known.is_supported]
    _question(session, rule, again, is_supported=True, now=now)
    for one in findings.raised:
        alarms.take(session, told[number[id(one)]], now=now)
    session.execute(delete(LateSpan).where(LateSpan.alarm_type_id == task.key[0], LateSpan.asset_id == task.key[1]))


def _times(one: Episode) -> dict[str, datetime | None]:
    return {
        "began_at": clock.from_ms(one.began_ms),
        "raised_at": clock.from_ms(one.raised_ms),
        "ended_at": None if one.ended_ms is None else clock.from_ms(one.ended_ms),
    }


def _figures(one: Episode) -> dict[str, Any]:
    last = one.last
    return {
        "severity": last.severity.key,
        "peak_severity": one.worst.key,
        "count": last.matched,
        "last_seen_at": clock.from_ms(last.last_seen_ms),
        "value": last.value,
        "peak_value": last.value if last.peak is None else last.peak,
    }


def _differs(held: episodes.Episode, one: Episode) -> bool:
    wanted = _times(one) | _figures(one)
    return any(held.row[name] != value for name, value in wanted.items())


def _amended(held: episodes.Episode, known: Known, one: Episode, rule: Standing, now: datetime) -> episodes.Episode:
    """Return an alarm on record as the corrected history has it; what a person ended stays ended when it was."""
    row, actor, times = held.row, rule.fault.actor, _times(one)
    if known.is_by_hand:
        times["ended_at"] = row["ended_at"]
    moved = {name: (row[name], at) for name, at in times.items() if row[name] != at}
    if moved and (row["ended_at"] is not None or set(moved) != {"ended_at"}):
        detail = {"before": {name: _plain(was) for name, (was, _) in moved.items()}}
        detail |= {"after": {name: _plain(at) for name, (_, at) in moved.items()}}
        held.lines.append(Line("amended", actor, detail, (AlarmAmended, {})))
    figures = _figures(one)
    if row["is_active"] and figures["severity"] != row["severity"]:
        change = {"before": row["severity"], "after": figures["severity"]}
        told = "severity" if episodes.is_worse(change["after"], change["before"]) else None
        held.lines.append(Line("severity", actor, change, (AlarmSeverityChanged, change), told))
    row |= figures | times
    if row["is_active"] and times["ended_at"] is not None:
        row |= {"is_active": False, "cleared_at": now, "next_at": None}
        held.lines.append(Line("cleared", actor, {"at": times["ended_at"]}, (AlarmCleared, {})))
    held.taken = [0]
    return held


def _recorded(
    rule: Standing, one: Episode, seen: Sequence[Seen], known: Sequence[episodes.Episode], now: datetime
) -> episodes.Episode:
    """Return an alarm that is over and nobody was told of."""
    ended = clock.from_ms(one.ended_ms or one.last.last_seen_ms)
    (made,) = episodes.fold(None, enumerate([*seen, Over(rule.fault, ended)]), now)
    made.row |= (
        _times(one) | _figures(one) | {"is_active": False, "cleared_at": now, "ended_at": ended, "next_at": None}
    )
    made.is_late = True
    made.row["evidence"] = {**made.row["evidence"], "is_late": True}
    detail = {"severity": one.worst.key, "raised": made.row["raised_at"], "ended": ended}
    made.lines = [Line("late", rule.fault.actor, detail, (AlarmFoundLate, {}))]
    made.before = next((held for held in reversed(known) if held.row["raised_at"] < made.row["raised_at"]), None)
    return made


def _mark(session: Session, ids: Sequence[int], marks: dict[str, bool]) -> None:
    if ids:
        table = Alarm.__table__
        session.execute(table.update().where(table.c.id.in_(ids)).values(**marks))  # type: ignore[attr-defined]


def _question(session: Session, rule: Standing, ids: Sequence[int], *, is_supported: bool, now: datetime) -> None:
    """Mark alarms that history no longer supports, or does again; a person decides what becomes of them."""
    _mark(session, ids, {"is_unsupported": not is_supported})
    alarms.write_down(
        session,
        ids,
        "supported" if is_supported else "unsupported",
        rule.fault,
        (AlarmQuestioned, {"is_supported": is_supported}),
        now=now,
    )


def _plain(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
