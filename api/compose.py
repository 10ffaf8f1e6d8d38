"""How a process is put together from its settings: the composition root of the command line."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from api import subscriptions, ticks
from api.runtime import Runtime
from api.worker import Worker
from kernel import clock, db, postgres
from kernel import settings as settings_module
from kernel.errors import Misconfigured
from kernel.settings import Settings
from migrations import run
from people import accounts, roles
from telemetry.store import open_store

WITNESS = "audit.witness"
"""The file in the data directory that says how far the audit trail had come; see ``kernel.audit``."""


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Yield the URL of the database: the one that is set, or the embedded server, run for the length of the block."""
    if settings.database_url:
        yield settings.database_url
        return
    with postgres.running(settings.data_dir) as url:
        yield url


@contextmanager
def sessions(settings: Settings, *, pool: int = 2) -> Iterator[sessionmaker[Session]]:
    """Yield sessions on a database that is at this code's version, for commands that need nothing else.

    Raises:
        Misconfigured: the database is older or newer, or not durable.
    """
    with database(settings) as url:
        engine = db.connect(url, pool=pool)
        try:
            db.require_durable(engine)
            run.require_current(engine)
            secret = settings_module.secret_key(settings)
            yield db.sessions(
                engine, secret=secret, witness=settings.data_dir / WITNESS, outgoing=settings.outgoing_allow
            )
        finally:
            engine.dispose()


@contextmanager
def everything(settings: Settings, *, is_demo: bool = False) -> Iterator[Runtime]:
    """Open all the parts that ``up`` runs in one process, once it owns the data directory; migrate first."""
    with ExitStack() as parts:
        url = parts.enter_context(database(settings))
        engine = db.connect(url, pool=settings.database_pool + 8)
        parts.callback(engine.dispose)
        db.require_durable(engine)
        run.upgrade(engine)
        secret = settings_module.secret_key(settings)
        factory = db.sessions(
            engine, secret=secret, witness=settings.data_dir / WITNESS, outgoing=settings.outgoing_allow
        )
        store = open_store(settings.telemetry_url, settings.data_dir, memory_mb=settings.store_memory_mb)
        parts.callback(store.close)
        yield Runtime(settings, engine, factory, store, secret, is_demo=is_demo)


@contextmanager
def one_role(settings: Settings, *, owns_store: bool) -> Iterator[Runtime]:
    """Open the parts of a process that does one job beside others: ``ingest`` owns an embedded store, ``web`` cannot.

    Raises:
        Misconfigured: the database is not at this version, or the embedded store would have to be shared.
    """
    if not owns_store and settings.telemetry_url is None:
        raise Misconfigured(
            "The embedded telemetry store belongs to one process. Set FIXWRIGHT_TELEMETRY_URL, or run: fixwright up"
        )
    with ExitStack() as parts:
        factory = parts.enter_context(sessions(settings, pool=settings.database_pool))
        store = open_store(settings.telemetry_url, settings.data_dir, memory_mb=settings.store_memory_mb)
        parts.callback(store.close)
        yield Runtime(settings, factory.kw["bind"], factory, store, settings_module.secret_key(settings))


def intake_only(settings: Settings, factory: sessionmaker[Session]) -> Runtime:
    """Return the parts of a process that takes readings and shows none: it opens no store but to write."""
    # Nobody reads a store there, and it may belong to another process.
    nothing: Any = None
    return Runtime(settings, factory.kw["bind"], factory, nothing, settings_module.secret_key(settings))


def prepare(runtime: Runtime) -> None:
    """Bring the built-in roles up to date and create the first administrator, once, printing the password."""
    with db.transaction(runtime.sessions) as session:
        roles.sync_builtin(session)
        made = accounts.first_administrator(session, clock.now())
    if made:
        account, password = made
        sys.stdout.write(f"\n  First administrator: {account.username}\n  Password (shown once): {password}\n\n")
        sys.stdout.flush()


def worker_of(factory: sessionmaker[Session]) -> Worker:
    """Return a worker with every subscription and tick of the product."""
    url = factory.kw["bind"].url.render_as_string(hide_password=False)
    return Worker(
        factory, url, subscriptions.TABLE, ticks.TABLE, first=subscriptions.FIRST, outward=subscriptions.OUTWARD
    )
