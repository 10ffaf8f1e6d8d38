"""Who hears of what: the one table that ties the packages together."""

from typing import Final

from kernel import events
from kernel.events import Subscriptions
from maintenance.dispatch import assign
from maintenance.orders import alarm_orders, isolation, proposals, recovery
from maintenance.orders.events import AlarmOutlasted, OrderMoved, OrderNeedsDispatch, OrderOpened
from maintenance.parts import endings
from rules import acting, calling
from rules.events import (
    AlarmActionDue,
    AlarmAnnounced,
    AlarmAssigned,
    AlarmCleared,
    AlarmEscalated,
    AlarmFloodBegan,
    AlarmHoldDue,
    AlarmReminded,
    AlarmRepeated,
    AlarmWebhookDue,
    LimitForeseen,
)

TABLE: Final[Subscriptions] = {
    AlarmAnnounced: [alarm_orders.on_announced, calling.on_announced, acting.on_announced],
    AlarmRepeated: [alarm_orders.on_repeated],
    AlarmCleared: [alarm_orders.on_cleared, acting.on_cleared],
    AlarmReminded: [calling.on_reminded],
    AlarmEscalated: [calling.on_escalated],
    AlarmAssigned: [calling.on_assigned],
    AlarmFloodBegan: [calling.on_flood],
    AlarmHoldDue: [calling.on_hold_due],
    AlarmActionDue: [acting.on_due],
    AlarmWebhookDue: [acting.on_webhook_due],
    AlarmOutlasted: [alarm_orders.on_outlasted],
    OrderOpened: [assign.on_opened],
    OrderNeedsDispatch: [assign.on_needs_dispatch],
    OrderMoved: [endings.on_moved, isolation.on_moved, recovery.on_moved],
    LimitForeseen: [proposals.on_limit_foreseen],
}

OUTWARD: Final = frozenset({events.name_of(acting.on_webhook_due)})
"""Who waits for strangers, and is delivered to by threads of its own."""
