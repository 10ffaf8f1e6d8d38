"""What an alarm type's alarms set off beside orders, over JSON: messages, webhooks, commands, attributes."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.v1 import rules
from api.v1.rules import Severity
from kernel import clock
from kernel.errors import Forbidden
from people.scope import Viewer
from rules import actions, visible
from rules.action_tables import AlarmAction
from rules.actions import ActionDraft
from rules.models import AlarmType

router = APIRouter(prefix="/rules", tags=["rules"])
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
COMMAND = "devices.command"
"""What it takes besides to let alarms speak to devices."""


class ActionIn(BaseModel):
    """An action to be added behind those there are."""

    kind: Literal["message", "webhook", "command", "attribute"]
    occasion: Literal["raise", "clear"] = "raise"
    severity: Severity = Field("info", description="The least severity that sets it off.")
    settings: dict[str, Any] = Field(
        description="message: `role` or `account_id`; webhook: `url`; command: `method`, `params`; attribute: `name`,"
        " `value`. `device_id`: null sends a command to every device of the alarm's asset; an attribute is the asset's."
    )


class ActionOut(ActionIn):
    """An action; the signing key of a webhook is shown to those who may change it."""

    id: int
    signing_key: str | None = None


@router.get("/{rule_id}/actions")
def of_rule(db: Db, viewer: Reader, rule_id: int) -> paging.Page[ActionOut]:
    """List the actions of an alarm type in their order."""
    kind = visible.find(db, viewer, rule_id)
    return paging.Page(items=[_shown(db, one) for one in actions.of_type(db, kind)])


@router.post("/{rule_id}/actions", status_code=201)
def add(db: Db, viewer: Writer, rule_id: int, body: ActionIn) -> ActionOut:
    """Let alarms of a type set something off; the key with which a webhook is signed is in the answer."""
    kind = rules.mine(db, viewer, rule_id)
    draft = ActionDraft(body.kind, body.settings, body.occasion, body.severity)
    return _shown(db, added(db, viewer, kind, draft), with_key=True)


@router.delete("/{rule_id}/actions/{action_id}", status_code=204)
def remove(db: Db, viewer: Writer, rule_id: int, action_id: int) -> None:
    """Take an action away."""
    actions.remove(db, rules.mine(db, viewer, rule_id), action_id, actor=viewer.actor, now=clock.now())


def added(db: Session, viewer: Viewer, kind: AlarmType, draft: ActionDraft) -> AlarmAction:
    """Add an action for a viewer who may shape the rule, and command devices if it does.

    Raises:
        Forbidden: it speaks to devices, and the viewer may not.
        Invalid: something of it does not fit.
    """
    if draft.kind in {"command", "attribute"} and not viewer.may(COMMAND):
        raise Forbidden("You may see this but not change it.")
    return actions.add(db, kind, draft, actor=viewer.actor, now=clock.now())


def _shown(db: Session, action: AlarmAction, *, with_key: bool = False) -> ActionOut:
    return ActionOut(
        id=action.id,
        kind=action.kind,
        occasion=action.occasion,
        severity=action.severity,
        settings={name: value for name, value in action.settings.items() if name != "key"},
        signing_key=actions.signing_key(db, action.settings) if with_key and action.kind == "webhook" else None,
    )
