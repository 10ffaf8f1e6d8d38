"""Gives birth to ingest processes quickly: everything is imported once, each process is a fork of that.

Run as ``python -m tests.reliability.nursery``. A line of JSON on standard input, an object of environment
variables, starts a process; ``born <pid>`` is answered at once, and ``ready`` when it receives. Processes are real
and die alone; only the two seconds of importing are shared.
"""

import json
import os
import signal
import sys
import threading
import time

from ingest import crash
from tests.reliability import ingest_process


def main() -> None:
    # Nobody waits for the children; the kernel buries them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        born = os.fork()
        if born == 0:
            _live(json.loads(line))
        sys.stdout.write(f"born {born}\n")
        sys.stdout.flush()


def _live(environment: dict[str, str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ |= environment
    crash.here = crash._place(os.environ.get(crash.VARIABLE))
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    try:
        ingest_process.main()
    finally:
        sys.stdout.flush()
        os._exit(0)


def _follow(parent: int) -> None:
    """Die with the nursery, so that an interrupted test leaves nothing running."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
