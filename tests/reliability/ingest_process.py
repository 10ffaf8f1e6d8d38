"""A real ingest process to be killed: the ingest part and nothing else, set up from the environment.

Run as ``python -m tests.reliability.ingest_process``; it writes ``ready`` to standard output when it receives
or stands by.
"""

import signal
import sys
import threading

from ingest.run import Ingest
from kernel import db, log, settings
from telemetry.store import open_store


def main() -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    chosen = settings.load()
    log.configure(level="warning")
    engine = db.connect(chosen.database_url or "", pool=4)
    sessions = db.sessions(engine, secret=settings.secret_key(chosen))
    ingest = Ingest(chosen, sessions, lambda: open_store(chosen.telemetry_url, chosen.data_dir))
    ingest.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    stopping.wait()
    ingest.stop()
    engine.dispose()


if __name__ == "__main__":
    main()
