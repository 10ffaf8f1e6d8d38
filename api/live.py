"""Pages that update themselves: what happened, told to the browsers that may see it.

One connection a process listens to the outbox's notifications; each event becomes one short message to the
viewers whose scope holds its org unit. The message only says *what changed*, as topics: the kind of thing and
the thing (``orders order:7``); the page fetches its fragment again with its own rights. Readings are no events:
a page that asks for ``telemetry:…`` is told to look again every second, so that it is at most two behind.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from kernel import events, log
from kernel.models import Event
from people.models import OrgUnit
from people.scope import Viewer

QUEUE = 200
PAUSE_S = 2.0
GATHER_S = 0.15
KEEP_ALIVE_S = 15.0
TAIL_EVERY_S = 1.0
MOST = 500

RIGHT_OF = {
    "alarm": "alarms.read",
    "asset": "assets.read",
    "device": "assets.read",
    "order": "orders.read",
    "part": "parts.read",
    "plan": "plans.read",
    "request": "requests.read",
}
"""Kind of subject → the right without which nobody hears of it."""


@dataclass(slots=True, eq=False)
class Reader:
    """One open page: who looks, at which topics, and what it has not been told yet."""

    viewer: Viewer
    topics: frozenset[str]
    waiting: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(QUEUE))

    @property
    def tail(self) -> str:
        """The topics of readings this page shows."""
        return " ".join(sorted(topic for topic in self.topics if topic.startswith("telemetry:")))


class Live:
    """The process's one ear on the outbox and the pages that listen to it."""

    def __init__(self, sessions: sessionmaker[Session], database_url: str) -> None:
        self._sessions = sessions
        self._url = database_url.replace("+psycopg", "", 1)
        self._readers: set[Reader] = set()
        self._last = 0
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen for the length of the block."""
        task = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            self.close()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def close(self) -> None:
        """Let every open page's stream end, so that the server can stop."""
        self._closing.set()
        for reader in self._readers:
            _offer(reader, ": goodbye\n\n")

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (psycopg.Error, SQLAlchemyError, OSError) as error:
                log.of(__name__).warning("live updates pause: the database does not answer", error=type(error).__name__)
                await asyncio.sleep(PAUSE_S)

    async def _listen_once(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True)
        async with connection:
            await connection.execute(f"LISTEN {events.CHANNEL}")
            self._last = await run_in_threadpool(self._newest)
            while True:
                async for _ in connection.notifies(stop_after=1):
                    await asyncio.sleep(GATHER_S)
                    await self._tell()

    async def _tell(self) -> None:
        if not self._readers:
            self._last = await run_in_threadpool(self._newest)
            return
        for event_id, subject, path in await run_in_threadpool(self._since, self._last):
            self._last = max(self._last, event_id)
            kind = subject.partition(":")[0]
            for reader in self._readers:
                if reader.topics & {f"{kind}s", subject} and _may_hear(reader.viewer, kind, path):
                    _offer(reader, f"id: {event_id}\ndata: {kind}s {subject}\n\n")

    def _newest(self) -> int:
        with self._sessions() as session:
            return session.scalar(select(Event.id).order_by(Event.id.desc()).limit(1)) or 0

    def _since(self, last: int) -> list[tuple[int, str, str | None]]:
        with self._sessions() as session:
            rows = session.execute(
                select(Event.id, Event.subject, OrgUnit.path)
                .outerjoin(OrgUnit, OrgUnit.id == Event.unit_id)
                .where(Event.id > last)
                .order_by(Event.id)
                .limit(MOST)
            )
            return [(event_id, subject, path) for event_id, subject, path in rows]

    async def stream(self, viewer: Viewer, topics: frozenset[str]) -> AsyncIterator[str]:
        """Yield server-sent events for one open page until it goes away or the server stops."""
        reader = Reader(viewer, topics)
        pause = TAIL_EVERY_S if reader.tail else KEEP_ALIVE_S
        loop = asyncio.get_running_loop()
        self._readers.add(reader)
        try:
            yield "retry: 2000\n\n"
            due = loop.time() + pause
            while not self._closing.is_set():
                try:
                    # By the clock and not from the last message: a flood of alarms must not hold back the curve.
                    yield await asyncio.wait_for(reader.waiting.get(), max(0.0, due - loop.time()))
                except TimeoutError:
                    yield f"data: {reader.tail}\n\n" if reader.tail else ": still here\n\n"
                    due = loop.time() + pause
        finally:
            self._readers.discard(reader)


def _may_hear(viewer: Viewer, kind: str, path: str | None) -> bool:
    right = RIGHT_OF.get(kind)
    return right is not None and path is not None and viewer.may_at(right, path)


def _offer(reader: Reader, message: str) -> None:
    """Queue a message; a page that is too slow is told once to look at everything again."""
    if reader.waiting.full():
        while not reader.waiting.empty():
            reader.waiting.get_nowait()
        message = f"data: {' '.join(sorted(reader.topics))}\n\n"
    reader.waiting.put_nowait(message)
