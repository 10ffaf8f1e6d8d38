"""What ingest does for devices beside their messages: sends commands, misses the quiet, says what is wrong with itself.

One round follows another, about twice a second, on the loop of the edge. A round reads rows, acts, and writes rows;
what it does not finish the next one does. Commands are leased in the database before they are sent, so that two
processes do not send one twice; killed in between, it is sent again under the same id when the lease has run out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.orm import Session, sessionmaker

from assets import command_post, desired_settings
from assets.command_post import Letter
from ingest import crash, publisher, quiet, status, verdict
from ingest.consumer import Consumer
from ingest.registry import Registry
from ingest.terms import ConsumerCounters
from ingest.watch import Finding, Signs, Watch
from kernel import clock, db, log

if TYPE_CHECKING:
    from ingest.broker import EmbeddedBroker

VERDICT_EVERY: Final = timedelta(seconds=1)
QUIET_EVERY: Final = timedelta(seconds=5)
SETTINGS_EVERY: Final = timedelta(seconds=2)
CONNECTION_GRACE: Final = timedelta(seconds=60)
"""How long after a start devices may take to connect to the embedded broker again."""
ANSWER_S: Final = 0.3
"""How long a round waits for the broker's answer; slower ones are written down by a later round."""

Answer = TypeVar("Answer")
Between = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs work in the thread that writes, between two batches."""

_log = log.of(__name__)


class Tending:
    """The rounds of one ingest process, for its edge once that receives."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        registry: Registry,
        edge: "Consumer | EmbeddedBroker",
        between: Between,
        is_eldest: Callable[[], bool],
        *,
        lag_alarm_s: float,
    ) -> None:
        now = clock.now()
        self._sessions = sessions
        self._registry = registry
        self._edge = edge
        self._between = between
        self._is_eldest = is_eldest
        self._watch = Watch(now, lag_alarm_s)
        self.findings: list[Finding] = []
        """How it stands with the platform, as far as this worker sees; the eldest pronounces for all."""
        self._under_way: dict[asyncio.Future[bool], int] = {}
        self._quiet_at = now
        self._verdict_at = now
        self._settings_at = now
        self._began_at = now
        self._is_reconciled = isinstance(edge, Consumer)

    @property
    def listening_since(self) -> datetime:
        """Since when silence is that of devices, and not ours."""
        return self._watch.listening_since

    async def round(self, now: datetime) -> None:
        """Do once what is due."""
        self.findings = self._watch.look(self._signs(), now)
        await self._between(lambda: self._keep(now))
        await self._send(now)

    # Connections, silence and the platform ----------------------------------------------------------------------

    def _signs(self) -> Signs:
        counters = self._edge.counters
        if isinstance(counters, ConsumerCounters):
            dropped = counters.dropped_by_broker if counters.hears_drops else None
            return Signs(counters.is_connected, counters.batches, counters.lag_ms, counters.waiting, dropped)
        return Signs(is_connected=True, batches=counters.batches, lag_ms=counters.lag_ms, waiting=counters.waiting)

    def _keep(self, now: datetime) -> None:
        moves = self._moves(now)
        # Of several workers on one broker, one misses the quiet and brings settings for all.
        is_quiet_due = self._is_eldest() and now >= self._quiet_at
        is_settings_due = self._is_eldest() and now >= self._settings_at
        is_verdict_due = self._is_eldest() and now >= self._verdict_at
        if not (is_verdict_due or moves or is_quiet_due or is_settings_due):
            return
        with db.transaction(self._sessions) as session:
            if is_verdict_due:
                verdict.pronounce(session, now=now)
            status.tell(session, moves, now=now, cause="connection")
            if is_settings_due:
                desired_settings.bring_settings(session, now=now)
            if is_quiet_due:
                status.tell_settled(session, now=now)
                quiet.look(session, listening_since=self._watch.listening_since, now=now)
        if is_verdict_due:
            self._verdict_at = now + VERDICT_EVERY
        if is_quiet_due:
            self._quiet_at = now + QUIET_EVERY
        if is_settings_due:
            self._settings_at = now + SETTINGS_EVERY

    def _moves(self, now: datetime) -> dict[int, bool]:
        """Return who connected to the embedded broker or left it since the last round, as it stands now."""
        if isinstance(self._edge, Consumer):
            return {}
        moved, connected = self._edge.moved(), self._edge.connected()
        found = {key: key in connected for key in moved}
        if not self._is_reconciled and now - self._began_at >= CONNECTION_GRACE:
            # Those that were online before the start and did not come back.
            self._is_reconciled = True
            found |= {key: False for key in self._registry.online_by_themselves() if key not in connected}
        known = ((self._registry.device_by_key(key), is_online) for key, is_online in found.items())
        return {device.id: is_online for device, is_online in known if device is not None}

    # Commands ---------------------------------------------------------------------------------------------------

    async def _send(self, now: datetime) -> None:
        letters = await asyncio.to_thread(self._take_due, now)
        for letter in letters:
            self._under_way[asyncio.ensure_future(self._post(letter))] = letter.command_id
        if not self._under_way:
            return
        done, _ = await asyncio.wait(self._under_way, timeout=ANSWER_S)
        results = [(self._under_way.pop(one), one) for one in done]
        taken = [command_id for command_id, one in results if one.exception() is None and one.result()]
        missed = [command_id for command_id, one in results if one.exception() is not None or not one.result()]
        for _, one in results:
            if (error := one.exception()) is not None:
                _log.info("a command could not be sent and will be tried again", reason=str(error))
        if taken:
            crash.here("command_sent")
        if results:
            await asyncio.to_thread(self._write_down, taken, missed)

    async def _post(self, letter: Letter) -> bool:
        """Publish a command; return whether somebody took it."""
        more: dict[str, object] = {"expires": clock.to_ms(letter.expires_at)}
        if letter.child is not None:
            more["device"] = letter.child
        message = publisher.command(letter.speaker, letter.token, letter.method, letter.params, **more)
        if isinstance(self._edge, Consumer):
            await self._edge.publish(message)
            return True
        return await self._edge.deliver(message) > 0

    def _take_due(self, now: datetime) -> list[Letter]:
        with db.transaction(self._sessions) as session:
            return command_post.take_due(session, now=now)

    def _write_down(self, taken: list[int], missed: list[int]) -> None:
        now = clock.now()
        with db.transaction(self._sessions) as session:
            command_post.sent(session, taken, by_device=not isinstance(self._edge, Consumer), now=now)
            command_post.put_off(session, missed, now=now)
