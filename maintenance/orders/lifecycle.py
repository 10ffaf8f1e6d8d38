"""The life of a work order, decided without a database: which verb leads where, what it requires, what time it sets.

For everyone who moves an order: the desk that writes rows, the pages that offer the next step, the API that
says what is possible. Phases follow EN 13306 and common field service practice; a pause is never work.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from kernel.errors import Conflict, Invalid
from kernel.i18n import noop

PHASES: Final = (
    "new",
    "assigned",
    "accepted",
    "travelling",
    "on_site",
    "working",
    "paused",
    "done",
    "verified",
    "closed",
    "cancelled",
)
ENDED: Final = ("closed", "cancelled")
UNSTARTED: Final = ("new", "assigned", "accepted", "travelling", "on_site")
LINE: Final = ("new", "assigned", "accepted", "travelling", "on_site", "working", "done", "verified", "closed")
"""The phases of an order that goes well, in order: the line of steps on its page."""

MOVES: Final[Mapping[str, Mapping[str, str]]] = {
    "assign": dict.fromkeys((*UNSTARTED, "paused"), "assigned"),
    "grab": {"new": "accepted"},
    "accept": {"assigned": "accepted"},
    "refuse": {"assigned": "new", "accepted": "new"},
    "depart": {"accepted": "travelling"},
    "arrive": {"travelling": "on_site"},
    "start": {"on_site": "working"},
    "pause": {"working": "paused"},
    "resume": {"paused": "working"},
    "finish": {"working": "done"},
    "verify": {"done": "verified"},
    "send_back": {"done": "working", "verified": "working"},
    "reopen": {"done": "new"},
    "close": {"verified": "closed"},
    "cancel": dict.fromkeys((*UNSTARTED, "working", "paused"), "cancelled"),
}
"""Verb → phase before → phase after. ``reopen`` is the machine's: the fault came back before anyone verified."""

SHORTCUTS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "depart": {"assigned": ("accept",)},
    "arrive": {"assigned": ("accept", "depart"), "accepted": ("depart",)},
    "start": {
        "assigned": ("accept", "depart", "arrive"),
        "accepted": ("depart", "arrive"),
        "travelling": ("arrive",),
    },
    "finish": {"paused": ("resume",)},
    "close": {"done": ("verify",)},
}
"""Verb → phase → the steps that one tap takes first: a hand with gloves on presses once."""

NEXT: Final[Mapping[str, str]] = {
    "new": "assign",
    "assigned": "accept",
    "accepted": "depart",
    "travelling": "arrive",
    "on_site": "start",
    "working": "finish",
    "paused": "resume",
    "done": "verify",
    "verified": "close",
}
"""Phase → the one step that is next when all goes well."""

FINDINGS: Final[Mapping[str, str]] = {
    "real": noop("The fault was real"),
    "false_alarm": noop("False alarm"),
    "nothing_found": noop("Nothing found"),
}

ALWAYS_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "refuse": ("reason",),
    "pause": ("reason",),
    "cancel": ("reason",),
    "send_back": ("reason",),
}
NEEDS: Final[Mapping[str, tuple[str, str]]] = {
    "reason": ("reason", noop("Please give a reason.")),
    "finding": ("finding", noop("Please say what you found.")),
    "resolution": ("resolution", noop("Please write what was done.")),
    "photo": ("photos", noop("Please add a photo first.")),
    "checklist": ("checklist", noop("Please answer every item of the checklist first.")),
    "signal": ("reason", noop("The alarm is still active. Please say why the work is finished all the same.")),
}
"""What a step may require → the field that is empty, and how to ask for it."""


def allowed(phase: str) -> tuple[str, ...]:
    """Return the verbs that are possible in a phase, shortcuts included, in the order of a life."""
    return tuple(verb for verb, moves in MOVES.items() if phase in moves or phase in SHORTCUTS.get(verb, {}))


def next_phase(phase: str, verb: str) -> str:
    """Return the phase that ``verb`` leads to.

    Raises:
        Invalid: there is no such verb.
        Conflict: not from this phase; ``values["allowed"]`` lists what is possible instead.
    """
    path = steps(phase, verb)
    for step in path:
        phase = MOVES[step][phase]
    return phase


def steps(phase: str, verb: str) -> tuple[str, ...]:
    """Return the single steps that one use of ``verb`` takes, itself the last; most verbs take one.

    Raises:
        Invalid: there is no such verb.
        Conflict: not from this phase; ``values["allowed"]`` lists what is possible instead.
    """
    if verb not in MOVES:
        raise Invalid("There is no step called {verb}.", field="verb", verb=verb)
    if phase in MOVES[verb]:
        return (verb,)
    if phase in SHORTCUTS.get(verb, {}):
        return (*SHORTCUTS[verb][phase], verb)
    possible = [one for one in allowed(phase) if one != "reopen"]
    raise Conflict(
        "An order that is {phase} cannot {verb}. Possible now: {allowed}.",
        phase=phase,
        verb=verb,
        allowed=", ".join(possible) or "–",
    )


def required(verb: str, of_kind: Mapping[str, Sequence[str]], *, signal_is_abnormal: bool) -> tuple[str, ...]:
    """Return what a verb needs: what every order needs, what its kind adds, and a word on a signal still abnormal."""
    needs = [*ALWAYS_NEEDS.get(verb, ()), *of_kind.get(verb, ())]
    if verb == "finish" and signal_is_abnormal:
        needs.append("signal")
    return tuple(dict.fromkeys(needs))


def missing(needs: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    """Return what of ``needs`` is not ``present``; a reason given answers for the signal too."""
    there = set(present)
    if "reason" in there:
        there.add("signal")
    return tuple(need for need in needs if need not in there)


def require(needs: Iterable[str], present: Iterable[str]) -> None:
    """Make sure that everything a step needs is there.

    Raises:
        Invalid: something is not; ``field`` names the first, ``values["missing"]`` lists all.
    """
    if lacking := missing(needs, present):
        field, sentence = NEEDS[lacking[0]]
        raise Invalid(sentence, field=field, missing=list(lacking))


@dataclass(frozen=True, slots=True)
class Times:
    """When the steps of an order were taken. ``started_at`` is the first start of work, also after a handover."""

    assigned_at: datetime | None = None
    accepted_at: datetime | None = None
    departed_at: datetime | None = None
    arrived_at: datetime | None = None
    started_at: datetime | None = None
    paused_at: datetime | None = None
    finished_at: datetime | None = None
    verified_at: datetime | None = None
    closed_at: datetime | None = None
    paused_s: int = 0

    @property
    def latest(self) -> datetime | None:
        """The newest of all steps."""
        known = (
            self.assigned_at,
            self.accepted_at,
            self.departed_at,
            self.arrived_at,
            self.started_at,
            self.paused_at,
            self.finished_at,
            self.verified_at,
            self.closed_at,
        )
        return max((moment for moment in known if moment is not None), default=None)


FIELD_OF: Final[Mapping[str, str]] = {
    "assign": "assigned_at",
    "accept": "accepted_at",
    "depart": "departed_at",
    "arrive": "arrived_at",
    "pause": "paused_at",
    "finish": "finished_at",
    "verify": "verified_at",
    "close": "closed_at",
    "cancel": "closed_at",
}


def after_step(times: Times, step: str, at: datetime) -> Times:
    """Return the times after one single step at ``at``; an instant before the step before it is moved up to that.

    Time between a pause and the work that follows, and between a finish and its rejection, is not work.
    """
    at = max(at, times.latest or at)
    nobody = replace(times, assigned_at=None, accepted_at=None, departed_at=None, arrived_at=None)
    match step:
        case "assign":
            after = replace(nobody, assigned_at=at)
        case "grab":
            after = replace(nobody, assigned_at=at, accepted_at=at)
        case "refuse":
            after = nobody
        case "reopen":
            after = replace(nobody, paused_at=times.finished_at, finished_at=None)
        case "start" | "resume":
            after = replace(_rested(times, times.paused_at, at), started_at=times.started_at or at, paused_at=None)
        case "send_back":
            after = replace(_rested(times, times.finished_at, at), finished_at=None, verified_at=None)
        case "cancel":
            after = replace(_rested(times, times.paused_at, at), paused_at=None, closed_at=at)
        case _:
            taken: dict[str, Any] = {FIELD_OF[step]: at}
            after = replace(times, **taken)
    return after


def _rested(times: Times, since: datetime | None, at: datetime) -> Times:
    if since is None:
        return times
    return replace(times, paused_s=times.paused_s + round((at - since).total_seconds()))


def travelled(times: Times) -> timedelta | None:
    """Return how long the way took, once it is known."""
    if times.departed_at is None or times.arrived_at is None:
        return None
    return times.arrived_at - times.departed_at


def worked(times: Times, now: datetime) -> timedelta | None:
    """Return how long was worked, pauses taken out; up to ``now`` while it goes on, None before it began."""
    if times.started_at is None:
        return None
    end = times.finished_at or times.paused_at or times.closed_at or now
    return max(end - times.started_at - timedelta(seconds=times.paused_s), timedelta(0))
