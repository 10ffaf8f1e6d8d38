"""The HTTP intake as ``fixwright ingest`` serves it: a plant, the data path, and a server on a real socket."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api import intake_server
from api.runtime import Runtime
from assets import passwords
from ingest.models import IntakeCount, RejectedMessage
from ingest.run import Ingest
from kernel import db, settings
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests import plant
from tests.conftest import SECRET
from tests.plant import Plant
from tests.serving import served

PASSWORD = "quite-right"


class Intake:
    """The intake while it runs, and what it left behind."""

    def __init__(self, ingest: Ingest, runtime: Runtime, address: str, works: Plant, stack: ExitStack) -> None:
        self.ingest, self.runtime, self.address, self.works = ingest, runtime, address, works
        self._stack = stack

    def client(self, key: str = "dev-0", password: str = PASSWORD) -> httpx.Client:
        """Return a client that sends a device's credentials."""
        base = f"{self.address}/api/v1/intake"
        return self._stack.enter_context(httpx.Client(base_url=base, auth=(key, password), timeout=60))

    def readings(self, device: int = 0) -> dict[str, list[tuple[int, float]]]:
        """Return the readings of a device by metric, as (ts in ms, value)."""
        with self.runtime.sessions() as session:
            wanted = select(Series.metric, Series.id).where(Series.device_id == self.works.devices[device].id)
            numbers = [(metric, number) for metric, number in session.execute(wanted)]
        found = {}
        for metric, number in numbers:
            samples = self.runtime.store.samples(number, 10**12, 3 * 10**12, limit=100_000)
            found[metric] = list(zip(samples.ts_ms.tolist(), samples.value.tolist(), strict=True))
        return found

    def ledger(self) -> tuple[int, int, int, int]:
        """Stop, and return received, stored, duplicate, rejected of all devices."""
        self.ingest.stop()
        with self.runtime.sessions() as session:
            columns = (IntakeCount.received, IntakeCount.stored, IntakeCount.duplicate, IntakeCount.rejected)
            row = session.execute(select(*(func.coalesce(func.sum(column), 0) for column in columns))).one()
        return int(row[0]), int(row[1]), int(row[2]), int(row[3])

    def rejects(self) -> list[RejectedMessage]:
        """Return what was set aside, the oldest first."""
        with self.runtime.sessions() as session:
            return list(session.scalars(select(RejectedMessage).order_by(RejectedMessage.id)))


def open_works(database: sessionmaker[Session], *, machines: int = 5) -> Plant:
    """Write devices that know the password; ``dev-1`` stands behind the gateway ``dev-0``."""
    with db.transaction(database) as session:
        works = plant.build(session, machines=machines)
        for device in works.devices:
            device.password_hash = passwords.hashed(PASSWORD)
        works.devices[1].gateway_id = works.devices[0].id
    return works


@pytest.fixture
def start(database: sessionmaker[Session], tmp_path: Path) -> Iterator[Callable[..., Intake]]:
    """Return a starter of an intake; settings may be given by name."""
    with ExitStack() as stack:

        def begin(**chosen: object) -> Intake:
            works = open_works(database)
            own = settings.load(data_dir=tmp_path, mqtt_bind="127.0.0.1:0", **chosen)
            store = DuckDbStore(tmp_path / "telemetry.duckdb")
            stack.callback(store.close)
            ingest = Ingest(own, database, store)
            stack.callback(ingest.stop)
            ingest.start()
            runtime = Runtime(own, database.kw["bind"], database, store, SECRET, ingest=ingest)
            runtime.checks["ingest"] = ingest.trouble
            address = stack.enter_context(served(intake_server.create(runtime)))
            return Intake(ingest, runtime, address, works, stack)

        yield begin


@pytest.fixture
def intake(start: Callable[..., Intake]) -> Intake:
    return start()
