"""Commands and wanted settings as a device's page sends them, all its commands, and when silence is too long."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel

from api import paging
from api.access import Db, Parts, needs
from api.v1 import commands as v1
from api.web import device_talk, devices, forms, pages
from assets import commands, desired_settings, quietness
from assets.models import Device
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid
from people import scope
from people.scope import Viewer

router = APIRouter()
Reader = Annotated[Viewer, needs("assets.read")]
Owner = Annotated[Viewer, needs("devices.write")]
TypeWriter = Annotated[Viewer, needs("assets.write")]
A_PAGE = 50


class CommandForm(BaseModel):
    """The form of a command: its parameters are typed as JSON."""

    method: str = ""
    params: str = ""
    how: str = "reply"

    def draft(self) -> commands.Draft:
        """Return the command it describes.

        Raises:
            Invalid: the parameters are no JSON object.
        """
        kind = self.how.removesuffix("_waits")
        params = _object(self.params, "params")
        return commands.Draft(self.method.strip(), params, kind, waits=self.how.endswith("_waits"))


@router.get("/devices/{device_id}/commands")
def all_commands(request: Request, db: Db, viewer: Reader, device_id: int, after: str = "") -> Response:
    """Show every command a device was sent."""
    found = scope.find(db, Device, device_id, viewer, "assets.read")
    cursor = paging.read(after or None, (int,))
    rows = commands.of_device(db, found.id, after=cursor[0] if cursor else None, limit=A_PAGE + 1)
    shown, following = paging.cut(rows, A_PAGE, lambda row: (row.id,))
    talk = device_talk.shown(db, viewer, found, request.state.language)
    return pages.render(
        request,
        "devices/commands.html",
        device=found,
        rows=shown,
        following=following,
        after=after,
        may_command=talk["may_command"],
    )


@router.post("/devices/{device_id}/commands")
def send(
    request: Request, db: Db, parts: Parts, viewer: Reader, device_id: int, form: Annotated[CommandForm, Form()]
) -> Response:
    """Send a command."""
    found = v1.commanded(db, viewer, device_id)
    try:
        command = commands.ask(db, found, form.draft(), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        return devices.again(request, db, parts, viewer, device_id, error)
    notice = i18n.noop("The device is not online. A command that is kept would wait for it.")
    if command.state != "failed":
        notice = i18n.noop("The command is on its way.")
    return pages.go(f"/devices/{device_id}#commands", notice=notice)


@router.post("/devices/{device_id}/commands/{command_id}/cancel")
def cancel(request: Request, db: Db, parts: Parts, viewer: Reader, device_id: int, command_id: str) -> Response:
    """Give a command up."""
    found = v1.of_device(db, viewer, device_id, command_id)
    try:
        commands.cancel(db, found, actor=viewer.actor, now=clock.now())
    except Conflict as error:
        return devices.again(request, db, parts, viewer, device_id, error)
    return pages.go(f"/devices/{device_id}#commands", notice=i18n.noop("The command is cancelled."))


@router.post("/devices/{device_id}/commands/{command_id}/again")
def again(request: Request, db: Db, parts: Parts, viewer: Reader, device_id: int, command_id: str) -> Response:
    """Ask the same once more."""
    found = v1.of_device(db, viewer, device_id, command_id)
    try:
        commands.again(db, found, actor=viewer.actor, now=clock.now())
    except Conflict as error:
        return devices.again(request, db, parts, viewer, device_id, error)
    return pages.go(f"/devices/{device_id}#commands", notice=i18n.noop("The command is on its way."))


@router.post("/devices/{device_id}/desired")
def desire(
    request: Request, db: Db, parts: Parts, viewer: Reader, device_id: int, settings: Annotated[str, Form()] = ""
) -> Response:
    """Say which settings a device should have."""
    found = v1.commanded(db, viewer, device_id)
    try:
        is_new = desired_settings.desire(db, found, _object(settings, "settings"), actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        return devices.again(request, db, parts, viewer, device_id, error)
    notice = i18n.noop("Saved. They are sent until the device reports them.") if is_new else i18n.noop("Saved.")
    return pages.go(f"/devices/{device_id}#settings", notice=notice)


class SilenceForm(BaseModel):
    """When it is quiet, and how severe that is; empty: as the type, or the type above, says."""

    after_s: str = ""
    factor: str = ""
    severity: str = ""


@router.post("/devices/{device_id}/silence")
def device_silence(
    request: Request, db: Db, parts: Parts, viewer: Owner, device_id: int, form: Annotated[SilenceForm, Form()]
) -> Response:
    """Say when a device is quiet."""
    found = scope.find(db, Device, device_id, viewer, "assets.read")
    scope.require(db, viewer, "devices.write", found.unit_id)
    try:
        after_s = forms.whole(form.after_s, "after_s")
        quietness.set_device(
            db, found, after_s=after_s, severity=form.severity or None, actor=viewer.actor, now=clock.now()
        )
    except Invalid as error:
        return devices.again(request, db, parts, viewer, device_id, error)
    return pages.go(f"/devices/{device_id}", notice=i18n.noop("Saved."))


@router.post("/types/{type_id}/silence")
def type_silence(db: Db, viewer: TypeWriter, type_id: int, form: Annotated[SilenceForm, Form()]) -> Response:
    """Say when devices on machines of a type are quiet."""
    kind = v1.own_type(db, viewer, type_id)
    factor = forms.number(form.factor, "factor")
    quietness.set_type(db, kind, factor=factor, severity=form.severity or None, actor=viewer.actor, now=clock.now())
    return pages.go(f"/types/{type_id}", notice=i18n.noop("Saved."))


def _object(text: str, field: str) -> dict[str, Any]:
    """Return the JSON object that was typed, empty where nothing was.

    Raises:
        Invalid: it is none.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Invalid("This must be a JSON object, such as {example}.", field=field, example='{"seconds": 5}')
    return value
