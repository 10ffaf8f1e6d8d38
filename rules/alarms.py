"""Alarms: raised, repeated, changed and ended by rules and devices; acknowledged, noted and cleared by people.

At most one alarm is open for one thing and type, and the database says so. Whoever raises folds what it saw onto
the open alarm it has locked; where somebody else opened one in between, it folds again onto theirs. So any number
of workers, retries and redeliveries end in one row (promise P1).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import insert
from sqlalchemy.orm import Session

from kernel import audit, events
from kernel.errors import Conflict, Invalid
from rules import alarm_rows, announcing, episodes, floods, holds
from rules.alarm_rows import Key
from rules.announcing import Judged
from rules.episodes import Episode, Fault, Sighting
from rules.events import AlarmAcknowledged, AlarmAnnounced, AlarmCleared, AlarmRepeated
from rules.models import Alarm, AlarmEntry, RuleState

LONGEST_COMMENT: Final = 2000


def take(session: Session, sightings: Sequence[Sighting], *, now: datetime) -> list[int | None]:
    """Bring alarms up to what was seen, in order, in a handful of statements however many there are.

    Returns the id of the alarm that each sighting raised, updated or ended; None where there was none to end or
    to update. ``now`` is server time.
    """
    taken: list[int | None] = [None] * len(sightings)
    waiting: dict[Key, list[tuple[int, Sighting]]] = {}
    for number, sighting in enumerate(sightings):
        waiting.setdefault(sighting.fault.key, []).append((number, sighting))
    while waiting:
        # Everybody locks in the same order, so that nobody waits in a circle.
        keys = sorted(waiting)
        standing = alarm_rows.lock_open(session, keys)
        last = alarm_rows.last(session, [key for key in keys if key not in standing])
        folded = {key: episodes.fold(standing.get(key), waiting[key], now, last.get(key, (0, ()))[1]) for key in keys}
        for key, (last_id, _) in last.items():
            for episode in folded[key][:1]:
                episode.row["previous_id"] = last_id
        lost = _write(session, [one for key in keys for one in folded[key]], now)
        for key in keys:
            for episode in folded[key]:
                if episode not in lost:
                    for number in episode.taken:
                        taken[number] = episode.id
        waiting = {one.fault.key: [(n, seen) for n, seen in waiting[one.fault.key] if n >= one.first] for one in lost}
    return taken


def raise_(session: Session, seen: episodes.Seen, *, now: datetime) -> int:
    """Raise one alarm, or count the sighting on the open one; return its id."""
    (alarm_id,) = take(session, [seen], now=now)
    if alarm_id is None:
        raise Invalid("A sighting that may not open an alarm cannot raise one.")
    return alarm_id


def end(session: Session, fault: Fault, *, at: datetime, now: datetime) -> int | None:
    """End the open alarm of a fault at ``at`` (device time); return its id, or None when none was open."""
    (alarm_id,) = take(session, [episodes.Over(fault, at)], now=now)
    return alarm_id


def amend(session: Session, amended: Sequence[Episode], *, now: datetime) -> None:
    """Write alarms as a late report shows that they were: those held, and new ones beside them (A18).

    The caller has locked the open alarm of each fault (``rules.alarm_rows``), if there is one. An episode's ``taken``
    must not be empty.
    """
    _write(session, amended, now)


def write_down(
    session: Session,
    ids: Sequence[int],
    kind: str,
    fault: Fault,
    happening: tuple[type[Any], dict[str, Any]],
    *,
    now: datetime,
) -> None:
    """Write the same line into the history, trail and events of some alarms of one fault, whose rows say it already."""
    line = episodes.Line(kind, fault.actor, {}, happening)
    _tell(session, [Episode(fault, {}, id=one, is_new=False, lines=[line]) for one in ids], now)


def acknowledge(session: Session, alarm: Alarm, *, by: str, now: datetime, comment: str = "") -> bool:
    """Note that a person has taken note; the first one's name stays. Return whether this was the first.

    A cleared alarm can be acknowledged too; ``by`` is an actor such as ``account:12``.

    Raises:
        Invalid: the comment is too long.
    """
    _lock(session, alarm)
    if comment:
        add_comment(session, alarm, comment, by=by, now=now)
    if alarm.is_acknowledged:
        return False
    alarm.is_acknowledged, alarm.acknowledged_at, alarm.acknowledged_by = True, now, by
    if alarm.is_active and not alarm.is_held:
        alarm.next_at = now
    _write_down(session, alarm, "acknowledged", by=by, now=now)
    events.emit(
        session,
        AlarmAcknowledged(alarm.id),
        subject=f"alarm:{alarm.id}",
        at=now,
        actor=by,
        unit_id=alarm.unit_id,
    )
    return True


def acknowledge_all(session: Session, alarms: Sequence[Alarm], *, by: str, now: datetime) -> int:
    """Acknowledge several alarms; return how many were not yet."""
    return sum(acknowledge(session, alarm, by=by, now=now) for alarm in sorted(alarms, key=lambda one: one.id))


def add_comment(session: Session, alarm: Alarm, words: str, *, by: str, now: datetime) -> AlarmEntry:
    """Add a person's note to an alarm's history, where no rule ever overwrites it.

    Raises:
        Invalid: it is empty or longer than 2,000 characters.
    """
    words = words.strip()
    if not words:
        raise Invalid("Please write something.", field="comment")
    if len(words) > LONGEST_COMMENT:
        raise Invalid("The comment is longer than {most} characters.", field="comment", most=LONGEST_COMMENT)
    entry = AlarmEntry(alarm_id=alarm.id, at=now, actor=by, kind="comment", text=words, detail={})
    session.add(entry)
    _audit(session, alarm, "comment", by=by, now=now, after={"comment": words})
    return entry


def clear_by_hand(session: Session, alarm: Alarm, *, by: str, reason: str, now: datetime) -> None:
    """End an open alarm on a person's word. Its rule starts afresh and raises anew at its next match (A20).

    Raises:
        Conflict: it has ended already.
        Invalid: no reason is given, or it is too long.
    """
    reason = reason.strip()
    if not 0 < len(reason) <= LONGEST_COMMENT:
        raise Invalid("Please say why, in at most {most} characters.", field="reason", most=LONGEST_COMMENT)
    _lock(session, alarm)
    if not alarm.is_active:
        raise Conflict("This alarm has already cleared.")
    # Device time is not known here; an alarm never ends before it began.
    alarm.is_active, alarm.cleared_at, alarm.ended_at = False, now, max(now, alarm.raised_at)
    alarm.next_at, alarm.is_chattering, alarm.recovered_at = None, False, None
    if alarm.is_shelved:
        holds.end_once(session, [(alarm.subject, alarm.type_key)], now=now)
    if alarm.alarm_type_id is not None and alarm.asset_id is not None:
        state = session.get(RuleState, (alarm.alarm_type_id, alarm.asset_id))
        if state is not None:
            session.delete(state)
    _write_down(session, alarm, "cleared", by=by, now=now, words=reason, detail={"by_hand": True})
    events.emit(session, AlarmCleared(alarm.id), subject=f"alarm:{alarm.id}", at=now, actor=by, unit_id=alarm.unit_id)


def _lock(session: Session, alarm: Alarm) -> None:
    session.refresh(alarm, with_for_update={"of": Alarm})


def _write_down(
    session: Session,
    alarm: Alarm,
    kind: str,
    *,
    by: str,
    now: datetime,
    words: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    session.add(AlarmEntry(alarm_id=alarm.id, at=now, actor=by, kind=kind, text=words, detail=dict(detail or {})))
    _audit(session, alarm, kind, by=by, now=now, after={"reason": words} if words else {})


def _audit(session: Session, alarm: Alarm, kind: str, *, by: str, now: datetime, after: dict[str, Any]) -> None:
    session.flush()
    audit.record(
        session,
        f"alarm.{kind}",
        subject=f"alarm:{alarm.id}",
        actor=by,
        at=now,
        after=after,
        company_id=alarm.company_id,
    )


# What time brings -------------------------------------------------------------------------------------------------


def end_floods(session: Session, *, now: datetime) -> int:
    """End the floods that are over, and announce the few of their alarms that still stand; return how many ended."""
    ends, released, ended = floods.over(session, now=now)
    take(session, ends, now=now)
    settle(session, released, now=now)
    return ended


def calm(session: Session, *, now: datetime, limit: int = 500) -> int:
    """Let go of chattering alarms whose signal has kept still: over where it is normal, announced where it is not."""
    held = alarm_rows.lock_still(session, now=now, limit=limit)
    for one in held:
        episodes.calm(one, now)
    _write(session, held, now)
    stand = frozenset(one.id for one in held if one.row["is_active"])
    settle(session, stand, now=now, calmed=stand)
    return len(held)


# Many at once ---------------------------------------------------------------------------------------------------


def _write(session: Session, folded: Sequence[Episode], now: datetime) -> set[Episode]:
    """Write episodes with their history; return those that lost the race for being the open one."""
    changed = [one for one in folded if not one.is_new and one.taken]
    if changed:
        alarm_rows.update_all(session, changed)
    fresh = [one for one in folded if one.is_new]
    lost = alarm_rows.insert_all(session, fresh) if fresh else set()
    told = [one for one in (*changed, *fresh) if one not in lost]
    _end_shelves(session, told, now)
    _tell(session, told, now)
    _announce(session, told, now)
    return lost


def _announce(session: Session, told: Sequence[Episode], now: datetime) -> None:
    """Let people hear of what was raised or got worse, as far as it is not held."""
    reasons = {
        one.id: [line.announces for line in one.lines if line.announces is not None] for one in told if not one.is_late
    }
    ids = [alarm_id for alarm_id, whys in reasons.items() if whys]
    if ids:
        tell(session, announcing.judge(session, ids, now=now), reasons, now=now)


def tell(session: Session, judged: Judged, reasons: Mapping[int, Sequence[str]], *, now: datetime) -> None:
    """Emit what was decided, and raise the alarms that stand for the many of a flood."""
    emissions = [
        events.Emission(AlarmAnnounced(one.id, why), f"alarm:{one.id}", "system", one.unit_id)
        for one in judged.told
        for why in reasons[one.id]
    ]
    events.emit_all(session, emissions, at=now)
    for seen, children in judged.floods:
        alarm_id, fault = raise_(session, seen, now=now), seen.fault
        floods.begin(session, fault.company_id, fault.unit_id, fault.subject, alarm_id, now=now)
        floods.adopt(session, alarm_id, children)


def settle(session: Session, ids: Iterable[int], *, now: datetime, calmed: frozenset[int] = frozenset()) -> None:
    """Look again at what holds these alarms, and announce those that nothing holds any more (once, if they stand)."""
    held = alarm_rows.lock(session, ids)
    if held:
        judged = announcing.reconsider(session, list(held), now=now, calmed=calmed)
        tell(session, judged, {one.id: ["released"] for one in judged.told}, now=now)


def _end_shelves(session: Session, told: Sequence[Episode], now: datetime) -> None:
    """End the shelves for once of alarms that cleared."""
    keys = [one.fault.key for one in told if one.row.get("is_shelved") and not one.row["is_active"]]
    if keys:
        holds.end_once(session, keys, now=now)


def _tell(session: Session, told: Sequence[Episode], now: datetime) -> None:
    """Write history, audit trail and events of what became of alarms."""
    entries, acts, emissions = [], [], []
    for one in told:
        subject, fault = f"alarm:{one.id}", one.fault
        for line in one.lines:
            detail = {name: _plain(value) for name, value in line.detail.items()}
            entries.append(
                {
                    "alarm_id": one.id,
                    "at": now,
                    "actor": line.actor,
                    "kind": line.kind,
                    "text": "",
                    "detail": detail,
                }
            )
            acts.append(audit.Act(f"alarm.{line.kind}", subject, line.actor, after=detail, company_id=fault.company_id))
            happening, values = line.happening
            emissions.append(events.Emission(happening(one.id, **values), subject, line.actor, fault.unit_id))
        if one.repeats:
            repeated = AlarmRepeated(one.id, one.repeats)
            emissions.append(events.Emission(repeated, subject, one.repeated_by, fault.unit_id))
    if entries:
        session.execute(insert(AlarmEntry), entries)
    audit.record_all(session, acts, at=now)
    events.emit_all(session, emissions, at=now)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
