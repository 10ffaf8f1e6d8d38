"""The rule library: versions, overrides, and what they come to on each asset."""

import copy
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from assets.models import AssetType
from kernel.errors import Conflict, Invalid, Stale
from kernel.models import AuditEntry, Event
from people.models import OrgUnit
from rules import conditions, library, standing
from rules.library import AlarmTypeDraft
from rules.models import AlarmType, RuleVersion
from telemetry import series
from tests import plant
from tests.plant import BORN, Plant

ACTOR = "account:1"


def hot(limit: float = 60.0, metric: str = "temperature") -> dict[str, Any]:
    condition = {"type": "compare", "metric": metric, "operator": ">=", "limit": limit}
    return {"schema": 1, "create": {"major": {"condition": condition}}, "clear": {"type": "automatic"}}


@pytest.fixture
def works(session: Session) -> Plant:
    made = plant.build(session, machines=2, metrics=("temperature", "pressure"))
    series.ensure(session, [(device.id, "temperature") for device in made.devices], now=BORN)
    return made


def add(session: Session, works: Plant, key: str = "overheat", **target: Any) -> AlarmType:
    draft = AlarmTypeDraft(key, key.title(), **(target or {"asset_type_id": works.type.id}))
    return library.add(session, draft, hot(), unit=works.company, actor=ACTOR, now=BORN)


def limits(session: Session) -> dict[int, float]:
    found = {}
    for one in standing.read(session):
        _, tree = next(one.instance.definition.conditions())
        found[one.asset_id] = next(conditions.comparisons(tree)).limit
    return found


def test_a_save_makes_a_new_version_and_the_same_again_makes_none(session: Session, works: Plant) -> None:
    kind = add(session, works)
    second = library.save(session, kind, hot(70), actor=ACTOR, now=BORN)
    again = library.save(session, kind, hot(70), actor="account:2", now=BORN)
    assert (second.number, again.id, kind.version) == (2, second.id, 2)
    assert session.scalars(select(RuleVersion.number)).all() == [1, 2]
    kinds = session.scalars(select(Event.kind)).all()
    assert kinds.count("RuleSaved") == 2
    session.flush()
    assert session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all() == ["rule.add", "rule.save"]


def test_a_version_is_never_changed(session: Session, works: Plant) -> None:
    add(session, works)
    session.flush()
    with pytest.raises(DBAPIError, match="append-only"):
        session.execute(text("UPDATE rule_version SET definition = '{}'"))


def test_who_saves_over_somebody_elses_edit_is_told(session: Session, works: Plant) -> None:
    kind = add(session, works)
    library.save(session, kind, hot(70), actor=ACTOR, now=BORN, after=1)
    with pytest.raises(Stale):
        library.save(session, kind, hot(80), actor="account:2", now=BORN, after=1)


@pytest.mark.parametrize(
    ("draft", "definition", "error"),
    [
        ({"key": " x"}, hot(), Invalid),
        ({"name": " "}, hot(), Invalid),
        ({"asset_type_id": None}, hot(), Invalid),
        ({}, hot(metric="humidity"), conditions.DefinitionRefused),
        ({}, {"schema": 1, "create": {}}, conditions.DefinitionRefused),
    ],
)
def test_what_does_not_fit_is_refused(
    session: Session, works: Plant, draft: dict[str, Any], definition: dict[str, Any], error: type[Exception]
) -> None:
    given = {"key": "overheat", "name": "Overheat", "asset_type_id": works.type.id} | draft
    with pytest.raises(error):
        library.add(session, AlarmTypeDraft(**given), definition, unit=works.company, actor=ACTOR, now=BORN)


def test_a_key_is_used_once_a_company(session: Session, works: Plant) -> None:
    add(session, works)
    with pytest.raises(Conflict):
        add(session, works)


def test_a_rule_of_a_type_stands_on_every_asset_of_it_and_of_the_types_below(session: Session, works: Plant) -> None:
    below = AssetType(company_id=works.company.id, key="big-pump", name="Big pump", parent_id=works.type.id)
    session.add(below)
    session.flush()
    works.assets[1].type_id = below.id
    add(session, works)
    assert set(limits(session)) == {asset.id for asset in works.assets}


def test_a_rule_of_an_asset_stands_there_alone_and_one_of_another_unit_nowhere(session: Session, works: Plant) -> None:
    add(session, works, "mine", asset_id=works.assets[0].id)
    assert set(limits(session)) == {works.assets[0].id}
    elsewhere = OrgUnit(name="Paris", kind="site", parent_id=works.company.id, company_id=works.company.id)
    session.add(elsewhere)
    session.flush()
    elsewhere.path = f"{works.company.path}{elsewhere.id}/"
    draft = AlarmTypeDraft("paris", "Paris", asset_type_id=works.type.id)
    library.add(session, draft, hot(), unit=elsewhere, actor=ACTOR, now=BORN)
    assert set(limits(session)) == {works.assets[0].id}


def test_an_override_changes_one_asset_and_an_empty_one_ends_it(session: Session, works: Plant) -> None:
    kind = add(session, works)
    one, other = works.assets
    library.override(session, kind, one, {"limits": {"major": 80.0}}, actor=ACTOR, now=BORN)
    assert limits(session) == {one.id: 80.0, other.id: 60.0}
    assert {rule.asset_id: rule.is_overridden for rule in standing.read(session)} == {one.id: True, other.id: False}
    with pytest.raises(conditions.DefinitionRefused):
        library.override(session, kind, one, {"limits": {"critical": 90.0}}, actor=ACTOR, now=BORN)
    library.override(session, kind, one, {}, actor=ACTOR, now=BORN)
    assert limits(session) == {one.id: 60.0, other.id: 60.0}


def test_an_override_that_a_later_version_has_no_place_for_is_passed_over(session: Session, works: Plant) -> None:
    kind = add(session, works)
    library.override(session, kind, works.assets[0], {"limits": {"major": 80.0}}, actor=ACTOR, now=BORN)
    other = copy.deepcopy(hot(50))
    other["create"] = {"critical": other["create"]["major"]}
    library.save(session, kind, other, actor=ACTOR, now=BORN)
    assert set(limits(session).values()) == {50.0}


def test_a_rule_that_is_off_stands_nowhere(session: Session, works: Plant) -> None:
    kind = add(session, works)
    library.switch(session, kind, is_enabled=False, actor=ACTOR, now=BORN)
    assert standing.read(session) == []


def test_an_asset_without_the_series_has_nothing_to_evaluate(session: Session, works: Plant) -> None:
    draft = AlarmTypeDraft("pressed", "Pressed", asset_type_id=works.type.id)
    library.add(session, draft, hot(metric="pressure"), unit=works.company, actor=ACTOR, now=BORN)
    assert standing.read(session) == []
    series.ensure(session, [(works.devices[0].id, "pressure")], now=BORN)
    assert [one.asset_id for one in standing.read(session, asset_ids=[works.assets[0].id])] == [works.assets[0].id]


def test_a_definition_of_another_grammar_lets_the_other_rules_work(session: Session, works: Plant) -> None:
    add(session, works)
    odd = add(session, works, "odd")
    session.add(RuleVersion(alarm_type_id=odd.id, number=2, definition={"schema": 99}, author=ACTOR, at=BORN))
    odd.version = 2
    session.flush()
    assert {one.alarm_type_id for one in standing.read(session)} != {odd.id}
    assert len(standing.read(session)) == 2


def test_an_engine_number_leads_back_to_alarm_type_and_asset() -> None:
    assert standing.split_id(standing.instance_id(12, 345)) == (12, 345)
    assert standing.split_id(standing.instance_id(2**31 - 1, 2**31 - 1)) == (2**31 - 1, 2**31 - 1)
