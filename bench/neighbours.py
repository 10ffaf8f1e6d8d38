"""What neighbours feel of one device that sends a hundred times what it may, a tenth of it poison (ING-16, P7).

A hundred devices send a message a second each, alone and then beside the hostile one, through the same Mosquitto into
the same ingest. The baseline is the same neighbours in the same run before it came.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import select

from assets.models import Device
from bench import fleet
from bench.live import TimedStore, begun, beside
from ingest import limits
from ingest.limits import Limit
from ingest.run import Ingest
from kernel import clock, db, postgres, settings
from migrations import run
from telemetry.models import Series
from tests.mosquitto import Mosquitto

NEIGHBOURS: Final = 100
MAY: Final = 10
"""Messages a second that the hostile device may send."""
TIMES: Final = 100
_SETTLE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Stage:
    broker: Mosquitto
    store: TimedStore


def measure(*, seconds: float = 20.0) -> dict[str, float]:
    """Return from publish to committed reading, of the neighbours alone and beside the flood, each for ``seconds``.

    ``times_alone`` is the p95 beside it over the p95 alone; ``hostile_per_s`` is what the hostile device sent.
    """
    with _staged() as stage, ExitStack() as load:
        length = str(2 * seconds + 5 * _SETTLE_S)
        crowd = load.enter_context(beside("devices", str(stage.broker.port), str(NEIGHBOURS), str(NEIGHBOURS), length))
        begun(crowd)
        time.sleep(_SETTLE_S)
        alone = _watched(stage.store, seconds)
        flood = ("hostile", str(stage.broker.port), str(NEIGHBOURS), str(MAY * TIMES), str(seconds + _SETTLE_S))
        hostile = load.enter_context(beside(*flood))
        begun(hostile)
        time.sleep(_SETTLE_S)
        flooded = _watched(stage.store, seconds)
        sent = int(hostile.communicate(timeout=60)[0])
        return {
            "alone_p95_ms": alone[0],
            "alone_p99_ms": alone[1],
            "p95_ms": flooded[0],
            "p99_ms": flooded[1],
            "times_alone": flooded[0] / max(alone[0], 1.0),
            "hostile_per_s": sent / (seconds + _SETTLE_S),
        }


def _watched(store: TimedStore, seconds: float) -> tuple[float, float]:
    store.late_ms[:] = 0
    time.sleep(seconds)
    return store.percentile(95), store.percentile(99)


@contextmanager
def _staged() -> Iterator[_Stage]:
    """Run database, broker and ingest, with a machine for each neighbour and a last one that is hostile."""
    with tempfile.TemporaryDirectory(prefix="fixwright-bench-") as name, ExitStack() as parts:
        folder = Path(name)
        engine = db.connect(parts.enter_context(postgres.running(folder)))
        parts.callback(engine.dispose)
        run.upgrade(engine)
        sessions = db.sessions(engine, secret=b"bench")
        with db.transaction(sessions) as session:
            made = fleet.build(session, devices=NEIGHBOURS + 1)
            last = session.get_one(Device, made.devices[0].id + NEIGHBOURS)
            limits.set_device(session, last, Limit(MAY, 0), actor="bench", now=clock.now())
            besides = session.scalars(select(Series.id).where(Series.device_id == last.id)).all()
        broker = Mosquitto("persistence false")
        parts.callback(broker.remove)
        broker.start()
        store = TimedStore(folder / "telemetry.duckdb", besides)
        parts.callback(store.close)
        ingest = Ingest(settings.load(data_dir=folder, mqtt_url=broker.url), sessions, store)
        ingest.start()
        parts.callback(ingest.stop)
        yield _Stage(broker, store)
