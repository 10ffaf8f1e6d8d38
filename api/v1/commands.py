"""Commands to devices, the settings they should have, how they were connected, and when silence is too long."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from assets import commands, desired_settings, quietness, settings
from assets.command_tables import DeviceCommand
from assets.models import AssetType, Device
from ingest import quiet
from kernel import clock
from kernel.errors import NotFound
from people import scope
from people.scope import Viewer

router = APIRouter(tags=["devices"])
Reader = Annotated[Viewer, needs("assets.read")]
"""Who may look. Sending takes ``devices.command`` besides; whoever lacks it finds no device to send to (404)."""
Owner = Annotated[Viewer, needs("devices.write")]
TypeWriter = Annotated[Viewer, needs("assets.write")]
COMMAND = "devices.command"
Severity = Literal["off", "info", "warning", "minor", "major", "critical"]


class CommandIn(BaseModel):
    """What a device is to do."""

    method: str = Field(description="As the device knows it: set_interval, restart, …")
    params: dict[str, Any] = Field(default_factory=dict)
    kind: Literal["one_way", "reply", "kept"] = Field(
        "reply", description="one_way: nobody answers; reply: an answer ends it; kept: so, and it waits for the device."
    )
    waits: bool = Field(False, description="one_way only: wait for a device that is not online instead of failing.")
    timeout_s: int = Field(commands.TIMEOUT_S, description="How long the answer to a command of kind reply may take.")
    expires_s: int = Field(commands.KEPT_S, description="For how long it may wait to be sent.")


class CommandOut(BaseModel):
    """A command and what has become of it."""

    model_config = ConfigDict(from_attributes=True)

    id: str = Field(validation_alias="token")
    device_id: int
    method: str
    params: dict[str, Any]
    kind: str
    waits: bool
    state: str
    created_at: datetime
    actor: str
    expires_at: datetime
    timeout_s: int
    attempts: int
    sent_at: datetime | None
    delivered_at: datetime | None
    ended_at: datetime | None
    replied_at: datetime | None
    reply: dict[str, Any] | None
    is_late: bool = Field(description="The answer came after the command had been given up.")
    error: str
    settings_version: int | None


class DesiredIn(BaseModel):
    """The settings a device should have, all of them: what is left out is no longer wanted."""

    settings: dict[str, Any]


class DifferenceOut(BaseModel):
    """A setting that the device does not report as wanted."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    wanted: Any
    reported: Any
    is_reported: bool


class DesiredOut(BaseModel):
    """The settings a device should have, and where those it reports differ."""

    version: int
    settings: dict[str, Any]
    differences: list[DifferenceOut]


class ConnectionOut(BaseModel):
    """A device came, went, or lost its gateway."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    state: str
    cause: str


class DeviceSilence(BaseModel):
    """When a device is quiet, and how severe that is; null: as its type says."""

    after_s: int | None = Field(None, description="Seconds without a message; 0: never.")
    severity: Severity | None = None


class TypeSilence(BaseModel):
    """When devices on machines of a type are quiet, and how severe that is; null inherits."""

    factor: float | None = Field(None, description="So many times the shortest expected interval; 0: never.")
    severity: Severity | None = None


@router.post("/devices/{device_id}/commands", status_code=201)
def send(db: Db, viewer: Reader, device_id: int, body: CommandIn) -> CommandOut:
    """Send a command to a device; whoever may not is told that there is none."""
    found = commanded(db, viewer, device_id)
    draft = commands.Draft(**body.model_dump())
    return CommandOut.model_validate(commands.ask(db, found, draft, actor=viewer.actor, now=clock.now()))


@router.get("/devices/{device_id}/commands")
def listed(
    db: Db, viewer: Reader, device_id: int, *, limit: paging.Limit = 100, cursor: paging.Cursor = None
) -> paging.Page[CommandOut]:
    """List the commands of a device, the newest first."""
    found = scope.find(db, Device, device_id, viewer, "assets.read")
    after = paging.read(cursor, (int,))
    rows = commands.of_device(db, found.id, after=after[0] if after else None, limit=limit + 1)
    page, following = paging.cut(rows, limit, lambda row: (row.id,))
    return paging.Page(items=[CommandOut.model_validate(row) for row in page], next=following)


@router.get("/devices/{device_id}/commands/{command_id}")
def one(db: Db, viewer: Reader, device_id: int, command_id: str) -> CommandOut:
    """Return one command."""
    found = scope.find(db, Device, device_id, viewer, "assets.read")
    return CommandOut.model_validate(_command(db, found, command_id))


@router.post("/devices/{device_id}/commands/{command_id}/cancel")
def cancel(db: Db, viewer: Reader, device_id: int, command_id: str) -> CommandOut:
    """Give a command up that has not ended."""
    found = of_device(db, viewer, device_id, command_id)
    commands.cancel(db, found, actor=viewer.actor, now=clock.now())
    return CommandOut.model_validate(found)


@router.put("/devices/{device_id}/desired")
def desire(db: Db, viewer: Reader, device_id: int, body: DesiredIn) -> DesiredOut:
    """Say which settings a device should have; they are sent until it reports them."""
    found = commanded(db, viewer, device_id)
    desired_settings.desire(db, found, body.settings, actor=viewer.actor, now=clock.now())
    return _desired(found)


@router.get("/devices/{device_id}/desired")
def desired(db: Db, viewer: Reader, device_id: int) -> DesiredOut:
    """Return the settings a device should have, and where it differs."""
    return _desired(scope.find(db, Device, device_id, viewer, "assets.read"))


@router.get("/devices/{device_id}/connections")
def connections(db: Db, viewer: Reader, device_id: int, *, limit: paging.Limit = 100) -> paging.Page[ConnectionOut]:
    """List how a device came and went in the last three months, the latest first."""
    found = scope.find(db, Device, device_id, viewer, "assets.read")
    rows = quiet.changes_of(db, found.id, limit=limit)
    return paging.Page(items=[ConnectionOut.model_validate(row) for row in rows])


@router.put("/devices/{device_id}/silence")
def device_silence(db: Db, viewer: Owner, device_id: int, body: DeviceSilence) -> DeviceSilence:
    """Say when a device is quiet, and how severe that is."""
    found = scope.find(db, Device, device_id, viewer, "assets.read")
    scope.require(db, viewer, "devices.write", found.unit_id)
    quietness.set_device(db, found, after_s=body.after_s, severity=body.severity, actor=viewer.actor, now=clock.now())
    return body


@router.put("/types/{type_id}/silence")
def type_silence(db: Db, viewer: TypeWriter, type_id: int, body: TypeSilence) -> TypeSilence:
    """Say when devices on machines of a type are quiet, and how severe that is."""
    kind = own_type(db, viewer, type_id)
    quietness.set_type(db, kind, factor=body.factor, severity=body.severity, actor=viewer.actor, now=clock.now())
    return body


def commanded(db: Session, viewer: Viewer, device_id: int) -> Device:
    """Return a device the viewer may command.

    Raises:
        NotFound: it lies outside the viewer's sight, or the viewer may command nothing there.
    """
    scope.find(db, Device, device_id, viewer, "assets.read")
    return scope.find(db, Device, device_id, viewer, COMMAND)


def of_device(db: Session, viewer: Viewer, device_id: int, command_id: str) -> DeviceCommand:
    """Return a command of a device that the viewer may command.

    Raises:
        NotFound: as for the device, or it has no such command.
    """
    return _command(db, commanded(db, viewer, device_id), command_id)


def own_type(db: Session, viewer: Viewer, type_id: int) -> AssetType:
    """Return a type that the viewer may change: types belong to the whole company.

    Raises:
        NotFound: the company has no such type.
        Forbidden: the viewer's right does not reach the whole company.
    """
    kind = db.get(AssetType, type_id)
    if kind is None or kind.company_id != viewer.company_id:
        raise NotFound("There is nothing here, or it is not yours to see.")
    scope.require(db, viewer, "assets.write", viewer.company_id)
    return kind


def _command(db: Session, device: Device, command_id: str) -> DeviceCommand:
    found = commands.find(db, device, command_id)
    if found is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def _desired(device: Device) -> DesiredOut:
    found = settings.difference(device.desired, device.attributes)
    return DesiredOut(
        version=device.desired_version,
        settings=device.desired,
        differences=[DifferenceOut.model_validate(one) for one in found],
    )
