"""Alembic's entry: it is always handed an open connection by ``migrations.run``."""

from alembic import context

from migrations.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, compare_type=True, compare_server_default=False)
with context.begin_transaction():
    context.run_migrations()
