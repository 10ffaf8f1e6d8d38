"""JSON for programs under ``/api/v1``: one module a noun."""

from importlib import import_module

from fastapi import APIRouter

from api import idempotency

NOUNS: tuple[str, ...] = (
    "alarms",
    "applications",
    "assets",
    "audit",
    "checklists",
    "deliveries",
    "devices",
    "events",
    "intake",
    "locations",
    "mappings",
    "orders",
    "parts",
    "places",
    "plans",
    "ranges",
    "rejected",
    "requests",
    "roles",
    "rules",
    "sites",
    "stock",
    "tags",
    "teams",
    "telemetry",
    "tokens",
    "types",
    "units",
    "users",
)


def routers() -> list[APIRouter]:
    """Return the router of every noun, in a fixed order; their POSTs honour ``Idempotency-Key``."""
    return [idempotency.remembering(import_module(f"api.v1.{noun}").router) for noun in NOUNS]
