"""The right of an ingest process to write: one row, asked in every transaction, and gone once another takes over.

A worker that was paused, or cut off from the database, may wake up after another took its place. Whatever it then
tries to write is refused, because each of its transactions begins by asking for its row; and it acknowledges nothing,
because before an acknowledgement it asks for the row again, unless it saw it ``TRUSTED_S`` ago or less.
"""

import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

LOCKS: Final = 0x4657
"""The class of our advisory locks; within it 0 is the lead, and any other number a worker's life."""
TRUSTED_S: Final = 2.0
"""For how long a licence is believed that was seen: shorter than ``ingest.workers.SILENT_S``."""

_HOLD: Final = text(
    "SELECT losses, pg_advisory_xact_lock_shared(:locks, :life) FROM ingest_worker"
    " WHERE id = :life AND ended_at IS NULL FOR KEY SHARE"
)


class Deposed(Exception):
    """Another worker has taken over: nothing may be written, acknowledged or connected any more."""


class Licence:
    """The licence of one life. ``look`` asks the database whether it stands; called where it was not seen lately."""

    def __init__(self, life: int, look: Callable[[], None]) -> None:
        self.life = life
        self.is_lost = False
        self.is_out_of_sight = False
        """Whether the database could not be asked: then nobody else can have been given the lead since."""
        self._look = look
        self._seen_s = time.monotonic()

    def hold(self, session: Session) -> int:
        """Keep the licence for the length of a transaction, as its first statement; return how often assets were lost.

        Whoever ends this life waits for the transaction, so that it sees all of it or none.

        Raises:
            Deposed: it has ended.
        """
        found = session.execute(_HOLD, {"locks": LOCKS, "life": self.life}).first()
        if found is None:
            self.is_lost = True
        if self.is_lost or found is None:
            raise Deposed("another ingest worker has taken over")
        return int(found[0])

    def require(self) -> None:
        """Make sure, before an acknowledgement, that nobody has taken over.

        Raises:
            Deposed: somebody has.
        """
        if not (self.is_lost or self.is_out_of_sight) and time.monotonic() - self._seen_s > TRUSTED_S:
            self._look()
        if self.is_lost:
            raise Deposed("another ingest worker has taken over")

    def seen(self, at_s: float) -> None:
        """Take note that the licence stood at an instant of the monotonic clock."""
        self._seen_s, self.is_out_of_sight = at_s, False
