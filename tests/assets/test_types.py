"""Types and what they measure: inheritance, local change, no circles."""

from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from assets import types
from assets.models import AssetType, Metric
from kernel.errors import Conflict, Invalid
from tests.assets.plant import ACTOR, NOW, Plant, build


def add(session: Session, plant: Plant, key: str, parent: AssetType | None = None) -> AssetType:
    draft = types.TypeDraft(key, key.title(), parent_id=parent.id if parent else None)
    return types.add(session, draft, company_id=plant.company.id, actor=ACTOR, now=NOW)


def test_AS_10_a_metric_added_to_a_type_is_measured_by_all_below_and_an_override_survives(
    session: Session, plant: Plant
) -> None:
    screw = add(session, plant, "screw-pump", plant.pump)
    small = add(session, plant, "small-screw-pump", screw)
    hotter = types.MetricDraft("temperature", "Oil temperature", unit="°C", high=120)
    types.add_metric(session, screw, hotter, actor=ACTOR, now=NOW)
    types.add_metric(session, plant.pump, types.MetricDraft("flow", "Flow", unit="m³/h"), actor=ACTOR, now=NOW)
    found = types.metrics(session, plant.company.id, [small.id])[small.id]
    assert set(found) == {"temperature", "pressure", "flow"}
    assert found["temperature"].name == "Oil temperature"


def test_metrics_of_many_types_cost_no_more_queries_than_of_one(session: Session, plant: Plant) -> None:
    company, ids = plant.company.id, [add(session, plant, f"kind-{n}", plant.pump).id for n in range(30)]
    session.flush()
    session.expire_all()
    counted: list[str] = []
    event.listen(session.get_bind(), "before_cursor_execute", lambda *args: counted.append(args[2]))
    found = types.metrics(session, company, ids)
    assert len(found) == 30
    assert len(counted) <= 3, counted


def test_a_type_cannot_inherit_from_itself(session: Session, plant: Plant) -> None:
    child = add(session, plant, "child", plant.pump)
    grandchild = add(session, plant, "grandchild", child)
    for parent in (plant.pump, child, grandchild):
        with pytest.raises(Invalid) as refused:
            types.change(
                session, plant.pump, types.TypeDraft("pump", "Pump", parent_id=parent.id), actor=ACTOR, now=NOW
            )
        assert refused.value.field == "parent_id"
    assert set(types.with_descendants(session, plant.company.id, child.id)) == {child.id, grandchild.id}


def test_a_key_exists_once_and_only_in_its_company(session: Session, plant: Plant) -> None:
    with pytest.raises(Conflict):
        add(session, plant, "pump")
    with pytest.raises(Invalid):
        add(session, plant, "Pump 1")
    other = build(session, "Other")
    with pytest.raises(Invalid):
        add(session, plant, "mine", other.pump)


@pytest.mark.parametrize(
    ("field", "draft"),
    [
        ("key", types.MetricDraft("a/b", "A")),
        ("key", types.MetricDraft("", "A")),
        ("key", types.MetricDraft("x ", "A")),
        ("kind", types.MetricDraft("a", "A", kind="colour")),
        ("high", types.MetricDraft("a", "A", low=5, high=5)),
        ("low", types.MetricDraft("a", "A", low=float("inf"))),
        ("decimals", types.MetricDraft("a", "A", decimals=9)),
        ("expected_interval_s", types.MetricDraft("a", "A", expected_interval_s=0)),
        ("sent_unit", types.MetricDraft("a", "A", unit="°C", sent_unit="bar")),
        ("sent_unit", types.MetricDraft("a", "A", unit="°C", sent_unit="furlong")),
        ("unit", types.MetricDraft("a", "A", sent_unit="bar")),
        ("sent_unit", types.MetricDraft("a", "A", unit="bar", sent_unit="kPa", kind="state")),
        ("stuck_after", types.MetricDraft("a", "A", stuck_after=1)),
    ],
)
def test_a_metric_that_cannot_be_is_refused(
    session: Session, plant: Plant, field: str, draft: types.MetricDraft
) -> None:
    with pytest.raises(Invalid) as refused:
        types.add_metric(session, plant.pump, draft, actor=ACTOR, now=NOW)
    assert refused.value.field == field


def test_TEL_4_a_metric_says_how_it_is_sent_and_when_its_sensor_is_stuck(session: Session, plant: Plant) -> None:
    def added(key: str, **more: Any) -> Metric:
        draft = types.MetricDraft(key, key, **more)
        return types.add_metric(session, plant.pump, draft, actor=ACTOR, now=NOW)

    oil = added("oil", unit="°C", sent_unit=" °F ")
    assert oil.conversion is not None
    assert (oil.sent_unit, round(oil.conversion.of(212.0), 9), oil.stuck_limit) == ("°F", 100.0, 30)
    same = added("same", unit="°C", sent_unit="°C", stuck_after=0)
    assert (same.sent_unit, same.conversion, same.stuck_limit) == (None, None, 0)
    assert (added("quick", stuck_after=300).stuck_limit, added("door", is_on_change=True).stuck_limit) == (300, 0)
    rests = [added(kind, kind=kind) for kind in ("counter", "state", "text")]
    assert [(one.stuck_limit, one.reports_on_change) for one in rests] == [(0, False), (0, True), (0, False)]


def test_a_metric_is_changed_and_removed(session: Session, plant: Plant) -> None:
    metric = plant.pump.metrics[0]
    draft = types.MetricDraft("ignored", "Heat", unit="K")
    types.change_metric(session, plant.pump, metric, draft, actor=ACTOR, now=NOW)
    assert (metric.key, metric.name, metric.unit) == ("temperature", "Heat", "K")
    types.remove_metric(session, plant.pump, metric, actor=ACTOR, now=NOW)
    assert [one.key for one in plant.pump.metrics] == ["pressure"]
