"""The ledger: balances are sums, promises are kept, and the database itself refuses to forget (promise P4)."""

import threading
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.errors import Conflict, Invalid
from kernel.models import AuditEntry, Event
from maintenance.orders.models import Order
from maintenance.parts import stock
from maintenance.parts.models import Movement, Part, Place, Reservation, Stock
from tests import factories
from tests.factories import NOW

ACTOR = "account:1"


@pytest.fixture
def shelf(session: Session) -> tuple[Part, Place, Order]:
    acme = factories.company(session)
    machine = factories.asset(session, acme, "harbour")
    return (
        factories.part(session, acme, reorder_level=None),
        factories.place(session, acme, "harbour"),
        factories.order(session, acme, machine),
    )


def balance(session: Session, part: Part, place: Place) -> Decimal:
    total = session.scalar(
        select(func.coalesce(func.sum(Movement.quantity), 0)).where(
            Movement.part_id == part.id, Movement.place_id == place.id
        )
    )
    return Decimal(total or 0)


def test_SP_1_the_database_refuses_to_change_or_delete_a_movement(
    session: Session, shelf: tuple[Part, Place, Order]
) -> None:
    part, place, _ = shelf
    movement = stock.receive(session, part, place, Decimal(5), unit_cost=Decimal(2), actor=ACTOR, now=NOW)
    session.commit()
    for attempt in (
        update(Movement).where(Movement.id == movement.id).values(quantity=50),
        delete(Movement).where(Movement.id == movement.id),
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            session.execute(attempt)
        session.rollback()
    assert balance(session, part, place) == Decimal(5)


verbs = st.lists(
    st.tuples(st.sampled_from(["receive", "reserve", "issue", "give_back", "release", "correct"]), st.integers(1, 12)),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verbs)
def test_SP_1_any_sequence_keeps_the_balance_equal_to_the_sum_of_its_movements(
    session: Session, chosen: list[tuple[str, int]]
) -> None:
    session.rollback()
    acme = factories.company(session)
    part, place = factories.part(session, acme, reorder_level=None), factories.place(session, acme, "harbour")
    order = factories.order(session, acme, factories.asset(session, acme, "harbour"))
    cost = Decimal(0)
    for verb, number in chosen:
        quantity = Decimal(number)
        try:
            with session.begin_nested():
                cost += act(session, verb, part, place, order, quantity)
        except (Conflict, Invalid):
            pass
        row = stock.locked(session, part, place)
        assert row.on_hand == balance(session, part, place) >= row.committed >= 0
        promised = select(func.coalesce(func.sum(Reservation.quantity), 0)).where(
            Reservation.part_id == part.id, Reservation.state.in_(stock.HELD)
        )
        assert session.scalar(promised) == row.committed
        assert order.parts_cost == cost
    session.rollback()


def act(session: Session, verb: str, part: Part, place: Place, order: Order, quantity: Decimal) -> Decimal:
    """Do one random verb; return what it adds to the order's cost."""
    if verb == "receive":
        stock.receive(session, part, place, quantity, unit_cost=quantity / 4, actor=ACTOR, now=NOW)
    elif verb == "reserve":
        stock.reserve(session, part, place, quantity, for_order=order, actor=ACTOR, now=NOW)
    elif verb == "issue":
        made = stock.issue(session, part, place, quantity, to_order=order, actor=ACTOR, now=NOW)
        return -made.quantity * made.unit_cost
    elif verb == "give_back":
        last = session.scalars(select(Movement).where(Movement.kind == "issue", Movement.part_id == part.id)).first()
        if last is not None:
            back = stock.give_back(session, last, quantity, actor=ACTOR, now=NOW)
            return -back.quantity * back.unit_cost
    elif verb == "release":
        held = session.scalars(
            select(Reservation).where(Reservation.part_id == part.id, Reservation.state.in_(stock.HELD))
        ).first()
        if held is not None:
            stock.release(session, held, actor=ACTOR, now=NOW)
    else:
        stock.correct(session, part, place, quantity, actor=ACTOR, now=NOW, reason="counted")
    return Decimal(0)


def test_SP_3_a_hundred_on_hand_and_thirty_committed_leave_seventy(
    session: Session, shelf: tuple[Part, Place, Order]
) -> None:
    part, place, order = shelf
    stock.receive(session, part, place, Decimal(100), unit_cost=Decimal(1), actor=ACTOR, now=NOW)
    reservation = stock.reserve(session, part, place, Decimal(30), for_order=order, actor=ACTOR, now=NOW)
    row = stock.locked(session, part, place)
    assert (row.on_hand, row.committed, stock.available(row)) == (Decimal(100), Decimal(30), Decimal(70))

    stock.issue(session, part, place, Decimal(20), to_order=order, actor=ACTOR, now=NOW)
    row = stock.locked(session, part, place)
    assert (row.on_hand, row.committed) == (Decimal(80), Decimal(10)), "an issue uses up the order's own promise first"
    assert reservation.state == "issued"

    assert stock.release_all(session, order, actor=ACTOR, now=NOW) == 1
    assert stock.available(stock.locked(session, part, place)) == Decimal(80)


def test_SP_3_and_D12_sixty_four_at_once_take_exactly_the_last_ten(
    database: sessionmaker[Session], session: Session, shelf: tuple[Part, Place, Order]
) -> None:
    part, place, order = shelf
    stock.receive(session, part, place, Decimal(10), unit_cost=Decimal(1), actor=ACTOR, now=NOW)
    session.commit()

    def take() -> str:
        try:
            with db.transaction(database) as own:
                stock.reserve(
                    own,
                    own.get_one(Part, part.id),
                    own.get_one(Place, place.id),
                    Decimal(1),
                    for_order=own.get_one(Order, order.id),
                    actor=ACTOR,
                    now=NOW,
                )
        except Conflict as lost:
            return str(lost)
        return "won"

    answers = at_once([take] * 64)
    assert answers.count("won") == 10
    assert set(answers) == {"won", "Only 0 pcs are available."}
    with database() as fresh:
        row = fresh.get_one(Stock, (part.id, place.id))
        assert (row.on_hand, row.committed) == (Decimal(10), Decimal(10))


def at_once(calls: list[Callable[[], str]]) -> list[str]:
    """Run all calls in threads that start together; return their answers."""
    answers: list[str] = []
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], str]) -> None:
        gate.wait()
        answers.append(call())

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_the_cost_of_an_issue_is_frozen_and_a_return_restores_it(
    session: Session, shelf: tuple[Part, Place, Order]
) -> None:
    part, place, order = shelf
    stock.receive(session, part, place, Decimal(10), unit_cost=Decimal(4), actor=ACTOR, now=NOW)
    issued = stock.issue(session, part, place, Decimal(2), to_order=order, actor=ACTOR, now=NOW)
    stock.receive(session, part, place, Decimal(8), unit_cost=Decimal(12), actor=ACTOR, now=NOW)
    assert order.parts_cost == Decimal(8), "a later price changes nothing"
    assert stock.locked(session, part, place).average_cost == Decimal(8), "weighted by quantity: (8 × 4 + 8 × 12) / 16"

    stock.give_back(session, issued, Decimal(1), actor=ACTOR, now=NOW)
    assert order.parts_cost == Decimal(4)
    with pytest.raises(Invalid, match="At most 1"):
        stock.give_back(session, issued, Decimal(2), actor=ACTOR, now=NOW)


def test_the_same_key_again_moves_nothing(session: Session, shelf: tuple[Part, Place, Order]) -> None:
    part, place, order = shelf
    first = stock.receive(session, part, place, Decimal(5), unit_cost=Decimal(1), actor=ACTOR, now=NOW, key="d-1")
    again = stock.receive(session, part, place, Decimal(5), unit_cost=Decimal(1), actor=ACTOR, now=NOW, key="d-1")
    assert first.id == again.id
    issued = [
        stock.issue(session, part, place, Decimal(2), to_order=order, actor=ACTOR, now=NOW, key="i-1") for _ in range(3)
    ]
    assert len({movement.id for movement in issued}) == 1
    assert stock.locked(session, part, place).on_hand == Decimal(3)


def test_a_transfer_keeps_the_total(session: Session, shelf: tuple[Part, Place, Order]) -> None:
    part, place, _ = shelf
    acme = factories.company(session, "second")
    van = factories.place(session, acme, "harbour", kind="van", code="VAN-9")
    stock.receive(session, part, place, Decimal(5), unit_cost=Decimal(3), actor=ACTOR, now=NOW)
    stock.transfer(session, part, place, van, Decimal(2), actor=ACTOR, now=NOW)
    assert (balance(session, part, place), balance(session, part, van)) == (Decimal(3), Decimal(2))
    with pytest.raises(Conflict, match="Only 3"):
        stock.transfer(session, part, place, van, Decimal(4), actor=ACTOR, now=NOW)


def test_a_part_runs_low_once_when_it_crosses_its_level(session: Session, shelf: tuple[Part, Place, Order]) -> None:
    part, place, order = shelf
    part.reorder_level = Decimal(5)
    stock.receive(session, part, place, Decimal(10), unit_cost=Decimal(1), actor=ACTOR, now=NOW)
    for _ in range(4):
        stock.issue(session, part, place, Decimal(2), to_order=order, actor=ACTOR, now=NOW)
    session.flush()
    low = session.scalar(select(func.count()).select_from(Event).where(Event.kind == "StockRanLow"))
    assert low == 1


def test_every_verb_leaves_an_audit_entry(session: Session, shelf: tuple[Part, Place, Order]) -> None:
    part, place, order = shelf
    stock.receive(session, part, place, Decimal(5), unit_cost=Decimal(1), actor=ACTOR, now=NOW)
    held = stock.reserve(session, part, place, Decimal(1), for_order=order, actor=ACTOR, now=NOW)
    stock.release(session, held, actor=ACTOR, now=NOW)
    issued = stock.issue(session, part, place, Decimal(2), to_order=order, actor=ACTOR, now=NOW)
    stock.give_back(session, issued, Decimal(1), actor=ACTOR, now=NOW)
    stock.correct(session, part, place, Decimal(7), actor=ACTOR, now=NOW, reason="found two")
    actions = session.scalars(select(AuditEntry.action).where(AuditEntry.subject == f"part:{part.id}")).all()
    assert actions == [f"stock.{verb}" for verb in ("receive", "reserve", "release", "issue", "return", "count")]


@pytest.mark.parametrize("quantity", [Decimal(0), Decimal(-1)])
def test_a_quantity_must_be_more_than_zero(
    session: Session, shelf: tuple[Part, Place, Order], quantity: Decimal
) -> None:
    part, place, order = shelf
    with pytest.raises(Invalid):
        stock.receive(session, part, place, quantity, unit_cost=Decimal(1), actor=ACTOR, now=NOW)
    with pytest.raises(Invalid):
        stock.issue(session, part, place, quantity, to_order=order, actor=ACTOR, now=NOW)
