"""From alarms to orders: one fault has one open order, however often and through whom it is reported (P3).

The fault is the alarm's subject and type (``asset:12/overheat``). An alarm that is announced joins the fault's open
order, or opens what the policy says (``policy``): an order, a report for a person to look at, either only if it lasts,
or nothing. A more severe alarm makes the order more urgent; a clear notes the recovery and closes nothing. A fault
that comes back before anyone verified the repair reopens the order; one that comes back within 14 days of the finish
(``recovery``) opens a new order that names the old one, and the old one counts it as rework (SEMANTICS 1.7).

These functions are subscribers of the outbox: each runs in a transaction of its own.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, selectinload

from kernel import db
from kernel.db import Json
from kernel.errors import NotFound
from maintenance.orders import (
    desk,
    dictionary,
    faults,
    joining,
    opening,
    policies,
    recovery,
    requests,
    timeline,
    urgency,
    waiting,
)
from maintenance.orders.code_tables import AlarmCode
from maintenance.orders.events import AlarmOutlasted
from maintenance.orders.joining import Join
from maintenance.orders.models import Order
from maintenance.orders.opening import Draft
from maintenance.orders.policy import Chosen, Line
from maintenance.plans import checklists
from rules.events import AlarmAnnounced, AlarmCleared, AlarmRepeated
from rules.models import Alarm

_NEWS: Final = frozenset({"raised"})


def on_announced(session: Session, event: AlarmAnnounced, now: datetime) -> None:
    """Open the order of a fault that people are to hear of, or join the open one.

    What got worse makes its order more urgent; what is announced again because it stands has its order already.
    """
    alarm = session.get_one(Alarm, event.alarm_id)
    faults.hold_subject(session, alarm.subject)
    order = faults.open_of_fault(session, fault_key(alarm))
    is_after_repair = order is not None and order.finished_at is not None and alarm.detected_at > order.finished_at
    if order is not None and order.phase == "verified" and is_after_repair:
        desk.move(session, order, "close", actor="system", now=now)
        order = None
    if order is None:
        if not _had_order(session, alarm, event.why):
            _answer(session, alarm, alarm.detected_at if event.why in _NEWS else now, now)
        return
    if event.why in _NEWS or order.alarm_id != alarm.id:
        joining.count(session, [Join(order, alarm, 1)], now)
    elif (priority := urgency.of_severity(alarm.severity)) < order.priority:
        joining.raise_priority(session, order, priority, alarm.severity, now)
    if order.phase == "done" and is_after_repair and event.why in _NEWS:
        desk.move(session, order, "reopen", actor="system", now=now)


def on_many_announced(session: Session, happenings: Sequence[AlarmAnnounced], now: datetime) -> None:
    """Do for many alarms, in their order, what ``on_announced`` does for each.

    New faults whose policy asks for an order at once get theirs together, and alarms of faults that are not repaired
    yet join their orders together. Whatever has more of a story (a report, a repair, a delay) is looked at by itself,
    once what comes before it is done.
    """
    alarms = _read(session, [one.alarm_id for one in happenings])
    faults.hold_subjects(session, {alarm.subject for alarm in alarms.values()})
    keys = {alarm.id: fault_key(alarm) for alarm in alarms.values()}
    opened = _open_of(session, keys.values())
    plain = _plain(session, [alarm for alarm in alarms.values() if keys[alarm.id] not in opened], now)
    dropped: list[int] = []
    bite = _Bite(opened)
    for event in happenings:
        alarm = alarms.get(event.alarm_id)
        if alarm is not None and event.why in _NEWS and bite.knows(keys[alarm.id]):
            bite.joining.append(alarm)
        elif alarm is not None and event.why in _NEWS and alarm.id in plain:
            asked = plain[alarm.id]
            if asked is None:
                dropped.append(alarm.id)
            else:
                bite.asking[asked.key] = asked
        else:
            bite.carry_out(session, now)
            on_announced(session, event, now)
            # This fault has a story now, also for what follows of it.
            key = keys.get(event.alarm_id)
            plain = {alarm_id: asked for alarm_id, asked in plain.items() if keys[alarm_id] != key}
            opened.pop(key or "", None)
    bite.carry_out(session, now)
    waiting.end_all(session, dropped, "dropped", now)


@dataclass(frozen=True, slots=True)
class _Bite:
    """What is to be done together: faults that get an order, and alarms that join what their fault has by then."""

    opened: dict[str, Order]
    asking: dict[str, "_Asked"] = field(default_factory=dict)
    joining: list[Alarm] = field(default_factory=list)

    def knows(self, key: str) -> bool:
        """Return whether a fault has an order that nobody finished, or is about to get one."""
        return key in self.asking or (key in self.opened and self.opened[key].finished_at is None)

    def carry_out(self, session: Session, now: datetime) -> None:
        """Open and join; nothing is left to be done then."""
        orders = _open_all(session, list(self.asking.values()), now)
        self.opened.update(zip(self.asking, orders, strict=True))
        joining.count(session, [Join(self.opened[fault_key(alarm)], alarm, 1) for alarm in self.joining], now)
        self.asking.clear()
        self.joining.clear()


@dataclass(frozen=True, slots=True)
class _Asked:
    """An alarm that asks for an order now, and by which line of the policy."""

    alarm: Alarm
    chosen: Chosen
    meaning: AlarmCode | None
    previous: Order | None = None

    @property
    def key(self) -> str:
        return fault_key(self.alarm)


def _read(session: Session, alarm_ids: Collection[int]) -> dict[int, Alarm]:
    wanted = select(Alarm).where(Alarm.id.in_(alarm_ids)).order_by(Alarm.id)
    rows = session.scalars(wanted.options(selectinload(Alarm.asset), selectinload(Alarm.alarm_type)))
    return {alarm.id: alarm for alarm in rows}


def _open_of(session: Session, keys: Collection[str]) -> dict[str, Order]:
    """Return the open orders of faults whose subjects are held, locked and read afresh."""
    rows = session.scalars(
        select(Order)
        .where(Order.fault_key.in_(set(keys)), faults.is_open())
        .order_by(Order.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {order.fault_key: order for order in rows if order.fault_key is not None}


def _plain(session: Session, alarms: Sequence[Alarm], now: datetime) -> dict[int, _Asked | None]:
    """Return, of alarms without an open order, those without any story that ask for one now, or (None) for nothing."""
    keys = {fault_key(alarm) for alarm in alarms}
    if not keys:
        return {}
    known = requests.waiting_among(session, keys) | _repaired_lately_of(session, alarms)
    chosen, meanings = policies.for_alarms(session, alarms), dictionary.meanings(session, alarms)
    found: dict[int, _Asked | None] = {}
    for alarm in alarms:
        line = chosen.get(alarm.id)
        if fault_key(alarm) in known:
            continue
        if line is None or line.line.does == "none":
            found[alarm.id] = None
        elif _is_order_now(alarm, line.line, now):
            found[alarm.id] = _Asked(alarm, line, meanings.get(alarm.id))
    return found


def _is_order_now(alarm: Alarm, line: Line, now: datetime) -> bool:
    return (line.does == "order" or alarm.asset is None) and not line.delay_s and alarm.detected_at <= now


def _repaired_lately_of(session: Session, alarms: Sequence[Alarm]) -> set[str | None]:
    """Return the faults of these whose repair may be the story of a new order."""
    longest = timedelta(days=recovery.MOST_REWORK_DAYS)
    lately = Order.finished_at >= min(alarm.detected_at for alarm in alarms) - longest
    keys = {fault_key(alarm) for alarm in alarms}
    return set(
        session.scalars(select(Order.fault_key).where(Order.fault_key.in_(keys), Order.phase == "closed", lately))
    )


def _had_order(session: Session, alarm: Alarm, why: str) -> bool:
    """Return whether an alarm that is announced again, or got worse after it ended, opens no second order."""
    if why == "raised":
        return False
    return not alarm.is_active or (why != "severity" and _opened_one(session, alarm))


def _opened_one(session: Session, alarm: Alarm) -> bool:
    return session.scalars(select(Order.id).where(Order.alarm_id == alarm.id).limit(1)).first() is not None


def on_repeated(session: Session, event: AlarmRepeated, now: datetime) -> None:
    """Count a fault that its device reported again; it may have no order, and that is well."""
    on_many_repeated(session, [event], now)


def on_many_repeated(session: Session, happenings: Sequence[AlarmRepeated], now: datetime) -> None:
    """Count faults that were reported again in their orders, of those that have one."""
    alarms = _held(session, [one.alarm_id for one in happenings])
    opened = _open_of(session, [fault_key(alarm) for alarm in alarms.values()])
    joins = []
    for event in happenings:
        alarm = alarms[event.alarm_id]
        order = opened.get(fault_key(alarm))
        if order is not None and not alarm.is_held:
            joins.append(Join(order, alarm, event.times))
    joining.count(session, joins, now)


def on_cleared(session: Session, event: AlarmCleared, now: datetime) -> None:
    """Note in the fault's order that the signal is back to normal."""
    on_many_cleared(session, [event], now)


def on_many_cleared(session: Session, happenings: Sequence[AlarmCleared], now: datetime) -> None:
    """Note of many alarms in their orders and reports that the signal is back to normal."""
    alarms = _held(session, [one.alarm_id for one in happenings])
    waiting.end_all(session, list(alarms), "cleared", now)
    keys = {alarm.id: fault_key(alarm) for alarm in alarms.values()}
    reported = requests.waiting_among(session, keys.values())
    opened = _open_of(session, keys.values())
    lines, told = [], []
    for event in happenings:
        alarm = alarms[event.alarm_id]
        if keys[alarm.id] in reported:
            requests.note_cleared(session, alarm, now)
        order = opened.get(keys[alarm.id])
        if order is None or order.alarm_id != alarm.id:
            continue
        order.recovered_at = alarm.ended_at or now
        if order.phase in {"done", "verified"} and order.recovery_verified_at is None:
            recovery.watch(session, order, alarm.cleared_at or now)
        lines.append(timeline.Line(order, "alarm", detail={"alarm_id": alarm.id, "what": "cleared"}))
        told.append(order)
    db.write_together(session, told)
    session.flush()
    timeline.write_all(session, lines, actor="system", now=now)
    desk.tell_all_joined(session, told, "system", now)


def _held(session: Session, alarm_ids: Sequence[int]) -> dict[int, Alarm]:
    """Return alarms whose subjects are held: nobody else opens or joins orders about them."""
    alarms = _read(session, alarm_ids)
    if not alarms.keys() >= set(alarm_ids):
        raise NotFound("There is nothing here, or it is not yours to see.")
    faults.hold_subjects(session, {alarm.subject for alarm in alarms.values()})
    return alarms


def on_outlasted(session: Session, event: AlarmOutlasted, now: datetime) -> None:
    """Open what an alarm asks for now that its delay is over, if it still stands and has nothing yet."""
    alarm = session.get_one(Alarm, event.alarm_id)
    faults.hold_subject(session, alarm.subject)
    if not waiting.is_due(session, alarm.id):
        return
    if not alarm.is_active or alarm.is_held:
        waiting.end(session, alarm.id, "held" if alarm.is_active else "cleared", now)
        return
    chosen = policies.for_alarm(session, alarm)
    has_order = faults.open_of_fault(session, fault_key(alarm)) is not None
    if has_order or chosen is None or chosen.line.does == "none":
        waiting.end(session, alarm.id, "opened" if has_order else "dropped", now)
        return
    _carry_out(session, alarm, chosen, now)


def fault_key(alarm: Alarm) -> str:
    """Return what names the fault behind an alarm, the same for every raise of it."""
    return requests.fault_key(alarm)


def _answer(session: Session, alarm: Alarm, since: datetime, now: datetime) -> None:
    """Do for an alarm without an order what the policy says: nothing, something now, or something if it lasts."""
    chosen = policies.for_alarm(session, alarm)
    if chosen is None or chosen.line.does == "none":
        waiting.end(session, alarm.id, "dropped", now)
        return
    due_at = since + timedelta(seconds=chosen.line.delay_s)
    if due_at > now:
        waiting.begin(session, alarm, due_at, now)
        return
    if chosen.line.delay_s and alarm.cleared_at is not None and alarm.cleared_at < due_at:
        # The news was long on its way: the alarm was over before its delay was.
        return
    _carry_out(session, alarm, chosen, now)


def _carry_out(session: Session, alarm: Alarm, chosen: Chosen, now: datetime) -> None:
    """Open the order or the report that an alarm asks for; a report is about an asset, without one it is an order."""
    if chosen.line.does == "request" and alarm.asset is not None:
        waiting.end(session, alarm.id, "opened", now)
        requests.from_alarm(session, alarm, told=policies.told(chosen, alarm), now=now)
        return
    asked = _Asked(alarm, chosen, dictionary.of_alarm(session, alarm), _repaired_lately(session, alarm))
    [order] = _open_all(session, [asked], now)
    requests.join_waiting(session, order, now)


def order_of(session: Session, alarm: Alarm) -> Order | None:
    """Return the order that an alarm opened or joined, for its page, or None."""
    stood = or_(Order.closed_at.is_(None), Order.closed_at > alarm.detected_at)
    return session.scalars(
        select(Order)
        .where(or_(Order.alarm_id == alarm.id, (Order.fault_key == fault_key(alarm)) & stood))
        .order_by(Order.alarm_id != alarm.id, Order.id)
        .limit(1)
    ).first()


def _open_all(session: Session, asked: Sequence[_Asked], now: datetime) -> list[Order]:
    """Open what alarms ask for; each has a line that says so."""
    if not asked:
        return []
    waiting.end_all(session, [one.alarm.id for one in asked], "opened", now)
    orders = opening.open_all(session, [_draft(one) for one in asked], actor="system", now=now)
    lines = []
    for one, order in zip(asked, orders, strict=True):
        checklist_id = one.chosen.line.checklist_id or (one.meaning.checklist_id if one.meaning else None)
        if checklist_id is not None:
            checklists.attach(session, order, checklist_id)
        told = _as_raised(one.alarm) | {"policy": policies.told(one.chosen, one.alarm)}
        lines.append(timeline.Line(order, "alarm", detail=told))
    timeline.write_all(session, lines, actor="system", now=now)
    for one, order in zip(asked, orders, strict=True):
        if one.previous is not None:
            one.previous.rework += 1
            session.flush()
            for on, detail in ((order, _link("came_back", one.previous)), (one.previous, _link("did_not_hold", order))):
                timeline.write(session, on, "link", actor="system", now=now, detail=detail)
    return orders


def _draft(asked: _Asked) -> Draft:
    alarm, line, meaning = asked.alarm, asked.chosen.line, asked.meaning
    kind = alarm.alarm_type
    return Draft(
        company_id=alarm.company_id,
        unit_id=alarm.unit_id,
        origin="alarm",
        title=_title(alarm, meaning),
        title_zh=kind.name_zh if kind else (f"{alarm.type_key} {meaning.called('zh')}" if meaning else None),
        description=alarm.message,
        priority=line.priority or urgency.of_severity((meaning and meaning.severity) or alarm.severity),
        asset=alarm.asset,
        team_id=line.team_id,
        alarm_id=alarm.id,
        fault_key=asked.key,
        previous_id=asked.previous.id if asked.previous else None,
        last_seen_at=alarm.last_seen_at,
    )


def _title(alarm: Alarm, meaning: AlarmCode | None) -> str:
    if alarm.alarm_type is not None:
        return alarm.alarm_type.name
    return f"{alarm.type_key} {meaning.name}" if meaning else (alarm.message or alarm.type_key)


def _repaired_lately(session: Session, alarm: Alarm) -> Order | None:
    return session.scalars(
        select(Order)
        .where(
            Order.fault_key == fault_key(alarm),
            Order.phase == "closed",
            Order.finished_at >= alarm.detected_at - recovery.rework_within(session, alarm.company_id),
        )
        .order_by(Order.id.desc())
        .limit(1)
        .with_for_update()
    ).first()


def _as_raised(alarm: Alarm) -> Json:
    return {
        "what": "raised",
        "alarm_id": alarm.id,
        "severity": alarm.severity,
        "message": alarm.message,
        "metric": alarm.metric,
        "value": alarm.value,
        "limit": alarm.limit,
    }


def _link(what: str, order: Order) -> Json:
    return {"what": what, "order_id": order.id, "number": order.number}
