"""Commands to devices, desired settings, how devices are connected and since when they are quiet"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("asset_type", sa.Column("quiet_factor", sa.Float(), nullable=True))
    op.add_column("asset_type", sa.Column("quiet_severity", sa.String(length=10), nullable=True))
    op.add_column("device", sa.Column("connection", sa.String(length=12), server_default="unknown", nullable=False))
    op.add_column(
        "device", sa.Column("connection_told", sa.String(length=12), server_default="unknown", nullable=False)
    )
    json = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("device", sa.Column("desired", json, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("device", sa.Column("desired_version", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("device", sa.Column("quiet_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("device", sa.Column("quiet_after_s", sa.Integer(), nullable=True))
    op.add_column("device", sa.Column("quiet_severity", sa.String(length=10), nullable=True))
    op.execute(
        "UPDATE device SET connection = CASE WHEN is_online THEN 'online' ELSE 'offline' END"
        " WHERE online_changed_at IS NOT NULL"
    )
    op.execute("UPDATE device SET connection_told = connection")
    op.create_check_constraint("connection", "device", "connection IN ('unknown', 'online', 'offline', 'unreachable')")
    op.create_index(
        "ix_device_untold", "device", ["online_changed_at"], postgresql_where=sa.text("connection <> connection_told")
    )
    op.create_index("ix_device_quiet", "device", ["id"], postgresql_where=sa.text("quiet_since IS NOT NULL"))
    op.create_index("ix_device_desired", "device", ["id"], postgresql_where=sa.text("desired_version > 0"))
    op.create_table(
        "connection_change",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("cause", sa.String(length=12), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_connection_change_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection_change")),
    )
    op.create_index("ix_connection_change_device", "connection_change", ["device_id", "at"], unique=False)
    op.create_table(
        "device_command",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("token", sa.String(length=40), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.String(length=80), nullable=False),
        sa.Column("params", json, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("waits", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("timeout_s", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("replied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reply", json, nullable=True),
        sa.Column("error", sa.String(length=300), nullable=False),
        sa.Column("settings_version", sa.Integer(), nullable=True),
        sa.CheckConstraint("kind IN ('one_way', 'reply', 'kept')", name=op.f("ck_device_command_kind")),
        sa.CheckConstraint(
            "state IN ('queued', 'sent', 'delivered', 'done', 'failed', 'timed_out', 'expired', 'cancelled')",
            name=op.f("ck_device_command_state"),
        ),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_device_command_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_command")),
        sa.UniqueConstraint("token", name=op.f("uq_device_command_token")),
    )
    op.create_index("ix_device_command_device", "device_command", ["device_id", "id"], unique=False)
    op.create_index(
        "ix_device_command_open",
        "device_command",
        ["device_id"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'sent', 'delivered')"),
    )
