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
from telemetry.readings import Int64s, Readings
from telemetry.retention import HOUR_MS

_STANDS: Final = dirty.SETTLED / 2
"""For so long a note is as good as new: nobody takes it up before twice that."""
_MOST: Final = 100_000
_HOURS: Final = 2**24
"""More hours than time has since 1970, so that a series and an hour are one number."""


class Told:
    """When which hours of which series were noted, as columns: an hour is ``series * _HOURS + hours since 1970``."""

    def __init__(self) -> None:
        self._hours: Int64s = np.empty(0, np.int64)
        self._at_ms: Int64s = np.empty(0, np.int64)

    def before(self, hours: Int64s, since_ms: int) -> Int64s:
        """Return those of some hours, sorted and each once, that were not noted since an instant."""
        if not len(self._hours):
            return hours
        places = np.minimum(np.searchsorted(self._hours, hours), len(self._hours) - 1)
        stands = (self._hours[places] == hours) & (self._at_ms[places] >= since_ms)
        fresh: Int64s = hours[~stands]
        return fresh

    def add(self, hours: Int64s, now_ms: int) -> None:
        """Note some hours, sorted and each once. Once there are too many the older ones are forgotten."""
        others = ~np.isin(self._hours, hours)
        if int(others.sum()) > _MOST:
            others[:] = False
        kept, kept_at_ms = self._hours[others], self._at_ms[others]
        places = np.searchsorted(kept, hours)
        self._hours = np.insert(kept, places, hours)
        self._at_ms = np.insert(kept_at_ms, places, now_ms)


class Late:
    """Tells the ledger of late readings."""

    def __init__(self, writing: Callable[[], AbstractContextManager[Session]], patience: Patience) -> None:
        self._writing = writing
        self._patience = patience
        self._told = Told()
        self._is_derived = False
        self._known_until_ms = 0

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
        hours = np.unique(readings.series[late] * _HOURS + readings.ts_ms[late] // HOUR_MS)
        fresh = self._told.before(hours, now_ms - _STANDS // timedelta(milliseconds=1))
        if not len(fresh):
            return

        def write() -> None:
            with self._writing() as session:
                dirty.mark_late(session, fresh // _HOURS, fresh % _HOURS * HOUR_MS, now)

        self._patience.until_done(write, "database")
        self._told.add(fresh, now_ms)

    def _is_anything_derived(self, now_ms: int) -> bool:
        """Ask once these readings are stored; either answer stands as long as a note does.

        A recipe that comes meanwhile notes all there is. That note is taken up later than readings are stored which
        this answer left out, so they are in what is worked out. A recipe that goes leaves notes that concern nobody.
        """
        if now_ms < self._known_until_ms:
            return self._is_derived

        def ask() -> bool:
            with self._writing() as session:
                return dirty.is_anything_derived(session)

        self._is_derived = self._patience.until_done(ask, "database")
        self._known_until_ms = now_ms + _STANDS // timedelta(milliseconds=1)
        return self._is_derived
