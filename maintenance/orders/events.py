"""What happens to requests and work orders, as others hear of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestMade:
    """Somebody reported a fault."""

    request_id: int


@dataclass(frozen=True, slots=True)
class RequestDecided:
    """A request became an order, joined one, was held or declined."""

    request_id: int
    state: str


@dataclass(frozen=True, slots=True)
class AlarmOutlasted:
    """The delay after which an alarm opens something is over; whether it still stands is looked at again."""

    alarm_id: int


@dataclass(frozen=True, slots=True)
class OrderOpened:
    """A new work order exists and has nobody yet."""

    order_id: int


@dataclass(frozen=True, slots=True)
class OrderJoined:
    """The same fault was seen again; the open order counts it."""

    order_id: int
    occurrences: int


@dataclass(frozen=True, slots=True)
class OrderAssigned:
    """An order got an assignee, by the machine, by hand or by grabbing."""

    order_id: int
    account_id: int


@dataclass(frozen=True, slots=True)
class OrderMoved:
    """An order went from one phase to another by a verb of its life cycle."""

    order_id: int
    verb: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class OrderNeedsDispatch:
    """An order has nobody (new, refused, or its pool time is over) and dispatch is to look for someone."""

    order_id: int


@dataclass(frozen=True, slots=True)
class OrderStranded:
    """Dispatch found nobody who fits; a person has to decide."""

    order_id: int
    decision_id: int


@dataclass(frozen=True, slots=True)
class OrderOffered:
    """An order lies in the grab pool until ``until``; whoever is qualified may take it."""

    order_id: int
    until: str


@dataclass(frozen=True, slots=True)
class OrderPriorityRaised:
    """The fault became more severe, and the order more urgent."""

    order_id: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class OrderCommented:
    """A line was added to an order's timeline."""

    order_id: int
    entry_id: int
    is_public: bool


@dataclass(frozen=True, slots=True)
class OrderRated:
    """A customer rated the repair, from 1 to 5 stars."""

    order_id: int
    rating: int
