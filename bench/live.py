"""How late readings and alarms are while everything is in use, and whether memory stays where it is.

1,000 connections send 10,000 messages a second through Mosquitto; one process receives, stores, evaluates ten rules a
device and serves pages, as ``fixwright up`` does, while somebody who is signed in looks at board, alarms and machines.
There is no baseline to be faster than: the figures are held against what people notice.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mqtt5
import numpy as np
import psutil
import psycopg
from sqlalchemy.orm import Session

from api.app import create
from api.runtime import Runtime
from bench import fleet
from bench.crowd import reading
from bench.flood import connected
from bench.latency import until_row
from ingest.run import Ingest
from kernel import clock, db, events, postgres, settings
from migrations import run
from telemetry.duckdb import DuckDbStore
from telemetry.readings import Readings, Written
from tests import factories
from tests.mosquitto import Mosquitto
from tests.serving import served

CONNECTIONS: Final = 1_000
RATE: Final = 10_000
WARM_UP_S: Final = 5.0
BEYOND: Final = 9_500.0
"""A temperature that is an alarm by any rule."""
FAULT_EVERY_S: Final = 0.25
LATEST_MS: Final = 60_000
LOOK_EVERY_S: Final = 0.25
BELL_WAIT_S: Final = 10.0
"""How long after the last fault the open page may still be told."""


class TimedStore(DuckDbStore):
    """A store that notes how long after it was sent each reading is committed; of all series but ``besides``."""

    def __init__(self, path: Path, besides: Collection[int] = ()) -> None:
        super().__init__(path)
        self.late_ms = np.zeros(LATEST_MS, np.int64)
        self._besides = np.array(sorted(besides), np.int64)

    def write(self, readings: Readings) -> Written:
        """Write as the store does, and note how late it is now."""
        written = super().write(readings)
        ts_ms = readings.ts_ms[~np.isin(readings.series, self._besides)] if len(self._besides) else readings.ts_ms
        late_ms = np.clip(clock.now_ms() - ts_ms, 0, LATEST_MS - 1)
        self.late_ms += np.bincount(late_ms, minlength=LATEST_MS)
        return written

    def percentile(self, percent: float) -> float:
        """Return below which delay, in milliseconds, so many per cent of what was noted lie."""
        below = np.cumsum(self.late_ms)
        return float(np.searchsorted(below, below[-1] * percent / 100))


class _Memory(threading.Thread):
    """Looks at the memory of this process again and again, until told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._done = threading.Event()
        self._seen: list[tuple[float, float]] = []

    def run(self) -> None:
        process = psutil.Process()
        while not self._done.wait(LOOK_EVERY_S):
            self._seen.append((time.monotonic(), process.memory_info().rss / 2**20))

    def figures(self) -> dict[str, float]:
        """Stop, and return the peak and, of the last half of the time, the middle and how fast memory grew.

        The slope is by least squares. Memory goes up and down with the hot table, so a slope says little where the
        half is no longer than a few of its rounds.
        """
        self._done.set()
        self.join()
        at_s, held_mb = np.array(self._seen).T
        last = at_s >= at_s[0] + (at_s[-1] - at_s[0]) / 2
        since, held = at_s[last] - at_s[last].mean(), held_mb[last] - held_mb[last].mean()
        slope = 60 * float((since * held).sum() / (since**2).sum())
        settled = float(np.median(held_mb[last]))
        return {"memory_peak_mb": float(held_mb.max()), "memory_settled_mb": settled, "memory_slope_mb_min": slope}


@dataclass(frozen=True, slots=True)
class _Fault:
    """A machine that got too hot, when its reading was sent, and how long its alarm took to be seen."""

    asset: int
    began: float
    alarm_ms: float


@dataclass(frozen=True, slots=True)
class _Stage:
    url: str
    address: str
    broker: Mosquitto
    store: TimedStore
    assets: list[int]
    cookie: str


def measure(
    *, seconds: float = 60.0, connections: int = CONNECTIONS, rate: int = RATE, warm_up_s: float = WARM_UP_S
) -> dict[str, float]:
    """Return the figures of ``seconds`` under load, after some to warm up.

    ``reading_p99_ms``: from publish to committed reading, of all readings; ``alarm_p99_ms``: from publish to an alarm
    that others can see, of one fault each quarter of a second; ``bell_p95_ms``: from publish to an open page that is
    told of the alarm; ``page_p95_ms``: of the pages of one reader.
    ``cores``, ``memory_…``: of this process, devices and reader not counted; ``memory_slope_mb_min`` is that of the
    last half, when what fills once and is then used again is full, and ``memory_settled_mb`` is what it then holds.
    """
    with _staged(connections, faults=int(seconds / FAULT_EVERY_S) + 1) as stage, ExitStack() as load:
        length = seconds + warm_up_s
        crowd = load.enter_context(
            beside("devices", str(stage.broker.port), str(connections), str(rate), str(length + 5))
        )
        bell = load.enter_context(beside("listener", stage.address, stage.cookie))
        begun(crowd)
        begun(bell)
        time.sleep(warm_up_s)
        paths = ["/", "/alarms", "/assets", *(f"/assets/{asset}" for asset in stage.assets[:3])]
        reader = load.enter_context(beside("reader", stage.address, stage.cookie, str(seconds), *paths))
        stage.store.late_ms[:] = 0
        began, cpu_s, memory = time.monotonic(), time.process_time(), psutil.Process().memory_info().rss
        watched = _Memory()
        watched.start()
        faults = _faults(stage, connections, until=began + seconds)
        alarms = [fault.alarm_ms for fault in faults]
        elapsed, grown = time.monotonic() - began, psutil.Process().memory_info().rss - memory
        cores = (time.process_time() - cpu_s) / elapsed
        received = int(stage.store.late_ms.sum()) / len(fleet.METRICS) / elapsed
        pages = json.loads(reader.communicate(timeout=60)[0])
        crowd.terminate()
        bells = _bells(stage.url, bell, faults)
        return {
            "messages_per_s": received,
            "connections": float(connections),
            "reading_p50_ms": stage.store.percentile(50),
            "reading_p99_ms": stage.store.percentile(99),
            "alarm_p50_ms": float(np.percentile(alarms, 50)),
            "alarm_p95_ms": float(np.percentile(alarms, 95)),
            "alarm_p99_ms": float(np.percentile(alarms, 99)),
            "alarms": float(len(alarms)),
            "bell_p50_ms": float(np.percentile(bells, 50)),
            "bell_p95_ms": float(np.percentile(bells, 95)),
            "bells": float(len(bells)),
            "page_p95_ms": float(np.percentile(pages, 95)),
            "pages": float(len(pages)),
            "cores": cores,
            "memory_mb": (memory + grown) / 2**20,
            "memory_growth_mb": grown / 2**20,
            **watched.figures(),
        }


@contextmanager
def _staged(connections: int, faults: int) -> Iterator[_Stage]:
    """Run database, broker, ingest and pages, with a machine for each connection and each fault."""
    with tempfile.TemporaryDirectory(prefix="fixwright-bench-") as name, ExitStack() as parts:
        folder = Path(name)
        url = parts.enter_context(postgres.running(folder))
        engine = db.connect(url)
        parts.callback(engine.dispose)
        run.upgrade(engine)
        sessions = db.sessions(engine, secret=b"bench")
        with db.transaction(sessions) as session:
            assets, cookie = _seed(session, connections + faults, connections)
        broker = Mosquitto("persistence false")
        parts.callback(broker.remove)
        broker.start()
        store = TimedStore(folder / "telemetry.duckdb")
        parts.callback(store.close)
        chosen = settings.load(data_dir=folder, mqtt_url=broker.url, database_pool=8)
        ingest = Ingest(chosen, sessions, store)
        ingest.start()
        parts.callback(ingest.stop)
        runtime = Runtime(settings=chosen, engine=engine, sessions=sessions, store=store, secret=b"bench")
        address = parts.enter_context(served(create(runtime)))
        yield _Stage(url, address, broker, store, assets, cookie)


def _seed(session: Session, machines: int, connections: int) -> tuple[list[int], str]:
    """Return the machines of the faults, and the cookie of somebody who sees everything."""
    made = fleet.build(session, devices=machines)
    company = factories.Company("bench", {"company": made.company}, roles=factories.roles(session))
    account = factories.account(session, company, "administrator", "company")
    secret, _ = factories.sign_in(session, account, now=clock.now())
    first = made.assets[0].id
    return [first + number for number in range(connections, machines)], secret


def _faults(stage: _Stage, first: int, until: float) -> list[_Fault]:
    """Let one machine after the other get too hot; return when, and how long until its alarm can be seen."""
    taken = []
    with (
        psycopg.connect(stage.url.replace("+psycopg", "", 1), autocommit=True) as witness,
        connected(stage.broker.port, mqtt5.ConnectPacket("fixwright-faults", clean_start=True)) as stream,
    ):
        witness.execute(f"LISTEN {events.CHANNEL}")
        for number, asset in enumerate(stage.assets):
            if time.monotonic() > until:
                break
            began = time.perf_counter()
            stream.sendall(reading(first + number, BEYOND, number + 1))
            seen_ms = until_row(witness, "SELECT 1 FROM alarm WHERE asset_id = %s", asset, began)
            taken.append(_Fault(asset, began, seen_ms))
            time.sleep(max(0.0, FAULT_EVERY_S - (time.perf_counter() - began)))
    return taken


def _bells(url: str, bell: "subprocess.Popen[bytes]", faults: list[_Fault]) -> list[float]:
    """Return the milliseconds from publish until the open page was told, of each alarm it was told of."""
    with psycopg.connect(url.replace("+psycopg", "", 1)) as witness:
        rows = witness.execute("SELECT asset_id, 'alarm:' || min(id) FROM alarm GROUP BY asset_id").fetchall()
    alarm_of: dict[int, str] = dict(rows)
    heard: dict[str, float] = {}
    wanted = {alarm_of[fault.asset] for fault in faults}
    at_last = threading.Timer(BELL_WAIT_S, bell.terminate)
    at_last.start()
    for line in bell.stdout or ():
        subject, at = line.decode().split()
        heard.setdefault(subject, float(at))
        if wanted <= heard.keys():
            break
    at_last.cancel()
    told = [(heard.get(alarm_of[fault.asset]), fault.began) for fault in faults]
    return [1000 * (at - began) for at, began in told if at is not None]


@contextmanager
def beside(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a part of ``bench.crowd`` in a process of its own for the length of the block."""
    with subprocess.Popen([sys.executable, "-m", "bench.crowd", *arguments], stdout=subprocess.PIPE) as started:
        try:
            yield started
        finally:
            started.terminate()


def begun(started: "subprocess.Popen[bytes]") -> None:
    """Wait until what runs beside is connected, and does what it is for."""
    if started.stdout is None or not started.stdout.readline():
        raise RuntimeError("what was to run beside did not begin")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--connections", type=int, default=CONNECTIONS)
    arguments.add_argument("--rate", type=int, default=RATE)
    print(json.dumps(measure(**vars(arguments.parse_args())), indent=2))
