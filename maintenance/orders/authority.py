"""Who may take which step of an order: the right it needs, and whose order it has to be.

Work is done by the assignee. Who may assign may also act from the desk in the assignee's place; the timeline
then shows who did.
"""

from collections.abc import Mapping
from typing import Final

from kernel.errors import Forbidden, NotFound
from maintenance.orders import lifecycle
from maintenance.orders.models import Order
from people.scope import Viewer

RIGHT_OF: Final[Mapping[str, str]] = {
    "assign": "orders.assign",
    "grab": "orders.work",
    "accept": "orders.work",
    "refuse": "orders.work",
    "depart": "orders.work",
    "arrive": "orders.work",
    "start": "orders.work",
    "pause": "orders.work",
    "resume": "orders.work",
    "finish": "orders.work",
    "verify": "orders.verify",
    "send_back": "orders.verify",
    "close": "orders.verify",
    "cancel": "orders.cancel",
}
"""Verb → right. ``reopen`` has none: only the machine does it."""


def may(viewer: Viewer, order: Order, verb: str, path: str) -> bool:
    """Return whether the viewer may take a step of an order whose org unit has this path, whatever its phase."""
    right = RIGHT_OF.get(verb)
    if right is None:
        return False
    if verb == "grab":
        return order.in_pool and viewer.may_at(right, path)
    if verb == "refuse":
        return order.assignee_id == viewer.account_id and viewer.may_at(right, path)
    if right == "orders.work":
        # Calling an unhappy customer back is a manager's own task, and managers repair nothing.
        needed = "orders.verify" if order.type.key == "follow_up" else right
        is_own = order.assignee_id == viewer.account_id and viewer.may_at(needed, path)
        return is_own or viewer.may_at("orders.assign", path)
    return viewer.may_at(right, path)


def require(viewer: Viewer, order: Order, verb: str, path: str) -> None:
    """Make sure the viewer may take a step.

    Raises:
        NotFound: there is no such step.
        Forbidden: it is somebody else's order, or the viewer's role does not include it.
    """
    if verb not in RIGHT_OF:
        raise NotFound("There is no step called {verb}.", verb=verb)
    if not may(viewer, order, verb, path):
        if RIGHT_OF[verb] == "orders.work" and viewer.may_at("orders.work", path):
            raise Forbidden("This order is not yours.")
        raise Forbidden("You may see this but not change it.")


def possible(viewer: Viewer, order: Order, path: str) -> tuple[str, ...]:
    """Return the steps that are open to the viewer now, in the order of a life."""
    return tuple(verb for verb in lifecycle.allowed(order.phase) if may(viewer, order, verb, path))
