"""Carries backtests out in the process that shows them, one at a time beside everything else."""

from api.beside import Beside
from api.runtime import Runtime
from rules import backtest_runs


class Backtester(Beside):
    """The thread of backtests."""

    def __init__(self, runtime: Runtime) -> None:
        sessions = runtime.sessions
        super().__init__(
            "backtests",
            lambda is_stopping: backtest_runs.run_next(sessions, runtime.store, is_stopping=is_stopping),
            lambda: backtest_runs.sweep(sessions),
        )
