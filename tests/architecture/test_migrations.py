"""The database's history: what the migrations make is what the models say, and nobody runs against another version."""

import threading
from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text

from kernel import db, postgres
from kernel.errors import Misconfigured
from migrations import run
from migrations.tables import METADATA

Empty = Callable[[str], Engine]


@pytest.fixture
def empty(postgres_url: str) -> Empty:
    """Return a maker of engines on databases that nothing was migrated in."""

    def make(name: str) -> Engine:
        admin = create_engine(postgres_url.replace("/template_fixwright?", "/postgres?"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE IF EXISTS "{name}"'))
        admin.dispose()
        postgres.create(postgres_url.replace("/template_fixwright?", "/postgres?"), name)
        return db.connect(postgres_url.replace("/template_fixwright?", f"/{name}?"))

    return make


def test_what_the_migrations_make_is_what_the_models_say(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, METADATA) == []


def test_a_second_upgrade_changes_nothing(empty: Empty) -> None:
    engine = empty("upgraded_twice")
    run.upgrade(engine)
    run.upgrade(engine)
    run.require_current(engine)
    engine.dispose()


def test_several_processes_that_start_at_once_migrate_once(empty: Empty) -> None:
    engine = empty("upgraded_at_once")
    failures: list[BaseException] = []

    def upgrade() -> None:
        try:
            run.upgrade(engine)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    run.require_current(engine)
    engine.dispose()


def test_a_newer_database_is_refused_and_left_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refuse in (run.upgrade, run.require_current):
        with pytest.raises(Misconfigured, match="9999"):
            refuse(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"


def test_an_older_database_is_refused_with_the_command_that_helps(empty: Empty) -> None:
    engine = empty("not_upgraded")
    with pytest.raises(Misconfigured, match="fixwright migrate"):
        run.require_current(engine)
    engine.dispose()


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty: Empty) -> None:
    engine = empty("failing_upgrade")
    with engine.begin() as connection:
        # In the way of the first migration's last step.
        connection.execute(text("CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'"))
    with pytest.raises(Exception, match="refuse_change"):
        run.upgrade(engine)
    with engine.connect() as connection:
        tables = connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar_one()
    assert tables == 0
    engine.dispose()
