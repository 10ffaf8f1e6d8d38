"""The kinds of work every company starts with, and what an administrator may set for each.

``OrderType.requires`` is the one place of settings of a kind; every value is a list of words:

- a verb (``finish``, ``start``, …) → what that step needs: words of ``lifecycle.NEEDS``;
- ``triage`` → when a report from outside waits for a person: ``always``, ``open_order`` (only when the asset has
  an open order that it may belong to; the default), or an empty list: it never waits and joins by itself;
- ``holds`` → why the asset is out of service while the order is worked on: words of ``isolation.WHYS``;
- ``dispatch`` → ``pool`` offers new orders of this kind to the grab pool first; by default the machine assigns.

Decision on triage: a report becomes an order at once when the asset has no open order, because a customer who
stands beside a dead machine should not wait for somebody to read a list. It waits where it may be the same fault
as one that is known, because two orders for one fault cost more than one look (promise P3). Price: nonsense
reports become orders and have to be cancelled with a reason; who fears that sets ``always``.
"""

from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kernel.errors import NotFound
from maintenance.orders.models import OrderType

BUILT_IN: Final = {
    "corrective": {
        "name": "Repair",
        "name_zh": "维修",
        "requires": {"finish": ["finding", "resolution"]},
        "auto_verify": False,
    },
    "inspection": {
        "name": "Inspection",
        "name_zh": "点检",
        "requires": {"finish": ["checklist"]},
        "auto_verify": True,
    },
    "preventive": {
        "name": "Preventive maintenance",
        "name_zh": "预防性维护",
        "requires": {"finish": ["checklist"]},
        "auto_verify": False,
    },
    "calibration": {
        "name": "Calibration",
        "name_zh": "校准",
        "requires": {"finish": ["resolution"], "holds": ["calibration"]},
        "auto_verify": False,
    },
    "follow_up": {
        "name": "Follow-up call",
        "name_zh": "回访",
        "requires": {"finish": ["resolution"]},
        "auto_verify": True,
    },
}


def of(session: Session, company_id: int, key: str) -> OrderType:
    """Return a company's kind of work; a built-in one is made when the company has none under that key yet.

    Raises:
        NotFound: the company has no such kind and it is not built in.
    """
    wanted = select(OrderType).where(OrderType.company_id == company_id, OrderType.key == key)
    known = session.scalars(wanted).one_or_none()
    if known is not None:
        return known
    if key not in BUILT_IN:
        raise NotFound("There is no kind of work called {key}.", key=key)
    made = insert(OrderType).values(company_id=company_id, key=key, **BUILT_IN[key])
    session.execute(made.on_conflict_do_nothing(index_elements=["company_id", "key"]))
    return session.scalars(wanted).one()


def setting(kind: OrderType, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return one setting of a kind, e.g. ``triage``."""
    return tuple(kind.requires.get(name, default))
