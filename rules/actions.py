"""What an alarm type's alarms set off beside orders: messages, webhooks, commands, attributes; listed and changed.

Orders are opened by the order policy (``maintenance.orders.policy``), which knows more of them than an action could.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from assets import commands
from assets.models import Device
from kernel import audit, ids, outgoing
from kernel.db import Json
from kernel.errors import Invalid, NotFound
from kernel.i18n import noop
from people.models import Account, Role
from rules.action_tables import AlarmAction
from rules.models import SEVERITIES, AlarmType

KINDS: Final[Mapping[str, str]] = {
    "message": noop("Message"),
    "webhook": noop("Webhook"),
    "command": noop("Command"),
    "attribute": noop("Attribute"),
}
OCCASIONS: Final[Mapping[str, str]] = {"raise": noop("when it is raised"), "clear": noop("when it has cleared")}
MOST: Final = 20
_LONGEST_NAME: Final = 80


@dataclass(frozen=True, slots=True)
class ActionDraft:
    """An action as somebody wants it. ``settings`` by kind.

    *message*: ``role`` or ``account_id``; *webhook*: ``url``; *command*: ``method``, ``params``; *attribute*:
    ``name``, ``value``. ``device_id`` names a device; without it a command goes to every device of the alarm's asset,
    and an attribute is the asset's own.
    """

    kind: str
    settings: Mapping[str, Any]
    occasion: str = "raise"
    severity: str = "info"


def of_type(session: Session, kind: AlarmType) -> Sequence[AlarmAction]:
    """Return the actions of an alarm type, in their order."""
    return session.scalars(
        select(AlarmAction).where(AlarmAction.alarm_type_id == kind.id).order_by(AlarmAction.position, AlarmAction.id)
    ).all()


def add(session: Session, kind: AlarmType, draft: ActionDraft, *, actor: str, now: datetime) -> AlarmAction:
    """Add an action behind those there are.

    Raises:
        Invalid: something of it does not fit, or there are too many.
    """
    session.refresh(kind, with_for_update={"of": AlarmType})
    if len(of_type(session, kind)) >= MOST:
        raise Invalid("An alarm type has at most {most} actions.", field="kind", most=MOST)
    if draft.occasion not in OCCASIONS:
        raise Invalid("Choose one of {choices}.", field="occasion", choices=", ".join(OCCASIONS))
    if draft.severity not in SEVERITIES:
        raise Invalid("There is no such severity.", field="severity")
    last = session.scalar(select(func.max(AlarmAction.position)).where(AlarmAction.alarm_type_id == kind.id))
    action = AlarmAction(
        alarm_type_id=kind.id,
        position=(last or 0) + 1,
        occasion=draft.occasion,
        severity=draft.severity,
        kind=draft.kind,
        settings=_checked(session, kind.company_id, draft),
    )
    session.add(action)
    session.flush()
    _audit(session, kind, "add_action", action, actor, now)
    return action


def remove(session: Session, kind: AlarmType, action_id: int, *, actor: str, now: datetime) -> None:
    """Take an action away; what it was set off for before still happens.

    Raises:
        NotFound: the alarm type has no such action.
    """
    action = session.get(AlarmAction, action_id)
    if action is None or action.alarm_type_id != kind.id:
        raise NotFound("There is nothing here, or it is not yours to see.")
    _audit(session, kind, "remove_action", action, actor, now)
    session.delete(action)
    session.flush()


def signing_key(session: Session, settings: Mapping[str, Any]) -> str:
    """Return the key with which a webhook's posts are signed; it is worked out, so the database does not hold it."""
    secret: bytes = session.info["secret"]
    return hmac.new(secret, b"alarm webhook " + str(settings["key"]).encode(), hashlib.sha256).hexdigest()


def _checked(session: Session, company_id: int, draft: ActionDraft) -> Json:
    given = draft.settings
    if draft.kind == "message":
        return _to_whom(session, company_id, given)
    if draft.kind == "webhook":
        url = str(given.get("url") or "").strip()
        outgoing.check(url)
        return {"url": url, "key": ids.token()}
    if draft.kind == "command":
        method, params = str(given.get("method") or "").strip(), given.get("params") or {}
        if not commands.METHOD.fullmatch(method):
            raise Invalid(
                "Start with a letter; letters, digits, dots, dashes and underscores may follow.", field="method"
            )
        if not isinstance(params, dict):
            raise Invalid("Parameters are a JSON object.", field="params")
        return {"method": method, "params": params, "device_id": _device(session, company_id, given)}
    if draft.kind == "attribute":
        name, value = str(given.get("name") or "").strip(), given.get("value")
        if not name or len(name) > _LONGEST_NAME or not isinstance(value, str | int | float | bool):
            raise Invalid("An attribute has a name and a plain value.", field="name")
        return {"name": name, "value": value, "device_id": _device(session, company_id, given)}
    raise Invalid("Choose one of {choices}.", field="kind", choices=", ".join(KINDS))


def _to_whom(session: Session, company_id: int, given: Mapping[str, Any]) -> Json:
    account_id, role = given.get("account_id"), given.get("role")
    if account_id is not None:
        account = session.get(Account, account_id)
        if account is None or account.company_id != company_id:
            raise Invalid("One of the choices does not exist any more.", field="account_id")
        return {"account_id": account.id}
    known = select(Role.id).where(Role.key == role, (Role.company_id == company_id) | Role.company_id.is_(None))
    if not role or session.scalar(known.limit(1)) is None:
        raise Invalid("Say who is to be told.", field="role")
    return {"role": role}


def _device(session: Session, company_id: int, given: Mapping[str, Any]) -> int | None:
    if given.get("device_id") is None:
        return None
    device = session.get(Device, given["device_id"])
    if device is None or device.company_id != company_id:
        raise Invalid("There is no such device.", field="device_id")
    return device.id


def _audit(session: Session, kind: AlarmType, verb: str, action: AlarmAction, actor: str, now: datetime) -> None:
    told = {name: value for name, value in action.settings.items() if name != "key"}
    said = {"kind": action.kind, "occasion": action.occasion, "severity": action.severity, "settings": told}
    audit.record(
        session, f"rule.{verb}", subject=f"alarm_type:{kind.id}", actor=actor, at=now,
        before=said if verb == "remove_action" else None, after=said if verb == "add_action" else None,
        company_id=kind.company_id,
    )  # fmt: skip
