"""What an alarm asks of people, decided without a database: nothing, a report to look at, or a work order.

For the subscribers that open orders, and for the pages that show the table. A line says it for one severity, perhaps
only at one site or for assets that matter enough. An alarm type's own lines come first, then the company's, then what
every installation starts with; within each the narrowest line that fits decides. A severity that has no line of its
own does as the company does, so a type may differ in one severity alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kernel.errors import Invalid
from kernel.i18n import noop
from rules.models import SEVERITIES

DOES: Final[Mapping[str, str]] = {
    "order": noop("Work order"),
    "request": noop("Fault report"),
    "none": noop("Nothing"),
}
"""What a line may do; a fault report waits for a person, who makes it an order or declines it."""
SOURCES: Final = ("rule", "device")
"""Who raises: rules of ours, or devices that report codes by themselves."""
LEVELS: Final = ("type", "company", "delivered")
LONGEST_DELAY_S: Final = 30 * 86_400
MOST_LINES: Final = 100
_DELIVERED: Final = {"rule": "major", "device": "minor"}
"""The least severity that opens an order where nobody has said anything."""
Place = tuple[str, int | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What an alarm of one severity does. None: any site, any criticality; priority, team and list as usual.

    ``criticality`` is that of the least important asset it is for: 1 is only what stops the plant, 2 that and what is
    important, and so on. ``delay_s`` is how long the alarm must stand, in server time, before anything opens.
    """

    severity: str
    does: str
    delay_s: int = 0
    priority: int | None = None
    team_id: int | None = None
    checklist_id: int | None = None
    site_id: int | None = None
    criticality: int | None = None
    id: int | None = None

    @property
    def place(self) -> Place:
        """Where it stands in its table: no two lines may stand there."""
        return self.severity, self.site_id, self.criticality

    @property
    def is_narrowed(self) -> bool:
        """Whether it is for some assets only."""
        return self.site_id is not None or self.criticality is not None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The line that decides, and whose it is: the alarm *type*'s, the *company*'s, or *delivered* with the product."""

    line: Line
    level: str


def delivered(source: str) -> tuple[Line, ...]:
    """Return the lines that hold where nobody has said anything."""
    least = SEVERITIES.index(_DELIVERED[source])
    return tuple(
        Line(severity=severity, does="order" if place <= least else "none") for place, severity in enumerate(SEVERITIES)
    )


def choose(
    of_type: Sequence[Line],
    of_company: Sequence[Line],
    source: str,
    severity: str,
    *,
    site_id: int | None = None,
    criticality: int | None = None,
) -> Chosen:
    """Return the line that decides over an alarm at a site, on an asset of a criticality; both None without an asset.

    A site is narrower than a criticality, a small criticality narrower than a large one.
    """
    for level, lines in zip(LEVELS, (of_type, of_company, delivered(source)), strict=True):
        fitting = [line for line in lines if line.severity == severity and _fits(line, site_id, criticality)]
        if fitting:
            return Chosen(min(fitting, key=_width), level)
    raise Invalid("There is no such severity.", field="severity")


def least(of_type: Sequence[Line], of_company: Sequence[Line], source: str) -> str | None:
    """Return the least severity from which on every alarm opens an order, narrowed lines aside; None: there is none."""
    found = None
    for severity in SEVERITIES:
        if choose(of_type, of_company, source, severity).line.does != "order":
            break
        found = severity
    return found


def from_least(severity: str | None, kept: Sequence[Line] = ()) -> list[Line]:
    """Return lines that open orders from a severity on and nothing below it; of ``kept`` what is narrowed stays.

    Raises:
        Invalid: there is no such severity.
    """
    if severity is not None and severity not in SEVERITIES:
        raise Invalid("There is no such severity.", field="order_from")
    opens = SEVERITIES[: SEVERITIES.index(severity) + 1] if severity is not None else ()
    known = {line.severity: line for line in kept if not line.is_narrowed}
    plain = [_becomes(known.get(one), one, "order" if one in opens else "none") for one in SEVERITIES]
    return plain + [line for line in kept if line.is_narrowed]


def check(lines: Sequence[Line]) -> None:
    """Make sure that a table of lines can be meant.

    Raises:
        Invalid: a line has an unknown severity, does something unknown, waits too long, or stands where another does.
    """
    if len(lines) > MOST_LINES:
        raise Invalid("A table has at most {most} lines.", field="lines", most=MOST_LINES)
    for line in lines:
        if line.severity not in SEVERITIES:
            raise Invalid("There is no such severity.", field="severity")
        if line.does not in DOES:
            raise Invalid("Choose one of {choices}.", field="does", choices=", ".join(DOES))
        if not 0 <= line.delay_s <= LONGEST_DELAY_S:
            raise Invalid("A delay is at most {days} days.", field="delay", days=LONGEST_DELAY_S // 86_400)
        if line.priority not in {None, 1, 2, 3, 4}:
            raise Invalid("The priority is a number from 1 to 4.", field="priority")
        if line.criticality not in {None, 1, 2, 3, 4}:
            raise Invalid("A criticality is a number from 1 to 4.", field="criticality")
    if len({line.place for line in lines}) < len(lines):
        raise Invalid("Two lines are for the same severity, site and criticality.", field="lines")


def _becomes(known: Line | None, severity: str, does: str) -> Line:
    return known if known is not None and known.does == does else Line(severity=severity, does=does)


def _fits(line: Line, site_id: int | None, criticality: int | None) -> bool:
    is_site = line.site_id is None or line.site_id == site_id
    matters = line.criticality is None or (criticality is not None and criticality <= line.criticality)
    return is_site and matters


def _width(line: Line) -> tuple[bool, int]:
    """Return how wide a line is: what is narrower sorts first."""
    return line.site_id is None, line.criticality or len(SEVERITIES) + 1
