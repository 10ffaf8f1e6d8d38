"""What an alarm rests on can no longer be changed; alarm types can be removed"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("alarm_type", sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    # Fires only where a statement names the column, so an alarm that is counted or ended costs nothing more.
    op.execute(
        """
        CREATE TRIGGER evidence_is_frozen BEFORE UPDATE OF evidence ON alarm FOR EACH ROW
        WHEN (OLD.evidence IS DISTINCT FROM NEW.evidence) EXECUTE FUNCTION refuse_change()
        """
    )
