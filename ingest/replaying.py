"""Tries messages again that were set aside and that somebody asked for, each as if it came when it first came.

For the thread of the path, between two batches. Which messages wait stands in ``ingest.rejected``. One that is used
leaves nothing behind; one that is refused again, or fails, stays set aside with the reason it has now.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from sqlalchemy.orm import Session, sessionmaker

from ingest import rejected, topics
from ingest.batch import Batch
from ingest.decoded import Reason, Rejected
from ingest.licence import Deposed
from ingest.models import RejectedMessage
from ingest.patience import TRANSIENT
from ingest.publisher import Outgoing
from ingest.resolve import Resolver
from kernel import clock

_MOST: Final = 500
"""So many in one go, so that batches wait no longer."""


class Replaying:
    """Replays of one pipeline. ``path`` leads a message along it that was set aside under a number."""

    def __init__(
        self,
        sessions: sessionmaker[Session],
        writing: Callable[[], AbstractContextManager[Session]],
        resolver: Resolver,
        path: Callable[[Batch, int], list[Outgoing]],
    ) -> None:
        self._sessions = sessions
        self._writing = writing
        self._resolver = resolver
        self._path = path

    def try_again(self) -> list[Outgoing]:
        """Try the messages that somebody asked for, the oldest first; return what to publish now."""
        with self._sessions() as session:
            numbers = rejected.asked(session, limit=_MOST)
        outgoing: list[Outgoing] = []
        for number in numbers:
            # One at a time, so that one that fails takes no other along, and large ones are not all held at once.
            with self._sessions() as session:
                row = session.get_one(RejectedMessage, number)
            batch = Batch.of([(row.topic, row.payload)], received_ms=clock.to_ms(row.received_at))
            try:
                outgoing += self._path(batch, number)
            except (*TRANSIENT, Deposed):
                raise
            except Exception as error:  # noqa: BLE001 - the edge of a replay: it stays set aside, with the reason
                self._refuse_again(number, batch, error)
        return outgoing

    def _refuse_again(self, number: int, batch: Batch, error: Exception) -> None:
        reject = Rejected(0, Reason.FAILED, f"{type(error).__name__}: {error}", topics.parse(batch.topics[0]).device)
        ((_, whole),) = self._resolver.kept(batch, [reject])
        with self._writing() as session:
            rejected.settle(session, [], [(number, whole)], now=clock.now())
