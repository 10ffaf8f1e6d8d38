"""The way to everything that shapes and watches the product, as far as the viewer may go, and what this is."""

from importlib import metadata

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.access import SignedIn
from api.web import pages
from kernel import i18n

router = APIRouter()

CARDS = (
    (
        i18n.noop("People and places"),
        (
            ("/people", "users", "people.read", i18n.noop("People"), i18n.noop("Accounts, roles at units, shifts")),
            ("/teams", "users-group", "people.read", i18n.noop("Teams"), i18n.noop("Who gets work together")),
            ("/roles", "shield", "people.read", i18n.noop("Roles"), i18n.noop("Who may do what")),
            ("/skills", "award", "people.read", i18n.noop("Skills"), i18n.noop("Who can do what, and until when")),
            ("/units", "sitemap", "people.read", i18n.noop("Org tree"), i18n.noop("Regions and sites")),
        ),
    ),
    (
        i18n.noop("Machines"),
        (
            ("/devices", "cpu", "assets.read", i18n.noop("Devices"), i18n.noop("What speaks MQTT, and its password")),
            ("/types", "stack-2", "assets.read", i18n.noop("Asset types"), i18n.noop("What machines measure")),
            ("/rules", "adjustments", "rules.read", i18n.noop("Alarm rules"), i18n.noop("When an alarm is raised")),
            ("/labels", "qrcode", "tags.read", i18n.noop("Labels"), i18n.noop("QR codes to print and bind")),
        ),
    ),
    (
        i18n.noop("Is the machine itself well?"),
        (
            ("/ingest", "activity", "ingest.read", i18n.noop("Ingest"),
             i18n.noop("Who reads what, and what became of every message")),
            ("/webhooks", "plug-connected", "ingest.read", i18n.noop("Webhook sources"),
             i18n.noop("Other systems that post here")),
            ("/mappings", "arrows-exchange", "ingest.read", i18n.noop("Payload mappings"),
             i18n.noop("What messages of other systems mean")),
            ("/rejected", "alert-triangle", "ingest.read", i18n.noop("Rejected messages"),
             i18n.noop("What could not be used, and why")),
            ("/deliveries", "send", "deliveries.read", i18n.noop("Deliveries"),
             i18n.noop("What has not reached whom")),
            ("/audit", "history", "audit.read", i18n.noop("Audit trail"), i18n.noop("Who did what")),
        ),
    ),
    (
        i18n.noop("You"),
        (
            ("/account", "user-circle", None, i18n.noop("My account"),
             i18n.noop("Password, language, sign-ins, tokens")),
            ("/api/docs", "book", None, i18n.noop("For programs"), i18n.noop("The HTTP interface, described")),
        ),
    ),
)  # fmt: skip
"""Heading → (address, icon, right without which it is not shown, name, what it is)."""


@router.get("/settings")
def settings(request: Request, viewer: SignedIn) -> Response:
    """Show the cards that lead somewhere for this viewer."""
    shown = [(heading, [card for card in cards if card[2] is None or viewer.may(card[2])]) for heading, cards in CARDS]
    return pages.render(
        request,
        "settings/cards.html",
        groups=[(heading, cards) for heading, cards in shown if cards],
        version=_version(),
    )


def _version() -> str | None:
    try:
        return metadata.version("fixwright")
    except metadata.PackageNotFoundError:
        # Run from the source tree without having been installed.
        return None
