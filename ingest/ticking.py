"""What comes round again and again while a process leads: timers of rules, news of people, books, tending.

It runs on the loop of the edge; what writes runs in the thread of the path, between two batches.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ingest.consumer import Consumer
from ingest.doorway import Doorway
from ingest.licence import Deposed
from ingest.patience import TRANSIENT
from ingest.pipeline import Pipeline
from ingest.publisher import Outgoing
from ingest.tending import Between, Tending
from ingest.watch import Finding
from kernel import clock, log

if TYPE_CHECKING:
    from ingest.broker import EmbeddedBroker

TICK_S: Final = 0.25
LOOK_S: Final = 0.5
"""How often changes are looked for; a revoked device must be cut off within two seconds."""

_log = log.of(__name__)


class Ticking:
    """The clock of one leading process. ``trouble`` is why the latest tick failed, None where it did not."""

    def __init__(
        self,
        pipeline: Pipeline,
        edge: "Consumer | EmbeddedBroker",
        between: Between,
        doorway: Doorway,
        tending: Tending,
        is_eldest: Callable[[], bool],
    ) -> None:
        self.trouble: str | None = None
        self._pipeline = pipeline
        self._edge = edge
        self._between = between
        self._doorway = doorway
        self._tending = tending
        self._is_eldest = is_eldest

    @property
    def findings(self) -> list[Finding]:
        """How it stands with the platform, as far as this worker sees."""
        return self._tending.findings

    async def for_ever(self) -> None:
        """Tick until the licence is lost."""
        loop = asyncio.get_running_loop()
        look_at = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            is_look_due = loop.time() >= look_at
            try:
                await self._between(lambda: self._pipeline.judging.run_timers(clock.now()))
                if is_look_due:
                    await self._look()
                    look_at = loop.time() + LOOK_S
                self.trouble = None
            except TRANSIENT as error:
                self.trouble = f"database: {type(error).__name__}"
            except Deposed:
                return
            except Exception as error:  # noqa: BLE001 - the edge of a tick: logged, and the next one tries again
                self.trouble = f"a tick failed: {type(error).__name__}"
                _log.error("tick failed", exc_info=error)

    async def _look(self) -> None:
        """See what people changed, try again what they asked for, and write the books."""
        pipeline, edge = self._pipeline, self._edge
        changed = await self._between(lambda: pipeline.follow_changes(clock.now()))
        self._doorway.end(changed.cut, None if isinstance(edge, Consumer) else edge)
        await self._doorway.meet()
        if isinstance(edge, Consumer) and (changed.mappings or changed.devices):
            edge.follow(pipeline.mapper.filters)
        replay = pipeline.replaying.try_again if self._is_eldest() else list[Outgoing]
        for message in await self._between(replay):
            edge.publish(message)
        await self._between(lambda: pipeline.see_who_was_not_born(clock.now()))
        await self._between(lambda: pipeline.books.keep(clock.now()))
        if isinstance(edge, Consumer) and edge.counters.hears_drops:
            broker, said = edge.broker, edge.counters.dropped_by_broker
            await self._between(lambda: pipeline.books.note_drops(broker, said, clock.now()))
        await self._tending.round(clock.now())
        await self._between(lambda: pipeline.rules.listen_since(self._tending.listening_since))
