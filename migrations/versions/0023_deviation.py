"""Deviation from the usual is worked out too"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("ck_derivation_how"), "derivation", type_="check")
    op.create_check_constraint(
        op.f("ck_derivation_how"),
        "derivation",
        "how IN ('run_hours', 'starts', 'cycles', 'energy', 'counter', 'difference', 'rate', 'deviation')",
    )
