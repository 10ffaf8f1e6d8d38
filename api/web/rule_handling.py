"""How the alarms of a rule are handled, as a form: latched, explaining those below, held in a state of the plant."""

import json
import math
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import rules as v1
from api.web import forms, pages
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid
from people.scope import Viewer
from rules import handling
from rules.handling import Handling
from rules.models import AlarmType

router = APIRouter(prefix="/rules")
Writer = Annotated[Viewer, needs("rules.write")]
Value = str | float | bool


class HandlingForm(BaseModel):
    """What the form sends; the values of the attribute as typed, separated by commas."""

    latches: str = ""
    suppresses_below: str = ""
    attribute: Annotated[str, Field(max_length=80)] = ""
    values: Annotated[str, Field(max_length=2000)] = ""


def values_of(typed: str) -> tuple[Value, ...]:
    """Return values as typed: numbers, true and false as such, anything else as text; quotes make a text of anything.

    Example:
        >>> values_of('stopped, 3, true, "3"')
        ('stopped', 3, True, '3')
    """
    return tuple(_value(part) for one in typed.replace("，", ",").split(",") if (part := one.strip()))


def typed_of(values: tuple[Value, ...]) -> str:
    """Return values as one would type them."""
    return ", ".join(one if isinstance(one, str) and _value(one) == one else json.dumps(one) for one in values)


def held_while(kind: AlarmType) -> str:
    """Return in which state of the plant the alarms of a rule are held, as one would type it; empty: in none."""
    now = handling.of(kind)
    return f"{now.attribute} = {typed_of(tuple(now.values))}" if now.attribute else ""


def _value(part: str) -> Value:
    try:
        value = json.loads(part)
    except ValueError:
        return part
    if isinstance(value, float) and not math.isfinite(value):
        return part
    return value if isinstance(value, str | int | float) else part


@router.get("/{rule_id}/handling")
def handled(request: Request, db: Db, viewer: Writer, rule_id: int) -> Response:
    """Show how the alarms of a rule are handled."""
    now = handling.of(v1.mine(db, viewer, rule_id))
    sent = HandlingForm(
        latches="1" if now.latches else "",
        suppresses_below="1" if now.suppresses_below else "",
        attribute=now.attribute,
        values=typed_of(tuple(now.values)),
    )
    return _form(request, db, viewer, rule_id, sent)


@router.post("/{rule_id}/handling")
def handle(request: Request, db: Db, viewer: Writer, rule_id: int, form: Annotated[HandlingForm, Form()]) -> Response:
    """Let them be handled otherwise from now on."""
    wanted = Handling(bool(form.latches), bool(form.suppresses_below), form.attribute, values_of(form.values))
    try:
        handling.change(db, v1.mine(db, viewer, rule_id), wanted, by=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return _form(request, db, viewer, rule_id, form, error=error)
    return pages.go(f"/rules/{rule_id}", notice=i18n.noop("Saved. Its alarms are handled this way from now on."))


def _form(
    request: Request,
    db: Session,
    viewer: Viewer,
    rule_id: int,
    sent: HandlingForm,
    *,
    error: FixwrightError | None = None,
) -> Response:
    return pages.render(
        request,
        "rules/handling.html",
        status=422 if error else 200,
        kind=v1.mine(db, viewer, rule_id),
        sent=sent,
        errors=forms.refused(request, error) if error else {},
    )
