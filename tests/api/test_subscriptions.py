"""Who is not delivered to would have done nothing: asked of every move in the life of an order."""

import pytest
from sqlalchemy import event as hooks
from sqlalchemy.orm import Session

from api import subscriptions
from kernel.events import Listener
from maintenance.orders import lifecycle
from maintenance.orders.events import OrderMoved
from tests import factories
from tests.factories import NOW

MOVES = [(verb, before, after) for verb, ways in lifecycle.MOVES.items() for before, after in ways.items()]


@pytest.mark.parametrize(("verb", "before", "after"), MOVES)
def test_whom_a_move_does_not_concern_would_have_written_nothing(
    session: Session, verb: str, before: str, after: str
) -> None:
    company = factories.company(session)
    order = factories.order(session, company, factories.asset(session, company), phase=after, fault_key="asset:1/E1")
    order.finished_at = NOW if after in {"done", "verified", "closed"} else None
    order.type.requires = {"holds": ["isolation"]}
    session.flush()
    moved, written = OrderMoved(order.id, verb, before, after), []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if not statement.startswith("SELECT"):
            written.append(statement)

    hooks.listen(session.get_bind(), "before_cursor_execute", note)
    for listener in subscriptions.TABLE[OrderMoved]:
        assert isinstance(listener, Listener)
        assert listener.concerns is not None
        if not listener.concerns(session, [moved])[0]:
            listener.one(session, moved, NOW)
    session.flush()
    hooks.remove(session.get_bind(), "before_cursor_execute", note)
    assert written == []
