"""Carries exports out in the process that serves them."""

from api.beside import Beside
from api.runtime import Runtime
from assets import export


class Exporter(Beside):
    """The thread of exports, and where their files lie."""

    def __init__(self, runtime: Runtime) -> None:
        self.folder = runtime.settings.data_dir / "exports"
        sessions, folder = runtime.sessions, self.folder
        super().__init__(
            "exports",
            lambda is_stopping: export.run_next(sessions, runtime.store, folder, is_stopping=is_stopping),
            lambda: export.sweep(sessions, folder),
        )
