"""What alarms set off beside orders: messages, webhooks, commands, attributes; listed, changed, put in order.

Actions belong to an alarm type, or to a code that devices report, on all assets or on those of a type.

Orders are opened by the order policy (``maintenance.orders.policy``), which knows more of them than an action could.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from assets import commands, types
from assets.models import Device
from kernel import audit, ids, outgoing
from kernel.db import Json
from kernel.errors import Conflict, Invalid, NotFound
from kernel.i18n import noop
from people.models import Account, OrgUnit, Role
from rules.action_tables import AlarmAction
from rules.models import SEVERITIES, Alarm, AlarmType

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


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose alarms set actions off: an alarm type's, or those of a code, on assets of a type or (None) on all."""

    company_id: int
    subject: str
    """How the audit trail names it."""
    alarm_type_id: int | None = None
    code: str | None = None
    asset_type_id: int | None = None


def of_rule(kind: AlarmType) -> Whose:
    """Return the alarms of an alarm type."""
    return Whose(kind.company_id, f"alarm_type:{kind.id}", alarm_type_id=kind.id)


def listed(session: Session, whose: Whose) -> Sequence[AlarmAction]:
    """Return the actions of some alarms, in their order."""
    return session.scalars(_those(whose).order_by(AlarmAction.position, AlarmAction.id)).all()


def of_alarm(session: Session, alarm: Alarm) -> Sequence[AlarmAction]:
    """Return what an alarm may set off, in order; of a code what its asset's nearest type has, else what all have."""
    if alarm.alarm_type_id is not None:
        of_type = select(AlarmAction).where(AlarmAction.alarm_type_id == alarm.alarm_type_id)
        return session.scalars(of_type.order_by(AlarmAction.position, AlarmAction.id)).all()
    if alarm.origin != "device":
        return []
    of_code = select(AlarmAction).where(AlarmAction.company_id == alarm.company_id, AlarmAction.code == alarm.type_key)
    found = session.scalars(of_code.order_by(AlarmAction.position, AlarmAction.id)).all()
    line = types.lineage(session, alarm.company_id).get(alarm.asset.type_id, ()) if found and alarm.asset else ()
    nearest = ([one for one in found if one.asset_type_id == type_id] for type_id in (*line, None))
    return next(filter(None, nearest), [])


def add(session: Session, whose: Whose, draft: ActionDraft, *, actor: str, now: datetime) -> AlarmAction:
    """Add an action behind those there are.

    Raises:
        Invalid: something of it does not fit, or there are too many.
    """
    known = _locked(session, whose)
    if len(known) >= MOST:
        raise Invalid("An alarm type has at most {most} actions.", field="kind", most=MOST)
    if draft.occasion not in OCCASIONS:
        raise Invalid("Choose one of {choices}.", field="occasion", choices=", ".join(OCCASIONS))
    if draft.severity not in SEVERITIES:
        raise Invalid("There is no such severity.", field="severity")
    action = AlarmAction(
        company_id=whose.company_id,
        alarm_type_id=whose.alarm_type_id,
        code=whose.code,
        asset_type_id=whose.asset_type_id,
        position=max((one.position for one in known), default=0) + 1,
        occasion=draft.occasion,
        severity=draft.severity,
        kind=draft.kind,
        settings=_checked(session, whose.company_id, draft),
    )
    session.add(action)
    session.flush()
    _audit(session, whose, "add_action", actor, now, after=_said(action))
    return action


def remove(session: Session, whose: Whose, action_id: int, *, actor: str, now: datetime) -> None:
    """Take an action away; what it was set off for before still happens.

    Raises:
        NotFound: there is no such action among them.
    """
    action = _found(_locked(session, whose), action_id)
    _audit(session, whose, "remove_action", actor, now, before=_said(action))
    session.delete(action)
    session.flush()


def arrange(session: Session, whose: Whose, wanted: Sequence[int], *, actor: str, now: datetime) -> None:
    """Put actions in an order, named by their ids: all of them, each once. It holds for alarms from now on.

    Raises:
        Conflict: they are not those there are now.
    """
    known = _locked(session, whose)
    before = [one.id for one in known]
    if sorted(wanted) != sorted(before):
        raise Conflict("The actions have changed meanwhile. Look again.")
    if list(wanted) == before:
        return
    for one in known:
        one.position = wanted.index(one.id) + 1
    session.flush()
    _audit(session, whose, "arrange_actions", actor, now, before={"ids": before}, after={"ids": list(wanted)})


def move(session: Session, whose: Whose, action_id: int, places: int, *, actor: str, now: datetime) -> None:
    """Move an action up (places below 0) or down among its own, at most to an end.

    Raises:
        NotFound: there is no such action among them.
    """
    order = [one.id for one in _locked(session, whose)]
    _found(listed(session, whose), action_id)
    place = order.index(action_id)
    order.remove(action_id)
    order.insert(max(0, place + places), action_id)
    arrange(session, whose, order, actor=actor, now=now)


def follow(session: Session, before: Whose, after: Whose) -> None:
    """Keep the actions of a code whose entry now stands for another code or type of asset."""
    if before != after:
        for one in _locked(session, before):
            one.code, one.asset_type_id = after.code, after.asset_type_id
        session.flush()


def forget(session: Session, whose: Whose, *, actor: str, now: datetime) -> None:
    """Take all actions away, with the entry or rule that they belong to."""
    for one in listed(session, whose):
        remove(session, whose, one.id, actor=actor, now=now)


def _those(whose: Whose) -> Select[AlarmAction]:
    if whose.alarm_type_id is not None:
        return select(AlarmAction).where(AlarmAction.alarm_type_id == whose.alarm_type_id)
    return select(AlarmAction).where(
        AlarmAction.company_id == whose.company_id,
        AlarmAction.code == whose.code,
        AlarmAction.asset_type_id.is_not_distinct_from(whose.asset_type_id),
    )


def _locked(session: Session, whose: Whose) -> Sequence[AlarmAction]:
    """Return actions in their order, which nobody else changes until the transaction ends."""
    owner = select(OrgUnit.id).where(OrgUnit.id == whose.company_id).with_for_update(key_share=True)
    if whose.alarm_type_id is not None:
        owner = select(AlarmType.id).where(AlarmType.id == whose.alarm_type_id).with_for_update(key_share=True)
    session.execute(owner)
    return session.scalars(
        _those(whose).order_by(AlarmAction.position, AlarmAction.id).execution_options(populate_existing=True)
    ).all()


def _found(known: Sequence[AlarmAction], action_id: int) -> AlarmAction:
    for one in known:
        if one.id == action_id:
            return one
    raise NotFound("There is nothing here, or it is not yours to see.")


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


def _said(action: AlarmAction) -> Json:
    told = {name: value for name, value in action.settings.items() if name != "key"}
    return {"kind": action.kind, "occasion": action.occasion, "severity": action.severity, "settings": told}


def _audit(
    session: Session,
    whose: Whose,
    verb: str,
    actor: str,
    now: datetime,
    *,
    before: Json | None = None,
    after: Json | None = None,
) -> None:
    act = f"rule.{verb}" if whose.alarm_type_id is not None else f"alarm_code.{verb}"
    audit.record(
        session, act, subject=whose.subject, actor=actor, at=now, before=before, after=after,
        company_id=whose.company_id,
    )  # fmt: skip
