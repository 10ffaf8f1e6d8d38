"""The books of one ingest process: what became of each message, who was heard when, and what brokers dropped.

Entered in memory batch by batch, and written beside the data path about once a second, in transactions of its own.
What a kill takes is at most that second of counting, never a reading or an alarm.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final

import numpy as np
from sqlalchemy.orm import Session

from ingest import drops, status
from ingest.decoded import Rejected
from ingest.intake import NOBODY, Tally
from ingest.mapper import Mapper
from ingest.resolve import Resolved, Resolver
from telemetry.readings import Written

_EVERY_S: Final = 1.0
_SHARE: Final = 20
"""Bookkeeping may take one part in this of the time."""
_SEEN_EVERY_MS: Final = 15_000


class Books:
    """What was counted and not yet written. For one thread at a time; ``writing`` opens a transaction."""

    def __init__(
        self, resolver: Resolver, mapper: Mapper, writing: Callable[[], AbstractContextManager[Session]]
    ) -> None:
        self._resolver = resolver
        self._mapper = mapper
        self._writing = writing
        self._tally = Tally()
        self._presence = status.Presence()
        self._drops: dict[str, int] = {}
        self._due_s = 0.0

    def enter(self, resolved: Resolved, written: Written, news: set[int]) -> None:
        """Count a batch that is durable; ``news`` are the positions of its alarm reports that were new."""
        tally, received = self._tally, resolved.batch.received_ms
        if not len(received):
            return
        latest_ms = int(received[-1])
        heard: list[int] = []
        if len(resolved.part):
            is_known = None
            if written.duplicate:
                is_known = np.logical_and.reduceat(written.is_duplicate, resolved.part)
            heard = tally.parts(resolved.part_device, latest_ms, is_known=is_known)
        for position, report in enumerate(resolved.reports):
            if not report.said.is_beside:
                count = tally.stored if position in news else tally.duplicate
                count(report.device.id, latest_ms)
            heard.append(report.device.id)
        for device_id in resolved.echoes:
            tally.duplicate(device_id, latest_ms)
            heard += [device_id] if device_id != NOBODY else []
        for _, device_id in (*resolved.words, *resolved.taken):
            tally.stored(device_id, latest_ms)
        for reject in (*resolved.rejects, *resolved.strays):
            tally.rejected(self._resolver.device_of(reject), latest_ms)
        tally.refused(resolved.over, latest_ms)
        self._presence.heard(heard, latest_ms)
        self._presence.skewed(resolved.skews)

    def refuse(self, reject: Rejected, received_ms: int) -> None:
        """Count a message that was set aside on its own."""
        self._tally.rejected(self._resolver.device_of(reject), received_ms)

    def keep(self, now: datetime) -> None:
        """Write counts and who was heard, about once a second, and less often where there are many of them."""
        if time.monotonic() >= self._due_s:
            self._write(now, seen_every_ms=_SEEN_EVERY_MS)

    def close(self, now: datetime) -> None:
        """Write everything that was counted and heard, before the process ends."""
        self._write(now, seen_every_ms=0)

    def note_drops(self, broker: str, said: int, now: datetime) -> None:
        """Enter how many messages a broker says it dropped since it started."""
        if self._drops.get(broker) != said:
            with self._writing() as session:
                drops.note(session, broker, said, now=now)
            self._drops[broker] = said

    def _write(self, now: datetime, *, seen_every_ms: int) -> None:
        began = time.monotonic()
        if not (self._tally or self._presence or self._mapper):
            return
        with self._writing() as session:
            self._tally.write(session)
            self._presence.write(session, every_ms=seen_every_ms, now=now)
            self._mapper.write(session)
        self._tally.written()
        self._presence.written()
        self._mapper.written()
        ended = time.monotonic()
        self._due_s = ended + max(_EVERY_S, _SHARE * (ended - began))
