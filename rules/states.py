"""The states of an alarm, after ISA-18.2 and OPC UA Part 9: independent marks, what they amount to, which verbs fit.

Pure, for whoever shows alarms, acts on them or lets time pass. Nothing here decides whether a fault exists: rules and
devices do. A held alarm is shelved, suppressed, out of service or chattering; it is recorded and counted, and nobody
is told of it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from kernel.errors import Conflict, Invalid

CAUSES: Final = ("gateway", "parent", "window", "plant_state", "flood")
"""Why an alarm is suppressed by design; where several hold, the first one is named."""
STATES: Final = (
    "out_of_service", "suppressed", "shelved", "chattering", "unacknowledged", "acknowledged",
    "returned_unacknowledged", "latched", "normal",
)  # fmt: skip
LONGEST_SHELF: Final = {
    "technician": timedelta(hours=8),
    "dispatcher": timedelta(hours=24),
    "manager": timedelta(days=7),
    "administrator": timedelta(days=30),
}
"""``MaxTimeShelved`` by the key of a role; who holds several has the longest."""
SHORTEST_LIMIT: Final = timedelta(hours=8)
"""The limit of a role that the company made itself."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What is true of an alarm at one moment; each mark is independent of the others.

    ``shelved`` is None, *timed* or *once*; ``suppressed_by`` one of ``CAUSES``.
    """

    is_active: bool = True
    is_acknowledged: bool = False
    is_latched: bool = False
    shelved: str | None = None
    suppressed_by: str | None = None
    is_out_of_service: bool = False
    is_chattering: bool = False

    @property
    def is_held(self) -> bool:
        """Whether nobody is to be told of it."""
        return (
            self.shelved is not None or self.suppressed_by is not None or self.is_out_of_service or self.is_chattering
        )

    @property
    def state(self) -> str:
        """The one word for where it stands: of several holds, the one that people answer for first."""
        words = (
            (self.is_out_of_service, "out_of_service"),
            (self.suppressed_by is not None, "suppressed"),
            (self.shelved is not None, "shelved"),
            (self.is_chattering, "chattering"),
            (self.is_active and self.is_acknowledged, "acknowledged"),
            (self.is_active, "unacknowledged"),
            (not self.is_acknowledged, "returned_unacknowledged"),
            (self.is_latched, "latched"),
        )
        return next((word for is_so, word in words if is_so), "normal")

    @property
    def is_listed(self) -> bool:
        """Whether it is on the desk: it stands, nobody took note, or somebody must reset it."""
        return self.is_active or not self.is_acknowledged or self.is_latched


def verbs(marks: Marks) -> frozenset[str]:
    """Return what a person may do to an alarm as it stands."""
    fits = {"comment", "assign"}
    if not marks.is_acknowledged:
        fits.add("acknowledge")
    if marks.is_active:
        fits.add("clear")
        fits.add("put_back" if marks.is_out_of_service else "take_out")
    if marks.shelved is not None:
        fits.add("unshelve")
    elif marks.is_active:
        fits.add("shelve")
    if marks.is_latched and not marks.is_active:
        fits.add("reset")
    return frozenset(fits)


def after(marks: Marks, verb: str, *, how: str = "timed") -> Marks:
    """Return the marks that a person's verb leaves behind; ``how`` is that of a shelf.

    Raises:
        Conflict: the verb does not fit an alarm that stands like this.
    """
    if verb not in verbs(marks):
        raise Conflict("This alarm stands otherwise now; look at it again.")
    changes: dict[str, dict[str, object]] = {
        "acknowledge": {"is_acknowledged": True},
        "clear": {"is_active": False, "is_chattering": False},
        "shelve": {"shelved": how},
        "unshelve": {"shelved": None},
        "take_out": {"is_out_of_service": True},
        "put_back": {"is_out_of_service": False},
        "reset": {"is_latched": False},
    }
    changed = replace(marks, **changes.get(verb, {}))  # type: ignore[arg-type]
    return ended(changed) if verb == "clear" else changed


def ended(marks: Marks) -> Marks:
    """Return the marks of an alarm that has just cleared: a shelf for once has done its work."""
    return replace(
        marks, is_active=False, is_chattering=False, shelved=None if marks.shelved == "once" else marks.shelved
    )


def is_released(before: Marks, now: Marks) -> bool:
    """Return whether the last of what held an alarm has just ended and it still stands: it is announced then."""
    return before.is_held and not now.is_held and now.is_active


def shelf(*, until: datetime | None, is_once: bool, longest: timedelta, now: datetime) -> datetime:
    """Return when a shelf ends at the latest; one for once ends with the alarm, if that comes first.

    Raises:
        Invalid: it would have no end, lie in the past, or last longer than the person may decide.
    """
    if is_once:
        if until is not None:
            raise Invalid("Choose one end: an instant, or the end of the alarm.", field="until")
        return now + longest
    if until is None:
        raise Invalid("Say how long it is to be shelved.", field="until")
    if until <= now:
        raise Invalid("The end lies in the past.", field="until")
    if until - now > longest:
        hours = round(longest / timedelta(hours=1))
        raise Invalid("You may shelve an alarm for {hours} hours at most.", field="until", hours=hours)
    return until
