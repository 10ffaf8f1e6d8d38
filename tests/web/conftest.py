"""The real application on a real socket, with signed-in browsers.

``company`` is committed before the application starts. ``client`` is an administrator of the whole company,
``stranger`` is signed in as nobody, ``client_of("technician", "harbour")`` is anybody else. Every client sends
its anti-forgery token by itself and does not follow redirects.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from api import access
from api.app import create
from api.runtime import Runtime
from kernel import clock, db, settings
from telemetry.store import open_store
from tests import factories
from tests.conftest import SECRET
from tests.factories import Company
from tests.serving import served

ClientOf = Callable[..., httpx.Client]


@pytest.fixture
def company(database: sessionmaker[Session]) -> Company:
    """Return a committed company; its rows are detached and readable."""
    with db.transaction(database) as session:
        return factories.company(session)


@pytest.fixture
def runtime(database: sessionmaker[Session], engine: Engine, tmp_path: Path) -> Iterator[Runtime]:
    """Return the parts of a process on a fresh database and a fresh telemetry store."""
    with closing(open_store(None, tmp_path)) as store:
        yield Runtime(
            settings=settings.load(data_dir=tmp_path, database_pool=8),
            engine=engine,
            sessions=database,
            store=store,
            secret=SECRET,
        )


@pytest.fixture
def address(runtime: Runtime) -> Iterator[str]:
    """Serve the application on a free port of the loopback for the length of a test; return its address."""
    with served(create(runtime)) as url:
        yield url


@pytest.fixture
def clients(address: str) -> Iterator[Callable[[], httpx.Client]]:
    """Return a maker of clients of nobody that are closed after the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(httpx.Client(base_url=address, timeout=20))


@pytest.fixture
def stranger(clients: Callable[[], httpx.Client]) -> httpx.Client:
    """Return a client that is signed in as nobody."""
    return clients()


@pytest.fixture
def client_of(
    clients: Callable[[], httpx.Client], company: Company, database: sessionmaker[Session]
) -> Callable[..., httpx.Client]:
    """Return a maker of signed-in clients: ``client_of(role, where, of=company)``."""

    def make(role: str | None = "administrator", where: str = "company", *, of: Company | None = None) -> httpx.Client:
        with db.transaction(database) as session:
            account = factories.account(session, of or company, role, where)
            secret, csrf = factories.sign_in(session, account, now=clock.now())
        made = clients()
        made.cookies.set(access.COOKIE, secret)
        made.headers["X-CSRF-Token"] = csrf
        return made

    return make


@pytest.fixture
def client(client_of: ClientOf) -> httpx.Client:
    """Return a client that is signed in as the administrator of the company."""
    return client_of()
