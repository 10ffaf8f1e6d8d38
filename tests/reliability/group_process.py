"""A real worker of a group, fed by hand: a line of messages on standard input is a batch, ``done`` its acknowledgement.

Run as ``python -m tests.reliability.group_process``, set up from the environment. It stands where a broker that hashes
by client would put it; the test is that broker, so that it can change the split as it likes.
"""

import json
import sys
import threading

from ingest.batch import Batch
from ingest.pipeline import Pipeline
from ingest.workers import Gauges, Member
from kernel import db, log, settings
from telemetry.store import open_store


def main() -> None:
    chosen = settings.load()
    log.configure(level="warning")
    engine = db.connect(chosen.database_url or "", pool=4)
    sessions = db.sessions(engine, secret=settings.secret_key(chosen))
    member = Member(sessions, "hall")
    member.join()
    path, leads, over = threading.Lock(), threading.Event(), threading.Event()

    def beat() -> None:
        while not over.wait(0.5):
            member.beat(Gauges())
            if leads.is_set() and member.sweep():
                with path:
                    while pipeline.ground.adopt_orphans():
                        pass

    threading.Thread(target=beat, daemon=True).start()
    pipeline = Pipeline(sessions, open_store(chosen.telemetry_url, chosen.data_dir))
    pipeline.bind(member.licence)
    pipeline.share()
    pipeline.prepare()
    while member.rivals() or not member.lead():
        pass
    pipeline.resume()
    leads.set()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        with path:
            pipeline.process(Batch.of([(topic, payload.encode()) for topic, payload in json.loads(line)]))
        sys.stdout.write("done\n")
        sys.stdout.flush()
    over.set()
    member.leave()


if __name__ == "__main__":
    main()
