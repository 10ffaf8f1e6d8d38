"""Nobody gives or takes what they do not have."""

import threading

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.errors import Conflict, FixwrightError, Forbidden, Invalid
from people import roles
from people.models import Account, Membership, Role
from people.rights import RIGHTS, ROLES
from people.scope import Viewer, viewer_of
from tests import factories
from tests.factories import NOW


def seen(session: Session, account: Account) -> Viewer:
    return viewer_of(session, account)


def test_the_roles_of_the_product_follow_its_version_at_every_start(session: Session) -> None:
    roles.sync_builtin(session)
    changed = roles.builtin(session, "technician")
    changed.rights = ["audit.read"]
    session.flush()

    roles.sync_builtin(session)
    roles.sync_builtin(session)
    session.expire_all()

    assert set(roles.builtin(session, "technician").rights) == ROLES["technician"][1]
    assert session.query(Role).count() == len(ROLES)
    assert set(roles.builtin(session, "administrator").rights) == RIGHTS.keys()


def test_every_right_of_a_role_exists() -> None:
    assert {right for _, rights in ROLES.values() for right in rights} <= RIGHTS.keys()


def test_a_granted_role_counts_over_the_unit_and_below_and_a_withdrawn_one_no_longer(session: Session) -> None:
    acme = factories.company(session)
    boss = seen(session, factories.account(session, acme, "administrator", "company"))
    worker = factories.account(session, acme, None, "harbour")

    membership = roles.grant(session, worker, acme.roles["dispatcher"], acme.units["north"], by=boss, now=NOW)

    assert seen(session, worker).may_at("orders.assign", acme.units["mill"].path)
    assert not seen(session, worker).may_at("orders.assign", acme.units["quarry"].path)
    with pytest.raises(Conflict, match="already"):
        roles.grant(session, worker, acme.roles["dispatcher"], acme.units["north"], by=boss, now=NOW)
    roles.withdraw(session, membership, by=boss, now=NOW)
    assert not seen(session, worker).may("orders.assign")


def test_the_administrator_of_a_site_cannot_rise_above_it(session: Session) -> None:
    acme = factories.company(session)
    factories.account(session, acme, "administrator", "company")
    local = factories.account(session, acme, "administrator", "harbour")
    by = seen(session, local)

    for where in ("north", "company", "mill"):
        with pytest.raises(Forbidden):
            roles.grant(session, local, acme.roles["technician"], acme.units[where], by=by, now=NOW)
    with pytest.raises(Forbidden):
        roles.create(session, acme.units["company"], name="Mine", rights=["orders.read"], by=by, now=NOW)


def test_a_person_who_changes_people_only_cannot_give_other_rights(session: Session) -> None:
    acme = factories.company(session)
    boss = seen(session, factories.account(session, acme, "administrator", "company"))
    clerk = factories.account(session, acme, None, "company")
    personnel = roles.create(
        session, acme.units["company"], name="Personnel", rights=["people.read", "people.write"], by=boss, now=NOW
    )
    roles.grant(session, clerk, personnel, acme.units["company"], by=boss, now=NOW)
    by = seen(session, clerk)

    with pytest.raises(Forbidden, match=r"alarms\.act"):
        roles.grant(session, clerk, acme.roles["administrator"], acme.units["company"], by=by, now=NOW)
    with pytest.raises(Forbidden):
        roles.change(session, personnel, acme.units["company"], name="Personnel",
                     rights=["people.write", "parts.price"], by=by, now=NOW)  # fmt: skip
    roles.grant(session, clerk, personnel, acme.units["north"], by=by, now=NOW)


def test_power_over_an_account_needs_all_of_its_rights(session: Session) -> None:
    acme = factories.company(session)
    local = seen(session, factories.account(session, acme, "administrator", "harbour"))
    colleague = factories.account(session, acme, "technician", "harbour")
    # Lives at the harbour but rules the company: whoever could reset this password would rule it too.
    boss = factories.account(session, acme, None, "harbour", username="boss")
    operator = seen(session, factories.account(session, acme, "administrator", "company"))
    roles.grant(session, boss, acme.roles["administrator"], acme.units["company"], by=operator, now=NOW)

    roles.require_power(session, local, colleague)
    with pytest.raises(Forbidden):
        roles.require_power(session, local, boss)
    with pytest.raises(Forbidden):
        roles.require_power(session, local, factories.account(session, acme, "technician", "mill"))


def test_a_role_of_the_product_cannot_be_changed_and_a_held_one_not_removed(session: Session) -> None:
    acme = factories.company(session)
    boss = seen(session, factories.account(session, acme, "administrator", "company"))
    own = roles.create(session, acme.units["company"], name="Watch", rights=["alarms.read"], by=boss, now=NOW)
    worker = factories.account(session, acme, None, "harbour")
    membership = roles.grant(session, worker, own, acme.units["harbour"], by=boss, now=NOW)

    with pytest.raises(Conflict, match="comes with the product"):
        roles.change(session, acme.roles["manager"], acme.units["company"], name="x", rights=[], by=boss, now=NOW)
    with pytest.raises(Conflict, match="Somebody holds"):
        roles.remove(session, own, acme.units["company"], by=boss, now=NOW)
    roles.withdraw(session, membership, by=boss, now=NOW)
    roles.remove(session, own, acme.units["company"], by=boss, now=NOW)
    assert own not in roles.of_company(session, acme.id)


def test_an_unknown_right_and_a_nameless_role_are_refused(session: Session) -> None:
    acme = factories.company(session)
    boss = seen(session, factories.account(session, acme, "administrator", "company"))
    with pytest.raises(Invalid, match=r"orders\.everything"):
        roles.create(session, acme.units["company"], name="x", rights=["orders.everything"], by=boss, now=NOW)
    with pytest.raises(Invalid):
        roles.create(session, acme.units["company"], name="  ", rights=["orders.read"], by=boss, now=NOW)


def test_roles_and_units_of_another_company_cannot_be_granted(session: Session) -> None:
    acme, other = factories.company(session), factories.company(session, "other")
    boss = seen(session, factories.account(session, acme, "administrator", "company"))
    theirs = seen(session, factories.account(session, other, "administrator", "company"))
    worker = factories.account(session, acme, None, "harbour")
    own = roles.create(session, other.units["company"], name="Theirs", rights=["alarms.read"], by=theirs, now=NOW)

    with pytest.raises(Invalid, match="unit belongs"):
        roles.grant(session, worker, acme.roles["technician"], other.units["harbour"], by=theirs, now=NOW)
    with pytest.raises(Invalid, match="role belongs"):
        roles.grant(session, worker, own, acme.units["harbour"], by=boss, now=NOW)
    assert own not in roles.of_company(session, acme.id)


def test_the_last_administrator_stays_even_when_two_remove_each_other_at_once(database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        acme = factories.company(session)
        pair = [
            factories.account(session, acme, "administrator", "company", username=name).id for name in ("one", "two")
        ]
    refused: list[FixwrightError] = []

    def remove(mine: int, theirs: int) -> None:
        try:
            with db.transaction(database) as session:
                by = viewer_of(session, session.get_one(Account, mine))
                held = session.scalars(select(Membership).where(Membership.account_id == theirs)).one()
                roles.withdraw(session, held, by=by, now=NOW)
        except FixwrightError as error:
            refused.append(error)

    threads = [threading.Thread(target=remove, args=args) for args in (pair, pair[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) == 1
    with database() as session:
        assert session.query(Membership).count() == 1
