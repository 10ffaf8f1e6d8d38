"""The steps of a command, each a row changed and told: for those who ask, who send, and who take the answers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from assets import command_life
from assets.command_tables import DeviceCommand
from assets.events import CommandMoved
from assets.models import Device
from kernel import audit, events
from kernel.i18n import noop

WHY: Final = {
    "failed": noop("The device is not online."),
    "expired": noop("The device did not come back in time."),
    "timed_out": noop("No answer came in time."),
}
"""What a command says that ended in a state by itself."""


def move(  # noqa: PLR0917 - what, whose, where to, when, and why
    session: Session, command: DeviceCommand, device: Device, state: str, now: datetime, error: str = "",
    actor: str = "system",
) -> None:  # fmt: skip
    """Bring a command into another state, and tell it; the same state changes nothing."""
    if state == command.state:
        return
    command.state = state
    if error:
        command.error = error
    if state in command_life.ENDED:
        command.ended_at = now
    session.flush()
    tell(session, command, device, now, actor)


def tell(session: Session, command: DeviceCommand, device: Device, now: datetime, actor: str) -> None:
    """Tell that something about a command has changed."""
    events.emit(
        session, CommandMoved(device.id, command.id, command.state), subject=f"device:{device.id}", at=now,
        actor=actor, unit_id=device.unit_id,
    )  # fmt: skip


def audited(  # noqa: PLR0917 - one argument a column of the audit trail
    session: Session, device: Device, action: str, after: Mapping[str, Any], actor: str, now: datetime,
    before: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Enter in the audit trail what a person asked of a device."""
    audit.record(
        session, action, subject=f"device:{device.id}", actor=actor, at=now,
        before=None if before is None else dict(before), after=dict(after), company_id=device.company_id,
    )  # fmt: skip
