"""What each ingest worker finds wrong with the platform"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    findings = sa.Column("findings", postgresql.JSONB(astext_type=sa.Text()), nullable=False, server_default="{}")
    op.add_column("ingest_worker", findings)
    op.alter_column("ingest_worker", "findings", server_default=None)


def downgrade() -> None:
    op.drop_column("ingest_worker", "findings")
