"""What alarms of a rule, or of a device's code, set off beside orders: messages, webhooks, commands, attributes."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.v1 import codes, rules
from api.v1.rules import Severity
from kernel import clock
from kernel.errors import Forbidden
from maintenance.orders import dictionary
from people.scope import Viewer
from rules import actions, visible
from rules.action_tables import AlarmAction
from rules.actions import ActionDraft, Whose

router = APIRouter(tags=["rules"])
Reader = Annotated[Viewer, needs("rules.read")]
CodeReader = Annotated[Viewer, needs("alarms.read")]
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

    def draft(self) -> ActionDraft:
        """Return the action as it is wanted."""
        return ActionDraft(self.kind, self.settings, self.occasion, self.severity)


class ActionOut(ActionIn):
    """An action; the signing key of a webhook is shown to those who may change it."""

    id: int
    signing_key: str | None = None


class Order(BaseModel):
    """All actions there are, in the order that is wanted."""

    ids: list[int] = Field(max_length=actions.MOST)


@router.get("/rules/{rule_id}/actions")
def of_rule(db: Db, viewer: Reader, rule_id: int) -> paging.Page[ActionOut]:
    """List the actions of an alarm type in their order."""
    return _page(db, actions.of_rule(visible.find(db, viewer, rule_id)))


@router.post("/rules/{rule_id}/actions", status_code=201)
def add(db: Db, viewer: Writer, rule_id: int, body: ActionIn) -> ActionOut:
    """Let alarms of a type set something off; the key with which a webhook is signed is in the answer."""
    return _shown(db, added(db, viewer, of_my_rule(db, viewer, rule_id), body.draft()), with_key=True)


@router.put("/rules/{rule_id}/actions/order")
def arrange(db: Db, viewer: Writer, rule_id: int, body: Order) -> paging.Page[ActionOut]:
    """Put the actions of an alarm type in another order."""
    return _arranged(db, viewer, of_my_rule(db, viewer, rule_id), body)


@router.delete("/rules/{rule_id}/actions/{action_id}", status_code=204)
def remove(db: Db, viewer: Writer, rule_id: int, action_id: int) -> None:
    """Take an action away."""
    actions.remove(db, of_my_rule(db, viewer, rule_id), action_id, actor=viewer.actor, now=clock.now())


@router.get("/codes/{code_id}/actions")
def of_code(db: Db, viewer: CodeReader, code_id: int) -> paging.Page[ActionOut]:
    """List the actions of a code of the alarm dictionary in their order."""
    return _page(db, dictionary.whose(dictionary.find(db, viewer.company_id, code_id)))


@router.post("/codes/{code_id}/actions", status_code=201)
def add_to_code(db: Db, viewer: Writer, code_id: int, body: ActionIn) -> ActionOut:
    """Let alarms that devices report with a code set something off."""
    return _shown(db, added(db, viewer, of_my_code(db, viewer, code_id), body.draft()), with_key=True)


@router.put("/codes/{code_id}/actions/order")
def arrange_of_code(db: Db, viewer: Writer, code_id: int, body: Order) -> paging.Page[ActionOut]:
    """Put the actions of a code in another order."""
    return _arranged(db, viewer, of_my_code(db, viewer, code_id), body)


@router.delete("/codes/{code_id}/actions/{action_id}", status_code=204)
def remove_from_code(db: Db, viewer: Writer, code_id: int, action_id: int) -> None:
    """Take an action of a code away."""
    actions.remove(db, of_my_code(db, viewer, code_id), action_id, actor=viewer.actor, now=clock.now())


def of_my_rule(db: Session, viewer: Viewer, rule_id: int) -> Whose:
    """Return the alarms of a rule that the viewer may shape."""
    return actions.of_rule(rules.mine(db, viewer, rule_id))


def of_my_code(db: Session, viewer: Viewer, code_id: int) -> Whose:
    """Return the alarms of a code whose entry the viewer may change."""
    return dictionary.whose(codes.mine(db, viewer, code_id))


def added(db: Session, viewer: Viewer, whose: Whose, draft: ActionDraft) -> AlarmAction:
    """Add an action for a viewer who may shape the rule or code, and command devices if it does.

    Raises:
        Forbidden: it speaks to devices, and the viewer may not.
        Invalid: something of it does not fit.
    """
    if draft.kind in {"command", "attribute"} and not viewer.may(COMMAND):
        raise Forbidden("You may see this but not change it.")
    return actions.add(db, whose, draft, actor=viewer.actor, now=clock.now())


def _arranged(db: Session, viewer: Viewer, whose: Whose, body: Order) -> paging.Page[ActionOut]:
    actions.arrange(db, whose, body.ids, actor=viewer.actor, now=clock.now())
    return _page(db, whose)


def _page(db: Session, whose: Whose) -> paging.Page[ActionOut]:
    return paging.Page(items=[_shown(db, one) for one in actions.listed(db, whose)])


def _shown(db: Session, action: AlarmAction, *, with_key: bool = False) -> ActionOut:
    return ActionOut(
        id=action.id,
        kind=action.kind,
        occasion=action.occasion,
        severity=action.severity,
        settings={name: value for name, value in action.settings.items() if name != "key"},
        signing_key=actions.signing_key(db, action.settings) if with_key and action.kind == "webhook" else None,
    )
