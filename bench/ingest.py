"""How fast messages become stored readings and evaluated rules, end to end, and how that compares.

200,000 messages of three values wait in Mosquitto; the whole path takes them: receive, decode, resolve, store
durably, evaluate ten rules a device, commit, acknowledge. In the same run, as baselines: our consumer that only
receives; and the loops most people write (``bench.usual``): paho that only receives, paho with one INSERT a message,
paho with the InfluxDB client.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from bench import fleet, usual
from bench.edge import BROKER, drain, drain_receive_only
from bench.flood import fill
from ingest.batch import Limits
from ingest.belt import OVERLAP, Belt
from ingest.pipeline import Pipeline
from kernel import db, postgres
from migrations import run
from telemetry.duckdb import DuckDbStore
from tests.mosquitto import Mosquitto
from tests.plant import Plant

DEVICES = 1_000
RULES = 10
VALUES = len(fleet.METRICS)
ROUNDS = 3
"""Each is measured so often, in turn, and the best counts: what else runs on a machine only ever slows."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A database with a plant and its rules, and a store."""

    sessions: sessionmaker[Session]
    store: DuckDbStore
    plant: Plant
    url: str


@contextmanager
def ground(*, devices: int = DEVICES, rules: int = RULES) -> Iterator[Ground]:
    """Run an embedded database with ``devices`` machines and ``rules`` alarm types, and open a store."""
    with tempfile.TemporaryDirectory(prefix="fixwright-bench-") as name:
        folder = Path(name)
        with postgres.running(folder) as url:
            engine = db.connect(url)
            run.upgrade(engine)
            sessions = db.sessions(engine, secret=b"bench")
            with db.transaction(sessions) as session:
                made = fleet.build(session, devices=devices, rules=rules, width=4)
            store = DuckDbStore(folder / "telemetry.duckdb")
            try:
                yield Ground(sessions, store, made, url)
            finally:
                store.close()
                engine.dispose()


def measure(*, messages: int = 200_000, devices: int = DEVICES, rules: int = RULES) -> dict[str, float]:
    """Return figures of one run on a Mosquitto of its own."""
    with ground(devices=devices, rules=rules) as here:
        pipeline = Pipeline(here.sessions, here.store)
        belt = Belt(pipeline)
        began = time.perf_counter()
        pipeline.load()
        load_s = time.perf_counter() - began
        broker = Mosquitto(BROKER)
        broker.start()
        try:
            # Once to know the devices' metrics, as a process does after its first minute.
            fill(broker.port, messages=10_000, devices=devices)
            drain(broker.port, belt, messages=10_000)
            received, ended = 0.0, 0.0
            for _ in range(ROUNDS):
                fill(broker.port, messages=messages, devices=devices)
                received = max(received, drain_receive_only(broker.port, messages=messages))
                fill(broker.port, messages=messages, devices=devices)
                ended = max(ended, drain(broker.port, belt, messages=messages, limits=Limits(overlap=OVERLAP)))
            few = min(20_000, 4 * messages)
            paho_only = usual.paho_per_s(broker.port, messages=few)
            inserting = usual.insert_per_s(broker.port, here.url, messages=few // 4)
            influx = usual.influx_per_s(broker.port, messages=few)
        finally:
            belt.close()
            broker.remove()
    return {
        "messages_per_s": ended,
        "points_per_s": ended * VALUES,
        "receive_only_per_s": received,
        "ratio": ended / received,
        "paho_receive_only_per_s": paho_only,
        "times_paho_receive_only": ended / paho_only,
        "insert_loop_per_s": inserting,
        "times_insert_loop": ended / inserting,
        **({} if influx is None else {"influx_loop_per_s": influx, "times_influx_loop": ended / influx}),
        "rules": float(rules * devices),
        "load_s": load_s,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--messages", type=int, default=200_000)
    arguments.add_argument("--devices", type=int, default=DEVICES)
    arguments.add_argument("--rules", type=int, default=RULES)
    print(json.dumps(measure(**vars(arguments.parse_args())), indent=2))
