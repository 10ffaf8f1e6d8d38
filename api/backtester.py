"""Carries backtests out in the process that shows them, one at a time beside everything else."""

from api.beside import Beside
from api.runtime import Runtime
from rules import backtests


class Backtester(Beside):
    """The thread of backtests."""

    def __init__(self, runtime: Runtime) -> None:
        sessions = runtime.sessions
        super().__init__(
            "backtests",
            lambda is_stopping: backtests.run_next(sessions, runtime.store, is_stopping=is_stopping),
            lambda: backtests.sweep(sessions),
        )
