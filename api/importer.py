"""Carries imports of history out in the process that takes their files."""

import asyncio

from api.beside import Beside
from api.runtime import Runtime
from ingest import history

RECEIVING = 2
"""Files that are taken at once: each holds one of the places of requests for as long as it takes to arrive."""


class Importer(Beside):
    """The thread of imports, and where their files wait."""

    def __init__(self, runtime: Runtime) -> None:
        self.folder = runtime.settings.data_dir / "imports"
        self.receiving = asyncio.Semaphore(RECEIVING)
        sessions, folder = runtime.sessions, self.folder
        most_bytes = runtime.settings.history_max_mb * 1_000_000
        super().__init__(
            "imports",
            lambda is_stopping: history.run_next(
                sessions, runtime.store, folder, most_bytes=most_bytes, is_stopping=is_stopping
            ),
            lambda: history.sweep(sessions, folder),
        )
