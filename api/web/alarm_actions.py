"""What alarms of a rule, or of a device's code, set off, as a page: the list in its order, and a form for one more."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import alarm_actions as v1
from api.v1 import codes
from api.v1 import rules as v1_rules
from api.web import forms, pages
from assets.models import Device
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid
from maintenance.orders import dictionary
from people import scope
from people.models import Account, Role
from people.scope import Viewer
from rules import actions
from rules.actions import ActionDraft, Whose
from rules.models import SEVERITIES

router = APIRouter()
Writer = Annotated[Viewer, needs("rules.write")]
Places = Annotated[int, Form(ge=-1, le=1)]
"""One place up (-1) or down."""


class ActionForm(BaseModel):
    """An action as its form sends it; which fields count depends on the kind."""

    kind: str = "message"
    occasion: str = "raise"
    severity: str = "info"
    role: str = ""
    url: str = ""
    device: str = ""
    method: str = ""
    params: str = ""
    name: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose actions a page shows: where it stands, and where its list, orders and name are."""

    whose: Whose
    name: str
    home: str
    behind: tuple[str, str]
    """Address and name of the page above."""

    @property
    def address(self) -> str:
        """Return where the page stands."""
        return f"{self.home}/actions"


@router.get("/rules/{rule_id}/actions")
def of_rule(request: Request, db: Db, viewer: Writer, rule_id: int, kind: str = "message") -> Response:
    """Show what a rule's alarms set off, and the form for one more of a kind."""
    return _page(request, db, viewer, _rule(request, db, viewer, rule_id), ActionForm(kind=_known(kind)))


@router.post("/rules/{rule_id}/actions")
def add(request: Request, db: Db, viewer: Writer, rule_id: int, form: Annotated[ActionForm, Form()]) -> Response:
    """Add an action."""
    return _add(request, db, viewer, _rule(request, db, viewer, rule_id), form)


@router.post("/rules/{rule_id}/actions/{action_id}/move")
def move(request: Request, db: Db, viewer: Writer, rule_id: int, action_id: int, places: Places) -> Response:
    """Move an action up or down."""
    return _move(db, viewer, _rule(request, db, viewer, rule_id), action_id, places)


@router.post("/rules/{rule_id}/actions/{action_id}/remove")
def remove(request: Request, db: Db, viewer: Writer, rule_id: int, action_id: int) -> Response:
    """Take an action away."""
    return _remove(db, viewer, _rule(request, db, viewer, rule_id), action_id)


@router.get("/codes/{code_id}/actions")
def of_code(request: Request, db: Db, viewer: Writer, code_id: int, kind: str = "message") -> Response:
    """Show what a code's alarms set off, and the form for one more of a kind."""
    return _page(request, db, viewer, _code(request, db, viewer, code_id), ActionForm(kind=_known(kind)))


@router.post("/codes/{code_id}/actions")
def add_to_code(
    request: Request, db: Db, viewer: Writer, code_id: int, form: Annotated[ActionForm, Form()]
) -> Response:
    """Add an action."""
    return _add(request, db, viewer, _code(request, db, viewer, code_id), form)


@router.post("/codes/{code_id}/actions/{action_id}/move")
def move_of_code(request: Request, db: Db, viewer: Writer, code_id: int, action_id: int, places: Places) -> Response:
    """Move an action up or down."""
    return _move(db, viewer, _code(request, db, viewer, code_id), action_id, places)


@router.post("/codes/{code_id}/actions/{action_id}/remove")
def remove_from_code(request: Request, db: Db, viewer: Writer, code_id: int, action_id: int) -> Response:
    """Take an action away."""
    return _remove(db, viewer, _code(request, db, viewer, code_id), action_id)


def _rule(request: Request, db: Session, viewer: Viewer, rule_id: int) -> Owner:
    kind = v1_rules.mine(db, viewer, rule_id)
    name = kind.called(request.state.language)
    return Owner(actions.of_rule(kind), name, f"/rules/{kind.id}", ("/rules", i18n.noop("Rules")))


def _code(request: Request, db: Session, viewer: Viewer, code_id: int) -> Owner:
    entry = codes.mine(db, viewer, code_id)
    name = f"{entry.code} · {entry.called(request.state.language)}"
    return Owner(dictionary.whose(entry), name, f"/codes/{entry.id}", ("/codes", i18n.noop("Alarm dictionary")))


def _known(kind: str) -> str:
    return kind if kind in actions.KINDS else "message"


def _add(request: Request, db: Session, viewer: Viewer, owner: Owner, form: ActionForm) -> Response:
    try:
        draft = ActionDraft(form.kind, _settings(db, viewer, form), form.occasion, form.severity)
        v1.added(db, viewer, owner.whose, draft)
    except Invalid as error:
        db.rollback()
        return _page(request, db, viewer, owner, form, error)
    return pages.go(owner.address, notice=i18n.noop("Saved. It holds for alarms from now on."))


def _move(db: Session, viewer: Viewer, owner: Owner, action_id: int, places: int) -> Response:
    actions.move(db, owner.whose, action_id, places, actor=viewer.actor, now=clock.now())
    return pages.go(f"{owner.address}#action-{action_id}", notice=i18n.noop("Moved."))


def _remove(db: Session, viewer: Viewer, owner: Owner, action_id: int) -> Response:
    actions.remove(db, owner.whose, action_id, actor=viewer.actor, now=clock.now())
    return pages.go(owner.address, notice=i18n.noop("Taken away."))


def _page(
    request: Request, db: Session, viewer: Viewer, owner: Owner, form: ActionForm, error: FixwrightError | None = None
) -> Response:
    language = request.state.language
    known = actions.listed(db, owner.whose)
    accounts = [one.settings["account_id"] for one in known if "account_id" in one.settings]
    devices = [one.settings["device_id"] for one in known if one.settings.get("device_id")]
    roles = db.scalars(select(Role).where(Role.company_id.is_(None) | (Role.company_id == viewer.company_id))).all()
    named = forms.translated([(role.key, role.name) for role in roles], language)
    return pages.render(
        request,
        "rules/actions.html",
        status=422 if error else 200,
        owner=owner,
        actions=known,
        keys={one.id: actions.signing_key(db, one.settings) for one in known if one.kind == "webhook"},
        form=form,
        kinds=[(key, name) for key, name in actions.KINDS.items() if _may(viewer, key)],
        kind_words=actions.KINDS,
        occasions=forms.translated(actions.OCCASIONS.items(), language),
        occasion_words=actions.OCCASIONS,
        severities=SEVERITIES,
        roles=named,
        role_names=dict(named),
        people={
            row.id: row.name for row in db.execute(select(Account.id, Account.name).where(Account.id.in_(accounts)))
        },
        devices={row.id: row.key for row in db.execute(select(Device.id, Device.key).where(Device.id.in_(devices)))},
        errors=forms.refused(request, error) if error else {},
    )


def _may(viewer: Viewer, kind: str) -> bool:
    return kind in {"message", "webhook"} or viewer.may(v1.COMMAND)


def _settings(db: Session, viewer: Viewer, form: ActionForm) -> dict[str, Any]:
    if form.kind == "message":
        return {"role": form.role}
    if form.kind == "webhook":
        return {"url": form.url}
    device_id = _device(db, viewer, form.device)
    if form.kind == "command":
        return {"method": form.method, "params": _read(form.params, "params", {}), "device_id": device_id}
    return {"name": form.name, "value": _value(form.value), "device_id": device_id}


def _device(db: Session, viewer: Viewer, key: str) -> int | None:
    if not key.strip():
        return None
    found = db.scalars(
        select(Device).where(Device.key == key.strip(), scope.visible(Device, viewer, "assets.read"))
    ).one_or_none()
    if found is None:
        raise Invalid("There is no such device.", field="device_id")
    return found.id


def _read(text: str, field: str, absent: Any) -> Any:  # noqa: ANN401 - JSON
    if not text.strip():
        return absent
    try:
        return json.loads(text)
    except ValueError as error:
        raise Invalid("This is no JSON: {reason}", field=field, reason=str(error)) from error


def _value(text: str) -> Any:  # noqa: ANN401 - a number, a boolean, else the text itself
    try:
        value = json.loads(text)
    except ValueError:
        return text.strip()
    return value if isinstance(value, int | float | bool) else text.strip()
