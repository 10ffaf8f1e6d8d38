"""The courier: brings what happened to those who are to hear of it, each once (ADR 0022).

``deliver_many`` runs a subscriber's deliveries in one transaction together with the marks that they ran, so an effect
happens exactly once however often a worker is killed. The row lock is the claim: when its holder dies, the database
frees it. What keeps failing backs off, then is *stuck*: visible, and retried by hand (``events.retry``).

Deliveries that commit together share one wait for the disk and one turn at the head of the audit trail.
Each has a savepoint: one that fails is put off alone. What the commit refuses together is delivered one at a time.
"""

import time
import traceback
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import psycopg
from sqlalchemy import ColumnElement, Select, any_, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from kernel import db, log
from kernel.db import Json
from kernel.errors import Unavailable
from kernel.events import IS_WAITING, Subscriptions, listeners
from kernel.models import Delivery, Event

ATTEMPTS = 8
PATIENT_ATTEMPTS = 30
"""Tries of what fails because somebody else does not answer: some three hours."""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=10)
MOST_AT_ONCE = 128
"""So many deliveries commit together at most."""
BITE = 128
"""So many events somebody who takes many at once gets at once."""
LONGEST_S = 0.1
"""After so long none more is begun before the commit: others wait for what these have locked."""
LOOK_AHEAD = 512
"""Among so many of the oldest a batch finds those of its subscriber."""
LONGEST_SILENCE_MS = 10_000
"""So long whoever has a turn may ask the database nothing before it passes to somebody else."""
LOCK_WAIT_MS = 20
"""So long a batch waits for what somebody else has locked, once it has locked something itself."""


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
        claimed = _claim_alike(session, subscriptions, now, among, besides)
        return _deliver_claimed(session, factory, subscriptions, claimed, now)


def deliver_to(
    factory: sessionmaker[Session], subscriptions: Subscriptions, now: datetime, subscriber: str
) -> list[Outcome] | None:
    """Deliver what waits for one subscriber as ``deliver_many`` does; return None where somebody else has its turn."""
    with factory() as session:
        if not _has_turn(session, subscriptions, subscriber):
            return None
        claimed = _claim_of(session, subscriber, now, [subscriber], ())
        return _deliver_claimed(session, factory, subscriptions, claimed, now)


def _deliver_claimed(
    session: Session,
    factory: sessionmaker[Session],
    subscriptions: Subscriptions,
    claimed: Sequence[_Claimed],
    now: datetime,
) -> list[Outcome]:
    if not claimed:
        return []
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
        .where(IS_WAITING, Delivery.next_at <= now, *_lane(among, besides))
        .order_by(Delivery.next_at, Delivery.id)
    )


def _claim(session: Session, wanted: Select[int, str, int, str, Json]) -> list[_Claimed]:
    rows = session.execute(wanted.with_for_update(of=Delivery, skip_locked=True))
    return [_Claimed(*row) for row in rows]


def _claim_alike(
    session: Session,
    subscriptions: Subscriptions,
    now: datetime,
    among: Collection[str] | None,
    besides: Collection[str],
) -> list[_Claimed]:
    """Claim the oldest delivery that nobody has, and the next of the same subscriber; it must be that one's turn."""
    while first := _claim(session, _oldest(now, among, besides).limit(1)):
        subscriber = first[0].subscriber
        if _has_turn(session, subscriptions, subscriber):
            return _claim_of(session, subscriber, now, among, besides)
        # Whoever has the turn is to find this one, so it is let go before the next is looked for.
        session.rollback()
        besides = {*besides, subscriber}
    return []


def _claim_of(
    session: Session, subscriber: str, now: datetime, among: Collection[str] | None, besides: Collection[str]
) -> list[_Claimed]:
    near = select(Delivery.id).where(IS_WAITING, Delivery.next_at <= now, *_lane(among, besides))
    near = near.order_by(Delivery.next_at, Delivery.id).limit(LOOK_AHEAD)
    # As an array, which is found first and then looked up by identity. A set would be joined, and what waits comes and
    # goes too fast for the planner to know how much it is: it chose a loop within a loop, half a second for 2,500.
    alike = _oldest(now, [subscriber], ()).where(Delivery.id == any_(func.array(near.scalar_subquery())))
    return _claim(session, alike.limit(MOST_AT_ONCE))


def _has_turn(session: Session, subscriptions: Subscriptions, subscriber: str) -> bool:
    """Return whether to deliver to a subscriber now; to some, nobody else does until the transaction ends."""
    listener = listeners(subscriptions).get(subscriber)
    if listener is None or not listener.in_turn:
        return True
    turn = func.pg_try_advisory_xact_lock(func.hashtextextended(f"turn of {subscriber}", 0))
    # A holder that is frozen, or cut off, keeps the others waiting no longer than this: the database ends its session.
    silence = func.set_config("idle_in_transaction_session_timeout", str(LONGEST_SILENCE_MS), True)
    has_turn, _ = session.execute(select(turn, silence)).one()
    return bool(has_turn)


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
    """Deliver claimed ones of one subscriber from savepoints, as far as time and locks allow; mark how each ended.

    What takes many at once gets them in bites; a bite that fails is delivered one by one.
    """
    until = time.monotonic() + LONGEST_S
    outcomes: list[Outcome] = []
    listener = listeners(subscriptions).get(claimed[0].subscriber)
    takes_many = listener is not None and listener.many is not None
    size = BITE if takes_many else len(claimed)
    for place in range(0, len(claimed), size):
        if outcomes and time.monotonic() >= until:
            break
        bite = claimed[place : place + size]
        taken = _at_once(session, subscriptions, bite, now, is_first=not outcomes) if takes_many else None
        if taken is None:
            taken = _one_by_one(session, subscriptions, bite, now, until, is_first=not outcomes)
        outcomes += taken
        if len(taken) < len(bite):
            break
    _mark_done(session, [one.delivery_id for one in outcomes if one.error is None], now)
    _wait_for_locks(session, None)
    return outcomes


def _at_once(
    session: Session, subscriptions: Subscriptions, bite: Sequence[_Claimed], now: datetime, *, is_first: bool
) -> list[Outcome] | None:
    """Hand many events over at once; none where a lock is in the way, None where one of them may be to blame."""
    listener = listeners(subscriptions)[bite[0].subscriber]
    kinds = {kind.__name__: kind for kind in subscriptions}
    if listener.many is None or any(one.kind not in kinds for one in bite):
        return None
    # See below: the first holds nothing yet. Should it come to a circle all the same, the database breaks it.
    _wait_for_locks(session, None if is_first else LOCK_WAIT_MS)
    try:
        with session.begin_nested():
            listener.many(session, [msgspec.convert(one.payload, kinds[one.kind]) for one in bite], now)
    except Exception as error:  # noqa: BLE001 - the edge of a delivery: one of them may be to blame, each is tried
        if not is_first and _is_held_up(error):
            return []
        log.of(__name__).info("not at once but one by one", subscriber=bite[0].subscriber, error=_said(error))
        return None
    finally:
        session.expire_all()
    return [Outcome(one.id, one.subscriber, None) for one in bite]


def _one_by_one(
    session: Session, subscriptions: Subscriptions, bite: Sequence[_Claimed], now: datetime, until: float, *,
    is_first: bool,
) -> list[Outcome]:  # fmt: skip
    outcomes: list[Outcome] = []
    # The first waits as long as it must: nobody waits for it. Who holds locks and waits might wait in a circle.
    _wait_for_locks(session, None if is_first else LOCK_WAIT_MS)
    for one in bite:
        holds_locks = bool(outcomes) or not is_first
        if holds_locks and time.monotonic() >= until:
            break
        if is_first and len(outcomes) == 1:
            _wait_for_locks(session, LOCK_WAIT_MS)
        try:
            with session.begin_nested():
                _run(session, subscriptions, one, now)
        except Exception as error:  # noqa: BLE001 - the edge of a delivery: kept with its reason, tried again
            if holds_locks and _is_held_up(error):
                break
            outcomes.append(Outcome(one.id, one.subscriber, _put_off(session, one, error, now)))
        else:
            outcomes.append(Outcome(one.id, one.subscriber, None))
        # The next one reads for itself, as it would in a transaction of its own.
        session.expire_all()
    return outcomes


def _wait_for_locks(session: Session, most_ms: int | None) -> None:
    """Let this transaction wait at most so long for a lock from now on, or with None as long as it takes."""
    session.execute(text(f"SET LOCAL lock_timeout = {most_ms}" if most_ms else "SET LOCAL lock_timeout TO DEFAULT"))


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
    listener = listeners(subscriptions).get(claimed.subscriber)
    if listener is None or claimed.kind not in kinds:
        raise Unavailable("This version does not know who was to hear of this.")
    listener.one(session, msgspec.convert(claimed.payload, kinds[claimed.kind]), now)


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
        waiting = waiting.join(Event).where(Delivery.id == delivery_id, IS_WAITING)
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
