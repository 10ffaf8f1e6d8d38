"""What devices may send, over JSON: limits of a device and of a type of machine (ING-16)."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.access import Db, Parts, needs
from api.v1.commands import own_type
from assets.models import AssetType, Device
from ingest import limits
from ingest.limits import Limit
from kernel import clock
from kernel.errors import NotFound
from people import scope
from people.scope import Viewer

router = APIRouter(tags=["intake"])
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("devices.write")]
TypeWriter = Annotated[Viewer, needs("assets.write")]


class LimitIn(BaseModel):
    """Rates on average; for how long they may be saved up for a burst is `FIXWRIGHT_LIMIT_BURST_S`."""

    messages: float = Field(description="Messages a second; 0 for no limit.")
    points: float = Field(description="Readings a second; 0 for no limit.")


class LimitOut(BaseModel):
    """What was said here, and what the settings say where nothing was."""

    messages: float | None
    points: float | None
    usual_messages: float
    usual_points: float


def _out(parts: Parts, said: Limit | None) -> LimitOut:
    usual = parts.settings
    return LimitOut(
        messages=None if said is None else said.messages,
        points=None if said is None else said.points,
        usual_messages=usual.limit_device_messages,
        usual_points=usual.limit_device_points,
    )


@router.get("/devices/{device_id}/limit")
def device_limit(db: Db, parts: Parts, viewer: Reader, device_id: int) -> LimitOut:
    """Return what was said about how much a device may send."""
    return _out(parts, limits.of_device(db, scope.find(db, Device, device_id, viewer, "assets.read")))


@router.put("/devices/{device_id}/limit")
def set_device_limit(db: Db, parts: Parts, viewer: Writer, device_id: int, body: LimitIn) -> LimitOut:
    """Let a device have a limit of its own; what is over it is rejected from within two seconds on."""
    return _device(db, parts, viewer, device_id, Limit(body.messages, body.points))


@router.delete("/devices/{device_id}/limit")
def lift_device_limit(db: Db, parts: Parts, viewer: Writer, device_id: int) -> LimitOut:
    """Let a device follow its type, or the settings, again."""
    return _device(db, parts, viewer, device_id, None)


@router.get("/types/{type_id}/limit")
def type_limit(db: Db, parts: Parts, viewer: Reader, type_id: int) -> LimitOut:
    """Return what was said about how much each device on machines of a type may send."""
    kind = db.get(AssetType, type_id)
    if kind is None or kind.company_id != viewer.company_id:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return _out(parts, limits.of_type(db, kind))


@router.put("/types/{type_id}/limit")
def set_type_limit(db: Db, parts: Parts, viewer: TypeWriter, type_id: int, body: LimitIn) -> LimitOut:
    """Limit each device on machines of a type and of those that inherit from it."""
    kind = own_type(db, viewer, type_id)
    limits.set_type(db, kind, Limit(body.messages, body.points), actor=viewer.actor, now=clock.now())
    return _out(parts, limits.of_type(db, kind))


@router.delete("/types/{type_id}/limit")
def lift_type_limit(db: Db, parts: Parts, viewer: TypeWriter, type_id: int) -> LimitOut:
    """Let a type follow its parent, or the settings, again."""
    kind = own_type(db, viewer, type_id)
    limits.set_type(db, kind, None, actor=viewer.actor, now=clock.now())
    return _out(parts, limits.of_type(db, kind))


def _device(db: Db, parts: Parts, viewer: Viewer, device_id: int, wanted: Limit | None) -> LimitOut:
    found = scope.find(db, Device, device_id, viewer, "assets.read")
    scope.require(db, viewer, "devices.write", found.unit_id)
    limits.set_device(db, found, wanted, actor=viewer.actor, now=clock.now())
    return _out(parts, limits.of_device(db, found))
