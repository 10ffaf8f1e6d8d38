"""How far each series has been evaluated, kept over a restart in a file of this worker's data directory (ADR 9, 18).

By it the first readings after a start are told apart: one older than what was evaluated came late and calls nobody for
what is over; one that was stored and not yet evaluated is evaluated. The file is an array of instants indexed by
series number, mapped into memory: a batch costs one scattered assignment, and a kill of the process takes nothing of
it. What a power cut takes makes a mark older, never newer, because a mark is written only after everything it vouches
for is durable. An older mark means that a late reading may be taken for the present, as if there were no file.
"""

import os
from pathlib import Path
from typing import Final

import numpy as np

from kernel import log
from rules.columns import Int64s

NAME: Final = "evaluated.marks"
_HEAD: Final = b"fixwright marks 1".ljust(64, b"\0")
_FEWEST: Final = 4096
NEVER: Final = 0
"""What a part of the file holds that was never written: device times are later."""

_log = log.of(__name__)


class Marks:
    """The marks of one worker. For one thread at a time; another process may read and extend the same file."""

    def __init__(self, path: Path | None) -> None:
        """Keep them in a file, or, without a path, not at all."""
        self._path = path
        self._at_ms: Int64s = np.empty(0, np.int64)

    def open(self) -> None:
        """Read the file as it is now, whoever wrote it; make it if there is none."""
        self._at_ms = np.empty(0, np.int64)
        if self._path is not None:
            self._map(_FEWEST)

    def of(self, series: Int64s) -> Int64s:
        """Return up to when each series has been evaluated, device time, 0 where it is not known."""
        found = np.full(len(series), NEVER, np.int64)
        inside = (series >= 0) & (series < len(self._at_ms))
        found[inside] = self._at_ms[series[inside]]
        return found

    def advance(self, series: Int64s, ts_ms: Int64s) -> None:
        """Note up to when series have been evaluated, each named once, now that what came of it is durable."""
        if self._path is None or not len(series):
            return
        highest = int(series.max())
        if highest >= len(self._at_ms):
            self._map(highest + 1 + highest // 4)
            if highest >= len(self._at_ms):
                return
        self._at_ms[series] = ts_ms

    def _map(self, count: int) -> None:
        """Map a file that holds ``count`` series or more; go without one where the disk does not take it."""
        path = self._path
        assert path is not None  # noqa: S101 - asked by the callers
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.pread(handle, len(_HEAD), 0) != _HEAD:
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, _HEAD, 0)
                size = max(len(_HEAD) + count * 8, os.fstat(handle).st_size)
                # Room is reserved, because a mapped page that finds the disk full would end the process.
                os.posix_fallocate(handle, 0, size)
            finally:
                os.close(handle)
            self._at_ms = np.memmap(path, np.int64, "r+", offset=len(_HEAD), shape=((size - len(_HEAD)) // 8,))
        except OSError as error:
            _log.warning("what was evaluated cannot be kept over a restart", path=str(path), reason=str(error))
            self._path = None
            self._at_ms = np.empty(0, np.int64)
