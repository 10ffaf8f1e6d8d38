"""One request is one transaction, and more requests than connections wait for their turn."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Request
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from api import access
from api.access import Anyone, Db, address_of, needs
from api.app import create
from api.runtime import Runtime
from kernel import clock, db, numbering, settings
from kernel.models import Counter
from people.models import SignIn
from people.scope import Viewer
from telemetry.store import open_store
from tests import factories
from tests.conftest import SECRET
from tests.factories import Company
from tests.serving import served

POOL = 3


@pytest.fixture
def narrow(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """Return a process that has three connections and not one more."""
    engine = create_engine(database_url, pool_size=POOL, max_overflow=0, pool_timeout=30)
    with closing(open_store(None, tmp_path)) as store:
        own = settings.load(data_dir=tmp_path, database_pool=POOL, trusted_proxies=("127.0.0.1", "10.0.0.1"))
        yield Runtime(own, engine, db.sessions(engine, secret=SECRET), store, SECRET)
    engine.dispose()


@pytest.fixture
def app(narrow: Runtime) -> FastAPI:
    """Return the product with routes that do what a route must not, or see what others do."""
    app = create(narrow)

    @app.post("/try/commit-fails")
    def commit_fails(db: Db, _visitor: Anyone) -> dict[str, str]:
        numbering.draw(db, "kept although refused")
        db.execute(text("CREATE TEMPORARY TABLE odd (n int UNIQUE DEFERRABLE INITIALLY DEFERRED) ON COMMIT DROP"))
        db.execute(text("INSERT INTO odd VALUES (1), (1)"))
        return {"status": "all is well"}

    @app.post("/try/raises")
    def raises(db: Db, _visitor: Anyone) -> None:
        numbering.draw(db, "kept although raised")
        raise ZeroDivisionError

    @app.get("/try/slow")
    def slow(db: Db, _visitor: Anyone) -> dict[str, int]:
        return {"answer": db.execute(text("SELECT 42 FROM pg_sleep(0.02)")).scalar_one()}

    @app.get("/try/needs")
    def restricted(viewer: Annotated[Viewer, needs("audit.read")]) -> str:
        return viewer.username

    @app.get("/try/address")
    def address(request: Request) -> str:
        return address_of(request)

    return app


@pytest.fixture
def served_app(app: FastAPI) -> Iterator[str]:
    with served(app) as url:
        yield url


def test_a_commit_that_fails_is_an_answer_that_fails(served_app: str, database: sessionmaker[Session]) -> None:
    """With FastAPI's default scope of a dependency the answer would be 200, sent before the commit."""
    answer = httpx.post(f"{served_app}/try/commit-fails")

    assert answer.status_code == 409
    assert "all is well" not in answer.text
    with database() as session:
        assert session.get(Counter, "kept although refused") is None


def test_a_route_that_raises_keeps_nothing_and_tells_nothing(served_app: str, database: sessionmaker[Session]) -> None:
    answer = httpx.post(f"{served_app}/try/raises")

    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    with database() as session:
        assert session.get(Counter, "kept although raised") is None


def test_more_requests_at_once_than_connections_all_get_their_answer(served_app: str) -> None:
    """Unbounded, the waiting requests would hold every thread that a commit needs, for ever."""
    limits = httpx.Limits(max_connections=200)
    with httpx.Client(base_url=served_app, timeout=60, limits=limits) as client, ThreadPoolExecutor(60) as many:
        answers = list(many.map(lambda _: client.get("/try/slow").json(), range(240)))
    assert answers == [{"answer": 42}] * 240


def test_a_forwarded_address_is_believed_from_trusted_proxies_only(served_app: str, narrow: Runtime) -> None:
    def seen(forwarded: str) -> str:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        return str(httpx.get(f"{served_app}/try/address", headers=headers).json())

    assert seen("") == "127.0.0.1"
    assert seen("203.0.113.9") == "203.0.113.9"
    assert seen("203.0.113.9, 10.0.0.1") == "203.0.113.9"
    assert seen("1.1.1.1, 203.0.113.9, 10.0.0.1") == "203.0.113.9", "what the client wrote itself is not read"
    assert seen("not an address") == "127.0.0.1"
    assert narrow.settings.trusted_proxies


def test_no_right_is_403_no_sign_in_401_and_a_void_token_401(served_app: str, database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        acme = factories.company(session)
        technician = factories.token(session, factories.account(session, acme, "technician"), now=clock.now())
        boss = factories.account(session, acme, "administrator", "company")
        administrator = factories.token(session, boss, now=clock.now())
        limited = factories.token(session, boss, now=clock.now(), rights=["orders.read"])

    def status(token: str | None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{served_app}/api/v1/audit", headers=headers).status_code

    assert [status(token) for token in (None, "void", technician, limited, administrator)] == [401, 401, 403, 403, 200]
    assert httpx.get(f"{served_app}/try/needs").status_code == 303, "a page leads to the sign-in"


def test_a_form_from_elsewhere_is_refused(served_app: str, database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        acme = factories.company(session)
        secret, csrf = factories.sign_in(session, factories.account(session, acme), now=clock.now())
    for headers, data, status in (
        ({}, {}, 403),
        ({}, {"csrf_token": "guessed"}, 403),
        ({}, {"csrf_token": csrf}, 303),
        ({"X-CSRF-Token": csrf}, {}, 303),
    ):
        with httpx.Client(base_url=served_app, cookies={access.COOKIE: secret}, headers=headers) as client:
            form = {"language": "en", "zone": "UTC", **data}
            assert client.post("/account", data=form).status_code == status


def test_a_sign_in_that_was_ended_is_a_stranger_at_once(served_app: str, database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        acme: Company = factories.company(session)
        secret, _ = factories.sign_in(session, factories.account(session, acme), now=clock.now())
    with httpx.Client(base_url=served_app, cookies={access.COOKIE: secret}) as client:
        assert client.get("/account").status_code == 200
        with db.transaction(database) as session:
            session.query(SignIn).delete()
        assert client.get("/account").status_code == 303


def test_requests_during_a_burst_do_not_mix_their_transactions(
    served_app: str, database: sessionmaker[Session]
) -> None:
    """Half of the requests fail; exactly the work of the other half is kept."""
    paths = itertools.cycle(["/try/commit-fails", "/try/slow"])
    lock = threading.Lock()

    def one(_: int) -> int:
        with lock:
            path = next(paths)
        return httpx.request("POST" if "fails" in path else "GET", served_app + path, timeout=60).status_code

    with ThreadPoolExecutor(20) as many:
        statuses = list(many.map(one, range(40)))
    assert sorted(statuses) == [200] * 20 + [409] * 20
    with database() as session:
        assert session.query(Counter).count() == 0
