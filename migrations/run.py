"""Bring a database to this version of the code, and refuse one that is newer.

Migrations only go forward: a release is undone by restoring the backup taken before it.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from kernel.errors import Misconfigured

_LOCK = 0x4669787772696768
"""Advisory lock key, so that several processes starting at once migrate once."""


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """Return the newest revision this code knows."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return ScriptDirectory.from_config(config).get_current_head() or ""


def upgrade(engine: Engine) -> None:
    """Run every migration the database has not seen, in one transaction.

    Raises:
        Misconfigured: the database was written by a newer version of the code.
    """
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config = _config(connection)
        _refuse_newer(connection, ScriptDirectory.from_config(config))
        command.upgrade(config, "head")


def require_current(engine: Engine) -> None:
    """Make sure that the database is at exactly this code's version.

    Raises:
        Misconfigured: it is older (run ``fixwright migrate``) or newer.
    """
    with engine.connect() as connection:
        script = ScriptDirectory.from_config(_config(connection))
        _refuse_newer(connection, script)
        current = MigrationContext.configure(connection).get_current_revision()
        if current != script.get_current_head():
            raise Misconfigured("The database is older than this version. Run: fixwright migrate")


def _refuse_newer(connection: Connection, script: ScriptDirectory) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
        raise Misconfigured(
            "The database is at revision {revision}, which this version does not know. A newer version wrote it: "
            "update Fixwright, or restore the backup taken before the update.",
            revision=current,
        )
