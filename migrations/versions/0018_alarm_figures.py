"""Indices of the figures of the alarm system"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_alarm_detected", "alarm", ["detected_at"], unique=False)
    op.create_index("ix_alarm_ended", "alarm", ["ended_at"], unique=False)
    op.create_index(
        "ix_alarm_entry_flagged", "alarm_entry", ["at"], unique=False, postgresql_where=sa.text("kind = 'flagged'")
    )
    # Before anything could be held, every alarm was announced.
    op.execute("UPDATE alarm SET announced_at = detected_at WHERE announced_at IS NULL AND held_at IS NULL")
