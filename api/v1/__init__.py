"""JSON for programs under ``/api/v1``: one module a noun."""

from importlib import import_module

from fastapi import APIRouter

from api import idempotency

NOUNS: tuple[str, ...] = (
    # Before the address of one alarm, which is whatever stands behind "/alarms/".
    "alarm_figures",
    "alarms_held",
    "alarms_followed",
    "alarms_above",
    "alarms_acts",
    "alarm_actions",
    "alarm_runs",
    "alarms",
    "applications",
    "assets",
    "attributes",
    "audit",
    "backtests",
    "broker",
    "checklists",
    "codes",
    "commands",
    "deliveries",
    "derived",
    "enrolments",
    "device_import",
    "devices",
    "events",
    "intake",
    "exports",
    "imports",
    "keeping",
    "limits",
    "locations",
    "mappings",
    "meters",
    "order_policies",
    "notices",
    # Before one order, whose address is whatever stands behind "/orders/".
    "order_dispatch",
    "orders",
    "parts",
    "places",
    "plans",
    "provision",
    "ranges",
    "rejected",
    "requests",
    "roles",
    "rule_handling",
    # Before the address of one rule.
    "rule_texts",
    "rules",
    "samples",
    "sites",
    "stock",
    "tags",
    "teams",
    "telemetry",
    "tokens",
    "traces",
    "trends",
    "types",
    "units",
    "users",
    "webhooks",
)


MACHINES: frozenset[str] = frozenset({"broker", "provision"})
"""Nouns that brokers and devices ask, who are no account: what asking again means is part of what is asked."""


def routers() -> list[APIRouter]:
    """Return the router of every noun, in a fixed order; their POSTs honour ``Idempotency-Key``."""
    return [_router(noun) for noun in NOUNS]


def _router(noun: str) -> APIRouter:
    found: APIRouter = import_module(f"api.v1.{noun}").router
    return found if noun in MACHINES else idempotency.remembering(found)
