"""The ledger of messages by org unit, what brokers dropped, and who reads what"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COUNTED = ("received", "stored", "duplicate", "rejected")


def _counts() -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTED]


def upgrade() -> None:
    op.create_table(
        "intake_total",
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        *_counts(),
        sa.PrimaryKeyConstraint("unit_id", "hour", name=op.f("pk_intake_total")),
    )
    op.create_index("ix_intake_total_hour", "intake_total", ["hour"], unique=False)
    op.execute(
        "INSERT INTO intake_total (unit_id, hour, received, stored, duplicate, rejected)"
        " SELECT coalesce(device.unit_id, 0), hour, sum(received), sum(stored), sum(duplicate), sum(rejected)"
        " FROM intake_count LEFT JOIN device ON device.id = intake_count.device_id GROUP BY 1, 2"
    )
    op.create_index("ix_intake_count_hour", "intake_count", ["hour", "device_id"], unique=False)
    op.create_index(
        "ix_intake_count_rejected",
        "intake_count",
        ["hour", sa.text("rejected DESC")],
        unique=False,
        postgresql_where=sa.text("rejected > 0"),
    )
    op.add_column("rejected_message", sa.Column("first_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE rejected_message SET first_at = received_at")
    op.alter_column("rejected_message", "first_at", nullable=False)
    op.create_index("ix_rejected_message_first_at", "rejected_message", ["first_at"], unique=False)
    op.create_table(
        "broker_count",
        sa.Column("broker", sa.String(length=300), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("broker", name=op.f("pk_broker_count")),
    )
    op.create_table(
        "broker_drop",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("broker", sa.String(length=300), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "broker", name=op.f("pk_broker_drop")),
    )
    op.create_table(
        "ingest_worker",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("share", sa.String(length=80), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("active_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_why", sa.String(length=40), nullable=False),
        sa.Column("losses", sa.BigInteger(), nullable=False),
        sa.Column("received_s", sa.Float(), nullable=False),
        sa.Column("lag_ms", sa.Float(), nullable=False),
        sa.Column("backlog", sa.BigInteger(), nullable=False),
        sa.Column("assets", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ingest_worker")),
    )
    op.create_index(
        "ix_ingest_worker_living", "ingest_worker", ["id"], unique=False, postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_table(
        "ingest_claim",
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("worker_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_ingest_claim_asset_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["worker_id"], ["ingest_worker.id"], name=op.f("fk_ingest_claim_worker_id")),
        sa.PrimaryKeyConstraint("asset_id", name=op.f("pk_ingest_claim")),
    )
    op.create_index("ix_ingest_claim_worker_id", "ingest_claim", ["worker_id"], unique=False)
