"""The outbox: the only bus of the product.

``emit`` writes an event in the caller's transaction. ``fan_out`` gives each new event one delivery a
subscriber. ``deliver_one`` runs one subscriber in one transaction together with the mark that it ran, so an
effect happens exactly once however often a worker is killed. The row lock is the claim: when its holder
dies, the database frees it. What keeps failing backs off, then is *stuck*: visible, and retried by hand.
"""

import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, event, exists, insert, literal_column, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from kernel import db, log
from kernel.errors import Unavailable
from kernel.models import Delivery, Event

CHANNEL = "fixwright_events"
ATTEMPTS = 8
PATIENT_ATTEMPTS = 30
"""Tries of what fails because somebody else does not answer: some three hours."""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=10)
FAN_OUT_LIMIT = 1000
_IS_WAITING = Delivery.state == literal_column("'waiting'")
"""Written out: with a parameter a prepared statement cannot use the index of what waits, and reads the whole table."""

Subscriber = Callable[[Session, Any, datetime], None]
"""Receives the session of its own transaction, the event, and the instant of the delivery."""
Subscriptions = Mapping[type[Any], Sequence[Subscriber]]
"""Event class → the functions that hear of it. ``api.subscriptions`` is the product's one table."""


def emit(
    session: Session,
    happening: Any,  # noqa: ANN401 - any frozen dataclass in the past tense
    *,
    subject: str,
    at: datetime,
    actor: str,
    unit_id: int | None = None,
) -> Event:
    """Write that ``happening`` (a frozen dataclass in the past tense) happened to ``subject``, e.g. ``order:12``."""
    row = Event(
        kind=type(happening).__name__,
        subject=subject,
        at=at,
        actor=actor,
        unit_id=unit_id,
        payload=msgspec.to_builtins(happening),
    )
    session.add(row)
    _notify(session)
    return row


@dataclass(frozen=True, slots=True)
class Emission:
    """What ``emit`` takes, for those who have many."""

    happening: Any
    subject: str
    actor: str
    unit_id: int | None = None


def emit_all(session: Session, emissions: Sequence[Emission], *, at: datetime) -> None:
    """Write many happenings of one instant in one statement, in their order."""
    if not emissions:
        return
    session.execute(
        insert(Event),
        [
            {
                "kind": type(one.happening).__name__,
                "subject": one.subject,
                "at": at,
                "actor": one.actor,
                "unit_id": one.unit_id,
                "payload": msgspec.to_builtins(one.happening),
            }
            for one in emissions
        ],
    )
    _notify(session)


def _notify(session: Session) -> None:
    if not session.info.get("notified"):
        # PostgreSQL sends it at commit and folds equal ones; it only wakes workers that would look anyway.
        session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})
        session.info["notified"] = True


@event.listens_for(Session, "after_commit")
@event.listens_for(Session, "after_rollback")
def _forget(session: Session) -> None:
    session.info["notified"] = False


def name_of(subscriber: Subscriber) -> str:
    """Return the stable name under which a subscriber's deliveries are kept."""
    return f"{subscriber.__module__}.{subscriber.__name__}"


def fan_out(session: Session, subscriptions: Subscriptions, now: datetime) -> int:
    """Give each new event one waiting delivery a subscriber; return how many events were taken."""
    rows = session.execute(
        select(Event.id, Event.kind)
        .where(~Event.fanned_out)
        .order_by(Event.id)
        .limit(FAN_OUT_LIMIT)
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return 0
    heard = {kind.__name__: [name_of(one) for one in all_of] for kind, all_of in subscriptions.items()}
    waiting = [
        {"event_id": event_id, "subscriber": subscriber, "state": "waiting", "attempts": 0, "next_at": now}
        for event_id, kind in rows
        for subscriber in heard.get(kind, ())
    ]
    if waiting:
        session.execute(insert(Delivery), waiting)
    session.execute(update(Event).where(Event.id.in_([row.id for row in rows])).values(fanned_out=True))
    return len(rows)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one delivery."""

    delivery_id: int
    subscriber: str
    error: str | None


def deliver_one(
    factory: sessionmaker[Session],
    subscriptions: Subscriptions,
    now: datetime,
    *,
    among: Collection[str] | None = None,
    besides: Collection[str] = (),
) -> Outcome | None:
    """Deliver the oldest waiting event to its subscriber; return None when nothing is due.

    ``among`` and ``besides`` are names of subscribers: only those, all but those. Whoever waits for strangers is
    delivered to apart, so that no order waits behind a target that does not answer.

    The subscriber's changes and the mark commit together. Its failure is rolled back to a savepoint, so that the
    claim is held until the next attempt is written down and no other worker tries in between.
    """
    with factory() as session:
        delivery = session.scalars(
            select(Delivery)
            .where(_IS_WAITING, Delivery.next_at <= now, *_lane(among, besides))
            .order_by(Delivery.next_at, Delivery.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if delivery is None:
            return None
        delivery_id, subscriber = delivery.id, delivery.subscriber
        reason: str | None = None
        try:
            with session.begin_nested():
                _run(session, subscriptions, delivery, now)
        except Exception as error:  # noqa: BLE001 - the edge of a delivery: kept with its reason, tried again
            reason = _put_off(delivery, error, now)
        else:
            delivery.state, delivery.done_at, delivery.last_error = "done", now, None
        try:
            session.commit()
        except Exception as error:  # noqa: BLE001 - the same edge: the effect was refused at the last moment
            session.rollback()
            reason = _put_off_afterwards(factory, delivery_id, error, now)
    if reason is not None:
        log.of(__name__).warning("delivery failed", delivery=delivery_id, subscriber=subscriber, error=reason)
    return Outcome(delivery_id, subscriber, reason)


def _lane(among: Collection[str] | None, besides: Collection[str]) -> list[ColumnElement[bool]]:
    inside = [] if among is None else [Delivery.subscriber.in_(among)]
    return [*inside, *([Delivery.subscriber.not_in(besides)] if besides else [])]


def _run(session: Session, subscriptions: Subscriptions, delivery: Delivery, now: datetime) -> None:
    kinds = {kind.__name__: kind for kind in subscriptions}
    known = {name_of(one): one for all_of in subscriptions.values() for one in all_of}
    row = session.get_one(Event, delivery.event_id)
    if delivery.subscriber not in known or row.kind not in kinds:
        raise Unavailable("This version does not know who was to hear of this.")
    known[delivery.subscriber](session, msgspec.convert(row.payload, kinds[row.kind]), now)


def _put_off_afterwards(factory: sessionmaker[Session], delivery_id: int, error: Exception, now: datetime) -> str:
    with db.transaction(factory) as session:
        delivery = session.get_one(Delivery, delivery_id, with_for_update=True)
        if delivery.state != "waiting":
            return _said(error)
        return _put_off(delivery, error, now)


def _put_off(delivery: Delivery, error: Exception, now: datetime) -> str:
    delivery.attempts += 1
    delivery.last_error = _said(error)
    if delivery.attempts >= (PATIENT_ATTEMPTS if isinstance(error, Unavailable) else ATTEMPTS):
        delivery.state = "stuck"
    delivery.next_at = now + min(FIRST_PAUSE * 2 ** (delivery.attempts - 1), LONGEST_PAUSE)
    return delivery.last_error


def _said(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip()[:4000]


def retry(session: Session, delivery_ids: Iterable[int], now: datetime) -> int:
    """Put stuck deliveries back in line, as new; return how many there were."""
    result = session.execute(
        update(Delivery)
        .where(Delivery.id.in_(list(delivery_ids)), Delivery.state == "stuck")
        .values(state="waiting", attempts=0, next_at=now)
        .returning(Delivery.id)
    )
    return len(result.all())


def is_idle(session: Session) -> bool:
    """Return whether every event has been fanned out and every delivery ended, done or stuck."""
    waiting = exists().where(_IS_WAITING)
    new = exists().where(~Event.fanned_out)
    return not session.execute(select(waiting | new)).scalar_one()
