"""The database's history: Alembic migrations, run by ``fixwright up`` and ``fixwright migrate``."""
