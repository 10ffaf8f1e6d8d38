"""Who hears of what: the one table that ties the packages together."""

from typing import Final

from kernel import events
from kernel.events import Listener, Subscriptions
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
    AlarmAnnounced: [
        Listener(alarm_orders.on_announced, many=alarm_orders.on_many_announced, in_turn=True),
        Listener(calling.on_announced, many=calling.on_many_announced),
        Listener(acting.on_announced, concerns=acting.concerns),
    ],
    AlarmRepeated: [Listener(alarm_orders.on_repeated, many=alarm_orders.on_many_repeated)],
    AlarmCleared: [
        Listener(alarm_orders.on_cleared, many=alarm_orders.on_many_cleared),
        Listener(acting.on_cleared, concerns=acting.concerns),
    ],
    AlarmReminded: [calling.on_reminded],
    AlarmEscalated: [calling.on_escalated],
    AlarmAssigned: [calling.on_assigned],
    AlarmFloodBegan: [calling.on_flood],
    AlarmHoldDue: [calling.on_hold_due],
    AlarmActionDue: [acting.on_due],
    AlarmWebhookDue: [acting.on_webhook_due],
    AlarmOutlasted: [alarm_orders.on_outlasted],
    OrderOpened: [Listener(assign.on_opened, many=assign.on_many_opened, in_turn=True)],
    OrderNeedsDispatch: [assign.on_needs_dispatch],
    OrderMoved: [
        Listener(endings.on_moved, concerns=endings.concerns),
        Listener(isolation.on_moved, concerns=isolation.concerns),
        Listener(recovery.on_moved, concerns=recovery.concerns),
    ],
    LimitForeseen: [proposals.on_limit_foreseen],
}

OUTWARD: Final = frozenset({events.name_of(acting.on_webhook_due)})
"""Who waits for strangers, and is delivered to by threads of its own."""

FIRST: Final = (events.name_of(alarm_orders.on_announced), events.name_of(assign.on_opened))
"""Somebody waits for an order, and then for whom it finds; what is told of it afterwards can wait."""
