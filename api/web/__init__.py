"""Pages for people: one module and one template folder a feature."""

from importlib import import_module

from fastapi import APIRouter

FEATURES: tuple[str, ...] = (
    "account",
    # Before the page of one alarm, whose address is whatever stands behind "/alarms/".
    "alarm_desk",
    "alarm_figures",
    "alarms_held",
    "alarms_acts",
    "alarm_actions",
    "alarms",
    "applications",
    "asset_forms",
    "attributes",
    "audit",
    "backtests",
    "board",
    "checklists",
    "codes",
    "commands",
    "compare",
    "deliveries",
    "derived",
    "enrolments",
    "escalation",
    "devices",
    "dispatch",
    "ingest",
    "exports",
    "homescreen",
    "imports",
    "keeping",
    "labels",
    "limits",
    "machines",
    "mappings",
    "meters",
    # Before the page of one order, whose address is whatever stands behind "/orders/".
    "order_export",
    "order_policies",
    "notices",
    "orders",
    "parts",
    "people",
    "places",
    "plans",
    "plots",
    "rejected",
    "requests",
    "roles",
    "rota",
    "rule_texts",
    "rule_handling",
    "rule_trial",
    # Before the page of one rule, and behind what has an address of its own below "/rules/".
    "rule_forms",
    "rules",
    "scan",
    "search",
    "settings",
    "skills",
    "storeroom",
    "teams",
    "traces",
    "track",
    "trends",
    "types",
    "units",
    "webhooks",
    "work",
)


def routers() -> list[APIRouter]:
    """Return the router of every feature, in a fixed order."""
    return [import_module(f"api.web.{feature}").router for feature in FEATURES]
