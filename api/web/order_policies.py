"""What alarms ask for, as a table a planner reads at a glance: of one rule, of all rules, of codes of devices."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.v1 import order_policies as v1
from api.v1 import rules as v1_rules
from api.web import forms, pages
from api.web.asset_forms import CRITICALITIES
from assets.models import Site
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid
from maintenance.orders import policies, policy, recovery, urgency
from maintenance.orders.policies import Table
from maintenance.orders.policy import Line
from maintenance.plans.models import Checklist
from people.models import OrgUnit, Team
from people.scope import Viewer
from rules.models import SEVERITIES, AlarmType

router = APIRouter()
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]
BLANK_LINES = 2
"""Empty lines offered for what some assets do differently."""
LEVELS = {
    "type": i18n.noop("said here"),
    "company": i18n.noop("as the company does"),
    "delivered": i18n.noop("as delivered"),
}
MINUTE_S = 60


class PolicyForm(BaseModel):
    """The rows of the table as its form sends them: one list a column, texts as typed."""

    source: str = "rule"
    quiet: str = ""
    rework_days: str = ""
    severity: list[str] = Field(default_factory=list)
    does: list[str] = Field(default_factory=list)
    delay: list[str] = Field(default_factory=list)
    priority: list[str] = Field(default_factory=list)
    team: list[str] = Field(default_factory=list)
    checklist: list[str] = Field(default_factory=list)
    site: list[str] = Field(default_factory=list)
    criticality: list[str] = Field(default_factory=list)

    def rows(self) -> list[dict[str, str]]:
        """Return what was typed, row by row."""
        names = ("severity", "does", "delay", "priority", "team", "checklist", "site", "criticality")
        most = min(len(self.severity), policy.MOST_LINES)
        columns = {name: (getattr(self, name) + [""] * most)[:most] for name in names}
        return [{name: columns[name][number] for name in names} for number in range(most)]


@router.get("/rules/orders")
def of_company(request: Request, db: Db, viewer: Reader, source: str = "rule") -> Response:
    """Show what the company's alarms ask for where their rules say nothing else."""
    table = Table(viewer.company_id, "device" if source == "device" else "rule")
    return _page(request, db, viewer, table)


@router.post("/rules/orders")
def save_of_company(request: Request, db: Db, viewer: Writer, form: Annotated[PolicyForm, Form()]) -> Response:
    """Save the company's table."""
    table = v1.company_table(db, viewer, "device" if form.source == "device" else "rule")
    return _save(request, db, viewer, table, form, f"/rules/orders?source={table.source}")


@router.get("/rules/{rule_id}/orders")
def of_rule(request: Request, db: Db, viewer: Writer, rule_id: int) -> Response:
    """Show the table of one rule, to be changed."""
    kind = v1_rules.mine(db, viewer, rule_id)
    return _page(request, db, viewer, policies.of_type(kind), kind=kind)


@router.post("/rules/{rule_id}/orders")
def save_of_rule(
    request: Request, db: Db, viewer: Writer, rule_id: int, form: Annotated[PolicyForm, Form()]
) -> Response:
    """Save the table of one rule."""
    kind = v1_rules.mine(db, viewer, rule_id)
    return _save(request, db, viewer, policies.of_type(kind), form, f"/rules/{rule_id}#orders", kind)


def shown(db: Session, table: Table, language: str) -> dict[str, Any]:
    """Return what a page needs to tell a table: each severity's line with its names, and the narrowed lines."""
    own = policies.lines(db, table)
    chosen = policies.in_force(db, table)
    narrowed = [line for line in own if line.is_narrowed]
    return {
        "asked_for": [(severity, one.line, LEVELS[one.level]) for severity, one in chosen.items()],
        "asked_by_some": narrowed,
        "called": _called(db, [*narrowed, *(one.line for one in chosen.values())], language),
        "does_words": policy.DOES,
        "quiet_time": recovery.quiet_time(db, table.company_id, table.alarm_type_id).total_seconds(),
        "priorities": urgency.PRIORITIES,
        "criticality_words": dict(CRITICALITIES),
    }


def _called(db: Session, lines: Iterable[Line], language: str) -> dict[str, dict[int, str]]:
    """Return the names of the teams, checklists and sites that lines speak of."""
    asked = list(lines)
    named: dict[str, dict[int, str]] = {}
    tables: tuple[tuple[str, Any], ...] = (("team", Team), ("checklist", Checklist), ("site", Site))
    for field, table in tables:
        ids = {value for line in asked if (value := getattr(line, f"{field}_id")) is not None}
        rows = db.scalars(select(table).where(table.id.in_(ids))).all() if ids else ()
        named[field] = {row.id: row.called(language) for row in rows}
    return named


def _page(
    request: Request,
    db: Session,
    viewer: Viewer,
    table: Table,
    *,
    kind: AlarmType | None = None,
    sent: PolicyForm | None = None,
    error: FixwrightError | None = None,
) -> Response:
    language = request.state.language
    said = recovery.settings_of(db, table.company_id, table.alarm_type_id)
    rows = sent.rows() if sent else _rows(policies.lines(db, table))
    unit = db.get_one(OrgUnit, kind.unit_id if kind else viewer.company_id)
    words = forms.translated(policy.DOES.items(), language)
    return pages.render(
        request,
        "rules/policy.html",
        status=422 if error else 200,
        kind=kind,
        source=table.source,
        plain=rows[: len(SEVERITIES)],
        narrowed=rows[len(SEVERITIES) :],
        severities=SEVERITIES,
        does=words,
        above=policies.in_force(db, Table(table.company_id, table.source)),
        priority_choices=forms.translated(urgency.PRIORITIES.items(), language),
        criticalities=forms.translated(CRITICALITIES, language),
        teams=_choices(db, Team, table.company_id, language),
        checklists=_choices(db, Checklist, table.company_id, language),
        sites=_choices(db, Site, table.company_id, language),
        quiet=sent.quiet if sent else _minutes(said.quiet_s),
        usual_quiet=recovery.quiet_time(db, table.company_id, None).total_seconds(),
        rework_days=sent.rework_days if sent else "" if said.rework_days is None else said.rework_days,
        usual_rework_days=recovery.REWORK_DAYS,
        errors=forms.refused(request, error) if error else {},
        may_change=viewer.may_at("rules.write", unit.path),
        **shown(db, table, language),
    )


def _choices(db: Session, table: Any, company_id: int, language: str) -> list[tuple[int, str]]:  # noqa: ANN401 - a mapped class with names
    return forms.options(db.scalars(select(table).where(table.company_id == company_id).limit(500)), language)


def _rows(lines: list[Line]) -> list[dict[str, str]]:
    """Return a table as its form shows it: a row each severity, then what is narrowed, then empty ones to fill."""
    plain = {line.severity: line for line in lines if not line.is_narrowed}
    rows = [_row(plain.get(severity), severity) for severity in SEVERITIES]
    rows += [_row(line, line.severity) for line in lines if line.is_narrowed]
    return rows + [_row(None, "") for _ in range(BLANK_LINES)]


def _row(line: Line | None, severity: str) -> dict[str, str]:
    if line is None:
        names = ("does", "delay", "priority", "team", "checklist", "site", "criticality")
        return {"severity": severity, **dict.fromkeys(names, "")}
    return {
        "severity": severity,
        "does": line.does,
        "delay": _minutes(line.delay_s or None),
        "priority": str(line.priority or ""),
        "team": str(line.team_id or ""),
        "checklist": str(line.checklist_id or ""),
        "site": str(line.site_id or ""),
        "criticality": str(line.criticality or ""),
    }


def _save(  # noqa: PLR0917 - what a form is saved with
    request: Request,
    db: Session,
    viewer: Viewer,
    table: Table,
    form: PolicyForm,
    back: str,
    kind: AlarmType | None = None,
) -> Response:
    try:
        wanted = [_read(row) for row in form.rows() if row["does"] and row["severity"]]
        policies.save(db, table, wanted, actor=viewer.actor, now=clock.now())
        if kind is not None or table.source == "rule":
            _save_recovery(db, viewer, table, form)
    except Invalid as error:
        db.rollback()
        return _page(request, db, viewer, table, kind=kind, sent=form, error=error)
    return pages.go(back, notice=i18n.noop("Saved. It holds for alarms from now on."))


def _save_recovery(db: Session, viewer: Viewer, table: Table, form: PolicyForm) -> None:
    minutes = forms.number(form.quiet, "quiet")
    days = None if table.alarm_type_id is not None else forms.whole(form.rework_days, "rework_days")
    wanted = recovery.Settings(None if minutes is None else round(minutes * MINUTE_S), days)
    recovery.save(
        db,
        wanted,
        company_id=table.company_id,
        alarm_type_id=table.alarm_type_id,
        actor=viewer.actor,
        now=clock.now(),
    )


def _minutes(seconds: int | None) -> str:
    return "" if seconds is None else f"{seconds / MINUTE_S:g}"


def _read(row: dict[str, str]) -> Line:
    minutes = forms.number(row["delay"], "delay") or 0.0
    return Line(
        severity=row["severity"],
        does=row["does"],
        delay_s=round(minutes * MINUTE_S),
        priority=forms.whole(row["priority"], "priority"),
        team_id=forms.whole(row["team"], "team_id"),
        checklist_id=forms.whole(row["checklist"], "checklist_id"),
        site_id=forms.whole(row["site"], "site_id"),
        criticality=forms.whole(row["criticality"], "criticality"),
    )
