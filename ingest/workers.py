"""Who reads the broker: ingest processes as they come, stand by, take the lead and end.

Each process has a row for each of its lives, and while it lives its connection holds an advisory lock of that number.
One that is killed loses the lock at once; one that is paused or cut off keeps it and falls silent. Whoever sees either
ends that life, cuts its connections, and may then take its place. Times are compared on the watcher's own clock: it
counts for how long it has seen the same heartbeat, so clocks of machines need not agree.
"""

import os
import platform
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, exists, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from ingest.licence import LOCKS, Licence
from ingest.models import IngestClaim, IngestWorker
from ingest.patience import TRANSIENT
from kernel import db, log
from kernel.db import Json

SILENT_S: Final = 3.0
"""A worker whose heartbeat stands still for this long has ended, if it knows or not."""
KEPT: Final = timedelta(days=7)
"""How long ended lives are kept for the page."""

_SEEN: Final = text(
    "SELECT id, share, role, heartbeat_at, EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = :locks AND objid = ingest_worker.id) AS is_held"
    " FROM ingest_worker WHERE ended_at IS NULL AND id <> :life ORDER BY id"
)
_CUT: Final = text(
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = :locks AND objid = :life AND pid <> pg_backend_pid()"
)
_log = log.of(__name__)


@dataclass(frozen=True, slots=True)
class Other:
    """Another life as it was seen. ``is_held``: a connection of it stands."""

    id: int
    share: str
    role: str
    heartbeat_at: datetime
    is_held: bool


@dataclass(frozen=True, slots=True)
class Gauges:
    """What a worker tells of itself with each heartbeat."""

    received_s: float = 0.0
    lag_ms: float = 0.0
    backlog: int = 0
    assets: int | None = None
    last_error: str = ""
    findings: Json = field(default_factory=dict)
    """How it stands with the platform, as ``ingest.verdict`` writes it."""


class Watch:
    """Judges who has ended, from one look to the next."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[datetime, float]] = {}
        self._unheld: set[int] = set()
        self._is_first = True

    def ended(self, seen: Sequence[Other], now_s: float) -> set[int]:
        """Return those that have ended; ``now_s`` is monotonic.

        A lock that is gone counts at the second look, because a restart of the database takes the locks of the living
        with it; at the very first look it counts at once, so that a restarted process need not wait for itself.
        """
        since = {
            one.id: before
            if (before := self._since.get(one.id)) is not None and before[0] == one.heartbeat_at
            else (one.heartbeat_at, now_s)
            for one in seen
        }
        unheld = {one.id for one in seen if not one.is_held}
        gone = unheld if self._is_first else unheld & self._unheld
        self._since, self._unheld, self._is_first = since, unheld, False
        return gone | {number for number, (_, at_s) in since.items() if now_s - at_s >= SILENT_S}

    def blind(self) -> None:
        """Begin anew: nothing could be seen, so nothing can be said about how long."""
        self._since, self._unheld, self._is_first = {}, set(), False


class Member:
    """One life of this process among the workers. For one thread at a time; ``beat`` and the licence for any."""

    def __init__(self, sessions: sessionmaker[Session], share: str = "") -> None:
        self.share = share
        self.epoch: int | None = None
        self._sessions = sessions
        self._watch = Watch()
        self._gone: set[int] = set()
        self._before: set[int] | None = None
        self.is_eldest = True
        """Whether this is the first among those that lead: what one of them is to do, it does."""
        self._line: Connection | None = None
        self._beating = threading.Lock()
        self._licence: Licence | None = None

    @property
    def licence(self) -> Licence:
        """The licence of this life, once it has joined."""
        assert self._licence is not None  # noqa: S101 - ``join`` comes first
        return self._licence

    def join(self) -> None:
        """Begin to live, standing by."""
        now = func.clock_timestamp()
        row = insert(IngestWorker).values(
            share=self.share, host=platform.node()[:200], pid=os.getpid(), started_at=now, heartbeat_at=now
        )
        line = self._connect()
        try:
            with line.begin():
                life = int(line.execute(row.returning(IngestWorker.id)).scalar_one())
                # Before the row can be seen, so that nobody finds it without its lock.
                line.execute(select(func.pg_advisory_lock_shared(LOCKS, life)))
                claimed = exists().where(IngestClaim.worker_id == IngestWorker.id)
                line.execute(delete(IngestWorker).where(IngestWorker.ended_at < now - KEPT, ~claimed))
        except BaseException:
            line.invalidate()
            line.close()
            raise
        self._line = line
        self._licence = Licence(life, self.beat)

    def beat(self, gauges: Gauges | None = None) -> None:
        """Say that this life goes on, and learn whether it may."""
        with self._beating:
            self._beat(gauges)

    def _beat(self, gauges: Gauges | None) -> None:
        began_s = time.monotonic()
        told = {} if gauges is None else {name: getattr(gauges, name) for name in Gauges.__slots__}
        statement = (
            update(IngestWorker)
            .where(IngestWorker.id == self.licence.life, IngestWorker.ended_at.is_(None))
            .values(heartbeat_at=func.clock_timestamp(), **told)
            .returning(IngestWorker.id)
        )
        try:
            line = self._standing()
            with line.begin():
                stands = line.execute(statement).first() is not None
        except (*TRANSIENT, DBAPIError) as error:
            self._hang_up()
            if not self.licence.is_out_of_sight:
                _log.warning("an ingest worker cannot reach the database", reason=type(error).__name__)
            self.licence.is_out_of_sight = True
            return
        if stands:
            self.licence.seen(began_s)
        else:
            self.licence.is_lost = True

    def rivals(self) -> set[int]:
        """Return the living that lead now and leave no room beside them."""
        return {one.id for one in self._look() if self._excludes(one)}

    def sweep(self) -> bool:
        """End the lives of others that have ended, while leading; return whether anybody went since the last look."""
        living = self._look()
        if self._gone:
            with self._alone() as session:
                for one in _others(session, self.licence.life):
                    if one.id in self._gone:
                        end(session, one.id, "silent" if one.is_held else "gone")
        now = {one.id for one in living}
        went = self._before is None or not self._before <= now
        self._before = now
        beside = [one.id for one in living if one.role == "active"]
        self.is_eldest = self.licence.life < min(beside, default=self.licence.life + 1)
        return went

    def _look(self) -> list[Other]:
        try:
            with self._sessions() as session:
                seen = _others(session, self.licence.life)
        except TRANSIENT:
            self._watch.blind()
            raise
        self._gone = self._watch.ended(seen, time.monotonic())
        return [one for one in seen if one.id not in self._gone]

    @contextmanager
    def _alone(self) -> Iterator[Session]:
        """Open a transaction in which lives begin to lead or are ended, one at a time."""
        with db.transaction(self._sessions) as session:
            # One that is paused in here must not keep the others out.
            session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '2s'"))
            session.execute(text("SET LOCAL lock_timeout = '3s'"))
            session.execute(select(func.pg_advisory_xact_lock(LOCKS, 0)))
            yield session

    def lead(self) -> bool:
        """End the lives that ``rivals`` found ended, and lead, unless somebody else does by now."""
        with self._alone() as session:
            for one in _others(session, self.licence.life):
                if one.id in self._gone:
                    end(session, one.id, "silent" if one.is_held else "gone")
                elif self._excludes(one):
                    return False
            # The eldest is known from the first moment on, so that no second worker speaks for all.
            beside = [one.id for one in _others(session, self.licence.life) if one.role == "active"]
            self.is_eldest = self.licence.life < min(beside, default=self.licence.life + 1)
            epoch = select(func.coalesce(func.max(IngestWorker.epoch), 0) + 1).scalar_subquery()
            taken = session.execute(
                update(IngestWorker)
                .where(IngestWorker.id == self.licence.life, IngestWorker.ended_at.is_(None))
                .values(role="active", active_at=func.clock_timestamp(), epoch=epoch)
                .returning(IngestWorker.epoch)
                .execution_options(synchronize_session=False)
            ).scalar_one_or_none()
        if taken is None:
            self.licence.is_lost = True
            return False
        self.epoch = taken
        _log.info("this ingest worker leads", life=self.licence.life, epoch=taken, share=self.share or "-")
        return True

    def is_last(self) -> bool:
        """Return whether nobody goes on reading when this life ends now; so also if that cannot be seen."""
        if self.licence.is_lost or not self.share:
            return not self.licence.is_lost
        try:
            with self._sessions() as session:
                others = _others(session, self.licence.life)
        except TRANSIENT:
            return True
        return not any(one.role == "active" and one.is_held for one in others)

    def leave(self) -> None:
        """End this life of its own will."""
        if self._licence is None:
            return
        try:
            if not self.licence.is_lost:
                with db.transaction(self._sessions) as session:
                    _end(session, self.licence.life, "stopped")
        except (*TRANSIENT, DBAPIError) as error:
            _log.warning("an ingest worker could not take its leave", reason=type(error).__name__)
        finally:
            self.licence.is_lost = True
            self._hang_up()

    def _excludes(self, other: Other) -> bool:
        """Return whether there is no room beside another: one reader alone, or several of one share."""
        return other.role == "active" and not (self.share and other.share == self.share)

    def _connect(self) -> Connection:
        engine = self._sessions.kw["bind"]
        assert isinstance(engine, Engine)  # noqa: S101 - ``kernel.db.sessions`` binds one
        return engine.connect()

    def _standing(self) -> Connection:
        """Return the connection of this life, a new one where the old was cut, with the life's lock."""
        if self._line is None:
            line = self._connect()
            try:
                with line.begin():
                    line.execute(select(func.pg_advisory_lock_shared(LOCKS, self.licence.life)))
            except BaseException:
                line.invalidate()
                line.close()
                raise
            self._line = line
        return self._line

    def _hang_up(self) -> None:
        if self._line is not None:
            # Really ended, and not given back to the pool with the lock on it.
            self._line.invalidate()
            self._line.close()
            self._line = None


def end(session: Session, life: int, why: str) -> None:
    """End another's life: cut its connections, wait for what they were at, and void its licence."""
    session.execute(_CUT, {"locks": LOCKS, "life": life})
    _end(session, life, why)
    _log.warning("an ingest worker has ended", life=life, why=why)


def _end(session: Session, life: int, why: str) -> None:
    session.execute(select(IngestWorker.id).where(IngestWorker.id == life).with_for_update())
    session.execute(
        update(IngestWorker)
        .where(IngestWorker.id == life, IngestWorker.ended_at.is_(None))
        .values(ended_at=func.clock_timestamp(), ended_why=why)
        .execution_options(synchronize_session=False)
    )


def _others(session: Session, life: int) -> list[Other]:
    found: Iterable[Any] = session.execute(_SEEN, {"locks": LOCKS, "life": life})
    return [Other(*row) for row in found]


# For people -----------------------------------------------------------------------------------------------------


def shown(session: Session, *, limit: int = 20) -> Sequence[IngestWorker]:
    """Return the living, those that lead first, and then those that ended last."""
    return session.scalars(
        select(IngestWorker)
        .order_by(
            IngestWorker.ended_at.desc().nulls_first(), IngestWorker.role, IngestWorker.active_at, IngestWorker.id
        )
        .limit(limit)
    ).all()
