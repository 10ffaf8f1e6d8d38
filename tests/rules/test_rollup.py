"""Trouble adds up along the tree and stays within the viewer's sight (ALM-11)."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets.models import Asset
from people import scope
from people.scope import Viewer
from rules import rollup
from rules.rollup import Trouble
from tests import factories
from tests.factories import Company


def viewer(session: Session, of: Company, role: str, where: str) -> Viewer:
    return scope.viewer_of(session, factories.account(session, of, role, where))


def test_ALM_11_an_alarm_on_a_bearing_shows_on_machine_line_and_site(session: Session) -> None:
    acme = factories.company(session)
    line = factories.asset(session, acme, "mill")
    machine = factories.asset(session, acme, "mill", parent_id=line.id)
    bearing = factories.asset(session, acme, "mill", parent_id=machine.id)
    beside = factories.asset(session, acme, "mill")
    factories.alarm(session, bearing, severity="minor")
    factories.alarm(session, machine, severity="major")
    factories.alarm(session, machine, severity="critical", is_active=False)
    boss = viewer(session, acme, "dispatcher", "company")

    found = rollup.of_assets(session, boss, [line.id, machine.id, bearing.id, beside.id])

    assert found == {
        line.id: Trouble("major", 2),
        machine.id: Trouble("major", 2),
        bearing.id: Trouble("minor", 1),
    }
    assert rollup.of_sites(session, boss) == {acme.sites["mill"].id: Trouble("major", 2)}
    troubled = select(Asset.id).where(Asset.id.in_(rollup.troubled(boss, "major")))
    assert set(session.scalars(troubled)) == {line.id, machine.id}


def test_ALM_11_the_neighbour_sees_nothing_of_it(session: Session) -> None:
    acme, other = factories.company(session), factories.company(session, "other", "Other Works")
    machine = factories.asset(session, acme, "mill")
    factories.alarm(session, machine)
    for stranger in (
        viewer(session, acme, "technician", "quarry"),
        viewer(session, acme, "storekeeper", "company"),
        viewer(session, other, "administrator", "company"),
    ):
        assert rollup.of_assets(session, stranger, [machine.id]) == {}
        assert rollup.of_sites(session, stranger) == {}
