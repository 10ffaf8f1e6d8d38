"""The rights of the product and the roles it comes with: one table, read by the pages, the API and the docs.

A role is a set of rights. A membership gives an account a role at an org unit, and with it those rights over
that unit and everything below.
"""

from typing import Final

from kernel.i18n import noop

RIGHTS: Final[dict[str, str]] = {
    "alarms.act": noop("Acknowledge, comment and clear alarms"),
    "alarms.hold": noop("Take alarms out of service and plan windows without alarms"),
    "alarms.read": noop("See alarms"),
    "assets.read": noop("See sites, assets and devices"),
    "assets.write": noop("Change sites, types and assets"),
    "audit.read": noop("Read the audit trail"),
    "deliveries.act": noop("Retry stuck deliveries"),
    "deliveries.read": noop("See events and deliveries"),
    "devices.command": noop("Send commands and settings to devices"),
    "devices.write": noop("Register devices, issue and revoke their credentials"),
    "ingest.act": noop("Replay rejected messages"),
    "ingest.read": noop("See rejected messages and intake counts"),
    "mappings.write": noop("Change payload mappings"),
    "orders.assign": noop("Assign work orders"),
    "orders.cancel": noop("Cancel work orders"),
    "orders.comment": noop("Comment on work orders"),
    "orders.create": noop("Create work orders"),
    "orders.read": noop("See work orders"),
    "orders.verify": noop("Verify finished work or send it back"),
    "orders.work": noop("Accept and carry out work orders"),
    "parts.move": noop("Reserve, receive, issue and return parts"),
    "parts.price": noop("See prices and cost"),
    "parts.read": noop("See parts and stock"),
    "parts.write": noop("Change parts and places"),
    "people.read": noop("See people, teams and shifts"),
    "people.write": noop("Change people, roles, teams and shifts"),
    "plans.read": noop("See maintenance plans"),
    "plans.write": noop("Change maintenance plans"),
    "requests.read": noop("See fault reports"),
    "requests.triage": noop("Turn fault reports into work orders, hold or decline them"),
    "rules.read": noop("See alarm rules"),
    "rules.write": noop("Change alarm rules"),
    "tags.read": noop("See and print labels"),
    "tags.write": noop("Make and revoke labels"),
    "telemetry.read": noop("See readings and plots"),
}

_READ: Final = frozenset(
    {
        "alarms.read",
        "assets.read",
        "orders.read",
        "parts.read",
        "plans.read",
        "requests.read",
        "rules.read",
        "telemetry.read",
    }
)

ROLES: Final[dict[str, tuple[str, frozenset[str]]]] = {
    "administrator": (noop("Administrator"), frozenset(RIGHTS)),
    "manager": (
        noop("Manager"),
        _READ
        | {
            "parts.price",
            "people.read",
            "tags.read",
            "audit.read",
            "orders.verify",
            "orders.comment",
            "alarms.act",
            "alarms.hold",
        },
    ),
    "dispatcher": (
        noop("Dispatcher"),
        _READ
        | {
            "alarms.act",
            "alarms.hold",
            "devices.command",
            "orders.assign",
            "orders.cancel",
            "orders.comment",
            "orders.create",
            "orders.verify",
            "people.read",
            "requests.triage",
            "tags.read",
        },
    ),
    "planner": (
        noop("Planner"),
        _READ
        | {
            "alarms.hold",
            "assets.write",
            "orders.comment",
            "orders.create",
            "people.read",
            "plans.write",
            "rules.write",
            "tags.read",
            "tags.write",
        },
    ),
    "storekeeper": (
        noop("Storekeeper"),
        frozenset(
            {"assets.read", "orders.read", "parts.move", "parts.price", "parts.read", "parts.write", "tags.read"}
        ),
    ),
    "technician": (
        noop("Technician"),
        frozenset(
            {
                "alarms.act",
                "alarms.read",
                "assets.read",
                "orders.comment",
                "orders.create",
                "orders.read",
                "orders.work",
                "parts.move",
                "parts.read",
                "tags.read",
                "telemetry.read",
            }
        ),
    ),
}
