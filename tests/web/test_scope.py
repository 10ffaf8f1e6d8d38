"""What lies within a viewer's sight is the same in every answer: list, page, count, search, export, stream (SE-2)."""

import csv
import io
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session, sessionmaker

from api import access, live
from kernel import clock, db
from maintenance.orders import worklist
from people import org
from people.models import Account, Membership, OrgUnit, Role
from people.scope import viewer_of
from tests import factories
from tests.factories import Company

RIGHTS = ("orders.read", "assets.read", "people.read", "alarms.read")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Tree:
    """A company: each unit's parent (a number below its own), orders at units, roles at units, and one move."""

    parents: tuple[int, ...]
    orders: tuple[int, ...]
    roles: tuple[tuple[frozenset[str], int], ...]
    move: tuple[int, int] | None


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    count = draw(st.integers(1, 7))
    parents = tuple(draw(st.integers(0, n)) for n in range(count))
    somewhere = st.integers(0, count)
    orders = tuple(draw(st.lists(somewhere, min_size=1, max_size=8)))
    held = st.tuples(st.frozensets(st.sampled_from(RIGHTS), min_size=1), somewhere)
    roles = tuple(draw(st.lists(held, max_size=4)))
    move = draw(st.none() | st.tuples(st.integers(1, count), somewhere))
    return Tree(parents, orders, roles, move)


@dataclass(frozen=True, slots=True)
class Planted:
    """A tree in the database: the account that looks, and at which unit each order and person stands."""

    account: Account
    above: dict[int, set[int]]
    orders: dict[str, int]
    people: dict[str, int]
    reach: dict[str, set[int]]
    word: str

    def expected(self, right: str, things: dict[str, int]) -> set[str]:
        """Return what lies within sight by walking from each thing up to the company, without any path."""
        return {name for name, unit in things.items() if self.above[unit] & self.reach.get(right, set())}


def plant(session: Session, tree: Tree) -> Planted:
    number = next(_numbers)
    word = f"needle{number:05}"
    root = factories.unit(session, None, f"Company {number}", kind="company")
    units = [root]
    for parent in tree.parents:
        units.append(factories.unit(session, units[parent], f"Unit {number}", kind="region"))
    of = Company(f"c{number}", {"company": root})
    site = factories.Site(company_id=root.id, unit_id=root.id, name="Site", zone="UTC", address="")
    session.add(site)
    session.flush()
    of.sites["company"] = site
    account = factories.account(session, of, None, "company", username=f"viewer{number}")
    people, orders = {}, {}
    for n, unit in enumerate(units):
        of.units[str(n)] = unit
        name = f"{word} person {n}"
        factories.account(session, of, None, str(n), username=f"{word}-{n}", name=name)
        people[name] = unit.id
    asset = factories.asset(session, of, "company")
    for n, at in enumerate(tree.orders):
        title = f"{word} order {n}"
        factories.order(session, of, asset, unit_id=units[at].id, title=title, title_zh=None)
        orders[title] = units[at].id
    reach: dict[str, set[int]] = {}
    for n, (rights, at) in enumerate(tree.roles):
        role = Role(key=f"r{number}-{n}", name="Role", rights=sorted(rights), company_id=root.id)
        session.add(role)
        session.flush()
        session.add(Membership(account_id=account.id, role_id=role.id, unit_id=units[at].id))
        for right in rights:
            reach.setdefault(right, set()).add(units[at].id)
    session.flush()
    _move(session, units, tree.move)
    return Planted(account, {unit.id: _above(session, unit) for unit in units}, orders, people, reach, word)


def _move(session: Session, units: list[OrgUnit], move: tuple[int, int] | None) -> None:
    if move is not None and units[move[0]].id not in _above(session, units[move[1]]):
        org.move(session, units[move[0]], units[move[1]], actor="system", now=factories.NOW)


def _above(session: Session, unit: OrgUnit) -> set[int]:
    found: set[int] = set()
    at: OrgUnit | None = unit
    while at is not None:
        found.add(at.id)
        at = session.get(OrgUnit, at.parent_id) if at.parent_id else None
    return found


def words(text: str, kind: str, planted: Planted) -> set[str]:
    return set(re.findall(rf"{planted.word} {kind} \d+", text))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees())
def test_SE_2_every_answer_shows_the_same_and_nothing_else(
    tree: Tree, clients: Callable[[], httpx.Client], database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        planted = plant(session, tree)
        secret, _ = factories.sign_in(session, planted.account, now=clock.now())
        viewer = viewer_of(session, planted.account)
        counted = worklist.counts(session, viewer, worklist.Wanted(), now=clock.now())
        paths = {unit.id: unit.path for unit in session.query(OrgUnit).filter_by(company_id=viewer.company_id)}
    client = clients()
    client.cookies.set(access.COOKIE, secret)
    orders = planted.expected("orders.read", planted.orders)
    people = planted.expected("people.read", planted.people)

    heard = {title for title, unit in planted.orders.items() if live._may_hear(viewer, "order", paths[unit])}
    assert heard == orders
    assert sum(counted.values()) == len(orders)
    assert words(client.get("/search", params={"q": planted.word}).text, "order", planted) == orders
    if viewer.may("orders.read"):
        listed = client.get("/api/v1/orders", params={"limit": 500}).json()["items"]
        assert {order["title"] for order in listed} == orders
        exported = csv.reader(io.StringIO(client.get("/orders/export.csv").text))
        assert words(" ".join(itertools.chain.from_iterable(exported)), "order", planted) == orders
        assert words(client.get("/orders", params={"q": planted.word}).text, "order", planted) == orders
        for title, number in _numbers_of(database, planted).items():
            status = client.get(f"/api/v1/orders/{number}").status_code
            assert status == (200 if title in orders else 404)
    if viewer.may("people.read"):
        listed = client.get("/api/v1/users", params={"limit": 500, "q": planted.word}).json()["items"]
        assert {user["name"] for user in listed} == people
        assert words(client.get("/people", params={"q": planted.word}).text, "person", planted) == people


def _numbers_of(database: sessionmaker[Session], planted: Planted) -> dict[str, int]:
    with database() as session:
        rows = session.query(worklist.Order).filter(worklist.Order.title.startswith(planted.word))
        return {order.title: order.id for order in rows}


def test_SE_2_a_store_sees_one_site_a_region_its_subtree_and_headquarters_all(
    client_of: Callable[..., httpx.Client], company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        for where in ("harbour", "mill", "quarry"):
            factories.order(session, company, factories.asset(session, company, where), title=f"At the {where}")

    def seen(where: str) -> set[str]:
        items = client_of("dispatcher", where).get("/api/v1/orders").json()["items"]
        return {order["title"].removeprefix("At the ") for order in items}

    assert seen("harbour") == {"harbour"}
    assert seen("north") == {"harbour", "mill"}
    assert seen("south") == {"quarry"}
    assert seen("company") == {"harbour", "mill", "quarry"}


def test_SE_2_a_unit_that_moves_is_seen_from_its_new_place_at_once(
    client_of: Callable[..., httpx.Client], company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        factories.order(session, company, factories.asset(session, company, "mill"), title="At the mill")
    north, south = client_of("dispatcher", "north"), client_of("dispatcher", "south")

    def seen(client: httpx.Client) -> int:
        return len(client.get("/api/v1/orders").json()["items"])

    assert (seen(north), seen(south)) == (1, 0)
    with db.transaction(database) as session:
        mill, to = (session.get_one(OrgUnit, company.units[name].id) for name in ("mill", "south"))
        org.move(session, mill, to, actor="system", now=factories.NOW)
    assert (seen(north), seen(south)) == (0, 1)


def test_SE_2_a_role_that_is_withdrawn_no_longer_counts_with_the_next_request(
    client_of: Callable[..., httpx.Client], database: sessionmaker[Session]
) -> None:
    client = client_of("dispatcher", "north")
    assert client.get("/api/v1/orders").status_code == 200
    with db.transaction(database) as session:
        session.query(Membership).delete()
    assert client.get("/api/v1/orders").status_code == 403
