"""Alarm and work as one loop, over JSON: what alarms ask for, and when a repair counts as having held.

Of an alarm type, and of the company for its rules and for codes of devices.
"""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import rules
from api.v1.rules import Severity
from kernel import clock
from maintenance.orders import policies, policy, recovery
from maintenance.orders.policies import Table
from maintenance.orders.policy import Chosen, Line
from people import scope
from people.scope import Viewer
from rules import visible

router = APIRouter(tags=["rules"])
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
Source = Literal["rule", "device"]


class LineBody(BaseModel):
    """What alarms of one severity ask for. What is null is as usual, or for every asset."""

    model_config = ConfigDict(from_attributes=True)

    severity: Severity
    does: Literal["none", "request", "order"]
    delay_s: int = Field(0, ge=0, le=policy.LONGEST_DELAY_S, description="How long the alarm must stand first.")
    priority: int | None = Field(None, ge=1, le=4, description="Null: by the severity.")
    team_id: int | None = None
    checklist_id: int | None = None
    site_id: int | None = Field(None, description="Only for assets of this site.")
    criticality: int | None = Field(None, ge=1, le=4, description="Only for assets at least this important; 1 is most.")

    def line(self) -> Line:
        """Return it as the policy has it."""
        return Line(**self.model_dump())


class ChosenOut(LineBody):
    """The line that decides over a severity on an asset that no narrowed line is for."""

    level: Literal["type", "company", "delivered"] = Field(description="Whose line it is.")


class TableIn(BaseModel):
    """The lines of a table, in place of those before."""

    lines: list[LineBody] = Field(max_length=policy.MOST_LINES)


class TableOut(BaseModel):
    """A table of what alarms ask for."""

    lines: list[LineBody] = Field(description="What was written here; a severity without a line does as the company.")
    in_force: list[ChosenOut] = Field(description="What each severity comes to.")


class RuleRecovery(BaseModel):
    """How long the signal must stay normal after the finish; null: as the company says, or 10 minutes."""

    quiet_s: int | None = Field(None, ge=0, le=int(recovery.LONGEST_QUIET.total_seconds()))


class CompanyRecovery(RuleRecovery):
    """The same for the company, and within how many days a fault that comes back is rework; null: 14."""

    rework_days: int | None = Field(None, ge=0, le=recovery.MOST_REWORK_DAYS)


@router.get("/order-policy")
def of_company(db: Db, viewer: Reader, source: Source = "rule") -> TableOut:
    """Return the company's table: for alarms of its rules, or for codes that devices report by themselves."""
    return _shown(db, Table(viewer.company_id, source))


@router.put("/order-policy")
def save_of_company(db: Db, viewer: Writer, body: TableIn, source: Source = "rule") -> TableOut:
    """Make these lines the company's table; none at all: as the product was delivered."""
    return _saved(db, viewer, company_table(db, viewer, source), body)


@router.get("/rules/{rule_id}/order-policy")
def of_rule(db: Db, viewer: Reader, rule_id: int) -> TableOut:
    """Return the table of an alarm type."""
    return _shown(db, policies.of_type(visible.find(db, viewer, rule_id)))


@router.put("/rules/{rule_id}/order-policy")
def save_of_rule(db: Db, viewer: Writer, rule_id: int, body: TableIn) -> TableOut:
    """Make these lines the table of an alarm type; a severity left out does as the company does."""
    return _saved(db, viewer, policies.of_type(rules.mine(db, viewer, rule_id)), body)


@router.get("/order-policy/recovery")
def recovery_of_company(db: Db, viewer: Reader) -> CompanyRecovery:
    """Return when a repair counts as having held."""
    said = recovery.settings_of(db, viewer.company_id)
    return CompanyRecovery(quiet_s=said.quiet_s, rework_days=said.rework_days)


@router.put("/order-policy/recovery")
def save_recovery_of_company(db: Db, viewer: Writer, body: CompanyRecovery) -> CompanyRecovery:
    """Say when a repair counts as having held."""
    company_id = company_table(db, viewer, "rule").company_id
    wanted = recovery.Settings(body.quiet_s, body.rework_days)
    recovery.save(db, wanted, company_id=company_id, actor=viewer.actor, now=clock.now())
    return body


@router.get("/rules/{rule_id}/order-policy/recovery")
def recovery_of_rule(db: Db, viewer: Reader, rule_id: int) -> RuleRecovery:
    """Return how long an alarm type's signal must stay normal."""
    kind = visible.find(db, viewer, rule_id)
    return RuleRecovery(quiet_s=recovery.settings_of(db, kind.company_id, kind.id).quiet_s)


@router.put("/rules/{rule_id}/order-policy/recovery")
def save_recovery_of_rule(db: Db, viewer: Writer, rule_id: int, body: RuleRecovery) -> RuleRecovery:
    """Say how long an alarm type's signal must stay normal."""
    kind = rules.mine(db, viewer, rule_id)
    wanted = recovery.Settings(body.quiet_s)
    recovery.save(db, wanted, company_id=kind.company_id, alarm_type_id=kind.id, actor=viewer.actor, now=clock.now())
    return body


def company_table(db: Session, viewer: Viewer, source: str) -> Table:
    """Return the company's table for a viewer who may change it.

    Raises:
        Forbidden: the viewer may shape rules of a part of the company only.
    """
    scope.require(db, viewer, "rules.write", viewer.company_id)
    return Table(viewer.company_id, source)


def _saved(db: Session, viewer: Viewer, table: Table, body: TableIn) -> TableOut:
    policies.save(db, table, [one.line() for one in body.lines], actor=viewer.actor, now=clock.now())
    return _shown(db, table)


def _shown(db: Session, table: Table) -> TableOut:
    return TableOut(
        lines=[LineBody.model_validate(line) for line in policies.lines(db, table)],
        in_force=[_chosen(chosen) for chosen in policies.in_force(db, table).values()],
    )


def _chosen(chosen: Chosen) -> ChosenOut:
    return ChosenOut(**LineBody.model_validate(chosen.line).model_dump(), level=chosen.level)
