"""A real ingest process to be killed: the ingest part and nothing else, set up from the environment.

Run as ``python -m tests.reliability.ingest_process``; it writes ``ready`` to standard output when it receives
or stands by.
"""

import signal
import sys
import threading
import time

from ingest.run import Ingest
from kernel import db, log, settings
from telemetry.store import open_store

LONGEST_S = 5.0


def main() -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    chosen = settings.load()
    log.configure(level="warning")
    engine = db.connect(chosen.database_url or "", pool=4)
    sessions = db.sessions(engine, secret=settings.secret_key(chosen))
    ingest = Ingest(chosen, sessions, lambda: open_store(chosen.telemetry_url, chosen.data_dir))
    ingest.start()
    _until_it_receives(ingest)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    stopping.wait()
    ingest.stop()
    engine.dispose()


def _until_it_receives(ingest: Ingest) -> None:
    """Wait for its subscription, which a broker without a session of ours needs before it keeps anything.

    Where the broker is away, or another process leads, there is nothing to wait for.
    """
    until = time.monotonic() + LONGEST_S
    while not ingest.stands_by and ingest.trouble() is not None and time.monotonic() < until:
        time.sleep(0.01)


if __name__ == "__main__":
    main()
