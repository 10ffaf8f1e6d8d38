"""By which a worker sees whether another has followed a Sparkplug node meanwhile"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("mark", "follows"):
        op.add_column("sparkplug_node", sa.Column(name, sa.BigInteger(), nullable=False, server_default="1"))
        op.alter_column("sparkplug_node", name, server_default=None)


def downgrade() -> None:
    for name in ("follows", "mark"):
        op.drop_column("sparkplug_node", name)
