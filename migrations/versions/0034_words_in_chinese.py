"""What the product itself reports, in Chinese beside the English"""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("request", sa.Column("what_zh", sa.String(length=2000), nullable=True))
    op.execute(
        "UPDATE request SET what_zh = split_part(what, E'\\n', 2), what = split_part(what, E'\\n', 1)"
        " WHERE origin = 'trend' AND what LIKE E'%\\n%'"
    )


def downgrade() -> None:
    op.execute("UPDATE request SET what = left(what || E'\\n' || what_zh, 2000) WHERE what_zh IS NOT NULL")
    op.drop_column("request", "what_zh")
