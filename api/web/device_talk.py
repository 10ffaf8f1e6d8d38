"""What a device's page shows of talking with it: commands, settings, its connection, and what lies behind it."""

from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.v1.commands import COMMAND
from api.web import forms
from assets import commands, listing, settings
from assets.models import Device
from ingest import quiet
from kernel.i18n import noop
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

LATEST: Final = 10
CHILDREN: Final = 20

KINDS: Final = (
    ("reply", noop("wants an answer")),
    ("kept", noop("kept until the device is back")),
    ("one_way", noop("one way")),
    ("one_way_waits", noop("one way, may wait")),
)


def shown(db: Session, viewer: Viewer, device: Device, language: str) -> dict[str, Any]:
    """Return what the page's cards about commands, settings and the connection need."""
    children = listing.devices(db, viewer, gateway_id=device.id, limit=CHILDREN + 1)
    counted = (
        select(Device.connection, func.count().label("number"))
        .where(Device.gateway_id == device.id, scope.visible(Device, viewer, "assets.read"))
        .group_by(Device.connection)
    )
    by_state: dict[str, int] = {row.connection: row.number for row in db.execute(counted)}
    differing = {one.name for one in settings.difference(device.desired, device.attributes)}
    path = db.scalar(select(OrgUnit.path).where(OrgUnit.id == device.unit_id)) or ""
    return {
        "commands": commands.of_device(db, device.id, limit=LATEST + 1),
        "latest": LATEST,
        "may_command": viewer.may_at(COMMAND, path) and device.revoked_at is None,
        "kinds": forms.translated(KINDS, language),
        "wanted": [
            (name, value, *settings.reported(name, device.attributes), name in differing)
            for name, value in sorted(device.desired.items())
        ],
        "changes": quiet.changes_of(db, device.id, limit=LATEST),
        "children": children[:CHILDREN],
        "has_more_children": len(children) > CHILDREN,
        "by_state": by_state,
    }
