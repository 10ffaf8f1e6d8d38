"""Works watched trends out in the process that holds the readings, a few assets at a time beside everything else."""

from datetime import timedelta
from typing import Final

from api.beside import Beside
from api.runtime import Runtime
from kernel import clock, db
from rules import trends

ENROL_EVERY: Final = timedelta(minutes=10)


class Forecaster(Beside):
    """The thread of forecasts."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._enrol_at = clock.now()
        super().__init__("forecasts", lambda _: self._work_out(), self._enrol)

    def _enrol(self) -> None:
        now = clock.now()
        if now < self._enrol_at and not self.is_woken:
            return
        with db.transaction(self._runtime.sessions) as session:
            trends.enrol(session, now)
        self._enrol_at = now + ENROL_EVERY

    def _work_out(self) -> bool:
        with db.transaction(self._runtime.sessions) as session:
            return trends.work_out_due(session, self._runtime.store, clock.now()) > 0
