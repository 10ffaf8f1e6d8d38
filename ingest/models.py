"""What ingest keeps beside the readings: messages set aside, counts, alarm sequences, who reads what, mappings."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    desc,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.models import AssetType, Device
from kernel import clock
from kernel.db import Id, Json, Named, Row
from kernel.jobs import Job
from people.models import Scoped


class RejectedMessage(Row):
    """A message that could not be used, whole, with the reason, until it is replayed."""

    __tablename__ = "rejected_message"
    __table_args__ = (
        Index("ix_rejected_message_open", "id", postgresql_where=text("replayed_at IS NULL")),
        Index("ix_rejected_message_asked", "id", postgresql_where=text("replay_asked_at IS NOT NULL")),
        Index("uq_rejected_message_digest", "digest", unique=True),
    )

    id: Mapped[Id]
    first_at: Mapped[datetime] = mapped_column(index=True, default=clock.now)
    """When it came first; ``received_at`` is when it came last."""
    received_at: Mapped[datetime]
    topic: Mapped[str] = mapped_column(String(1000))
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    device_key: Mapped[str | None] = mapped_column(String(200), index=True)
    unit_id: Mapped[int | None] = mapped_column(ForeignKey("org_unit.id"), index=True)
    """None when the device is unknown: then only a viewer of the whole company sees it."""
    reason: Mapped[str] = mapped_column(String(40))
    detail: Mapped[str] = mapped_column(String(400), default="")
    repeats: Mapped[int] = mapped_column(default=1)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of topic, payload and reason, so that a redelivered message is kept once and counted."""
    replay_asked_at: Mapped[datetime | None]
    """Set while a person waits for the ingest process to try it again; ``replayed_by`` says who."""
    replayed_at: Mapped[datetime | None]
    replayed_by: Mapped[str | None] = mapped_column(String(80))


class IntakeCount(Row):
    """Messages of one device in one hour: received = stored + duplicate + rejected."""

    __tablename__ = "intake_count"
    __table_args__ = (
        Index("ix_intake_count_hour", "hour", "device_id"),
        Index("ix_intake_count_rejected", "hour", desc("rejected"), postgresql_where=text("rejected > 0")),
    )

    device_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    """0 for messages of unknown devices."""
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    stored: Mapped[int] = mapped_column(BigInteger, default=0)
    duplicate: Mapped[int] = mapped_column(BigInteger, default=0)
    rejected: Mapped[int] = mapped_column(BigInteger, default=0)


class IntakeTotal(Row):
    """The same for all devices of one org unit together, so that a page adds up no hundred thousand rows."""

    __tablename__ = "intake_total"
    __table_args__ = (Index("ix_intake_total_hour", "hour"),)

    unit_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    """0 for messages of unknown devices."""
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    stored: Mapped[int] = mapped_column(BigInteger, default=0)
    duplicate: Mapped[int] = mapped_column(BigInteger, default=0)
    rejected: Mapped[int] = mapped_column(BigInteger, default=0)


class IntakeLimit(Row):
    """What a device, or each device on machines of a type, may send a second; 0 is no limit."""

    __tablename__ = "intake_limit"
    __table_args__ = (
        CheckConstraint("(asset_type_id IS NULL) <> (device_id IS NULL)", name="of_one"),
        CheckConstraint("messages >= 0 AND points >= 0", name="rates"),
        UniqueConstraint("asset_type_id"),
        UniqueConstraint("device_id"),
    )

    id: Mapped[Id]
    asset_type_id: Mapped[int | None] = mapped_column(ForeignKey("asset_type.id", ondelete="CASCADE"))
    device_id: Mapped[int | None] = mapped_column(ForeignKey("device.id", ondelete="CASCADE"))
    messages: Mapped[float]
    points: Mapped[float]


class BrokerCount(Row):
    """How many messages a broker says it dropped since *its* start, as it was last heard."""

    __tablename__ = "broker_count"

    broker: Mapped[str] = mapped_column(String(300), primary_key=True)
    dropped: Mapped[int] = mapped_column(BigInteger)
    heard_at: Mapped[datetime]


class BrokerDrop(Row):
    """Messages a broker dropped in one hour, as far as they were told."""

    __tablename__ = "broker_drop"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    broker: Mapped[str] = mapped_column(String(300), primary_key=True)
    dropped: Mapped[int] = mapped_column(BigInteger, default=0)


class IngestWorker(Row):
    """One life of one ingest process. Its row is its licence: once ``ended_at`` is set, it may write nothing more."""

    __tablename__ = "ingest_worker"
    __table_args__ = (Index("ix_ingest_worker_living", "id", postgresql_where=text("ended_at IS NULL")),)

    id: Mapped[Id]
    """Also the fencing token: numbers only grow, and a life that has ended never comes back."""
    share: Mapped[str] = mapped_column(String(80), default="")
    """The name of the shared subscription; empty for one reader with others standing by."""
    host: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int]
    role: Mapped[str] = mapped_column(String(10), default="standby")
    """``standby`` or ``active``."""
    epoch: Mapped[int | None]
    """How many took the lead before it, itself included; None while it stands by."""
    started_at: Mapped[datetime]
    active_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_why: Mapped[str] = mapped_column(String(40), default="")
    losses: Mapped[int] = mapped_column(BigInteger, default=0)
    """How often others took assets from it; see ``ingest.claims``."""
    received_s: Mapped[float] = mapped_column(default=0.0)
    """Messages received a second, lately."""
    lag_ms: Mapped[float] = mapped_column(default=0.0)
    backlog: Mapped[int] = mapped_column(BigInteger, default=0)
    """Messages received and not yet durable."""
    assets: Mapped[int | None]
    """How many assets it evaluates; None where it evaluates all."""
    last_error: Mapped[str] = mapped_column(String(400), default="")
    findings: Mapped[Json] = mapped_column(default=dict)
    """How it stands with the platform, as this worker sees it; empty until it has looked. See ``ingest.verdict``."""


class IngestClaim(Row):
    """Which worker evaluates the rules of an asset, where several share the work."""

    __tablename__ = "ingest_claim"

    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True)
    worker_id: Mapped[int] = mapped_column(ForeignKey("ingest_worker.id"), index=True)


class AlarmReport(Row):
    """An alarm message of a device, once a sequence number: a repeated one is acknowledged and changes nothing."""

    __tablename__ = "alarm_report"

    device_id: Mapped[int] = mapped_column(ForeignKey("device.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    code: Mapped[str] = mapped_column(String(80))
    state: Mapped[str] = mapped_column(String(10))
    at: Mapped[datetime]
    received_at: Mapped[datetime]
    is_orphan: Mapped[bool] = mapped_column(default=False)
    alarm_id: Mapped[int | None] = mapped_column(ForeignKey("alarm.id"))


class Mapping(Scoped, Named, Row):
    """How messages of somebody else's format are read; what it says lives in versions.

    It speaks for devices of its org unit and those below. With a ``topic`` it reads that; with an ``asset_type_id``
    it is the decoder of what devices on assets of this type, and of those that inherit from it, send as raw bytes.
    """

    __tablename__ = "mapping"
    __table_args__ = (
        UniqueConstraint("asset_type_id"),
        CheckConstraint("(topic = '') = (asset_type_id IS NOT NULL)", name="one_source"),
    )

    id: Mapped[Id]
    topic: Mapped[str] = mapped_column(String(200), default="")
    """That of the version in force; "" for the decoder of a type."""
    asset_type_id: Mapped[int | None] = mapped_column(ForeignKey("asset_type.id"))
    bridge_id: Mapped[int | None] = mapped_column(ForeignKey("device.id"))
    """The device whose account may publish to its topics, at the embedded broker and at a managed Mosquitto."""
    admits: Mapped[bool] = mapped_column(default=False)
    """Unknown devices it names are listed for approval."""
    ready: Mapped[str | None] = mapped_column(String(60))
    """Key of the ready mapping it was adopted from."""
    is_enabled: Mapped[bool] = mapped_column(default=True)
    version: Mapped[int] = mapped_column(default=1)
    """The number of the version in force."""
    changed_at: Mapped[datetime]

    asset_type: Mapped[AssetType | None] = relationship()
    bridge: Mapped[Device | None] = relationship()


class MappingVersion(Row):
    """What a mapping says, as it was from one edit to the next, with the message it was tried on; never changed."""

    __tablename__ = "mapping_version"
    __table_args__ = (UniqueConstraint("mapping_id", "number"),)

    id: Mapped[Id]
    mapping_id: Mapped[int] = mapped_column(ForeignKey("mapping.id"))
    number: Mapped[int]
    definition: Mapped[Json]
    sample: Mapped[Json]
    author: Mapped[str] = mapped_column(String(80))
    at: Mapped[datetime]


class MappingUse(Row):
    """How often a mapping was used and refused, about once a second brought up to date."""

    __tablename__ = "mapping_use"

    mapping_id: Mapped[int] = mapped_column(ForeignKey("mapping.id"), primary_key=True)
    taken: Mapped[int] = mapped_column(BigInteger, default=0)
    refused: Mapped[int] = mapped_column(BigInteger, default=0)
    last_at: Mapped[datetime | None]
    last_refused_at: Mapped[datetime | None]
    last_refusal: Mapped[str] = mapped_column(String(400), default="")


class SparkplugNode(Row):
    """Where the session of a Sparkplug edge node stands; see ``ingest.sparkplug.session.Node``."""

    __tablename__ = "sparkplug_node"

    device_id: Mapped[int] = mapped_column(ForeignKey("device.id"), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(200))
    is_alive: Mapped[bool]
    session: Mapped[int | None]
    seq: Mapped[int | None]
    born_ms: Mapped[int] = mapped_column(BigInteger)
    asked_ms: Mapped[int] = mapped_column(BigInteger)
    asks: Mapped[int]
    is_asked: Mapped[bool]
    recent: Mapped[bytes] = mapped_column(LargeBinary)
    """Digests of the messages taken lately, each with its time, so that a redelivered one is known again."""
    mark: Mapped[int] = mapped_column(BigInteger)
    """Drawn anew by whoever writes this row, so that a worker sees whether another has followed the node meanwhile."""
    follows: Mapped[int] = mapped_column(BigInteger)
    """The mark of the state that this one was reached from; it is written over no other."""


class SparkplugBirth(Row):
    """What an edge node, or a device behind it, said at its birth that it would speak of."""

    __tablename__ = "sparkplug_birth"

    node_id: Mapped[int] = mapped_column(ForeignKey("sparkplug_node.device_id", ondelete="CASCADE"), primary_key=True)
    device: Mapped[str] = mapped_column(String(200), primary_key=True)
    """The name in its topic; empty for the node itself."""
    life: Mapped[int]
    metrics: Mapped[bytes] = mapped_column(LargeBinary)
    """JSON: name, alias and data type of each. As bytes, because a name may hold what PostgreSQL's own JSON cannot."""


class WebhookSource(Scoped, Row):
    """Another system that posts to ``/api/v1/intake/webhook/{name}``, with a secret that is not kept."""

    __tablename__ = "webhook_source"
    __table_args__ = (CheckConstraint("proof IN ('token', 'signature')", name="proof"),)

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(60), unique=True)
    proof: Mapped[str] = mapped_column(String(10))
    """Whether it shows the secret, or signs each body with it (HMAC-SHA256) in the header ``header``."""
    header: Mapped[str] = mapped_column(String(60), default="")
    nonce: Mapped[str] = mapped_column(String(64))
    """The secret is made from this and the key of the installation; another one makes another secret."""
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class HistoryImport(Job, Row):
    """A file of old readings on its way into the store: what it is, what was found in it, how far it has come."""

    __tablename__ = "history_import"
    __table_args__ = (
        CheckConstraint(
            "state IN ('open', 'queued', 'running', 'checked', 'done', 'failed', 'discarded')", name="state"
        ),
        Index("ix_history_import_open", "id", postgresql_where=text("state IN ('queued', 'running')")),
        Index("ix_history_import_account", "account_id", "id"),
    )

    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    actor: Mapped[str] = mapped_column(String(80))
    is_trial: Mapped[bool] = mapped_column(default=True)
    """Whether it is only read, to say what it would do."""
    file_name: Mapped[str] = mapped_column(String(200))
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    """Bytes of the file."""
    zone: Mapped[str] = mapped_column(String(60))
    """Of times without an offset."""
    device_key: Mapped[str] = mapped_column(String(80), default="")
    """Whose readings rows hold that name neither device nor asset."""
    asset_code: Mapped[str] = mapped_column(String(60), default="", server_default=text("''"))
    """What such rows are of; with a device too, it is that device on this asset."""
    backdates: Mapped[bool]
    """Whether they belong to the asset that the device measures, also from before it was bound."""
    percent: Mapped[int] = mapped_column(default=0)
    report: Mapped[Json] = mapped_column(default=dict)
    """What was found, as ``ingest.history.Report`` writes it."""
    trouble: Mapped[Json | None]
    """Why it failed: a sentence of the catalogues and its values, so that each reader has it in their language."""
    asked_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
