"""Who hears of what: the one table that ties the packages together."""

from typing import Final

from kernel.events import Subscriptions
from maintenance.dispatch import assign
from maintenance.orders import alarm_orders
from maintenance.orders.events import OrderMoved, OrderNeedsDispatch, OrderOpened
from maintenance.parts import endings
from rules.events import AlarmCleared, AlarmRaised, AlarmRepeated, AlarmSeverityChanged

TABLE: Final[Subscriptions] = {
    AlarmRaised: [alarm_orders.on_raised],
    AlarmRepeated: [alarm_orders.on_repeated],
    AlarmSeverityChanged: [alarm_orders.on_severity_changed],
    AlarmCleared: [alarm_orders.on_cleared],
    OrderOpened: [assign.on_opened],
    OrderNeedsDispatch: [assign.on_needs_dispatch],
    OrderMoved: [endings.on_moved],
}
