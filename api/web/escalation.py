"""Escalation policies as pages: whom an alarm goes to, when people are reminded and who is next, in whole sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.web import forms, pages
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid
from people import notices, oversight, roles, scope
from people.models import Account, OrgUnit
from people.scope import Viewer
from rules import escalation, policies
from rules.escalation import Policy
from rules.hold_tables import EscalationPolicy
from rules.models import SEVERITIES, AlarmType

router = APIRouter(prefix="/escalation")
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
MOST_SHOWN = 1000
MOST_CHOICES = 500
BLANK_STEPS = 2
"""Empty steps offered below those that are there."""
ShortText = Annotated[str, Field(max_length=200)]


@dataclass(frozen=True, slots=True)
class Called:
    """One step as it is told: after how many minutes, which role or person, and who that is at this moment."""

    after_min: int
    role: str | None
    account_id: int | None
    now: Sequence[int]


@dataclass(frozen=True, slots=True)
class Told:
    """A policy as it is told. ``row`` None: what holds where no policy fits."""

    row: EscalationPolicy | None
    policy: Policy
    unit: OrgUnit
    steps: Sequence[Called]


class PolicyForm(BaseModel):
    """A policy as its form sends it: empty texts for what is not given, the steps as two columns."""

    unit: str = ""
    name: ShortText = ""
    name_zh: ShortText = ""
    severity: str = "info"
    kind: str = ""
    repeat: str = ""
    repeats: str = ""
    realarm: str = ""
    realarms: str = ""
    enabled: str = ""
    after: list[str] = Field(default_factory=list)
    who: list[str] = Field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        """Return the steps as typed, those that are empty left out."""
        pairs = zip(self.after, self.who, strict=False)
        return [(after, who) for after, who in pairs if after.strip() or who][: policies.MOST_STEPS + 1]

    def fields(self) -> dict[str, Any]:
        """Return what is to be kept.

        Raises:
            Invalid: a number is none.
        """
        return {
            "name": self.name.strip(),
            "name_zh": self.name_zh.strip() or None,
            "severity": self.severity,
            "alarm_type_id": forms.whole(self.kind, "alarm_type_id"),
            "repeat_min": forms.whole(self.repeat, "repeat_min"),
            "repeats": forms.whole(self.repeats, "repeats") or 0,
            "realarm_min": forms.whole(self.realarm, "realarm_min"),
            "realarms": forms.whole(self.realarms, "realarms") or 0,
            "is_enabled": bool(self.enabled),
            "steps": [_step(number, after, who) for number, (after, who) in enumerate(self.rows())],
        }


@router.get("")
def listed(request: Request, db: Db, viewer: Reader) -> Response:
    """Show each policy in words with whom it would call now, and what holds where none fits."""
    rows = db.scalars(
        select(EscalationPolicy)
        .where(scope.visible(EscalationPolicy, viewer, "rules.read"))
        .order_by(EscalationPolicy.name, EscalationPolicy.id)
        .limit(MOST_SHOWN)
    ).all()
    now = clock.now()
    told = [_told(db, row, policies.read(row), db.get_one(OrgUnit, row.unit_id), now) for row in rows]
    usual = _told(db, None, escalation.DEFAULT, db.get_one(OrgUnit, viewer.company_id), now)
    kinds = {row.alarm_type_id for row in rows}
    types = db.scalars(select(AlarmType).where(AlarmType.id.in_(kinds), AlarmType.company_id == viewer.company_id))
    people = [account for one in (*told, usual) for step in one.steps for account in (*step.now, step.account_id)]
    return pages.render(
        request,
        "alarms/escalation.html",
        told=told,
        usual=usual,
        names=oversight.names(db, viewer, [f"account:{one}" for one in people]),
        role_names={role.key: role.name for role in roles.of_company(db, viewer.company_id)},
        types={one.id: one for one in types},
        may_write=viewer.may("rules.write"),
    )


@router.get("/new")
def blank(request: Request, db: Db, viewer: Writer) -> Response:
    """Show the form of a new policy, filled with what holds where none fits."""
    usual = escalation.DEFAULT
    sent = PolicyForm(
        repeat="" if usual.repeat is None else str(round(usual.repeat.total_seconds() / 60)),
        repeats=str(usual.repeats),
        enabled="1",
        after=[str(round(step.after.total_seconds() / 60)) for step in usual.steps],
        who=[f"role:{step.role}" for step in usual.steps],
    )
    return _form(request, db, viewer, sent)


@router.post("")
def make(request: Request, db: Db, viewer: Writer, form: Annotated[PolicyForm, Form()]) -> Response:
    """Make a policy."""
    try:
        policies.save(db, _unit(db, viewer, form.unit), form.fields(), by=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return _form(request, db, viewer, form, error=error)
    return pages.go("/escalation", notice=i18n.noop("Saved. Alarms are followed up this way from now on."))


@router.get("/{policy_id}")
def edit(request: Request, db: Db, viewer: Writer, policy_id: int) -> Response:
    """Show one policy to change it."""
    row = _mine(db, viewer, policy_id)
    sent = PolicyForm(
        name=row.name,
        name_zh=row.name_zh or "",
        severity=row.severity,
        kind=str(row.alarm_type_id or ""),
        repeat=str(row.repeat_min or ""),
        repeats=str(row.repeats),
        realarm=str(row.realarm_min or ""),
        realarms=str(row.realarms),
        enabled="1" if row.is_enabled else "",
        after=[str(step["after_min"]) for step in row.steps],
        who=[f"role:{step['role']}" if "role" in step else f"account:{step['account']}" for step in row.steps],
    )
    return _form(request, db, viewer, sent, known=row)


@router.post("/{policy_id}")
def change(request: Request, db: Db, viewer: Writer, policy_id: int, form: Annotated[PolicyForm, Form()]) -> Response:
    """Change a policy; what is under way goes on with it."""
    row = _mine(db, viewer, policy_id)
    unit = db.get_one(OrgUnit, row.unit_id)
    try:
        policies.save(db, unit, form.fields(), policy=row, by=viewer.actor, now=clock.now())
    except Invalid as error:
        db.rollback()
        return _form(request, db, viewer, form, known=_mine(db, viewer, policy_id), error=error)
    return pages.go("/escalation", notice=i18n.noop("Saved. Alarms are followed up this way from now on."))


@router.post("/{policy_id}/drop")
def drop(db: Db, viewer: Writer, policy_id: int) -> Response:
    """Remove a policy."""
    policies.remove(db, _mine(db, viewer, policy_id), by=viewer.actor, now=clock.now())
    return pages.go("/escalation", notice=i18n.noop("The policy is removed. The next that fits holds."))


def _mine(db: Session, viewer: Viewer, policy_id: int) -> EscalationPolicy:
    row = scope.find(db, EscalationPolicy, policy_id, viewer, "rules.read")
    scope.require(db, viewer, "rules.write", row.unit_id)
    return row


def _unit(db: Session, viewer: Viewer, typed: str) -> OrgUnit:
    unit_id = forms.whole(typed, "unit_id")
    unit = db.get(OrgUnit, unit_id) if unit_id is not None else None
    if unit is None or not viewer.may_at("rules.write", unit.path):
        raise Invalid("There is no such org unit.", field="unit_id")
    return unit


def _told(db: Session, row: EscalationPolicy | None, policy: Policy, unit: OrgUnit, now: datetime) -> Told:
    steps = []
    for step in policy.steps:
        called = notices.on_shift(db, step.role, unit.id, now) if step.role is not None else []
        steps.append(Called(round(step.after.total_seconds() / 60), step.role, step.account_id, called))
    return Told(row, policy, unit, steps)


def _step(number: int, after: str, who: str) -> dict[str, Any]:
    field = f"steps.{number}"
    kind, _, name = who.partition(":")
    called: dict[str, Any] = {}
    if kind == "role":
        called = {"role": name}
    if kind == "account":
        called = {"account": forms.whole(name, field)}
    return {"after_min": forms.whole(after, field) or 0, **called}


def _form(
    request: Request,
    db: Session,
    viewer: Viewer,
    sent: PolicyForm,
    *,
    known: EscalationPolicy | None = None,
    error: FixwrightError | None = None,
) -> Response:
    language = request.state.language
    company_id = viewer.company_id
    units = select(OrgUnit).where(OrgUnit.id.in_(scope.units(viewer, "rules.write"))).order_by(OrgUnit.path)
    kinds = select(AlarmType).where(scope.visible(AlarmType, viewer, "rules.read")).order_by(AlarmType.name)
    named = [int(who[8:]) for who in sent.who if who.startswith("account:") and who[8:].isdigit()]
    seen = Account.home_unit_id.in_(scope.units(viewer, "people.read"))
    accounts = select(Account.id, Account.name).where(
        Account.company_id == company_id, Account.is_active, seen | Account.id.in_(named)
    )
    chosen = [(role.key, role.name) for role in roles.of_company(db, company_id)]
    people = db.execute(accounts.order_by(Account.name, Account.id).limit(MOST_CHOICES))
    steps = [*sent.rows(), *[("", "")] * BLANK_STEPS][: policies.MOST_STEPS]
    return pages.render(
        request,
        "alarms/escalation_form.html",
        status=422 if error else 200,
        known=known,
        unit=db.get_one(OrgUnit, known.unit_id) if known else None,
        sent=sent,
        steps=steps,
        units=[(unit.id, unit.called(language)) for unit in db.scalars(units.limit(MOST_CHOICES))],
        types=forms.options(db.scalars(kinds.limit(MOST_CHOICES)), language),
        severities=SEVERITIES,
        who_choices={
            "role": [(f"role:{key}", name) for key, name in forms.translated(chosen, language)],
            "account": [(f"account:{identity}", name) for identity, name in people],
        },
        errors=forms.refused(request, error) if error else {},
    )
