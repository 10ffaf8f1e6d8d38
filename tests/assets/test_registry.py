"""The asset tree: paths, moves, sites, lost updates."""

from dataclasses import replace
from threading import Barrier, Thread

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from assets import places, registry
from assets.models import Asset
from kernel import db
from kernel.errors import Conflict, FixwrightError, Invalid, Stale
from kernel.models import AuditEntry, Event
from tests.assets.plant import ACTOR, NOW, Plant, asset, build


def draft_of(one: Asset) -> registry.AssetDraft:
    fields = registry.AssetDraft.__dataclass_fields__
    return registry.AssetDraft(**{name: getattr(one, name) for name in fields})


def test_an_asset_carries_the_path_of_its_ancestors_and_the_unit_of_its_site(session: Session, plant: Plant) -> None:
    line = asset(session, plant, "L1")
    machine = asset(session, plant, "M1", parent=line)
    bearing = asset(session, plant, "B1", parent=machine)
    assert bearing.path == f"/{line.id}/{machine.id}/{bearing.id}/"
    assert bearing.unit_id == plant.north.unit_id
    assert bearing.version == 1
    assert [one.code for one in registry.ancestors(session, bearing)] == ["L1", "M1"]


def test_AS_1_a_loop_over_three_assets_is_refused(session: Session, plant: Plant) -> None:
    first = asset(session, plant, "A")
    second = asset(session, plant, "B", parent=first)
    third = asset(session, plant, "C", parent=second)
    for parent in (third, second, first):
        with pytest.raises(Invalid) as refused:
            registry.move(session, first, parent, actor=ACTOR, now=NOW)
        assert refused.value.field == "parent_id"
    assert session.get_one(Asset, third.id).path == f"/{first.id}/{second.id}/{third.id}/"


def test_a_move_takes_all_parts_along_and_back(session: Session, plant: Plant) -> None:
    line, other = asset(session, plant, "L1"), asset(session, plant, "L2")
    machine = asset(session, plant, "M1", parent=line)
    bearing = asset(session, plant, "B1", parent=machine)
    bystander = asset(session, plant, "B2", parent=line)
    registry.move(session, machine, other, actor=ACTOR, now=NOW)
    assert bearing.path == f"/{other.id}/{machine.id}/{bearing.id}/"
    assert bystander.path == f"/{line.id}/{bystander.id}/"
    registry.move(session, machine, None, actor=ACTOR, now=NOW)
    assert (machine.parent_id, bearing.path) == (None, f"/{machine.id}/{bearing.id}/")


def test_two_moves_at_once_close_no_circle(database: sessionmaker[Session]) -> None:
    with db.transaction(database) as session:
        plant = build(session)
        ids = [asset(session, plant, code).id for code in ("A", "B")]
    start, outcomes = Barrier(2), []

    def put(under: int, which: int) -> None:
        start.wait()
        try:
            with db.transaction(database) as session:
                found = {identity: session.get_one(Asset, identity) for identity in ids}
                registry.move(session, found[which], found[under], actor=ACTOR, now=NOW)
            outcomes.append("moved")
        except FixwrightError:
            outcomes.append("refused")

    threads = [Thread(target=put, args=pair) for pair in (ids, ids[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["moved", "refused"]


def test_a_part_stands_on_the_site_of_its_asset(session: Session, plant: Plant) -> None:
    line = asset(session, plant, "L1")
    with pytest.raises(Invalid):
        asset(session, plant, "M1", site=plant.south, parent=line)
    machine = asset(session, plant, "M1", parent=line)
    elsewhere = asset(session, plant, "L9", site=plant.south)
    with pytest.raises(Invalid):
        registry.move(session, machine, elsewhere, actor=ACTOR, now=NOW)
    with pytest.raises(Invalid):
        registry.change(session, machine, replace(draft_of(machine), site_id=plant.south.id), actor=ACTOR, now=NOW)


def test_another_site_takes_parts_along(session: Session, plant: Plant) -> None:
    line = asset(session, plant, "L1")
    machine = asset(session, plant, "M1", parent=line)
    registry.change(session, line, replace(draft_of(line), site_id=plant.south.id), actor=ACTOR, now=NOW)
    session.expire_all()
    assert (machine.site_id, machine.unit_id) == (plant.south.id, plant.south.unit_id)


def test_a_lost_update_is_refused(session: Session, plant: Plant) -> None:
    machine = asset(session, plant, "M1")
    wanted = replace(draft_of(machine), name="Pump 1")
    registry.change(session, machine, wanted, version=1, actor=ACTOR, now=NOW)
    assert machine.version == 2
    with pytest.raises(Stale):
        registry.change(session, machine, replace(wanted, name="Pump 2"), version=1, actor=ACTOR, now=NOW)


def test_a_change_is_audited_and_told(session: Session, plant: Plant) -> None:
    machine = asset(session, plant, "M1")
    registry.change(session, machine, replace(draft_of(machine), criticality=1), actor="account:7", now=NOW)
    entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "asset.change")).one()
    assert (entry.before, entry.after, entry.actor) == ({"criticality": 3}, {"criticality": 1}, "account:7")
    kinds = session.scalars(select(Event.kind).where(Event.subject == f"asset:{machine.id}")).all()
    assert kinds == ["AssetChanged", "AssetChanged"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", " "),
        ("name", ""),
        ("name", "x" * 201),
        ("name", "two\nlines"),
        ("type_id", 10**9),
        ("site_id", 10**9),
        ("location_id", 10**9),
        ("customer_id", 10**9),
        ("status", "lost"),
        ("criticality", 5),
    ],
)
def test_what_does_not_fit_is_refused_under_its_field(
    session: Session, plant: Plant, field: str, value: object
) -> None:
    good = registry.AssetDraft("M1", "Machine", plant.pump.id, plant.north.id)
    with pytest.raises(Invalid) as refused:
        registry.register(session, replace(good, **{field: value}), company_id=plant.company.id, actor=ACTOR, now=NOW)
    assert refused.value.field == field


def test_a_code_exists_once_in_a_company_and_may_in_another(session: Session, plant: Plant) -> None:
    asset(session, plant, "M1")
    with pytest.raises(Conflict):
        asset(session, plant, "M1")
    asset(session, build(session, "Other"), "M1")


def test_nothing_of_another_company_can_be_used(session: Session, plant: Plant) -> None:
    other = build(session, "Other")
    with pytest.raises(Invalid):
        asset(session, plant, "M1", site=other.north)
    strange = asset(session, other, "X1")
    mine = asset(session, plant, "M2")
    with pytest.raises(Invalid):
        registry.move(session, mine, strange, actor=ACTOR, now=NOW)


def test_a_location_cannot_stand_inside_itself(session: Session, plant: Plant) -> None:
    hall = places.add_location(session, plant.north, name="Hall 1", actor=ACTOR, now=NOW)
    room = places.add_location(session, plant.north, name="Room 7", parent=hall, actor=ACTOR, now=NOW)
    with pytest.raises(Invalid) as refused:
        places.change_location(session, hall, name="Hall 1", name_zh=None, parent=room, actor=ACTOR, now=NOW)
    assert refused.value.field == "parent_id"
    places.change_location(session, room, name="Room 8", name_zh="8号房", parent=None, actor=ACTOR, now=NOW)
    assert (room.name, room.parent_id) == ("Room 8", None)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("zone", {"zone": "Mars/Olympus"}),
        ("zone", {"zone": "../../etc/passwd"}),
        ("latitude", {"latitude": 31.0, "longitude": None}),
        ("latitude", {"latitude": 91.0}),
        ("longitude", {"longitude": float("nan")}),
        ("name", {"name": "  "}),
    ],
)
def test_a_site_that_cannot_be_is_refused(
    session: Session, plant: Plant, field: str, change: dict[str, object]
) -> None:
    good = places.SiteDraft("West", "Europe/Berlin", latitude=52.5, longitude=13.4)
    with pytest.raises(Invalid) as refused:
        places.change_site(session, plant.north, replace(good, **change), actor=ACTOR, now=NOW)
    assert refused.value.field == field
