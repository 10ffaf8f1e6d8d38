"""How a metric is sent, when its sensor is stuck, and whether rules use its bad values"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("metric", sa.Column("sent_unit", sa.String(length=20), nullable=True))
    op.add_column("metric", sa.Column("is_on_change", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("metric", sa.Column("stuck_after", sa.Integer(), nullable=True))
    op.add_column("metric", sa.Column("uses_bad", sa.Boolean(), server_default=sa.text("false"), nullable=False))
