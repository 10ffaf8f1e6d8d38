"""D03: PostgreSQL is killed under load; ingest stays up, nothing acknowledged is lost or doubled."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy.orm import Session, sessionmaker

from api import access
from api.app import create
from api.runtime import Runtime
from kernel import clock, db, postgres, settings
from migrations import run
from telemetry.store import open_store
from tests import factories
from tests.conftest import SECRET
from tests.mosquitto import Mosquitto
from tests.reliability import judge
from tests.reliability.conftest import IngestProcess, build_plant
from tests.reliability.fleet import Fleet
from tests.serving import served
from tests.waiting import until

READ = ("/", "/alarms", "/assets", "/alarms/figures", "/api/v1/alarms", "/api/v1/orders", "/health/ready")


class Server:
    """An embedded PostgreSQL that can be killed as by a power cut, and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running = postgres.running(folder)
        self.url = self._running.__enter__()

    def kill(self) -> None:
        """End the server process by the id in its lock file; its children notice and go."""
        lock = self._folder / "postgres" / "postmaster.pid"
        server = psutil.Process(int(lock.read_text().split("\n", 1)[0]))
        family = [server, *server.children(recursive=True)]
        server.kill()
        psutil.wait_procs(family, timeout=20)

    def start(self) -> None:
        self._running = postgres.running(self._folder)
        self.url = self._running.__enter__()

    def stop(self) -> None:
        self._running.__exit__(None, None, None)


@pytest.fixture
def server(server_folder: Path) -> Iterator[Server]:
    started = Server(server_folder)
    yield started
    started.stop()


def _survives(
    server: Server,
    process: IngestProcess,
    database: sessionmaker[Session],
    fleet: Fleet,
    *,
    downs: list[float],
) -> None:
    process.start()
    pid = process.pid
    fleet.start()
    try:
        until(lambda: all(device.readings for device in fleet.devices), timeout_s=120, what="devices connect")
        for down_s in downs:
            server.kill()
            time.sleep(down_s)
            server.start()
            # Something new gets through before the next blow: it is healthy again.
            before = {device.key: len(device.alarms) - len(device.waiting) for device in fleet.devices}
            until(
                lambda before=before: any(  # type: ignore[misc]
                    len(device.alarms) - len(device.waiting) > before[device.key] for device in fleet.devices
                ),
                timeout_s=60,
                what="alarms are acknowledged again",
            )
            assert process.is_alive
        fleet.quieten()
        until(lambda: fleet.is_silent, timeout_s=120, what="every alarm is acknowledged")
    finally:
        fleet.stop()
    assert process.pid == pid
    process.stop()
    judge.readings_are_stored_once(database, process.folder, fleet)
    judge.alarms_are_exact(database, fleet)


def _ground(server: Server, *, machines: int) -> sessionmaker[Session]:
    engine = db.connect(server.url)
    run.upgrade(engine)
    database = db.sessions(engine, secret=SECRET)
    build_plant(database, machines=machines)
    return database


def test_D03_three_kills_of_postgresql_under_load_lose_and_double_nothing(
    server: Server, broker: Mosquitto, ingests: Callable[[str, str], IngestProcess], seed: int
) -> None:
    database = _ground(server, machines=100)
    chance = random.Random(seed)
    fleet = Fleet(broker.port, [f"dev-{n}" for n in range(100)], every_s=2.0, alarms=0.2, seed=seed)
    process = ingests(server.url, broker.url)
    _survives(server, process, database, fleet, downs=[chance.uniform(1, 3) for _ in range(3)])
    database.kw["bind"].dispose()


@pytest.mark.torture
def test_D03_at_full_length(
    server: Server, broker: Mosquitto, ingests: Callable[[str, str], IngestProcess], seed: int
) -> None:
    database = _ground(server, machines=1000)
    chance = random.Random(seed)
    fleet = Fleet(broker.port, [f"dev-{n}" for n in range(1000)], every_s=5.0, alarms=0.1, seed=seed)
    process = ingests(server.url, broker.url)
    _survives(server, process, database, fleet, downs=[chance.uniform(1, 15) for _ in range(10)])
    database.kw["bind"].dispose()


def test_D03_while_the_database_is_away_pages_and_api_say_when_to_come_back_and_nothing_else(
    server: Server, tmp_path: Path
) -> None:
    engine = db.connect(server.url)
    run.upgrade(engine)
    database = db.sessions(engine, secret=SECRET)
    with db.transaction(database) as session:
        account = factories.account(session, factories.company(session), "administrator", "company")
        secret, _ = factories.sign_in(session, account, now=clock.now())
    with closing(open_store(None, tmp_path)) as store:
        runtime = Runtime(
            settings=settings.load(data_dir=tmp_path), engine=engine, sessions=database, store=store, secret=SECRET
        )
        with served(create(runtime)) as address, httpx.Client(base_url=address, timeout=60) as client:
            client.cookies.set(access.COOKIE, secret)
            assert [client.get(path).status_code for path in READ] == [200] * len(READ)
            server.kill()
            for answer in (
                *(client.get(path) for path in READ),
                client.post("/login", data={"username": "anybody", "password": "wrong password"}),
            ):
                assert answer.status_code == 503, answer.request.url
                assert int(answer.headers["Retry-After"]) > 0
                for trace in ("Traceback", "psycopg", "sqlalchemy", str(tmp_path)):
                    assert trace not in answer.text
            server.start()
            until(lambda: client.get("/health/ready").status_code == 200, timeout_s=5, what="it is healthy again")
            assert [client.get(path).status_code for path in READ] == [200] * len(READ)
    engine.dispose()
