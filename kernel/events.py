"""The outbox: the only bus of the product.

``emit`` writes an event in the caller's transaction. ``fan_out`` gives each new event one delivery a
subscriber. ``deliver_many`` runs a subscriber's deliveries in one transaction together with the marks that they ran,
so an effect happens exactly once however often a worker is killed. The row lock is the claim: when its holder
dies, the database frees it. What keeps failing backs off, then is *stuck*: visible, and retried by hand.

Deliveries that commit together share one wait for the disk and one turn at the head of the audit trail (ADR 0022).
Each has a savepoint: one that fails is put off alone. What the commit refuses together is delivered one at a time.
"""

import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import psycopg
from sqlalchemy import ColumnElement, Select, event, exists, insert, literal_column, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from kernel import db, log
from kernel.db import Json
from kernel.errors import Unavailable
from kernel.models import Delivery, Event

CHANNEL = "fixwright_events"
ATTEMPTS = 8
PATIENT_ATTEMPTS = 30
"""Tries of what fails because somebody else does not answer: some three hours."""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=10)
FAN_OUT_LIMIT = 1000
MOST_AT_ONCE = 64
"""So many deliveries commit together at most."""
LONGEST_S = 0.1
"""After so long none more is begun before the commit: others wait for what these have locked."""
LOOK_AHEAD = 512
"""Among so many of the oldest a batch finds those of its subscriber."""
LOCK_WAIT_MS = 20
"""So long a batch waits for what somebody else has locked, once it has locked something itself."""
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
def _forget(session: Session) -> None:
    # Also heard when a savepoint is released; what was asked for in it is still to be sent then.
    if not session.in_nested_transaction():
        session.info["notified"] = False


@event.listens_for(Session, "after_rollback")
def _forget_what_was_taken_back(session: Session) -> None:
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


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A delivery whose row this transaction has locked, and what happened."""

    id: int
    subscriber: str
    attempts: int
    kind: str
    payload: Json


def deliver_one(
    factory: sessionmaker[Session],
    subscriptions: Subscriptions,
    now: datetime,
    *,
    among: Collection[str] | None = None,
    besides: Collection[str] = (),
) -> Outcome | None:
    """Deliver the oldest waiting event to its subscriber, alone; return None when nothing is due.

    ``among`` and ``besides`` are names of subscribers: only those, all but those. Whoever waits for strangers is
    delivered to apart, so that no order waits behind a target that does not answer.
    """
    with factory() as session:
        claimed = _claim(session, _oldest(now, among, besides).limit(1))
        return _alone(session, factory, subscriptions, claimed[0], now) if claimed else None


def deliver_many(
    factory: sessionmaker[Session],
    subscriptions: Subscriptions,
    now: datetime,
    *,
    among: Collection[str] | None = None,
    besides: Collection[str] = (),
) -> list[Outcome]:
    """Deliver the oldest waiting event, and with it what else waits for its subscriber; return what became of them.

    All of it commits together, in the order of waiting, each from a savepoint of its own. Nothing more is begun when
    time is up, or where a lock is to be waited for while others may wait for ours: the next call begins there.
    """
    with factory() as session:
        claimed = _claim_alike(session, now, among, besides)
        if len(claimed) == 1:
            return [_alone(session, factory, subscriptions, claimed[0], now)]
        try:
            outcomes = _together(session, subscriptions, claimed, now)
            session.commit()
        except Exception as error:  # noqa: BLE001 - the edge of a delivery: one of them may be to blame, each is tried
            session.rollback()
            log.of(__name__).warning("deliveries are made one at a time", count=len(claimed), error=_said(error))
        else:
            _log_failures(outcomes)
            return outcomes
    return _one_at_a_time(factory, subscriptions, [one.id for one in claimed], now)


def _oldest(now: datetime, among: Collection[str] | None, besides: Collection[str]) -> Select[int, str, int, str, Json]:
    return (
        select(Delivery.id, Delivery.subscriber, Delivery.attempts, Event.kind, Event.payload)
        .join(Event, Event.id == Delivery.event_id)
        .where(_IS_WAITING, Delivery.next_at <= now, *_lane(among, besides))
        .order_by(Delivery.next_at, Delivery.id)
    )


def _claim(session: Session, wanted: Select[int, str, int, str, Json]) -> list[_Claimed]:
    rows = session.execute(wanted.with_for_update(of=Delivery, skip_locked=True))
    return [_Claimed(*row) for row in rows]


def _claim_alike(
    session: Session, now: datetime, among: Collection[str] | None, besides: Collection[str]
) -> list[_Claimed]:
    """Claim the oldest delivery that nobody has, and the next of the same subscriber."""
    first = _claim(session, _oldest(now, among, besides).limit(1))
    if not first:
        return []
    near = select(Delivery.id).where(_IS_WAITING, Delivery.next_at <= now, *_lane(among, besides))
    near = near.order_by(Delivery.next_at, Delivery.id).limit(LOOK_AHEAD)
    alike = _oldest(now, [first[0].subscriber], ()).where(Delivery.id.in_(near))
    return _claim(session, alike.limit(MOST_AT_ONCE))


def _lane(among: Collection[str] | None, besides: Collection[str]) -> list[ColumnElement[bool]]:
    inside = [] if among is None else [Delivery.subscriber.in_(among)]
    return [*inside, *([Delivery.subscriber.not_in(besides)] if besides else [])]


def _alone(
    session: Session, factory: sessionmaker[Session], subscriptions: Subscriptions, claimed: _Claimed, now: datetime
) -> Outcome:
    """Deliver a claimed one and commit.

    The subscriber's changes and the mark commit together. Its failure is rolled back to a savepoint, so that the
    claim is held until the next attempt is written down and no other worker tries in between.
    """
    failure: Exception | None = None
    try:
        with session.begin_nested():
            _run(session, subscriptions, claimed, now)
    except Exception as error:  # noqa: BLE001 - the edge of a delivery: kept with its reason, tried again
        failure = error
    try:
        reason = _mark(session, claimed, failure, now)
        session.commit()
    except Exception as error:  # noqa: BLE001 - the same edge: the effect was refused at the last moment
        session.rollback()
        reason = _put_off_afterwards(factory, claimed.id, failure or error, now)
    outcome = Outcome(claimed.id, claimed.subscriber, reason)
    _log_failures([outcome])
    return outcome


def _together(
    session: Session, subscriptions: Subscriptions, claimed: Sequence[_Claimed], now: datetime
) -> list[Outcome]:
    """Deliver claimed ones, each from a savepoint, as far as time and locks allow; mark what became of them."""
    until = time.monotonic() + LONGEST_S
    outcomes: list[Outcome] = []
    for one in claimed:
        if outcomes and time.monotonic() >= until:
            break
        if len(outcomes) == 1:
            # The first waits as long as it must: nobody waits for it. Who holds locks and waits might wait in a circle.
            session.execute(text(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}"))
        try:
            with session.begin_nested():
                _run(session, subscriptions, one, now)
        except Exception as error:  # noqa: BLE001 - the edge of a delivery: kept with its reason, tried again
            if outcomes and _is_held_up(error):
                break
            outcomes.append(Outcome(one.id, one.subscriber, _put_off(session, one, error, now)))
        else:
            outcomes.append(Outcome(one.id, one.subscriber, None))
        # The next one reads for itself, as it would in a transaction of its own.
        session.expire_all()
    _mark_done(session, [one.delivery_id for one in outcomes if one.error is None], now)
    session.execute(text("SET LOCAL lock_timeout TO DEFAULT"))
    return outcomes


def _is_held_up(error: Exception) -> bool:
    """Return whether somebody else's lock is the reason, so that it says nothing of the delivery."""
    held_up = psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected
    return isinstance(error, DBAPIError) and isinstance(error.orig, held_up)


def _one_at_a_time(
    factory: sessionmaker[Session], subscriptions: Subscriptions, ids: Iterable[int], now: datetime
) -> list[Outcome]:
    outcomes = []
    for delivery_id in ids:
        with factory() as session:
            claimed = _claim(session, _oldest(now, None, ()).where(Delivery.id == delivery_id))
            outcomes += [_alone(session, factory, subscriptions, one, now) for one in claimed]
    return outcomes


def _run(session: Session, subscriptions: Subscriptions, claimed: _Claimed, now: datetime) -> None:
    kinds = {kind.__name__: kind for kind in subscriptions}
    known = {name_of(one): one for all_of in subscriptions.values() for one in all_of}
    if claimed.subscriber not in known or claimed.kind not in kinds:
        raise Unavailable("This version does not know who was to hear of this.")
    known[claimed.subscriber](session, msgspec.convert(claimed.payload, kinds[claimed.kind]), now)


def _mark_done(session: Session, ids: list[int], now: datetime) -> None:
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(ids))
        .values(state="done", done_at=now, last_error=None)
        .execution_options(synchronize_session=False)
    )


def _mark(session: Session, claimed: _Claimed, failure: Exception | None, now: datetime) -> str | None:
    if failure is not None:
        return _put_off(session, claimed, failure, now)
    _mark_done(session, [claimed.id], now)
    return None


def _log_failures(outcomes: Iterable[Outcome]) -> None:
    for one in outcomes:
        if one.error is not None:
            log.of(__name__).warning(
                "delivery failed", delivery=one.delivery_id, subscriber=one.subscriber, error=one.error
            )


def _put_off_afterwards(factory: sessionmaker[Session], delivery_id: int, error: Exception, now: datetime) -> str:
    with db.transaction(factory) as session:
        waiting = select(Delivery.id, Delivery.subscriber, Delivery.attempts, Event.kind, Event.payload)
        waiting = waiting.join(Event).where(Delivery.id == delivery_id, _IS_WAITING)
        row = session.execute(waiting.with_for_update(of=Delivery)).one_or_none()
        return _said(error) if row is None else _put_off(session, _Claimed(*row), error, now)


def _put_off(session: Session, claimed: _Claimed, error: Exception, now: datetime) -> str:
    attempts, reason = claimed.attempts + 1, _said(error)
    is_over = attempts >= (PATIENT_ATTEMPTS if isinstance(error, Unavailable) else ATTEMPTS)
    session.execute(
        update(Delivery)
        .where(Delivery.id == claimed.id)
        .values(
            attempts=attempts,
            last_error=reason,
            state="stuck" if is_over else "waiting",
            next_at=now + min(FIRST_PAUSE * 2 ** (attempts - 1), LONGEST_PAUSE),
        )
        .execution_options(synchronize_session=False)
    )
    return reason


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
