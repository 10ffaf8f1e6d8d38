"""How long from a device's publish to a committed alarm, and to an order that somebody has.

Real processes: Mosquitto, ingest, a worker, an embedded PostgreSQL. One fault at a time on machines that are well
until then, while other machines publish a thousand messages a second. Then very many at once (``bench.burst``).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import time as clock_time
from pathlib import Path

import mqtt5
import psycopg
from mqtt5 import QoS
from sqlalchemy.orm import Session

from bench import burst as bursting
from bench.flood import connected
from kernel import clock, db, events, postgres
from migrations import run
from rules import library
from rules.library import AlarmTypeDraft
from tests import factories
from tests.mosquitto import Mosquitto

BACKGROUND_PER_S = 1_000
LIMIT = 90.0
WARM_UP = 5
"""Faults before the first that counts: the worker is still starting."""
RULE = {
    "schema": 1,
    "create": {
        "critical": {"condition": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": LIMIT}}
    },
    "clear": {"type": "automatic"},
}


@dataclass(slots=True)
class Taken:
    """Milliseconds from publish to commit, one entry a fault."""

    alarm: list[float] = field(default_factory=list)
    order: list[float] = field(default_factory=list)


def measure(*, faults: int = 200, burst: int = 5_000, burst_s: float = 60.0, rate: int = 10_000) -> dict[str, float]:
    """Return the percentiles of ``faults`` faults one at a time, then of ``burst`` alarms at once, in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="fixwright-bench-") as name, ExitStack() as parts:
        folder = Path(name)
        url = parts.enter_context(postgres.running(folder))
        assets, crying = _seed(url, faults + WARM_UP, burst)
        broker = Mosquitto("persistence false")
        parts.callback(broker.remove)
        broker.start()
        environment = {
            **os.environ,
            "FIXWRIGHT_DATABASE_URL": url,
            "FIXWRIGHT_MQTT_URL": broker.url,
            "FIXWRIGHT_DATA_DIR": name,
            "FIXWRIGHT_SECRET_KEY": "bench",
        }
        parts.enter_context(_process("tests.reliability.ingest_process", environment, says=b"ready\n"))
        parts.enter_context(_process("api.cli", environment, "worker"))
        with _background(broker.port, [key for key, _ in assets[faults + WARM_UP :]]):
            taken = _faults(url, broker.port, assets[: faults + WARM_UP])
        at_once = bursting.measure(url, broker.port, crying, alarms=burst, seconds=burst_s, rate=rate)
    return {
        "alarm.p50_ms": _percentile(taken.alarm, 50),
        "alarm.p99_ms": _percentile(taken.alarm, 99),
        "order.p50_ms": _percentile(taken.order, 50),
        "order.p99_ms": _percentile(taken.order, 99),
        "faults": float(len(taken.order)),
    } | at_once


def _seed(url: str, faults: int, burst: int) -> tuple[list[tuple[str, int]], list[str]]:
    """Write technicians on duty and machines; return two a fault as (device key, asset id), and keys for a burst."""
    engine = db.connect(url)
    run.upgrade(engine)
    try:
        with db.transaction(db.sessions(engine, secret=b"bench")) as session:
            company = factories.company(session)
            for number in range(20):
                _technician(session, company, number)
            found = []
            for _ in range(2 * faults):
                asset = factories.asset(session, company, "harbour")
                device = factories.device(session, company, "harbour", on=asset)
                found.append((device.key, asset.id))
            kind = factories.asset_type(session, company)
            draft = AlarmTypeDraft("overheat", "Overheating", asset_type_id=kind.id)
            library.add(session, draft, RULE, unit=company.units["company"], actor="system", now=clock.now())
            return found, bursting.seed(session, company, burst)
    finally:
        engine.dispose()


def _technician(session: Session, company: factories.Company, number: int) -> None:
    account = factories.account(session, company, "technician", "harbour", username=f"technician-{number}")
    factories.shift(session, account, weekdays=[*range(7)], starts=clock_time(0), ends=clock_time(0))


@contextmanager
def _process(module: str, environment: dict[str, str], *arguments: str, says: bytes = b"") -> Iterator[None]:
    started = subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment, stdout=subprocess.PIPE)
    try:
        assert started.stdout is not None  # noqa: S101 - a pipe was asked for
        if says and started.stdout.readline() != says:
            raise RuntimeError(f"{module} did not start")
        yield
    finally:
        started.terminate()
        started.wait(60)
        started.stdout.close()  # type: ignore[union-attr]


@contextmanager
def _background(port: int, keys: list[str]) -> Iterator[None]:
    """Let the second half of the machines say that they are well, all the time."""
    done = threading.Event()

    def speak() -> None:
        with connected(port, mqtt5.ConnectPacket("fixwright-background", clean_start=True)) as stream:
            number = 0
            while not done.wait(0.05):
                packets = []
                for _ in range(BACKGROUND_PER_S // 20):
                    number += 1
                    key = keys[number % len(keys)]
                    packets.append(_reading(key, 20.0 + number % 10, packet_id=number % 60_000 + 1))
                stream.sendall(b"".join(packets))
                stream.recv(65_536)

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(5)


def _reading(key: str, temperature: float, *, packet_id: int) -> bytes:
    body = {"ts": clock.now_ms(), "values": {"temperature": temperature}}
    payload = json.dumps(body).encode()
    return mqtt5.PublishPacket(f"fw/v1/{key}/telemetry", payload, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id).write()


def _faults(url: str, port: int, assets: list[tuple[str, int]]) -> Taken:
    taken = Taken()
    with (
        psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as witness,
        connected(port, mqtt5.ConnectPacket("fixwright-faults", clean_start=True)) as stream,
    ):
        witness.execute(f"LISTEN {events.CHANNEL}")
        for number, (key, asset_id) in enumerate(assets):
            began = time.perf_counter()
            stream.sendall(_reading(key, LIMIT + 5, packet_id=number + 1))
            taken.alarm.append(until_row(witness, "SELECT 1 FROM alarm WHERE asset_id = %s", asset_id, began))
            taken.order.append(
                until_row(witness, "SELECT 1 FROM work_order WHERE asset_id = %s AND phase <> 'new'", asset_id, began)
            )
    return Taken(taken.alarm[WARM_UP:], taken.order[WARM_UP:])


def until_row(witness: psycopg.Connection[tuple[int]], query: str, asset_id: int, began: float) -> float:
    """Return the milliseconds since ``began`` at which a row was there; a commit notifies, so nobody polls hard."""
    while witness.execute(query.encode(), (asset_id,)).fetchone() is None:
        if time.perf_counter() - began > 30:  # noqa: PLR2004 - half a minute is no latency any more
            raise RuntimeError(f"asset {asset_id} has waited for half a minute")
        for _ in witness.notifies(timeout=0.02, stop_after=1):
            pass
    return 1000 * (time.perf_counter() - began)


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--faults", type=int, default=200)
    print(json.dumps(measure(**vars(arguments.parse_args())), indent=2))
