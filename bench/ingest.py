"""How fast messages become stored readings and evaluated rules, end to end, and how that compares.

200,000 messages of three values wait in Mosquitto; the whole path takes them: receive, decode, resolve, store
durably, evaluate ten rules a device, commit, acknowledge. In the same run, as baselines: our consumer that only
receives; paho that only receives; and the loop most people write (paho, one INSERT a message, no rules).
"""

import argparse
import json
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import psycopg
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy.orm import Session, sessionmaker

from bench.edge import BROKER, drain, drain_receive_only
from bench.flood import fill
from ingest.batch import Limits
from ingest.belt import OVERLAP, Belt
from ingest.pipeline import Pipeline
from kernel import clock, db, postgres
from migrations import run
from rules import library
from rules.library import AlarmTypeDraft
from telemetry.duckdb import DuckDbStore
from tests import plant
from tests.mosquitto import Mosquitto
from tests.plant import Plant

DEVICES = 1_000
RULES = 10
METRICS = ("temperature", "pressure", "rpm")
VALUES = len(METRICS)
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
                made = plant.build(session, machines=devices, metrics=METRICS, prefix="bench-", width=4)
                _add_rules(session, made, rules)
            store = DuckDbStore(folder / "telemetry.duckdb")
            try:
                yield Ground(sessions, store, made, url)
            finally:
                store.close()
                engine.dispose()


def _add_rules(session: Session, made: Plant, rules: int) -> None:
    for number in range(rules):
        metric = METRICS[number % VALUES]
        definition = {
            "schema": 1,
            "create": {
                severity: {
                    "condition": {
                        "type": "compare", "metric": metric, "operator": ">=", "limit": limit, "deadband": 2.0
                    }
                }
                for severity, limit in (("critical", 9_000.0 + number), ("warning", 8_000.0 + number))
            },
            "clear": {"type": "automatic"},
        }  # fmt: skip
        draft = AlarmTypeDraft(f"bench-{number}", f"Rule {number}", asset_type_id=made.type.id)
        library.add(session, draft, definition, unit=made.company, actor="system", now=clock.now())


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
            paho_only = paho_per_s(broker.port)
            usual = usual_per_s(broker.port, here.url)
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
        "usual_loop_per_s": usual,
        "times_the_usual_loop": ended / usual,
        "rules": float(rules * devices),
        "load_s": load_s,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def paho_per_s(port: int, *, messages: int = 20_000, take: Callable[[bytes, str], None] | None = None) -> float:
    """Return the messages/s of a paho client, which acknowledges on receipt; ``take`` is called for each message."""
    fill(port, messages=messages, client_id="usual")
    done = threading.Event()
    count = 0

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        nonlocal count
        if take is not None:
            take(bytes(message.payload), message.topic)
        count += 1
        if count == messages:
            done.set()

    client = paho.Client(CallbackAPIVersion.VERSION2, "usual", clean_session=False)
    client.on_message = on_message
    began = time.perf_counter()
    client.connect("127.0.0.1", port)
    client.loop_start()
    done.wait(120)
    elapsed = time.perf_counter() - began
    client.loop_stop()
    return count / elapsed


def usual_per_s(port: int, url: str) -> float:
    """Return the messages/s of the loop most people write: a callback, one parse and one durable INSERT a message."""
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as database:
        database.execute("CREATE TABLE usual (device text, at bigint, metric text, value float8)")

        def take(payload: bytes, topic: str) -> None:
            body = json.loads(payload)
            device = topic.split("/")[2]
            values = [item for name, value in body["values"].items() for item in (device, body["ts"], name, value)]
            database.execute("INSERT INTO usual VALUES (%s,%s,%s,%s), (%s,%s,%s,%s), (%s,%s,%s,%s)", values)

        return paho_per_s(port, messages=5_000, take=take)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--messages", type=int, default=200_000)
    arguments.add_argument("--devices", type=int, default=DEVICES)
    arguments.add_argument("--rules", type=int, default=RULES)
    print(json.dumps(measure(**vars(arguments.parse_args())), indent=2))
