"""What to do when the database or the readings' store does not answer: try again in place, for a while.

Nothing has been acknowledged meanwhile, and the edge holds the broker back. When patience ends, the failure goes
up, the connection is dropped on purpose, and the broker sends everything again (promise P2).
"""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from kernel import log
from kernel.errors import Unavailable

Answer = TypeVar("Answer")

TRANSIENT: Final = (Unavailable, OperationalError, InterfaceError, PoolTimeout)
"""What another try may mend: no connection, a restart, a full disk, a deadlock."""

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0


class Patience:
    """Tries again for at most ``limit_s``, or until ``hurry`` is called. ``trouble`` says what does not answer."""

    def __init__(self, limit_s: float = 30.0) -> None:
        self.trouble: str | None = None
        self._limit_s = limit_s
        self._hurry = threading.Event()

    def hurry(self) -> None:
        """Wait no longer, now and from now on: the process is stopping."""
        self._hurry.set()

    def until_done(self, attempt: Callable[[], Answer], what: str) -> Answer:
        """Return what ``attempt`` returns at last; ``what`` names, for people, the part it depends on.

        Raises:
            Unavailable: patience has ended; the sentence says of what the part complains.
            Exception: at once, a failure that trying again cannot mend.
        """
        give_up = time.monotonic() + self._limit_s
        pause = _FIRST_PAUSE_S
        while True:
            try:
                answer = attempt()
            except TRANSIENT as error:
                if self.trouble is None:
                    log.of(__name__).warning("waiting", part=what, reason=_line(error))
                self.trouble = f"{what}: {_line(error)}"
                if time.monotonic() + pause > give_up or self._hurry.wait(pause):
                    raise Unavailable("The {part} does not answer: {why}", part=what, why=_line(error)) from error
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                if self.trouble is not None:
                    log.of(__name__).info("answers again", part=what)
                self.trouble = None
                return answer


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
