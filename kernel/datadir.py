"""One installation owns one data directory: the lock that says so.

The lock is the kernel's (``flock``), so it dies with its holder: a file left by a killed process is no lock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernel.errors import Misconfigured


@contextmanager
def owned(data_dir: Path) -> Iterator[Path]:
    """Hold the data directory for the length of the block.

    Raises:
        Misconfigured: another process holds it; the sentence names its id.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "fixwright.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise Misconfigured(
                "The data directory {path} is in use by process {pid}. Stop that one, or set FIXWRIGHT_DATA_DIR.",
                path=data_dir,
                pid=lock.read().strip() or "?",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield data_dir
