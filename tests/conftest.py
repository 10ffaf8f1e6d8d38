"""Real parts for every test: one embedded PostgreSQL a run, one database a test, copied from a migrated template."""

import itertools
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as properties
from playwright.sync_api import Browser
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker
from xdist.remote import Producer

from api.web import assets
from kernel import db, ids, postgres
from migrations import run
from people import passwords
from tests.browser import launched
from tests.sharing import Shares, longest_first

SECRET = b"a secret for tests only"
_numbers = itertools.count(1)

# How long an example takes says how busy the machine is.
properties.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
properties.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Shares | None:
    """Share the tests out as ``tests.sharing`` says where ``make test`` asks for whole files."""
    return Shares(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    longest_first(items)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Run one embedded server for the whole run; its template database is migrated."""
    folder = Path(tempfile.mkdtemp(prefix="fixwright-test-", dir=_in_memory()))
    with postgres.running(folder, database="template_fixwright") as url:
        engine = db.connect(url)
        run.upgrade(engine)
        engine.dispose()
        yield url
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """Keep passwords as the product does, with fewer rounds: guesses by the hundred are about what is counted.

    Its own parameters have a test, and every process that a test starts has them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_argon2", PasswordHash([Argon2Hasher(time_cost=1, memory_cost=1024, parallelism=1)]))
        patch.setattr(passwords, "_NOBODY", passwords.hashed(ids.token()))
        yield


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """Return a folder for a PostgreSQL of the test's own.

    As root the server runs as another user, whom pytest's own folder shuts out whenever another run of pytest begins.
    """
    folder = Path(tempfile.mkdtemp(prefix="fixwright-server-", dir=_in_memory()))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _in_memory() -> str | None:
    """Return a folder in memory where there is plenty: making and dropping a database each test is mostly fsync."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of its own in it
    is_roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30
    return str(memory) if is_roomy else None


@pytest.fixture(scope="session")
def databases(postgres_url: str) -> Iterator[Connection]:
    """Return the connection that makes and drops databases; to open one each time would take longer than either."""
    engine = create_engine(postgres_url.replace("/template_fixwright?", "/postgres?"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def database_url(postgres_url: str, databases: Connection) -> Iterator[str]:
    """Return the URL of a fresh database for one test."""
    name = f"test_{next(_numbers)}"
    databases.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "template_fixwright"'))
    yield postgres_url.replace("/template_fixwright?", f"/{name}?")
    databases.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = db.connect(database_url, pool=20)
    yield engine
    engine.dispose()


@pytest.fixture
def database(engine: Engine) -> sessionmaker[Session]:
    """Return the factory of sessions on a fresh database."""
    return db.sessions(engine, secret=SECRET)


@pytest.fixture
def session(database: sessionmaker[Session]) -> Iterator[Session]:
    """Return a session on a fresh database; what a test does not commit is gone."""
    with database() as session:
        yield session


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the machine's own chromium once a run: playwright drives one at a time. Without one, skip by name."""
    if not assets.VENDOR.is_dir():
        pytest.skip("needs the browser libraries (python -m api.web.assets, or make test)")
    with launched() as started:
        yield started


@pytest.fixture
def seed() -> int:
    """Return the seed of this run, printed so that a failing one can be run again: FIXWRIGHT_TEST_SEED."""
    chosen = int(os.environ.get("FIXWRIGHT_TEST_SEED") or random.randrange(2**32))
    sys.stdout.write(f"FIXWRIGHT_TEST_SEED={chosen}\n")
    return chosen
