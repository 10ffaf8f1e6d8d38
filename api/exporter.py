"""Carries exports out in the process that serves them: one at a time, in a thread of its own.

It looks when it is woken, and every few seconds for what another process left behind.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from api.runtime import Runtime
from assets import export
from kernel import log
from kernel.errors import FixwrightError

LOOK_EVERY_S: Final = 5.0
SOON_S: Final = 0.2
LOOKS: Final = 25
STOP_S: Final = 10.0


class Exporter:
    """The thread and what wakes it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._wake = threading.Event()
        self._is_stopping = False
        self._looks = 0
        self._thread = threading.Thread(target=self._run, name="exports", daemon=True)

    @property
    def folder(self) -> Path:
        """Where files lie until their time is over."""
        return self._runtime.settings.data_dir / "exports"

    def wake(self) -> None:
        """Say that something was asked for; it may be committed a moment later, so look a few times."""
        self._looks = LOOKS
        self._wake.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Carry exports out for the length of the block."""
        self._thread.start()
        try:
            yield
        finally:
            self._is_stopping = True
            self._wake.set()
            self._thread.join(STOP_S)

    def _run(self) -> None:
        sessions, store = self._runtime.sessions, self._runtime.store
        while not self._is_stopping:
            try:
                export.sweep(sessions, self.folder)
                while export.run_next(sessions, store, self.folder, is_stopping=lambda: self._is_stopping):
                    pass
            except (SQLAlchemyError, FixwrightError, OSError) as error:
                log.of(__name__).warning("exports pause", error=type(error).__name__)
            self._wake.clear()
            self._wake.wait(SOON_S if self._looks > 0 else LOOK_EVERY_S)
            self._looks -= 1
