"""What alarms ask for is a table; delays before something opens; reports that alarms make"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

SEVERITIES = "(VALUES ('critical', 0), ('major', 1), ('minor', 2), ('warning', 3), ('info', 4))"


def upgrade() -> None:
    op.create_table(
        "order_policy_line",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("alarm_type_id", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=True),
        sa.Column("criticality", sa.Integer(), nullable=True),
        sa.Column("does", sa.String(length=10), nullable=False),
        sa.Column("delay_s", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=True),
        sa.Column("team_id", sa.BigInteger(), nullable=True),
        sa.Column("checklist_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("does IN ('none', 'request', 'order')", name=op.f("ck_order_policy_line_does")),
        sa.CheckConstraint("source IN ('rule', 'device')", name=op.f("ck_order_policy_line_source")),
        sa.CheckConstraint("alarm_type_id IS NULL OR source = 'rule'", name=op.f("ck_order_policy_line_of_a_rule")),
        sa.CheckConstraint("delay_s >= 0", name=op.f("ck_order_policy_line_delay")),
        sa.CheckConstraint("priority BETWEEN 1 AND 4", name=op.f("ck_order_policy_line_priority")),
        sa.CheckConstraint("criticality BETWEEN 1 AND 4", name=op.f("ck_order_policy_line_criticality")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_order_policy_line_company_id")),
        sa.ForeignKeyConstraint(
            ["alarm_type_id"], ["alarm_type.id"], name=op.f("fk_order_policy_line_alarm_type_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["site_id"], ["site.id"], name=op.f("fk_order_policy_line_site_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["team_id"], ["team.id"], name=op.f("fk_order_policy_line_team_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["checklist_id"], ["checklist.id"], name=op.f("fk_order_policy_line_checklist_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_policy_line")),
    )
    op.create_index(op.f("ix_order_policy_line_alarm_type_id"), "order_policy_line", ["alarm_type_id"])
    op.create_index(
        "uq_order_policy_line_place",
        "order_policy_line",
        ["company_id", "alarm_type_id", "source", "severity", "site_id", "criticality"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_table(
        "order_wait",
        sa.Column("alarm_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'due', 'opened', 'cleared', 'held', 'dropped')", name=op.f("ck_order_wait_state")
        ),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarm.id"], name=op.f("fk_order_wait_alarm_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("alarm_id", name=op.f("pk_order_wait")),
    )
    op.create_index("ix_order_wait_due", "order_wait", ["due_at"], postgresql_where=sa.text("state = 'waiting'"))
    op.add_column("request", sa.Column("alarm_id", sa.BigInteger(), nullable=True))
    op.add_column("request", sa.Column("fault_key", sa.String(length=140), nullable=True))
    op.create_foreign_key(op.f("fk_request_alarm_id"), "request", "alarm", ["alarm_id"], ["id"])
    op.create_index(op.f("ix_request_alarm_id"), "request", ["alarm_id"])
    op.create_index(
        "uq_request_open_fault",
        "request",
        ["fault_key"],
        unique=True,
        postgresql_where=sa.text("fault_key IS NOT NULL AND state IN ('new', 'held')"),
    )
    # What each alarm type said by one severity becomes its lines, so that nothing opens otherwise than before.
    op.execute(
        f"""
        INSERT INTO order_policy_line (company_id, alarm_type_id, source, severity, does, delay_s)
        SELECT t.company_id, t.id, 'rule', s.key, CASE WHEN s.place <= l.place THEN 'order' ELSE 'none' END, 0
        FROM alarm_type t
        CROSS JOIN {SEVERITIES} AS s (key, place)
        LEFT JOIN {SEVERITIES} AS l (key, place) ON l.key = t.order_from
        """  # noqa: S608 - constants
    )
    op.drop_column("alarm_type", "order_from")


def downgrade() -> None:
    op.add_column("alarm_type", sa.Column("order_from", sa.String(length=10), nullable=True))
    op.execute(
        """
        UPDATE alarm_type SET order_from = coalesce((
            SELECT l.severity FROM order_policy_line l
            JOIN (VALUES ('critical', 0), ('major', 1), ('minor', 2), ('warning', 3), ('info', 4)) AS s (key, place)
                ON s.key = l.severity
            WHERE l.alarm_type_id = alarm_type.id AND l.does = 'order' AND l.site_id IS NULL AND l.criticality IS NULL
            ORDER BY s.place DESC LIMIT 1), 'major')
        """
    )
    op.drop_index("uq_request_open_fault", table_name="request")
    op.drop_index(op.f("ix_request_alarm_id"), table_name="request")
    op.drop_constraint(op.f("fk_request_alarm_id"), "request")
    op.drop_column("request", "fault_key")
    op.drop_column("request", "alarm_id")
    op.drop_table("order_wait")
    op.drop_table("order_policy_line")
