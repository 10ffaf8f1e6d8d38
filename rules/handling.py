"""How the alarms of a type are handled, beside its conditions: latched, explaining those below, suppressed by state."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from kernel import audit
from kernel.errors import Invalid
from rules.models import AlarmType

MOST_VALUES = 20


@dataclass(frozen=True, slots=True)
class Handling:
    """``attribute`` empty: the plant state does not matter; else alarms are suppressed while it is in ``values``."""

    latches: bool = False
    suppresses_below: bool = False
    attribute: str = ""
    values: Sequence[str | float | bool] = ()


def of(kind: AlarmType) -> Handling:
    """Return how the alarms of a type are handled."""
    state = kind.suppressed_while or {}
    return Handling(kind.latches, kind.suppresses_below, state.get("attribute", ""), tuple(state.get("in", ())))


def change(session: Session, kind: AlarmType, wanted: Handling, *, by: str, now: datetime) -> None:
    """Let the alarms of a type be handled otherwise from now on.

    Raises:
        Invalid: an attribute without values, values without an attribute, or more than 20 values.
    """
    attribute = wanted.attribute.strip()
    if bool(attribute) != bool(wanted.values) or len(wanted.values) > MOST_VALUES or len(attribute) > 80:  # noqa: PLR2004
        raise Invalid("Give an attribute of the device and the values at which it means nothing.", field="attribute")
    before = _described(kind)
    kind.latches, kind.suppresses_below = wanted.latches, wanted.suppresses_below
    kind.suppressed_while = {"attribute": attribute, "in": list(wanted.values)} if attribute else None
    session.flush()
    audit.record(
        session, "rule.handle", subject=f"rule:{kind.id}", actor=by, at=now, before=before, after=_described(kind),
        company_id=kind.company_id,
    )  # fmt: skip


def _described(kind: AlarmType) -> dict[str, Any]:
    return {
        "latches": kind.latches,
        "suppresses_below": kind.suppresses_below,
        "suppressed_while": kind.suppressed_while,
    }
