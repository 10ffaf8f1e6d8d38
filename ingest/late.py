"""Late readings, told to the ledger of what is to be worked out anew: stored before, and acknowledged only after.

For the pipeline, once a batch. Live readings cost it one look at the earliest time of the batch; see ``assets.dirty``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Final

import numpy as np
from sqlalchemy.orm import Session

from assets import dirty
from ingest.patience import Patience
from kernel import clock
from telemetry.readings import Readings
from telemetry.retention import HOUR_MS

_STANDS: Final = dirty.SETTLED / 2
"""For so long a note is as good as new: nobody takes it up before twice that."""
_MOST: Final = 100_000


class Late:
    """Tells the ledger of late readings."""

    def __init__(self, writing: Callable[[], AbstractContextManager[Session]], patience: Patience) -> None:
        self._writing = writing
        self._patience = patience
        self._told_ms: dict[tuple[int, int], int] = {}
        self._nothing_until_ms = 0

    def tell(self, readings: Readings) -> None:
        """Note the hours that were over before these readings, which are stored, came."""
        if not len(readings):
            return
        now = clock.now()
        now_ms = clock.to_ms(now)
        over_ms = dirty.over_until(now_ms)
        if int(readings.ts_ms.min()) >= over_ms or not self._is_anything_derived(now_ms):
            return
        late = np.flatnonzero(readings.ts_ms < over_ms)
        pairs = np.unique(np.stack([readings.series[late], readings.ts_ms[late] // HOUR_MS * HOUR_MS], axis=1), axis=0)
        since_ms = now_ms - _STANDS // timedelta(milliseconds=1)
        fresh = [
            (number, hour_ms)
            for number, hour_ms in pairs.tolist()
            if self._told_ms.get((number, hour_ms), 0) < since_ms
        ]
        if not fresh:
            return
        series, hour = (np.array(column, np.int64) for column in zip(*fresh, strict=True))

        def write() -> None:
            with self._writing() as session:
                dirty.mark_late(session, series, hour, now)

        self._patience.until_done(write, "database")
        if len(self._told_ms) > _MOST:
            self._told_ms.clear()
        self._told_ms |= dict.fromkeys(fresh, now_ms)

    def _is_anything_derived(self, now_ms: int) -> bool:
        """Ask once these readings are stored; that there is no recipe stands as long as a note does.

        A recipe that comes meanwhile notes all there is. That note is taken up later than readings are stored which
        this answer left out, so they are in what is worked out.
        """
        if now_ms < self._nothing_until_ms:
            return False

        def ask() -> bool:
            with self._writing() as session:
                return dirty.is_anything_derived(session)

        if self._patience.until_done(ask, "database"):
            return True
        self._nothing_until_ms = now_ms + _STANDS // timedelta(milliseconds=1)
        return False
