"""How urgent work is: from a severity or a machine's importance to a priority, from a priority to a due date.

Priorities run from 1, an emergency, to 4, which can wait. Due dates count plain minutes, around the clock, so
that windows merge and the boundary rule moves nothing (SEMANTICS L1, L5).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from kernel.i18n import noop
from rules.models import SEVERITIES

PRIORITIES: Final[Mapping[int, str]] = {
    1: noop("Emergency"),
    2: noop("High"),
    3: noop("Normal"),
    4: noop("Low"),
}
RESOLVE_WITHIN: Final[Mapping[int, timedelta]] = {
    1: timedelta(hours=4),
    2: timedelta(hours=8),
    3: timedelta(hours=24),
    4: timedelta(hours=72),
}
"""Priority → how long the whole repair may take."""
_OF_SEVERITY: Final[Mapping[str, int]] = {"critical": 1, "major": 2, "minor": 3, "warning": 4, "info": 4}
_OF_CRITICALITY: Final[Mapping[int, int]] = {1: 2, 2: 3, 3: 3, 4: 4}


def of_severity(severity: str) -> int:
    """Return the priority of an order for an alarm of this severity."""
    return _OF_SEVERITY[severity]


def of_report(criticality: int) -> int:
    """Return the priority of a fault that a person reported, from the asset's criticality (1 stops the plant)."""
    return _OF_CRITICALITY[criticality]


def is_at_least(severity: str, least: str) -> bool:
    """Return whether a severity is as severe as ``least`` or more."""
    return SEVERITIES.index(severity) <= SEVERITIES.index(least)


def due(priority: int, opened_at: datetime) -> datetime:
    """Return when work of a priority is to be finished."""
    return opened_at + RESOLVE_WITHIN[priority]
