"""Looks an installation over and says, part by part, what is well, what is not, and what would help."""

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from api import compose
from kernel import db
from kernel.errors import Misconfigured
from kernel.models import Delivery
from kernel.settings import Settings, host_and_port
from migrations import run

LEAST_FREE = 2_000_000_000
TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One part: is it well, and if not, why and what to do."""

    part: str
    is_well: bool
    words: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each part, in the order in which they depend on each other."""
    folder = settings.data_dir if settings.data_dir.exists() else settings.data_dir.absolute().parent
    free = shutil.disk_usage(folder).free
    yield Finding("disk", free > LEAST_FREE, f"{free / 1e9:.1f} GB free below {settings.data_dir}")
    yield from _database(settings)
    yield _reachable("mqtt", settings.mqtt_url, settings.mqtt_bind, 1883)
    if settings.telemetry_url:
        yield _reachable("telemetry", settings.telemetry_url, "", 8428)
    yield _reachable("pages", None, settings.http_bind, 8000)


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        with compose.database(settings) as url:
            engine = db.connect(url, pool=2)
            try:
                with engine.connect() as connection:
                    version = connection.execute(text("SHOW server_version")).scalar_one()
                yield Finding("database", True, f"PostgreSQL {version}")
                yield _asked("durability", lambda: db.require_durable(engine), "fsync is on")
                yield _asked("schema", lambda: run.require_current(engine), f"revision {run.head()}")
                with db.sessions(engine, secret=b"")() as session:
                    stuck = session.scalar(select(func.count()).where(Delivery.state == "stuck")) or 0
                yield Finding("deliveries", stuck == 0, f"{stuck} stuck; retry them under Settings → Deliveries")
            finally:
                engine.dispose()
    except (SQLAlchemyError, Misconfigured) as error:
        yield Finding("database", False, str(error).splitlines()[0])


def _asked(part: str, question: Callable[[], None], answer: str) -> Finding:
    try:
        question()
    except Misconfigured as error:
        return Finding(part, False, str(error))
    return Finding(part, True, answer)


def _reachable(part: str, url: str | None, bind: str, port: int) -> Finding:
    if url:
        split = urlsplit(url)
        host, port = split.hostname or "127.0.0.1", split.port or port
    else:
        host, port = host_and_port(bind)
    try:
        socket.create_connection((host, port), timeout=TIMEOUT_S).close()
    except OSError as error:
        return Finding(part, False, f"{host}:{port} does not answer ({error.strerror or error})")
    return Finding(part, True, f"{host}:{port} answers")
