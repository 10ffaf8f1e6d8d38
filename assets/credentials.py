"""What lets a device in: its password and the one before, its bound client id, its certificate (ING-6).

Passwords never come here: the edge draws one, shows it once, and hands over its hash. What is decided at a
connection stands in ``assets.identity``.
"""

import re
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import identity
from assets.events import DeviceCredentialsChanged
from assets.models import Device
from kernel import audit, events
from kernel.errors import Conflict, Invalid

LONGEST_OVERLAP: Final = timedelta(days=90)
CLIENT_ID: Final = re.compile(r"[!-~]{1,128}", re.ASCII)


def issue(session: Session, device: Device, password_hash: str, *, actor: str, now: datetime) -> None:
    """Give a device its first or another password, by its hash; the one before is void from the commit on.

    Another password cuts who is connected with the one before. The first cuts nobody: a device that comes in with it
    at once would lose its connection to the news of its own password.

    Raises:
        Conflict: the device is revoked.
    """
    _require_live(device)
    before = device.password_hash is not None
    _forget_previous(device)
    device.password_hash, device.password_alias, device.password_changed_at = password_hash, None, now
    had: dict[str, object] = {"had_password": before}
    _tell(session, device, "device.issue", had, {"has_password": True}, actor, now, cuts=before)


def rotate(session: Session, device: Device, password_hash: str, *, keep: timedelta, actor: str, now: datetime) -> None:
    """Give a device another password, by its hash, and let the one before work for a while longer.

    Nobody who is connected is cut: a connection with the password before ends when the overlap does. Where an
    overlap is running already, the password before that one is void now, and connections are cut to tell.

    Raises:
        Conflict: the device is revoked, or has no password that could go on working.
        Invalid: the while is not positive, or longer than 90 days.
    """
    _require_live(device)
    if device.password_hash is None:
        raise Conflict("This device has no password yet.")
    if not timedelta(0) < keep <= LONGEST_OVERLAP:
        raise Invalid("Choose at most {days} days.", field="overlap", days=LONGEST_OVERLAP.days)
    was_running = device.credentials.previous(now) is not None
    until = now + keep
    device.previous_hash, device.previous_alias = device.password_hash, device.password_alias
    device.previous_until = until
    device.password_hash, device.password_changed_at = password_hash, now
    device.password_alias = identity.next_alias(device.key, device.previous_alias)
    _tell(session, device, "device.rotate", None, {"previous_until": until}, actor, now, cuts=was_running)


def end_overlap(session: Session, device: Device, *, actor: str, now: datetime) -> None:
    """Void the password before at once.

    Raises:
        Conflict: there is none that still works.
    """
    if device.credentials.previous(now) is None:
        raise Conflict("No earlier password works any more.")
    before = device.previous_until
    _forget_previous(device)
    _tell(session, device, "device.end_overlap", {"previous_until": before}, {"previous_until": None}, actor, now)


def bind_client(session: Session, device: Device, client_id: str | None, *, actor: str, now: datetime) -> None:
    """Bind a device to one MQTT client id, or to none in particular when it is None.

    Raises:
        Conflict: the device is revoked, or another one has this id or this key.
        Invalid: it is no id that MQTT could carry.
    """
    _require_live(device)
    wanted = (client_id or "").strip() or None
    if wanted == device.client_id:
        return
    if wanted is not None:
        if not CLIENT_ID.fullmatch(wanted):
            raise Invalid("A client id has 1 to 128 printable characters without blanks.", field="client_id")
        rival = select(Device.id).where(
            (Device.client_id == wanted) | (Device.key == identity.owner_of(wanted)), Device.id != device.id
        )
        if session.scalar(rival.limit(1)) is not None:
            raise Conflict("Another device is called {client_id}.", field="client_id", client_id=wanted)
    before, device.client_id = device.client_id, wanted
    session.flush()
    cuts = wanted is not None
    after: dict[str, object] = {"client_id": wanted}
    _tell(session, device, "device.bind_client", {"client_id": before}, after, actor, now, cuts=cuts)


def accept_certificate(session: Session, device: Device, accepts: bool, *, actor: str, now: datetime) -> None:  # noqa: FBT001 - the state itself, as ticked on the page
    """Say whether a trusted client certificate whose common name is the device's key lets it in.

    Raises:
        Conflict: the device is revoked.
    """
    _require_live(device)
    if accepts == device.accepts_certificate:
        return
    before, device.accepts_certificate = device.accepts_certificate, accepts
    session.flush()
    after: dict[str, object] = {"accepts_certificate": accepts}
    _tell(
        session,
        device,
        "device.accept_certificate",
        {"accepts_certificate": before},
        after,
        actor,
        now,
        cuts=not accepts,
    )


def _require_live(device: Device) -> None:
    if device.revoked_at is not None:
        raise Conflict("This device is revoked. Register a new one in its place.")


def _forget_previous(device: Device) -> None:
    device.previous_hash = device.previous_alias = device.previous_until = None


def _tell(  # noqa: PLR0917 - one argument a column of the audit trail
    session: Session,
    device: Device,
    action: str,
    before: dict[str, object] | None,
    after: dict[str, object],
    actor: str,
    now: datetime,
    *,
    cuts: bool = True,
) -> None:
    subject = f"device:{device.id}"
    audit.record(
        session, action, subject=subject, actor=actor, at=now, before=before, after=after, company_id=device.company_id
    )
    changed = DeviceCredentialsChanged(device.id, device.key, cuts)
    events.emit(session, changed, subject=subject, at=now, actor=actor, unit_id=device.unit_id)
