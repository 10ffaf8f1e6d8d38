"""What a customer reads on the tracking page: where a report stands, the line of steps, and the timeline.

Decided from the report and its order alone, in the reader's words; nothing of the desk or of other reporters is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kernel import i18n
from maintenance.orders import acceptance
from maintenance.orders.models import Entry, Order
from maintenance.orders.models import Request as Reported

STEPS = (
    i18n.noop("Reported"),
    i18n.noop("Technician found"),
    i18n.noop("On the way"),
    i18n.noop("Being repaired"),
    i18n.noop("Repaired"),
    i18n.noop("Accepted by you"),
)
PLACE = {
    "new": 0,
    "assigned": 1,
    "accepted": 1,
    "travelling": 2,
    "on_site": 3,
    "working": 3,
    "paused": 3,
    "done": 4,
    "verified": 4,
    "closed": 5,
}
"""Phase of the order → how far along ``STEPS`` a customer sees it."""
MOVES = {
    "depart": i18n.noop("The technician is on the way"),
    "arrive": i18n.noop("The technician has arrived"),
    "start": i18n.noop("The repair has begun"),
    "finish": i18n.noop("The repair is finished"),
    "verify": i18n.noop("The work was accepted"),
    "send_back": i18n.noop("The work was sent back"),
    "close": i18n.noop("The report is closed"),
    "cancel": i18n.noop("The work order was cancelled"),
    "accepted": i18n.noop("Your report became a work order"),
    "joined": i18n.noop("Your report was added to a known fault"),
    "held": i18n.noop("Your report is on hold"),
    "declined": i18n.noop("Your report was declined"),
    "withdrawn": i18n.noop("You withdrew your report"),
}
"""Step of a report or an order → how a customer reads of it."""
GLYPHS = {
    "depart": "navigation",
    "arrive": "map-pin",
    "start": "tool",
    "finish": "circle-check",
    "verify": "checks",
    "send_back": "arrow-back-up",
    "accepted": "clipboard-check",
    "joined": "git-merge",
    "held": "clock-pause",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a report is, in one sentence: a picture, a colour, a title and what follows from it."""

    glyph: str
    tone: str
    title: str
    text: str = ""


def standing(reported: Reported, order: Order | None, words: dict[str, str]) -> Standing:
    """Return how far a report is, as its reader would say it."""

    def say(text: str, **values: str) -> str:
        return words.get(text, text).format(**values) if values else words.get(text, text)

    name = order.assignee.name if order is not None and order.assignee is not None else ""
    reason = reported.reason or ""
    ended = {
        "declined": Standing("circle-x", "", say(i18n.noop("This report was declined")), reason),
        "withdrawn": Standing("arrow-back-up", "", say(i18n.noop("You withdrew this report")), ""),
        "held": Standing("clock-pause", "", say(i18n.noop("This report is on hold")), reason),
    }
    if reported.state in ended:
        return ended[reported.state]
    if order is None:
        text = i18n.noop("Somebody is reading it now. What happens next appears here.")
        return Standing("inbox", "busy", say(i18n.noop("We have your report")), say(text))
    who = {"name": name or say(i18n.noop("A technician"))}
    thanks = say(i18n.noop("Thank you for telling us."))
    phases = {
        "new": (
            "search",
            "busy",
            i18n.noop("We have your report"),
            i18n.noop("We are looking for the right technician."),
        ),
        "assigned": (
            "user-check",
            "busy",
            i18n.noop("A technician is found"),
            i18n.noop("{name} takes care of it."),
        ),
        "accepted": (
            "user-check",
            "busy",
            i18n.noop("A technician is found"),
            i18n.noop("{name} takes care of it."),
        ),
        "travelling": ("navigation", "busy", i18n.noop("{name} is on the way"), ""),
        "on_site": ("map-pin", "busy", i18n.noop("{name} has arrived"), ""),
        "working": ("tool", "busy", i18n.noop("The repair is under way"), i18n.noop("{name} is at work.")),
        "paused": (
            "player-pause",
            "",
            i18n.noop("The repair is paused"),
            i18n.noop("It goes on as soon as possible."),
        ),
        "cancelled": ("ban", "", i18n.noop("The work order was cancelled"), ""),
    }
    if order.phase in phases:
        glyph, tone, title, text = phases[order.phase]
        return Standing(glyph, tone, say(title, **who), say(text, **who) if text else "")
    if order.phase == "closed" or reported.accepted_at is not None:
        return Standing("mood-smile", "good", say(i18n.noop("It works again")), thanks)
    return Standing("circle-check", "good", say(i18n.noop("The repair is finished")), "")


def steps(reported: Reported, order: Order | None, words: dict[str, str]) -> list[dict[str, object]] | None:
    """Return the line of steps a customer understands, each with its time; None where it leads nowhere any more."""
    if reported.state in {"declined", "withdrawn"} or (order is not None and order.phase == "cancelled"):
        return None
    times = [reported.created_at, None, None, None, None, reported.accepted_at]
    if order is not None:
        times[1:5] = [order.assigned_at, order.departed_at, order.started_at, order.finished_at]
    reached = PLACE[order.phase] if order is not None else 0
    if reached >= PLACE["done"] and reported.accepted_at is not None:
        reached = len(STEPS) - 1
    is_over = reached == len(STEPS) - 1
    return [
        {
            "label": words.get(label, label),
            "at": times[number] if number <= reached else None,
            "state": "done" if number < reached or is_over else "current" if number == reached else "ahead",
        }
        for number, label in enumerate(STEPS)
    ]


def lines(
    reported: Reported, order: Order | None, entries: Sequence[Entry], words: dict[str, str]
) -> list[dict[str, Any]]:
    """Return the timeline as this reporter may read it, newest first; what was sent at once stands together."""
    shown: list[dict[str, Any]] = []
    for entry in entries:
        if entry.kind == "move" and entry.detail.get("verb") == "open":
            continue  # Its twin says that the report became an order.
        line = _line(reported, order, entry, words)
        last = shown[-1] if shown else None
        if last and last["photos"] and (last["who"], last["at"]) == (line["who"], line["at"]) and not line["moved"]:
            line["photos"] += last["photos"]
            shown[-1] = line
        else:
            shown.append(line)
    return shown


def _line(reported: Reported, order: Order | None, entry: Entry, words: dict[str, str]) -> dict[str, Any]:
    """Return a line of the timeline as this reporter may read it; the words of another reporter are not theirs."""
    is_alone = order is None or len(order.requests) == 1
    is_own = entry.actor == acceptance.ACTOR and (entry.request_id == reported.id or is_alone)
    verb = str(entry.detail.get("verb", ""))
    moved = MOVES.get(verb, "") if entry.kind == "move" else ""
    glyph = {"photo": "camera", "rating": "star", "comment": "message"}.get(entry.kind, GLYPHS.get(verb, "arrow-right"))
    if is_own:
        who = i18n.noop("You")
    elif entry.actor == acceptance.ACTOR:
        who = i18n.noop("Another reporter")
    else:
        who = entry.actor_name or i18n.noop("Service")
    return {
        "who": words.get(who, who),
        "at": entry.at,
        "glyph": glyph,
        "moved": words.get(moved, moved),
        "text": entry.text if is_own or entry.actor != acceptance.ACTOR else "",
        "photos": [entry.file.sha256] if entry.kind == "photo" and entry.file is not None else [],
        "stars": entry.detail.get("rating") if entry.kind == "rating" else None,
    }
