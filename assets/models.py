"""Where things are and what they are: sites, locations, asset types with their metrics, assets, devices.

A device is not an asset: it is bound to one for a period, so that replacing it keeps the asset's history.
"""

from datetime import date, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.identity import Credentials
from kernel.db import Id, Json, Name, Named, Row
from people.models import Customer, OrgUnit, Scoped
from telemetry import units
from telemetry.readings import Float64s
from telemetry.units import Conversion

STUCK_AFTER: Final = 30
"""Equal readings that make a sensor stuck unless its metric says otherwise."""
NUMERIC_KINDS: Final = frozenset({"gauge", "counter"})


class Site(Scoped, Named, Row):
    """A place with an address, coordinates (WGS-84) and a time zone for its calendars and shifts."""

    __tablename__ = "site"

    id: Mapped[Id]
    zone: Mapped[str] = mapped_column(String(60))
    address: Mapped[str] = mapped_column(String(300), default="")
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]

    unit: Mapped[OrgUnit] = relationship(foreign_keys="Site.unit_id")


class Location(Named, Row):
    """A hall, a line, a room: a tree without cycles inside a site."""

    __tablename__ = "location"

    id: Mapped[Id]
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"), index=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("location.id"), index=True)


class AssetType(Named, Row):
    """A kind of machine; what it measures is inherited from its parent type."""

    __tablename__ = "asset_type"
    __table_args__ = (UniqueConstraint("company_id", "key"),)

    id: Mapped[Id]
    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("asset_type.id"))
    key: Mapped[str] = mapped_column(String(60))
    icon: Mapped[str] = mapped_column(String(40), default="engine")
    skill: Mapped[str | None] = mapped_column(String(40))
    """Key of the skill that repairs of this type need."""
    quiet_factor: Mapped[float | None]
    """After how many expected intervals without a message a device on it is quiet; None inherits, 0 never is."""
    quiet_severity: Mapped[str | None] = mapped_column(String(10))
    """How severe that is, or *off*; None inherits."""

    metrics: Mapped[list["Metric"]] = relationship(order_by="Metric.position", cascade="all, delete-orphan")


class Metric(Named, Row):
    """Something a type of asset measures. ``low`` and ``high`` bound what is physically possible, in ``unit``."""

    __tablename__ = "metric"
    __table_args__ = (
        UniqueConstraint("type_id", "key"),
        CheckConstraint("kind IN ('gauge', 'counter', 'state', 'text')", name="kind"),
    )

    id: Mapped[Id]
    type_id: Mapped[int] = mapped_column(ForeignKey("asset_type.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(80))
    unit: Mapped[str] = mapped_column(String(20), default="")
    sent_unit: Mapped[str | None] = mapped_column(String(20))
    """The unit that devices send it in, where readings are converted when they come; None: in ``unit``."""
    kind: Mapped[str] = mapped_column(String(10), default="gauge")
    low: Mapped[float | None]
    high: Mapped[float | None]
    decimals: Mapped[int] = mapped_column(default=1)
    expected_interval_s: Mapped[int | None]
    is_on_change: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Devices send it when it changes and not at an interval: then it is never stale, has no gaps and rests."""
    stuck_after: Mapped[int | None]
    """How many equal readings of a sensor that used to vary make it stuck; None: as ``STUCK_AFTER`` says, 0: never."""
    uses_bad: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether rules use its bad values too."""
    position: Mapped[int] = mapped_column(default=0)

    @property
    def reports_on_change(self) -> bool:
        """Whether silence says nothing, as with a door or a switch that nobody expects at intervals."""
        return self.is_on_change or (self.kind == "state" and self.expected_interval_s is None)

    @property
    def stuck_limit(self) -> int:
        """After how many equal readings its sensor is stuck; 0: it may rest, as counters, states and texts do."""
        if self.kind != "gauge" or self.reports_on_change:
            return 0
        return STUCK_AFTER if self.stuck_after is None else self.stuck_after

    def unit_of(self, sent: Float64s, value: Float64s) -> NDArray[np.object_]:
        """Return the unit of each number as it was sent; None where that is not known, or nothing was converted."""
        units_of = np.full(len(value), None, np.object_)
        if self.sent_unit is not None and self.conversion is not None:
            units_of[self.conversion.explains(sent, value)] = self.sent_unit
        return units_of

    @property
    def conversion(self) -> Conversion | None:
        """How a number as it is sent becomes one in its unit; None where it is stored as it comes."""
        if self.sent_unit is None or self.kind not in NUMERIC_KINDS:
            return None
        return units.conversion(self.sent_unit, self.unit)


class Asset(Scoped, Named, Row):
    """A machine or a part of one. ``path`` is materialised over the asset tree, e.g. ``/12/80/``."""

    __tablename__ = "asset"
    __table_args__ = (
        UniqueConstraint("company_id", "code"),
        Index("ix_asset_path", "path", postgresql_ops={"path": "text_pattern_ops"}),
        CheckConstraint("status IN ('planned', 'in_service', 'out_of_service', 'scrapped')", name="status"),
        CheckConstraint("criticality BETWEEN 1 AND 4", name="criticality"),
    )

    id: Mapped[Id]
    code: Mapped[str] = mapped_column(String(60))
    type_id: Mapped[int] = mapped_column(ForeignKey("asset_type.id"), index=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"), index=True)
    location_id: Mapped[int | None] = mapped_column(ForeignKey("location.id"), index=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("asset.id"), index=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customer.id"), index=True)
    path: Mapped[str] = mapped_column(String(300), default="")
    status: Mapped[str] = mapped_column(String(20), default="in_service")
    criticality: Mapped[int] = mapped_column(default=3)
    """1 stops the plant, 4 is a convenience."""
    manufacturer: Mapped[str | None] = mapped_column(String(100))
    model: Mapped[str | None] = mapped_column(String(100))
    serial: Mapped[str | None] = mapped_column(String(100))
    commissioned_on: Mapped[date | None]
    warranty_until: Mapped[date | None]
    photo_id: Mapped[int | None] = mapped_column(ForeignKey("file.id"))
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)

    type: Mapped[AssetType] = relationship()
    site: Mapped[Site] = relationship()
    location: Mapped[Location | None] = relationship()
    customer: Mapped[Customer | None] = relationship()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as written


class Device(Scoped, Row):
    """Something that speaks MQTT: ``key`` is its user name and stands in its topics."""

    __tablename__ = "device"
    __table_args__ = (
        UniqueConstraint("key"),
        UniqueConstraint("client_id"),
        Index("ix_device_untold", "online_changed_at", postgresql_where=text("connection <> connection_told")),
        Index("ix_device_quiet", "id", postgresql_where=text("quiet_since IS NOT NULL")),
        Index("ix_device_desired", "id", postgresql_where=text("desired_version > 0")),
        CheckConstraint("connection IN ('unknown', 'online', 'offline', 'unreachable')", name="connection"),
    )

    id: Mapped[Id]
    key: Mapped[str] = mapped_column(String(80))
    name: Mapped[Name]
    password_hash: Mapped[str | None] = mapped_column(String(200))
    """In Mosquitto's own format, so that one hash serves the embedded broker and a password file."""
    password_alias: Mapped[str | None] = mapped_column(String(90))
    """The second user name that a rotation with overlap gave its password; see ``assets.identity``."""
    password_changed_at: Mapped[datetime | None]
    previous_hash: Mapped[str | None] = mapped_column(String(200))
    previous_alias: Mapped[str | None] = mapped_column(String(90))
    previous_until: Mapped[datetime | None]
    """Until when the password before works too."""
    client_id: Mapped[str | None] = mapped_column(String(128))
    """The one MQTT client id it may use; any when None."""
    accepts_certificate: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether a trusted client certificate whose common name is its key lets it in without a password."""
    enrolment_id: Mapped[int | None] = mapped_column(ForeignKey("enrolment.id"), index=True)
    """How it came here by itself, if it did."""
    gateway_id: Mapped[int | None] = mapped_column(ForeignKey("device.id"), index=True)
    connection: Mapped[str] = mapped_column(String(12), default="unknown", server_default="unknown")
    """*online*, *offline*, *unreachable* (its gateway is offline), or *unknown* before its first word."""
    connection_told: Mapped[str] = mapped_column(String(12), default="unknown", server_default="unknown")
    """What others were told of it last; a device that comes and goes is told of once it keeps still."""
    is_online: Mapped[bool] = mapped_column(default=False)
    online_changed_at: Mapped[datetime | None]
    """Since when ``connection`` is what it is."""
    last_seen_at: Mapped[datetime | None]
    attributes: Mapped[Json] = mapped_column(default=dict, server_default=text("'{}'"))
    """What it reports of itself."""
    desired: Mapped[Json] = mapped_column(default=dict, server_default=text("'{}'"))
    """The settings it should have, each a name and a value."""
    desired_version: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    quiet_since: Mapped[datetime | None]
    """Set while it is missed: since when nothing is heard of it."""
    quiet_after_s: Mapped[int | None]
    """After how long without a message it is quiet; None: as its type says, 0: never."""
    quiet_severity: Mapped[str | None] = mapped_column(String(10))
    """How severe that is, or *off*; None: as its type says."""
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]

    bindings: Mapped[list["Binding"]] = relationship(back_populates="device")

    @property
    def credentials(self) -> Credentials:
        """What it may show to be let in; nothing once it is revoked."""
        if self.revoked_at is not None:
            return Credentials()
        return Credentials(
            self.password_hash,
            self.password_alias,
            self.previous_hash,
            self.previous_alias,
            self.previous_until,
            self.client_id,
            self.accepts_certificate,
        )


class Attribute(Row):
    """A named value that people give a device, an asset, a site, a customer or an org unit; rules may ask for it.

    ``subject_id`` is the row of the ``level``; there is no foreign key, because it points into one of five tables.
    """

    __tablename__ = "attribute"
    __table_args__ = (
        UniqueConstraint("level", "subject_id", "name"),
        CheckConstraint("level IN ('device', 'asset', 'site', 'customer', 'unit')", name="level"),
    )

    id: Mapped[Id]
    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"), index=True)
    level: Mapped[str] = mapped_column(String(10))
    subject_id: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(80))
    value: Mapped[Any] = mapped_column(JSONB)
    """A number, a text, true or false, or an object such as a schedule."""
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(String(80))


class Binding(Row):
    """A device measuring an asset for the period ``[starts_at, ends_at)``."""

    __tablename__ = "binding"
    __table_args__ = (
        Index("uq_binding_device_current", "device_id", unique=True, postgresql_where=text("ends_at IS NULL")),
        Index("ix_binding_asset", "asset_id"),
    )

    id: Mapped[Id]
    device_id: Mapped[int] = mapped_column(ForeignKey("device.id"))
    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]

    device: Mapped[Device] = relationship(back_populates="bindings")
    asset: Mapped[Asset] = relationship()


class DeviceApplication(Scoped, Row):
    """A device that is not known here and asks to be let in. One a key and company: asking again is the same one."""

    __tablename__ = "device_application"
    __table_args__ = (
        UniqueConstraint("company_id", "key"),
        Index("ix_device_application_waiting", "unit_id", "id", postgresql_where=text("state = 'waiting'")),
        CheckConstraint("origin IN ('secret', 'chain', 'sparkplug', 'mapping', 'claim')", name="origin"),
        CheckConstraint("state IN ('waiting', 'approved', 'declined')", name="state"),
    )

    id: Mapped[Id]
    key: Mapped[str] = mapped_column(String(80))
    name: Mapped[Name]
    origin: Mapped[str] = mapped_column(String(10))
    gateway_id: Mapped[int | None] = mapped_column(ForeignKey("device.id"), index=True)
    asset_type_id: Mapped[int | None] = mapped_column(ForeignKey("asset_type.id", ondelete="SET NULL"), index=True)
    said: Mapped[Json] = mapped_column(default=dict, server_default=text("'{}'"))
    """What it told of itself when it asked last: a serial, a model, its metrics."""
    state: Mapped[str] = mapped_column(String(10), default="waiting")
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(String(80))
    reason: Mapped[str | None] = mapped_column(String(300))
    """Why it was declined."""
    device_id: Mapped[int | None] = mapped_column(ForeignKey("device.id"))
    """The device it became."""

    gateway: Mapped[Device | None] = relationship(foreign_keys="DeviceApplication.gateway_id")
    asset_type: Mapped[AssetType | None] = relationship()


class Enrolment(Scoped, Row):
    """A way for devices to come in by themselves: a type's shared secret, a one-time code, a trusted authority."""

    __tablename__ = "enrolment"
    __table_args__ = (
        UniqueConstraint("proof"),
        CheckConstraint("kind IN ('secret', 'claim', 'chain')", name="kind"),
        Index("ix_enrolment_type", "asset_type_id", "id"),
    )

    id: Mapped[Id]
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[Name]
    proof: Mapped[str] = mapped_column(String(64))
    """SHA-256 in hex: of the secret, of the code, or of the authority's certificate."""
    certificate: Mapped[str | None]
    """The authority's certificate in PEM; only of a chain."""
    asset_type_id: Mapped[int | None] = mapped_column(ForeignKey("asset_type.id", ondelete="SET NULL"))
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("asset.id"))
    """What the device that claims will measure."""
    device_key: Mapped[str | None] = mapped_column(String(80))
    """The only device that may use a claim code; any when None."""
    needs_approval: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(80))
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    """When it was used last; a claim code is used once."""
    revoked_at: Mapped[datetime | None]

    asset_type: Mapped[AssetType | None] = relationship()
    asset: Mapped[Asset | None] = relationship()


class ConnectionChange(Row):
    """A device came, went, or lost its gateway; ``cause`` says how that is known."""

    __tablename__ = "connection_change"
    __table_args__ = (Index("ix_connection_change_device", "device_id", "at"),)

    id: Mapped[Id]
    device_id: Mapped[int] = mapped_column(ForeignKey("device.id"))
    at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(12))
    cause: Mapped[str] = mapped_column(String(12))
    """*said* (by itself or its last will), *connection*, *heard*, *silence* or *gateway*."""
