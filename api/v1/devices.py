"""Devices over JSON: registered, given credentials, bound to assets, shut out."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.instants import Instant
from assets import credentials, devices, listing, passwords
from assets.models import Asset, Binding, Device, Site
from kernel import clock
from kernel.errors import Invalid, NotFound
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(prefix="/devices", tags=["devices"])
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("devices.write")]


class DeviceIn(BaseModel):
    """A device to be registered, on an asset or at a site. One of ``asset_id`` and ``site_id`` is needed."""

    key: str = Field(description="Its MQTT user name and the level of its topics.")
    name: str = ""
    asset_id: int | None = Field(None, description="The asset it measures from now on.")
    site_id: int | None = Field(None, description="Where it belongs while it measures nothing.")
    gateway_id: int | None = Field(None, description="The device that speaks for it.")


class DeviceOut(BaseModel):
    """A device."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    key: str
    name: str
    unit_id: int
    gateway_id: int | None
    connection: str = Field(description="online, offline, unreachable (its gateway is offline), or unknown.")
    is_online: bool
    online_changed_at: datetime | None
    last_seen_at: datetime | None
    quiet_since: datetime | None = Field(description="While it is missed: since when nothing is heard of it.")
    quiet_after_s: int | None
    quiet_severity: str | None
    attributes: dict[str, Any]
    desired: dict[str, Any]
    desired_version: int
    created_at: datetime
    revoked_at: datetime | None
    client_id: str | None = Field(description="The one MQTT client id it may use; any when null.")
    accepts_certificate: bool = Field(description="Whether a trusted certificate with its key as common name does.")
    password_changed_at: datetime | None
    previous_until: datetime | None = Field(description="Until when the password before works too.")
    asset_id: int | None = None


class Issued(DeviceOut):
    """A device with its credentials. The password is shown this once and kept as a hash only."""

    username: str
    second_username: str | None = Field(
        description="While a rotation overlaps: the name under which a Mosquitto broker knows the new password."
    )
    password: str
    topic: str


class BindingOut(BaseModel):
    """A period for which a device measured an asset: ``[starts_at, ends_at)``."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    device_id: int
    asset_id: int
    starts_at: datetime
    ends_at: datetime | None


class Bind(BaseModel):
    """Which asset a device measures, and since when; now unless given."""

    asset_id: int
    starts_at: Instant | None = None


class Unbind(BaseModel):
    """When a binding ended; now unless given."""

    ends_at: Instant | None = None


class Replace(BaseModel):
    """Which device took this one's place, and when; now unless given."""

    device_id: int
    at: Instant | None = None


class Change(BaseModel):
    """What to change of a device; what is left out stays."""

    name: str | None = None
    client_id: str | None = Field(None, description="The one MQTT client id it may use; null for any.")
    accepts_certificate: bool | None = None


class Rotate(BaseModel):
    """How long the password before works too; not at all unless given."""

    overlap_hours: int = Field(0, ge=0, le=2160)


@router.get("")
def all_devices(
    db: Db,
    viewer: Reader,
    *,
    q: str = "",
    state: Literal["online", "offline", "unreachable", "quiet", "unbound", "revoked"] | None = None,
    asset_id: int | None = None,
    gateway_id: int | None = None,
    limit: paging.Limit = 100,
    cursor: paging.Cursor = None,
) -> paging.Page[DeviceOut]:
    """List devices in order of key."""
    after = paging.read(cursor, (str, int))
    rows = listing.devices(
        db, viewer, text=q.strip(), state=state, asset_id=asset_id, gateway_id=gateway_id, after=after, limit=limit + 1
    )
    page, following = paging.cut(rows, limit, lambda row: (row.key, row.id))
    bound = listing.bound_now(db, [row.id for row in page])
    return paging.Page(items=[_shown(row, bound.get(row.id)) for row in page], next=following)


@router.post("", status_code=201)
def register(db: Db, viewer: Writer, body: DeviceIn, response: Response) -> Issued:
    """Register a device, give it credentials, and bind it when an asset is named."""
    response.headers["Cache-Control"] = "no-store"
    device, password = add(db, viewer, body)
    return _issued(db, device, password)


def add(db: Session, viewer: Viewer, body: DeviceIn) -> tuple[Device, str]:
    """Register a device for a viewer who may do so there; return it with its password, which nobody keeps.

    Raises:
        Invalid: neither asset nor site is named, or what is named is not the viewer's to see.
    """
    now = clock.now()
    asset = _asset(db, viewer, body.asset_id)
    unit_id = asset.unit_id if asset else _site(db, viewer, body.site_id).unit_id
    scope.require(db, viewer, "devices.write", unit_id)
    if body.gateway_id is not None:
        _device(db, viewer, body.gateway_id, "gateway_id")
    draft = devices.DeviceDraft(body.key, body.name or body.key, body.gateway_id)
    device = devices.register(db, draft, unit=db.get_one(OrgUnit, unit_id), actor=viewer.actor, now=now)
    password = passwords.draw()
    credentials.issue(db, device, passwords.hashed(password), actor=viewer.actor, now=now)
    if asset is not None:
        devices.bind(db, device, asset, actor=viewer.actor, now=now)
    return device, password


@router.get("/{device_id}")
def device(db: Db, viewer: Reader, device_id: int) -> DeviceOut:
    """Return one device."""
    return _now(db, scope.find(db, Device, device_id, viewer, "assets.read"))


@router.patch("/{device_id}")
def change(db: Db, viewer: Writer, device_id: int, body: Change) -> DeviceOut:
    """Give a device another name, bind it to a client id, or let a certificate stand for it; its key stays."""
    found, now = mine(db, viewer, device_id), clock.now()
    if body.name is not None:
        devices.rename(db, found, body.name, actor=viewer.actor, now=now)
    if "client_id" in body.model_fields_set:
        credentials.bind_client(db, found, body.client_id, actor=viewer.actor, now=now)
    if body.accepts_certificate is not None:
        credentials.accept_certificate(db, found, body.accepts_certificate, actor=viewer.actor, now=now)
    return _now(db, found)


@router.get("/{device_id}/bindings")
def bindings(db: Db, viewer: Reader, device_id: int) -> paging.Page[BindingOut]:
    """List what a device measured and when, the present first."""
    found = scope.find(db, Device, device_id, viewer, "assets.read")
    rows = history(db, viewer, found)
    return paging.Page(items=[BindingOut.model_validate(row) for row in rows])


def history(db: Session, viewer: Viewer, found: Device) -> list[Binding]:
    """Return the bindings of a device to assets within the viewer's sight, the latest first, at most 200."""
    query = (
        select(Binding)
        .join(Asset, Asset.id == Binding.asset_id)
        .where(Binding.device_id == found.id, scope.visible(Asset, viewer, "assets.read"))
        .order_by(Binding.starts_at.desc(), Binding.id.desc())
        .limit(200)
    )
    return list(db.scalars(query))


@router.post("/{device_id}/rotate")
def rotate(db: Db, viewer: Writer, device_id: int, response: Response, body: Rotate | None = None) -> Issued:
    """Give a device another password. The one before is void at once, or works on for some hours."""
    response.headers["Cache-Control"] = "no-store"
    found = mine(db, viewer, device_id)
    return _issued(db, found, new_password(db, viewer, found, overlap_hours=body.overlap_hours if body else 0))


def new_password(db: Session, viewer: Viewer, found: Device, *, overlap_hours: int = 0) -> str:
    """Draw another password for a device, keep its hash, and return it this once."""
    password, now = passwords.draw(), clock.now()
    if overlap_hours:
        keep, stored = timedelta(hours=overlap_hours), passwords.hashed(password)
        credentials.rotate(db, found, stored, keep=keep, actor=viewer.actor, now=now)
    else:
        credentials.issue(db, found, passwords.hashed(password), actor=viewer.actor, now=now)
    return password


@router.post("/{device_id}/end_overlap")
def end_overlap(db: Db, viewer: Writer, device_id: int) -> DeviceOut:
    """Void the password before at once."""
    found = mine(db, viewer, device_id)
    credentials.end_overlap(db, found, actor=viewer.actor, now=clock.now())
    return _now(db, found)


@router.post("/{device_id}/revoke")
def revoke(db: Db, viewer: Writer, device_id: int) -> DeviceOut:
    """Shut a device out for good; what it sent stays."""
    found = mine(db, viewer, device_id)
    devices.revoke(db, found, actor=viewer.actor, now=clock.now())
    return _now(db, found)


@router.post("/{device_id}/bind")
def bind(db: Db, viewer: Writer, device_id: int, body: Bind) -> DeviceOut:
    """Let a device measure an asset; it leaves the one it measured."""
    found = mine(db, viewer, device_id)
    asset = _asset(db, viewer, body.asset_id)
    assert asset is not None  # noqa: S101 - an id was given
    scope.require(db, viewer, "devices.write", asset.unit_id)
    devices.bind(db, found, asset, starts_at=body.starts_at, actor=viewer.actor, now=clock.now())
    return _now(db, found)


@router.post("/{device_id}/unbind")
def unbind(db: Db, viewer: Writer, device_id: int, body: Unbind) -> DeviceOut:
    """End a device's binding."""
    found = mine(db, viewer, device_id)
    devices.unbind(db, found, ends_at=body.ends_at, actor=viewer.actor, now=clock.now())
    return _now(db, found)


@router.post("/{device_id}/replace")
def replace(db: Db, viewer: Writer, device_id: int, body: Replace) -> DeviceOut:
    """Put another device in this one's place, so that the asset's curves continue."""
    old = mine(db, viewer, device_id)
    new = _device(db, viewer, body.device_id, "device_id")
    scope.require(db, viewer, "devices.write", new.unit_id)
    devices.replace(db, old, new, at=body.at, actor=viewer.actor, now=clock.now())
    return _now(db, new)


def mine(db: Session, viewer: Viewer, device_id: int) -> Device:
    """Return a device the viewer may change.

    Raises:
        NotFound: it lies outside the viewer's sight.
        Forbidden: it is not the viewer's to change.
    """
    found = scope.find(db, Device, device_id, viewer, "assets.read")
    scope.require(db, viewer, "devices.write", found.unit_id)
    return found


def _asset(db: Session, viewer: Viewer, asset_id: int | None) -> Asset | None:
    if asset_id is None:
        return None
    try:
        return scope.find(db, Asset, asset_id, viewer, "assets.read")
    except NotFound as error:
        raise Invalid("There is no such asset.", field="asset_id") from error


def _site(db: Session, viewer: Viewer, site_id: int | None) -> Site:
    if site_id is None:
        raise Invalid("Please say on which asset, or at which site.", field="asset_id")
    try:
        return scope.find(db, Site, site_id, viewer, "assets.read")
    except NotFound as error:
        raise Invalid("There is no such site.", field="site_id") from error


def _device(db: Session, viewer: Viewer, device_id: int, field: str) -> Device:
    try:
        return scope.find(db, Device, device_id, viewer, "assets.read")
    except NotFound as error:
        raise Invalid("There is no such device.", field=field) from error


def _now(db: Session, device: Device) -> DeviceOut:
    return _shown(device, listing.bound_now(db, [device.id]).get(device.id))


def _shown(device: Device, binding: Binding | None) -> DeviceOut:
    made = DeviceOut.model_validate(device)
    made.asset_id = binding.asset_id if binding else None
    made.previous_until = device.previous_until if device.credentials.previous(clock.now()) else None
    return made


def _issued(db: Session, device: Device, password: str) -> Issued:
    return Issued(
        **_now(db, device).model_dump(),
        username=device.key,
        second_username=device.password_alias,
        password=password,
        topic=f"fw/v1/{device.key}/telemetry",
    )
