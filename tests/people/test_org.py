"""The org tree: paths stay true whatever is moved, and no move makes a cycle."""

import threading

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import db
from kernel.errors import Conflict, FixwrightError, Invalid
from people import org
from people.models import OrgUnit
from tests import factories
from tests.factories import NOW

WHO = {"actor": "system", "now": NOW}


def test_a_company_is_the_root_of_its_own_tree(session: Session) -> None:
    company = org.found(session, " Acme ", **WHO)
    region = org.add(session, company, kind="region", name="North", **WHO)
    site = org.add(session, region, kind="site", name="Harbour", **WHO)

    assert (company.name, company.company_id, company.path) == ("Acme", company.id, f"/{company.id}/")
    assert site.path == f"/{company.id}/{region.id}/{site.id}/"
    assert [org.depth(unit) for unit in (company, region, site)] == [0, 1, 2]
    assert org.below(session, company) == [company, region, site]


def test_a_moved_unit_takes_everything_below_along(session: Session) -> None:
    acme = factories.company(session)
    north, south, harbour = (acme.units[name] for name in ("north", "south", "harbour"))

    org.move(session, north, south, **WHO)

    assert harbour.path == f"/{acme.id}/{south.id}/{north.id}/{harbour.id}/"
    assert [unit.name for unit in org.below(session, south)] == ["South", "North", "Harbour", "Mill", "Quarry"]


@pytest.mark.parametrize(
    ("what", "to", "error"),
    [("north", "harbour", Conflict), ("north", "north", Conflict), ("company", "north", Conflict),
     ("south", "harbour", Invalid)],
    ids=["below itself", "itself", "the company", "below a site"],
)  # fmt: skip
def test_a_move_that_would_break_the_tree_is_refused(
    session: Session, what: str, to: str, error: type[FixwrightError]
) -> None:
    acme = factories.company(session)
    with pytest.raises(error):
        org.move(session, acme.units[what], acme.units[to], **WHO)


def test_a_unit_cannot_move_to_another_company(session: Session) -> None:
    acme, other = factories.company(session), factories.company(session, "other")
    with pytest.raises(Invalid, match="another company"):
        org.move(session, acme.units["harbour"], other.units["north"], **WHO)


def test_a_unit_that_something_belongs_to_cannot_be_removed(session: Session) -> None:
    acme = factories.company(session)
    empty = org.add(session, acme.units["north"], kind="site", name="Empty", **WHO)

    org.remove(session, empty, **WHO)
    with pytest.raises(Conflict, match="still belongs"):
        org.remove(session, acme.units["harbour"], **WHO)
    assert session.get(OrgUnit, acme.units["harbour"].id) is not None


def test_the_tree_has_a_depth_it_cannot_pass(session: Session) -> None:
    unit = org.found(session, "Deep", **WHO)
    for level in range(org.MOST_LEVELS - 1):
        unit = org.add(session, unit, kind="region", name=f"Level {level}", **WHO)
    with pytest.raises(Invalid, match="too deep"):
        org.add(session, unit, kind="region", name="One more", **WHO)


def test_two_moves_at_once_make_no_cycle(database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        acme = factories.company(session)
        north, south = acme.units["north"].id, acme.units["south"].id
    refused: list[FixwrightError] = []

    def move(what: int, to: int) -> None:
        try:
            with db.transaction(database) as session:
                org.move(session, session.get_one(OrgUnit, what), session.get_one(OrgUnit, to), **WHO)
        except FixwrightError as error:
            refused.append(error)

    threads = [threading.Thread(target=move, args=pair) for pair in ((north, south), (south, north))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [type(error) for error in refused] == [Conflict]
    with database() as session:
        for unit in session.scalars(select(OrgUnit)):
            above = session.get_one(OrgUnit, unit.parent_id).path if unit.parent_id else "/"
            assert unit.path == f"{above}{unit.id}/"
