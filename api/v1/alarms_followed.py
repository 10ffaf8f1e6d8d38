"""Escalation policies over JSON: how the alarms of a unit are repeated, escalated and announced again."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from api import paging
from api.access import Db, needs
from api.v1.alarms import Severity
from kernel import clock
from kernel.errors import Invalid
from people import scope
from people.models import OrgUnit
from people.scope import Viewer
from rules import policies
from rules.hold_tables import EscalationPolicy

router = APIRouter(prefix="/alarms/policies", tags=["alarms"])
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]


class Step(BaseModel):
    """Whom an unacknowledged alarm goes to after so many minutes: a role on shift, or one person.

    A step after 0 minutes is whom the alarm goes to at first.
    """

    after_min: int
    role: str | None = None
    account: int | None = None


class PolicyIn(BaseModel):
    """How alarms are followed up until somebody acknowledges them; re-alarm goes on after that, while they stand."""

    name: str = Field(max_length=200)
    name_zh: str | None = Field(None, max_length=200)
    severity: Severity = Field("info", description="The least severity it is for.")
    alarm_type_id: int | None = None
    repeat_min: int | None = None
    repeats: int = 0
    realarm_min: int | None = None
    realarms: int = 0
    steps: list[Step] = Field(default_factory=list, max_length=policies.MOST_STEPS)
    is_enabled: bool = True

    def fields(self) -> dict[str, Any]:
        """Return what is to be kept."""
        return self.model_dump(exclude={"unit_id"})


class PolicyNew(PolicyIn):
    """A policy for the alarms of a unit and those below it."""

    unit_id: int


class PolicyOut(PolicyIn):
    """A policy as it is kept."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    unit_id: int


@router.get("")
def list_policies(db: Db, viewer: Reader) -> paging.Page[PolicyOut]:
    """List policies in order of name; all of them, because there are few."""
    rows = db.scalars(
        select(EscalationPolicy)
        .where(scope.visible(EscalationPolicy, viewer, "rules.read"))
        .order_by(EscalationPolicy.name, EscalationPolicy.id)
        .limit(1000)
    )
    return paging.Page(items=[PolicyOut.model_validate(row) for row in rows])


@router.post("", status_code=201)
def make_policy(db: Db, viewer: Writer, body: PolicyNew) -> PolicyOut:
    """Make a policy."""
    unit = db.get(OrgUnit, body.unit_id)
    if unit is None or not viewer.may_at("rules.read", unit.path):
        raise Invalid("There is no such org unit.", field="unit_id")
    scope.require(db, viewer, "rules.write", unit.id)
    made = policies.save(db, unit, body.fields(), by=viewer.actor, now=clock.now())
    return PolicyOut.model_validate(made)


@router.get("/{policy_id}")
def policy(db: Db, viewer: Reader, policy_id: int) -> PolicyOut:
    """Return one policy."""
    return PolicyOut.model_validate(scope.find(db, EscalationPolicy, policy_id, viewer, "rules.read"))


@router.put("/{policy_id}")
def change_policy(db: Db, viewer: Writer, policy_id: int, body: PolicyIn) -> PolicyOut:
    """Change a policy; what is under way goes on with it."""
    found = scope.find(db, EscalationPolicy, policy_id, viewer, "rules.read")
    scope.require(db, viewer, "rules.write", found.unit_id)
    unit = db.get_one(OrgUnit, found.unit_id)
    policies.save(db, unit, body.fields(), policy=found, by=viewer.actor, now=clock.now())
    return PolicyOut.model_validate(found)


@router.delete("/{policy_id}", status_code=204)
def remove_policy(db: Db, viewer: Writer, policy_id: int) -> None:
    """Remove a policy."""
    found = scope.find(db, EscalationPolicy, policy_id, viewer, "rules.read")
    scope.require(db, viewer, "rules.write", found.unit_id)
    policies.remove(db, found, by=viewer.actor, now=clock.now())
