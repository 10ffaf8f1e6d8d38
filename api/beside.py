"""Long work that people ask for, carried out beside requests: one piece at a time, in a thread of its own.

It looks when it is woken, and every few seconds for what another process left behind.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from kernel import log
from kernel.errors import FixwrightError

LOOK_EVERY_S: Final = 5.0
SOON_S: Final = 0.2
LOOKS: Final = 25
STOP_S: Final = 10.0

Round = Callable[[Callable[[], bool]], bool]
"""Carries out the next piece that waits; False when there is none. It is told how to ask whether it is to stop."""


class Beside:
    """The thread and what wakes it. ``sweep`` is done before each look."""

    def __init__(self, name: str, carry_out: Round, sweep: Callable[[], None]) -> None:
        self._name = name
        self._carry_out = carry_out
        self._sweep = sweep
        self._wake = threading.Event()
        self._is_stopping = False
        self._looks = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def wake(self) -> None:
        """Say that something was asked for; it may be committed a moment later, so look a few times."""
        self._looks = LOOKS
        self._wake.set()

    @property
    def is_woken(self) -> bool:
        """Whether something was asked for lately."""
        return self._looks > 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Carry out what is asked for, for the length of the block."""
        self._thread.start()
        try:
            yield
        finally:
            self._is_stopping = True
            self._wake.set()
            self._thread.join(STOP_S)

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                self._sweep()
                while not self._is_stopping and self._carry_out(lambda: self._is_stopping):
                    pass
            except (SQLAlchemyError, FixwrightError, OSError) as error:
                log.of(__name__).warning(f"{self._name} pause", error=type(error).__name__)
            self._wake.clear()
            self._wake.wait(SOON_S if self._looks > 0 else LOOK_EVERY_S)
            self._looks -= 1
