"""How an order's due date looks: a bar that fills as its time is used up, and words for what is left. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from api.web import display
from kernel import i18n
from maintenance.orders.models import Order

NEAR = timedelta(hours=2)
"""From here on a dispatcher should look."""
NEAR_SHARE = 75
LATE = i18n.noop("{time} late")
LEFT = i18n.noop("{time} left")
IN_TIME = i18n.noop("In time")


@dataclass(frozen=True, slots=True)
class Due:
    """A due date as it is drawn: percent used, a tone (calm, near, late), a label."""

    percent: int
    tone: str
    label: str


def shown(order: Order, now: datetime, lang: str) -> Due | None:
    """Return how an order's due date looks now, or None when it has none or no longer matters."""
    if order.due_at is None or order.phase == "cancelled":
        return None
    if order.finished_at is not None:
        late = order.finished_at - order.due_at
        if late > timedelta(0):
            return Due(100, "late", _said(LATE, late, lang))
        return Due(100, "calm", i18n.catalogue(lang).get(IN_TIME, IN_TIME))
    left = order.due_at - now
    if left <= timedelta(0):
        return Due(100, "late", _said(LATE, -left, lang))
    whole = max(order.due_at - order.created_at, timedelta(minutes=1))
    percent = max(0, min(100, round(100 * (1 - left / whole))))
    tone = "near" if left <= NEAR or percent >= NEAR_SHARE else "calm"
    return Due(percent, tone, _said(LEFT, left, lang))


def _said(message: str, length: timedelta, lang: str) -> str:
    time = display.duration(length.total_seconds(), lang)
    return i18n.catalogue(lang).get(message, message).format(time=time)
