from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.errors import Conflict, Forbidden, Invalid, NotFound
from kernel.models import Event
from maintenance.dispatch import assign, crowd, pool
from maintenance.dispatch.models import Decision
from maintenance.orders import desk, opening
from maintenance.orders.events import OrderOpened
from maintenance.orders.models import Entry, Order
from people.models import Account
from tests import factories
from tests.factories import NOW
from tests.maintenance import orders_world as world
from tests.maintenance.orders_world import World


@pytest.fixture
def made(session: Session) -> World:
    return world.build(session)


def opened(session: Session, made: World, **more: object) -> Order:
    draft = opening.about(made.asset, origin="person", title="Runs hot", **more)
    return opening.open_order(session, draft, actor="system", now=NOW)


def dispatched(session: Session, order: Order) -> Decision | None:
    assign.on_opened(session, OrderOpened(order.id), NOW)
    return session.scalars(select(Decision).order_by(Decision.id.desc()).limit(1)).one_or_none()


def another(session: Session, made: World, where: str = "north", **values: object) -> Account:
    account = factories.account(session, made.company, "technician", where, **values)
    world.around_the_clock(session, account)
    return account


def test_an_opened_order_goes_to_who_fits_and_the_decision_is_stored(session: Session, made: World) -> None:
    idle = another(session, made)
    opened(session, made).assignee_id = made.technician.id
    session.scalars(select(Order)).one().phase = "assigned"
    order = opened(session, made)
    decision = dispatched(session, order)
    assert decision is not None
    assert (order.assignee_id, decision.chosen_id, decision.mode) == (idle.id, idle.id, "automatic")
    ranked = decision.candidates["list"]
    assert [one["account_id"] for one in ranked] == [idle.id, made.technician.id]
    assert ranked[1]["open_minutes"] == 60
    assert set(ranked[0]["scores"]) == set(decision.inputs["weights"])


def test_who_cannot_see_the_site_or_is_not_qualified_is_never_chosen(session: Session, made: World) -> None:
    another(session, made, "quarry")
    order = opened(session, made, skill="high voltage")
    decision = dispatched(session, order)
    assert decision is not None
    assert (order.phase, order.assignee_id, decision.chosen_id) == ("new", None, None)
    removed = {one["name"]: one["removed_by"] for one in decision.candidates["list"]}
    assert set(removed.values()) == {"skill"}
    assert session.scalars(select(Event.kind).where(Event.kind == "OrderStranded")).one()
    assert session.scalars(select(Entry.detail).where(Entry.kind == "dispatch")).one()["what"] == "stranded"


def test_a_stranded_order_is_assigned_as_soon_as_somebody_comes_on_shift(session: Session, made: World) -> None:
    late = factories.account(session, made.company, "technician", "mill")
    made.technician.is_active = False
    order = opened(session, made, kind="corrective")
    order.unit_id = made.company.units["mill"].id
    factories.shift(session, late, zone="UTC")
    night = NOW + timedelta(hours=12)
    assign.on_opened(session, OrderOpened(order.id), night)
    assert order.assignee_id is None
    assert assign.retry(session, night) == 0
    assert len(assign.decisions(session, order)) == 1, "looking again in vain is not written down"
    monday = NOW + timedelta(days=3)
    assert assign.retry(session, monday) == 1
    assert order.assignee_id == late.id


def test_looking_again_asks_for_the_people_once_a_step_and_shares_the_work_all_the_same(
    session: Session, made: World
) -> None:
    """Many wait: each step is short, later orders see who was given earlier ones, and the most urgent come first."""
    people = [made.technician, *(another(session, made, username=f"t{number}") for number in range(4))]
    rest = [opened(session, made, priority=4) for _ in range(7)]
    urgent = [opened(session, made, priority=1) for _ in range(assign.AT_ONCE)]
    asked = asked_for_people(session)
    assert assign.retry(session, NOW) == assign.AT_ONCE
    assert len(asked) <= 2, "once to see who fits, once more when it is our turn to decide"
    assert ({one.phase for one in urgent}, {one.phase for one in rest}) == ({"assigned"}, {"new"})
    given = [one.assignee_id for one in urgent]
    assert {one.id: given.count(one.id) for one in people} == {one.id: assign.AT_ONCE // 5 for one in people}
    assert (assign.retry(session, NOW), assign.retry(session, NOW)) == (7, 0)
    loads = [one["open_minutes"] for one in assign.decisions(session, rest[-1])[0].candidates["list"]]
    assert sum(loads) == 60 * (assign.AT_ONCE + 6), "a decision is stored with the work given just before it"


def asked_for_people(session: Session) -> list[str]:
    """Return a list that grows with each query for who may carry out orders."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if "FROM membership" in statement:
            asked.append(statement)

    event.listen(session.get_bind(), "before_cursor_execute", note)
    return asked


def test_looking_again_in_vain_keeps_nobody_from_deciding_and_the_hopeless_hold_up_nobody(
    database: sessionmaker[Session],
) -> None:
    with db.transaction(database) as session:
        made = world.build(session)
        hopeless = [opened(session, made, skill="high voltage", priority=1) for _ in range(assign.AT_ONCE + 1)]
    with database() as looking, database() as deciding:
        assert assign.retry(looking, NOW) == 0
        # That transaction is still open, and yet the turn to decide is free and so are the rows.
        deciding.execute(text("SET LOCAL lock_timeout = '1s'"))
        for one in hopeless:
            assign.dispatch(deciding, desk.locked(deciding, one.id), NOW)
    with db.transaction(database) as session:
        last = opened(session, made, priority=4)
        assert assign.retry(session, NOW) == 1
        assert last.assignee_id == made.technician.id


def test_people_after_an_order_was_given_are_as_if_they_were_asked_for_anew(session: Session, made: World) -> None:
    another(session, made)
    for planned_at in (None, NOW + timedelta(hours=3)):
        before = crowd.gather(session, made.company.id, NOW)
        order = opened(session, made, planned_at=planned_at, estimated_minutes=45)
        assert dispatched(session, order) is not None
        assert order.assignee_id is not None
        session.flush()
        assert before.given(order.assignee_id, order, NOW) == crowd.gather(session, made.company.id, NOW) != before


def test_DI_9_the_refuser_is_passed_over_and_the_third_refusal_goes_to_the_dispatcher(
    session: Session, made: World
) -> None:
    for where in ("north", "company"):
        another(session, made, where)
    order = opened(session, made)
    dispatched(session, order)
    asked = []
    for _refusal in range(3):
        asked.append(order.assignee_id)
        desk.refuse(session, order, reason="No time", actor=f"account:{order.assignee_id}", now=NOW)
        assign.dispatch(session, order, NOW)
    assert len(set(asked)) == 3
    assert order.assignee_id is None
    assert assign.decisions(session, order)[0].reason == assign.REFUSED_TOO_OFTEN
    assert assign.retry(session, NOW) == 0


def test_an_order_that_somebody_has_is_left_alone(session: Session, made: World) -> None:
    order = opened(session, made)
    dispatched(session, order)
    before = order.assignee_id
    dispatched(session, order)
    assert order.assignee_id == before
    assert len(assign.decisions(session, order)) == 1


def test_DI_11_a_decision_of_last_month_is_read_without_the_live_data(session: Session, made: World) -> None:
    order = opened(session, made)
    dispatched(session, order)
    made.technician.name, made.technician.is_active = "Renamed", False
    session.expire_all()
    stored = assign.decisions(session, order)[0]
    assert stored.candidates["list"][0]["name"] == "Li Wei"
    assert stored.candidates["list"][0]["removed_by"] is None
    assert stored.inputs["number"] == order.number


def test_DI_11_overriding_a_filter_needs_a_reason_and_stores_who_and_why(session: Session, made: World) -> None:
    off_shift = factories.account(session, made.company, "technician", "north", name="Zhang")
    order = opened(session, made)
    boss = world.viewer(session, made.dispatcher)
    with pytest.raises(Invalid) as refused:
        assign.by_hand(session, order.id, off_shift.id, boss, now=NOW)
    assert refused.value.field == "reason"
    decision = assign.by_hand(session, order.id, off_shift.id, boss, now=NOW, reason="He lives next door")
    assert (decision.is_override, decision.by, decision.reason) == (True, boss.actor, "He lives next door")
    assert (order.phase, order.assignee_id) == ("assigned", off_shift.id)


def test_choosing_somebody_who_fits_needs_no_reason_and_is_no_override(session: Session, made: World) -> None:
    order = opened(session, made)
    boss = world.viewer(session, made.dispatcher)
    decision = assign.by_hand(session, order.id, made.technician.id, boss, now=NOW)
    assert (decision.is_override, decision.reason) == (False, assign.BY_HAND)
    with pytest.raises(Conflict):
        assign.by_hand(session, order.id, made.technician.id, boss, now=NOW)


def test_nobody_can_be_given_an_order_that_they_could_not_open(session: Session, made: World) -> None:
    order = opened(session, made)
    boss = world.viewer(session, made.dispatcher)
    storekeeper = factories.account(session, made.company, "storekeeper", "harbour")
    foreign = factories.account(session, factories.company(session, "other"), "technician")
    for account, field in ((storekeeper, "account_id"), (foreign, "account_id")):
        with pytest.raises(Invalid) as refused:
            assign.by_hand(session, order.id, account.id, boss, now=NOW, reason="I insist")
        assert refused.value.field == field


def test_DI_11_a_second_visit_at_the_same_time_needs_an_override(session: Session, made: World) -> None:
    boss, visit = world.viewer(session, made.dispatcher), NOW + timedelta(hours=2)
    first, second = opened(session, made), opened(session, made)
    assign.by_hand(session, first.id, made.technician.id, boss, now=NOW, planned_at=visit)
    with pytest.raises(Invalid):
        assign.by_hand(session, second.id, made.technician.id, boss, now=NOW, planned_at=visit)
    after = visit + timedelta(minutes=first.estimated_minutes)
    assign.by_hand(session, second.id, made.technician.id, boss, now=NOW, planned_at=after)
    assert second.planned_at == after


def test_a_technician_may_not_assign(session: Session, made: World) -> None:
    order = opened(session, made)
    with pytest.raises(Forbidden):
        assign.by_hand(session, order.id, made.technician.id, world.viewer(session, made.technician), now=NOW)


def test_DI_8_fifty_grabs_at_once_are_one_success_and_forty_nine_conflicts(
    database: sessionmaker[Session],
) -> None:
    with db.transaction(database) as session:
        made = world.build(session)
        order = opened(session, made)
        pool.offer(session, order, actor="system", now=NOW)
        people = [another(session, made, "north", username=f"t{number}") for number in range(50)]
        viewers = [world.viewer(session, one) for one in people]

    def take(number: int) -> str:
        try:
            with db.transaction(database) as session:
                assign.grab(session, order.id, viewers[number], now=NOW)
        except Conflict:
            return "conflict"
        return "taken"

    with ThreadPoolExecutor(50) as threads:
        outcomes = list(threads.map(take, range(50)))
    assert (outcomes.count("taken"), outcomes.count("conflict")) == (1, 49)
    with database() as session:
        row = session.get_one(Order, order.id)
        assert (row.phase, row.in_pool) == ("accepted", False)
        assert row.assignee_id == people[outcomes.index("taken")].id
        assert session.scalars(select(Decision.mode)).all() == ["grabbed"]


def test_DI_8_only_those_who_fit_see_the_pool_or_may_take_from_it(session: Session, made: World) -> None:
    factories.skilled(session, made.technician, factories.skill(session, made.company))
    unskilled, elsewhere = another(session, made), another(session, made, "quarry")
    order = opened(session, made, skill="hydraulics")
    pool.offer(session, order, actor="system", now=NOW)
    assert list(pool.open_to(session, world.viewer(session, made.technician), NOW)) == [order]
    for nobody in (unskilled, elsewhere, made.dispatcher):
        assert list(pool.open_to(session, world.viewer(session, nobody), NOW)) == []
    with pytest.raises(Forbidden):
        assign.grab(session, order.id, world.viewer(session, unskilled), now=NOW)
    with pytest.raises(NotFound):
        assign.grab(session, order.id, world.viewer(session, elsewhere), now=NOW)
    assign.grab(session, order.id, world.viewer(session, made.technician), now=NOW)
    assert order.assignee_id == made.technician.id


def test_DI_8_after_its_time_an_order_leaves_the_pool_and_is_assigned(database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        made = world.build(session)
        order = opened(session, made)
        order.type.requires = {"dispatch": ["pool"]}
    assert world.deliver(database) == []
    with db.transaction(database) as session:
        row = session.get_one(Order, order.id)
        assert (row.phase, row.in_pool, row.pool_until) == ("new", True, NOW + pool.OPEN_FOR)
        assert pool.end_offers(session, NOW) == 0
        assert pool.end_offers(session, NOW + pool.OPEN_FOR) == 1
    assert world.deliver(database, NOW + pool.OPEN_FOR) == []
    with database() as session:
        row = session.get_one(Order, order.id)
        assert (row.phase, row.in_pool, row.assignee_id) == ("assigned", False, made.technician.id)


def test_an_order_somebody_has_cannot_be_offered(session: Session, made: World) -> None:
    order = opened(session, made)
    dispatched(session, order)
    with pytest.raises(Conflict):
        pool.offer(session, order, actor="system", now=NOW)
