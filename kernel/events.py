"""The outbox: the only bus of the product.

``emit`` writes an event in the caller's transaction. ``fan_out`` gives each new event one delivery a
subscriber, which the ``courier`` carries out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import compress
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import event, exists, insert, literal_column, select, text, update
from sqlalchemy.orm import Session

from kernel import log
from kernel.db import Json
from kernel.models import Delivery, Event

CHANNEL = "fixwright_events"
FAN_OUT_LIMIT = 1000
IS_WAITING = Delivery.state == literal_column("'waiting'")
"""Written out: with a parameter a prepared statement cannot use the index of what waits, and reads the whole table."""

Subscriber = Callable[[Session, Any, datetime], None]
"""Receives the session of its own transaction, the event, and the instant of the delivery."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A subscriber that can do more than hear of one event at a time."""

    one: Subscriber
    many: Callable[[Session, Sequence[Any], datetime], None] | None = None
    """Does for many events, in their order, exactly what ``one`` would do for each."""
    concerns: Callable[[Session, Sequence[Any]], Sequence[bool]] | None = None
    """Says for which events ``one`` would do anything at all; the others are not delivered to it."""
    in_turn: bool = False
    """Two batches of these at once would only wait for each other, so one is delivered at a time."""


Subscriptions = Mapping[type[Any], Sequence[Subscriber | Listener]]
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
def _forget(session: Session) -> None:
    # Also heard when a savepoint is released; what was asked for in it is still to be sent then.
    if not session.in_nested_transaction():
        session.info["notified"] = False


@event.listens_for(Session, "after_rollback")
def _forget_what_was_taken_back(session: Session) -> None:
    session.info["notified"] = False


def name_of(subscriber: Subscriber | Listener) -> str:
    """Return the stable name under which a subscriber's deliveries are kept."""
    one = _listener(subscriber).one
    return f"{one.__module__}.{one.__name__}"


def listeners(subscriptions: Subscriptions) -> dict[str, Listener]:
    """Return who hears of anything, by name."""
    everybody = (_listener(one) for all_of in subscriptions.values() for one in all_of)
    return {name_of(listener): listener for listener in everybody}


def _listener(one: Subscriber | Listener) -> Listener:
    return one if isinstance(one, Listener) else Listener(one)


def fan_out(session: Session, subscriptions: Subscriptions, now: datetime) -> int:
    """Give each new event one waiting delivery a subscriber; return how many events were taken."""
    rows = session.execute(
        select(Event.id, Event.kind, Event.payload)
        .where(~Event.fanned_out)
        .order_by(Event.id)
        .limit(FAN_OUT_LIMIT)
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return 0
    heard: list[tuple[int, str]] = []
    for kind, all_of in subscriptions.items():
        of_kind = [(row.id, row.payload) for row in rows if row.kind == kind.__name__]
        for listener in map(_listener, all_of if of_kind else ()):
            concerned = _concerned(session, listener, kind, [payload for _, payload in of_kind])
            heard += [(event_id, name_of(listener)) for event_id, _ in compress(of_kind, concerned)]
    waiting = [
        {"event_id": event_id, "subscriber": subscriber, "state": "waiting", "attempts": 0, "next_at": now}
        # Sorted by the event alone: of one event, who stands first in the table hears first.
        for event_id, subscriber in sorted(heard, key=itemgetter(0))
    ]
    if waiting:
        session.execute(insert(Delivery), waiting)
    session.execute(update(Event).where(Event.id.in_([row.id for row in rows])).values(fanned_out=True))
    return len(rows)


def _concerned(session: Session, listener: Listener, kind: type[Any], payloads: Sequence[Json]) -> Sequence[bool]:
    if listener.concerns is None:
        return [True] * len(payloads)
    try:
        with session.begin_nested():
            return listener.concerns(session, [msgspec.convert(one, kind) for one in payloads])
    except Exception as error:  # noqa: BLE001 - the edge of a delivery: made after all, it keeps what is wrong
        log.of(__name__).warning("delivered to be sure", subscriber=name_of(listener), error=repr(error))
        return [True] * len(payloads)


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
    waiting = exists().where(IS_WAITING)
    new = exists().where(~Event.fanned_out)
    return not session.execute(select(waiting | new)).scalar_one()
