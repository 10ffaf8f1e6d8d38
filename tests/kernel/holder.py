"""A process that holds something until it is killed: ``python -m tests.kernel.holder lock|postgres FOLDER``.

It prints one line once it holds it: the process id, or the address of the database.
"""

import os
import signal
import sys
from pathlib import Path

from kernel import datadir, postgres

if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "lock":
        with datadir.owned(folder):
            print(os.getpid(), flush=True)  # noqa: T201 - read by the test
            signal.pause()
    else:
        with postgres.running(folder) as url:
            print(url, flush=True)  # noqa: T201 - read by the test
            signal.pause()
