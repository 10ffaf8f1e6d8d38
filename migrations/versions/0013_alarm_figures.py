"""Indices of the figures of the alarm system"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_alarm_detected", "alarm", ["detected_at"], unique=False)
    op.create_index("ix_alarm_ended", "alarm", ["ended_at"], unique=False)
