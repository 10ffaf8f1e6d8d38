"""The roster: a million rules as columns say what ``standing.read`` says one by one."""

import dataclasses
from typing import Any

import pytest
from sqlalchemy.orm import Session

from assets.models import AssetType, Binding, Metric
from people.models import OrgUnit
from rules import library, roster, standing
from rules.engine import Engine
from rules.library import AlarmTypeDraft
from rules.roster import Roster
from rules.standing import Standing
from telemetry import series
from tests import plant
from tests.plant import BORN, Plant

ACTOR = "account:1"


def beyond(limit: float, *metrics: str) -> dict[str, Any]:
    compared = [{"type": "compare", "metric": metric, "operator": ">=", "limit": limit} for metric in metrics]
    condition = compared[0] if len(compared) == 1 else {"type": "any", "of": compared}
    return {"schema": 1, "create": {"major": {"condition": condition}}, "clear": {"type": "automatic"}}


@pytest.fixture
def works(session: Session) -> Plant:
    """Two companies: of one, eight machines of three types at two sites, of which some differ in what they measure."""
    made = plant.build(session, machines=8, metrics=("temperature", "pressure"))
    made.type.metrics[0].expected_interval_s = 30.0
    other = plant.build(session, machines=2, prefix="other-")
    child = AssetType(company_id=made.company.id, key="big-pump", name="Big pump", parent_id=made.type.id)
    stranger = AssetType(company_id=made.company.id, key="fan", name="Fan")
    stranger.metrics.append(Metric(key="temperature", name="temperature", position=0))
    session.add_all([child, stranger])
    paris = OrgUnit(name="Paris", kind="site", parent_id=made.company.id, company_id=made.company.id)
    session.add(paris)
    session.flush()
    paris.path = f"{made.company.path}{paris.id}/"
    assets = made.assets
    assets[1].type_id = assets[2].type_id = child.id
    assets[3].type_id = stranger.id
    assets[4].unit_id = paris.id
    assets[5].status = "scrapped"
    second = plant.device(session, made, "second", asset=assets[6])
    session.query(Binding).filter(Binding.device_id == made.devices[7].id).update({"ends_at": BORN})
    pairs = [(device.id, metric) for device in made.devices for metric in ("temperature", "pressure")]
    pairs = [pair for pair in pairs if pair != (made.devices[2].id, "pressure")]
    series.ensure(session, pairs, now=BORN)
    # Numbers are given in the order of the statements: the second device's series came later, and speaks.
    series.ensure(session, [(second.id, "temperature"), (other.devices[0].id, "temperature")], now=BORN)
    _add_rules(session, made, other, paris, stranger)
    return made


def _add_rules(session: Session, made: Plant, other: Plant, paris: OrgUnit, stranger: AssetType) -> None:
    def add(key: str, definition: dict[str, Any], unit: OrgUnit, **target: Any) -> Any:
        draft = AlarmTypeDraft(key, key, **target)
        return library.add(session, draft, definition, unit=unit, actor=ACTOR, now=BORN)

    kind = {"asset_type_id": made.type.id}
    hot = add("hot", beyond(60, "temperature"), made.company, **kind)
    add("either", beyond(5, "pressure", "temperature"), made.company, **kind)
    add("paris", beyond(50, "temperature"), paris, **kind)
    add("fans", beyond(70, "temperature"), made.company, asset_type_id=stranger.id)
    add("mine", beyond(80, "temperature"), made.company, asset_id=made.assets[3].id)
    add("theirs", beyond(90, "temperature"), other.company, asset_type_id=other.type.id)
    off = add("off", beyond(1, "temperature"), made.company, **kind)
    library.switch(session, off, is_enabled=False, actor=ACTOR, now=BORN)
    library.override(session, hot, made.assets[0], {"limits": {"major": 65.0}}, actor=ACTOR, now=BORN)


def by_number(session: Session) -> dict[int, Standing]:
    return {one.instance.id: one for one in standing.read(session)}


def test_the_roster_holds_exactly_what_is_read_one_by_one(session: Session, works: Plant) -> None:
    wanted, held = by_number(session), roster.load(session)
    assert len(wanted) > 10
    assert len(held) == len(wanted)
    assert {number: held.get(number) for number in wanted} == wanted
    of = {asset.id: asset for asset in works.assets}
    assert {one.asset_id for one in wanted.values()} >= {works.assets[n].id for n in (0, 1, 2, 3, 4, 6)}
    strangers = [standing.instance_id(kind, asset) for kind in range(1, 30) for asset in [*of, 0, 10**6]]
    assert {number for number in strangers if number in held} == set(wanted) & set(strangers)


def test_the_engine_is_given_the_same_as_columns(session: Session, works: Plant) -> None:
    assert works.assets
    wanted, held = by_number(session), roster.load(session)
    one_by_one, at_once = Engine(), Engine()
    one_by_one.install([one.instance for one in wanted.values()])
    at_once.install_many(held.instances())
    at_once.install([one.instance for one in held.singles()])
    assert len(at_once) == len(one_by_one)
    for name in ("id", "hold_ms"):
        assert getattr(at_once._columns.series, name).tolist() == getattr(one_by_one._columns.series, name).tolist()
    bounds = [sorted(zip(engine._columns.low, engine._columns.high, strict=True)) for engine in (at_once, one_by_one)]
    assert bounds[0] == bounds[1]


def test_what_changes_replaces_what_was_loaded_and_what_goes_is_gone(session: Session, works: Plant) -> None:
    wanted, held = by_number(session), roster.load(session)
    hot = {number: one for number, one in wanted.items() if one.fault.type_key == "hot"}
    number, one = hot.popitem()
    edited = dataclasses.replace(one, version=one.version + 1)
    held.take([edited])
    assert (held[number], len(held)) == (edited, len(wanted))
    gone = next(iter(hot))
    held.drop([gone, 12345])
    assert (gone in held, held.get(gone), len(held)) == (False, None, len(wanted) - 1)
    with pytest.raises(KeyError):
        held[gone]
    left = {identity: held.get(identity) for identity in wanted if identity != gone}
    asset = works.assets[6].id
    for kinds, assets in (
        (None, None),
        ({one.alarm_type_id}, None),
        (None, {asset, 999_999}),
        ({one.alarm_type_id}, {asset}),
    ):
        assert held.concerned(kinds, assets) == {
            identity
            for identity, rule in left.items()
            if rule and (kinds is None or rule.alarm_type_id in kinds) and (assets is None or rule.asset_id in assets)
        }


def test_a_roster_of_nothing_holds_nothing(session: Session) -> None:
    for empty in (Roster(), roster.load(session)):
        assert (len(empty), 5 in empty, empty.concerned(None, None)) == (0, False, set())
        engine = Engine()
        engine.install_many(empty.instances())
        assert len(engine) == 0
