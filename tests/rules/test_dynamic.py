"""Limits, lengths, counts and schedules from attributes, and where these come from: E4, E6, E12, E13."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.orm import Session

from assets import attributes
from assets.attributes import Offered, Subject
from kernel import i18n
from kernel.errors import Invalid
from people.models import Customer
from rules import conditions, dynamic, library, roster, sentences, standing
from rules.conditions import DefinitionRefused
from rules.library import AlarmTypeDraft
from rules.outcome import Instance, Raised
from telemetry import series
from tests import plant
from tests.plant import Plant
from tests.rules.probe import Probe, alarm_type, over, words

NOW = datetime(2026, 2, 3, 12, tzinfo=UTC)


def named(attribute: str, default: Any) -> dict[str, Any]:
    return {"attribute": attribute, "default": default}


class Attributes(Probe):
    """A probe whose attributes change."""

    def __init__(self, definition: conditions.AlarmDefinition, **held: Any) -> None:
        self.written = definition
        super().__init__(dynamic.resolved(definition, offers(**held))[0])

    def become(self, now_s: float, **held: Any) -> list[Any]:
        """Change attributes at an instant; return what happens."""
        resolved, _ = dynamic.resolved(self.written, offers(**held))
        self.instance = Instance(1, resolved, self.instance.metrics)
        self.engine.install([self.instance])
        return self.commit(self.engine.revisit([1], START + round(1000 * now_s)))


START = 1_795_314_590_000


def offers(**held: Any) -> dict[str, list[Offered]]:
    return {name: [Offered("asset", value)] for name, value in held.items()}


def lasting(seconds: Any) -> dict[str, Any]:
    return {"type": "duration", "seconds": seconds}


def test_E4_a_duration_that_becomes_two_seconds_counts_from_the_sample() -> None:
    probe = Attributes(alarm_type(critical={"condition": over(3000), "kind": lasting(named("delay", -1))}))
    assert probe.feed(0, 3500) == []
    assert probe.tick(100) == []
    assert probe.become(101, delay=102) == []
    [raised] = probe.tick(102)
    assert isinstance(raised, Raised)
    assert raised.alarm.raised_ms - raised.alarm.began_ms == 102_000


def test_E6_a_schedule_that_is_switched_on_raises_without_a_new_sample() -> None:
    rule = {"condition": over(50), "schedule": named("shifts", {"type": "weekly"})}
    probe = Attributes(alarm_type(major=rule))
    assert probe.feed(0, 50) == []
    assert words(probe.become(1, shifts=True)) == ["Raised major"]


def test_E12_a_duration_and_a_count_from_attributes() -> None:
    warm = Attributes(alarm_type(major={"condition": over(30), "kind": lasting(named("delay", 10))}), delay=5)
    assert words(warm.feed(0, 35) + warm.feed(5.001, 35)) == ["Raised major", "Updated major"]
    count = {"type": "repeating", "times": named("count", 10)}
    often = Attributes(alarm_type(major={"condition": over(100), "kind": count}), count=2)
    assert [words(often.feed(at, value)) for at, value in ((0, 150), (1, 151))] == [[], ["Raised major"]]


def test_RUL_10_the_alarm_stores_value_and_level_and_a_change_is_evaluated_at_once() -> None:
    probe = Attributes(alarm_type(major=over(named("t_max", 90), deadband=1)))
    assert probe.feed(0, 50) == []
    [raised] = probe.become(1, t_max=40)
    assert isinstance(raised, Raised)
    [limit] = raised.evidence.limits
    assert (limit.limit, limit.source) == (40.0, "t_max@asset")


def test_RUL_10_ends_deadbands_and_lengths_come_from_attributes_and_the_alarm_says_from_where() -> None:
    within = {"type": "between", "metric": "a", "low": named("low", 2), "high": named("high", 4)}
    rule = {"condition": within | {"deadband": named("band", 0)}, "kind": lasting(named("delay", 9))}
    written = {"major": rule, "clear": {"type": "automatic", "off_delay_s": named("calm", 0)}}
    clear: Any = written.pop("clear")
    probe = Attributes(alarm_type(clear=clear, **written), low=10, band=3, delay=5, calm=7, high=20)
    assert dynamic.attributes_of(probe.written) == {"low", "high", "band", "delay", "calm"}
    assert probe.feed(0, 3) == probe.feed(1, 10) == []
    [raised] = probe.tick(6.001)
    assert isinstance(raised, Raised)
    ends = [(one.limit, one.source, one.deadband, one.deadband_source) for one in raised.evidence.limits]
    assert ends == [(10.0, "low@asset", 3.0, "band@asset"), (20.0, "high@asset", 3.0, "band@asset")]
    supplied = [(one.of, one.value, one.source) for one in raised.evidence.supplied]
    assert supplied == [("seconds", 5.0, "delay@asset"), ("clear.off_delay_s", 7.0, "calm@asset")]
    assert words(probe.feed(8, 7)) == ["Updated major"], "the deadband holds it"
    assert probe.feed(9, 6.9) == []
    assert words(probe.tick(16.001)) == ["Cleared major"]


def test_RUL_10_ends_and_deadband_move_with_other_metrics_and_hold_as_one() -> None:
    around = {"low": {"metric": "b", "plus": -2}, "high": {"metric": "b", "plus": 2}, "deadband": {"metric": "c"}}
    within = {"type": "between", "metric": "a"} | around
    probe = Probe(alarm_type(clear={"type": "automatic"}, major=within))
    assert probe.feed(0, 13, 10, 1) == [], "beside an end its deadband counts for nothing before"
    assert words(probe.feed(1, 12)) == ["Raised major"]
    assert words(probe.feed(2, 7)) == ["Updated major"]
    assert words(probe.feed(3, 6.9)) == ["Cleared major"]
    assert probe.feed(4, 13) == [], "nor does it once it let go"
    assert words(probe.feed(5, 13, 12)) == ["Raised major"]
    assert words(probe.feed_rows([(1, 6, 13), (3, 6, -5)])) == ["Updated major"]
    assert words(probe.feed(7, 14.1)) == ["Cleared major"], "a negative deadband counts as none"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], (90.0, "default")),
        ([("device", "hot"), ("asset", True), ("site", "45.5")], (45.5, "site")),
        ([("asset", [1]), ("customer", {"a": 1})], (90.0, "default")),
        ([("device", 7), ("asset", 8)], (7.0, "device")),
    ],
)
def test_A15_the_first_usable_value_wins_and_others_are_told_of(values: list[Any], found: tuple[float, str]) -> None:
    given = {"t_max": [Offered(level, value) for level, value in values]}
    resolved, skipped = dynamic.resolved(alarm_type(major=over(named("t_max", 90))), given)
    assert resolved.create.major is not None
    limit: Any = resolved.create.major.condition.limit  # type: ignore[union-attr]
    assert (limit.number, limit.level) == found
    assert len(skipped) == sum(1 for level, _ in values if level != found[1] and (level, 8) not in values)


def test_A15_an_unusable_count_or_schedule_is_skipped() -> None:
    rule = {
        "condition": over(1),
        "kind": {"type": "repeating", "times": named("count", 3)},
        "schedule": named("shifts", None),
    }
    given = {"count": [Offered("asset", 2.5)], "shifts": [Offered("site", "always"), Offered("customer", False)]}
    resolved, skipped = dynamic.resolved(alarm_type(major=rule), given)
    assert [(one.attribute, one.level) for one in skipped] == [("count", "asset"), ("shifts", "site")]
    assert dynamic.attributes_of(alarm_type(major=rule)) == {"count", "shifts"}
    assert resolved.create.major is not None
    assert resolved.create.major.schedule == conditions.Schedule(type="weekly")


@pytest.mark.parametrize(
    ("limit", "field"),
    [
        ({"attribute": "x"}, "limit.default"),
        ({"attribute": " x", "default": 1}, "limit.attribute"),
        ({"attribute": "x", "default": 1, "found": 2, "level": "site"}, "limit.found"),
    ],
)
def test_A15_what_cannot_be_asked_is_refused(limit: dict[str, Any], field: str) -> None:
    with pytest.raises(DefinitionRefused) as refused:
        alarm_type(major=over(1) | {"limit": limit})
    assert refused.value.problems[0].field == f"create.major.condition.{field}"


@pytest.mark.parametrize(
    ("held", "found"), [({"band": -1, "calm": -1}, (0.5, 3.0)), ({"band": "1.5", "calm": 0}, (1.5, 0.0))]
)
def test_A15_a_negative_deadband_or_delay_is_skipped(held: dict[str, Any], found: tuple[float, float]) -> None:
    clear = {"type": "automatic", "off_delay_s": named("calm", 3)}
    made = alarm_type(clear=clear, major=over(9, deadband=named("band", 0.5)))
    resolved, _ = dynamic.resolved(made, offers(**held))
    leaf: Any = resolved.create.major.condition  # type: ignore[union-attr]
    ending: Any = resolved.clear
    assert (leaf.deadband.number, ending.off_delay_s.number) == found


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"deadband": named("x", -1)}, "deadband"),
        ({"type": "between", "low": named("x", 5), "high": 4}, ""),
        ({"type": "between", "low": 0, "high": {"metric": " ", "plus": 1}}, "high.metric"),
    ],
)
def test_RUL_10_a_default_that_could_not_be_is_refused(changed: dict[str, Any], field: str) -> None:
    leaf = over(1) | changed
    if leaf["type"] == "between":
        leaf = {name: value for name, value in leaf.items() if name not in {"operator", "limit"}}
    with pytest.raises(DefinitionRefused) as refused:
        alarm_type(major=leaf)
    assert refused.value.problems[0].field == f"create.major.condition.{field}".rstrip(".")


@pytest.mark.parametrize(
    ("language", "sentence", "ending"),
    [
        (
            "en",
            "a between 10 (low of the asset) and b + 2 with a deadband of band (otherwise 1)",
            "ends by itself after a calm of calm (otherwise 2 min)",
        ),
        ("zh", "a 在 10（资产的 low） 与 b + 2 之间，回差 band（未设时 1）", None),
    ],
)
def test_RUL_10_what_moves_reads_as_a_sentence(language: str, sentence: str, ending: str | None) -> None:
    within = {"type": "between", "metric": "a", "low": named("low", 2), "high": {"metric": "b", "plus": 2}}
    written = alarm_type(
        clear={"type": "automatic", "off_delay_s": named("calm", 120)}, major=within | {"deadband": named("band", 1)}
    )
    low = dynamic.resolved(written, offers(low=10))[0].create.major.condition.low  # type: ignore[union-attr]
    leaf: Any = written.create.major.condition  # type: ignore[union-attr]
    token = i18n.language.set(language)
    said = sentences.asked(leaf.model_copy(update={"low": low}), {})
    told = sentences.told(written, {}).clear
    i18n.language.reset(token)
    assert said == sentence
    assert ending is None or told == ending


@pytest.mark.parametrize(
    ("language", "before", "after"),
    [
        ("en", "a ≥ t_max (otherwise 90)", "a ≥ 40 (t_max of the asset)"),
        ("zh", "a ≥ t_max（未设时 90）", "a ≥ 40（资产的 t_max）"),
    ],
)
def test_a_named_limit_reads_as_a_sentence(language: str, before: str, after: str) -> None:
    token = i18n.language.set(language)
    definition = alarm_type(major=over(named("t_max", 90)))
    resolved, _ = dynamic.resolved(definition, offers(t_max=40))
    said = [sentences.told(one, {}).create[0][1] for one in (definition, resolved)]
    i18n.language.reset(token)
    assert said == [before, after]


# Where they come from ---------------------------------------------------------------------------------------------


@pytest.fixture
def works(session: Session) -> Plant:
    made = plant.build(session, machines=2, metrics=("temperature",))
    series.ensure(session, [(device.id, "temperature") for device in made.devices], now=NOW)
    return made


def below(attribute: str, default: float, operator: str = "<") -> dict[str, Any]:
    compared = {"type": "compare", "metric": "temperature", "operator": operator, "limit": named(attribute, default)}
    return {"schema": 1, "create": {"major": {"condition": compared}}}


def put(session: Session, made: Plant, level: str, subject_id: int, **values: Any) -> None:
    subject = Subject(level, subject_id, made.company.id, made.unit.id)
    for name, value in values.items():
        attributes.put(session, subject, name, value, actor="account:1", now=NOW)


def limits(session: Session) -> dict[tuple[str, int], tuple[float, str]]:
    found = {}
    for one in standing.read(session):
        leaf: Any = one.instance.definition.create.major.condition  # type: ignore[union-attr]
        found[one.fault.type_key, one.asset_id] = (leaf.limit.number, leaf.limit.level)
    return found


def test_E13_RUL_10_the_nearest_level_supplies_the_value(session: Session, works: Plant) -> None:
    asset = works.assets[0]
    customer = Customer(name="Owner", company_id=works.company.id, unit_id=works.unit.id)
    session.add(customer)
    session.flush()
    asset.customer_id = customer.id
    for key, default in (("low", 20), ("lower", 32), ("high", 500)):
        draft = AlarmTypeDraft(key, key, asset_type_id=works.type.id)
        library.add(session, draft, below(key, default), unit=works.company, actor="account:1", now=NOW)
    put(session, works, "customer", customer.id, low=30)
    put(session, works, "unit", works.company.id, lower=50, low=1)
    put(session, works, "site", works.site.id, high=100)
    first, second = asset.id, works.assets[1].id
    assert limits(session) == {
        ("low", first): (30.0, "customer"),
        ("lower", first): (50.0, "organisation"),
        ("high", first): (100.0, "site"),
        ("low", second): (1.0, "organisation"),
        ("lower", second): (50.0, "organisation"),
        ("high", second): (100.0, "site"),
    }
    works.devices[0].attributes = {"high": 70}
    put(session, works, "asset", first, low="31.5", lower="cold")
    put(session, works, "device", works.devices[0].id, high=60)
    found = limits(session)
    assert [found[key, first] for key in ("low", "lower", "high")] == [
        (31.5, "asset"),
        (50.0, "organisation"),
        (60.0, "device"),
    ]
    put(session, works, "device", works.devices[0].id, high=None)
    assert limits(session)["high", first] == (70.0, "device")
    loaded = roster.load(session)
    assert {one.instance.id for one in loaded.singles()} == {one.instance.id for one in standing.read(session)}
    assert loaded.asking() == {first, second}


def test_A15_a_part_takes_what_its_machine_has_and_a_schedule_is_in_the_site_s_zone(
    session: Session, works: Plant
) -> None:
    machine, part = works.assets
    part.parent_id, part.path = machine.id, f"/{machine.id}/{part.id}/"
    put(session, works, "asset", machine.id, t=3)
    offered = attributes.offered(session, [machine.id, part.id], ["t"])
    assert [one.level for one in offered[part.id]["t"]] == ["parent"]
    assert attributes.concerned(session, "asset", machine.id) == {machine.id, part.id}
    assert attributes.concerned(session, "unit", works.company.id) == {machine.id, part.id}
    assert attributes.concerned(session, "device", works.devices[1].id) == {part.id}
    rule = below("t", 1)
    rule["create"]["major"]["schedule"] = {"type": "weekly", "windows": [{"start": "22:00", "end": "06:00"}]}
    draft = AlarmTypeDraft("night", "Night", asset_type_id=works.type.id)
    library.add(session, draft, rule, unit=works.company, actor="account:1", now=NOW)
    assert {one.instance.context.zone for one in standing.read(session)} == {"Europe/Berlin"}


def test_an_attribute_that_cannot_be_one_is_refused(session: Session, works: Plant) -> None:
    for name, value in (("", 1), (" x", 1), ("x" * 81, 1), ("x", "y" * 20_001)):
        with pytest.raises(Invalid):
            put(session, works, "site", works.site.id, **{name: value})


# Other assets -----------------------------------------------------------------------------------------------------


def test_RUL_8_an_expression_looks_at_other_assets_by_code_and_at_its_parent(session: Session, works: Plant) -> None:
    machine, part = works.assets
    part.parent_id, part.path = machine.id, f"/{machine.id}/{part.id}/"
    formula = "temperature - whole.temperature > 5 && other.temperature > 0"
    leaf = {"type": "expression", "formula": formula, "assets": {"whole": "parent", "other": machine.code}}
    definition = {"schema": 1, "create": {"major": {"condition": leaf}}}
    draft = AlarmTypeDraft("gap", "Gap", asset_id=part.id)
    library.add(session, draft, definition, unit=works.company, actor="account:1", now=NOW)
    (one,) = standing.read(session)
    names = ("temperature", "whole.temperature", "other.temperature")
    assert one.instance.definition.metrics() == names
    numbers = [one.instance.metrics[name].series for name in names]
    assert numbers[1] == numbers[2] != numbers[0]
    assert one.leans_on == {machine.id}
    assert roster.load(session).leaning_on({machine.id}) == {part.id}


def test_RUL_8_a_code_that_no_asset_has_and_an_unknown_metric_are_refused(session: Session, works: Plant) -> None:
    leaf = {"type": "expression", "formula": "x.temperature > 1", "assets": {"x": "nobody"}}
    for changed, field in (({}, "assets.x"), ({"formula": "pressure > 1"}, "formula")):
        draft = AlarmTypeDraft("gap", "Gap", asset_type_id=works.type.id)
        definition = {"schema": 1, "create": {"major": {"condition": leaf | changed}}}
        with pytest.raises(DefinitionRefused) as refused:
            library.add(session, draft, definition, unit=works.company, actor="account:1", now=NOW)
        assert refused.value.problems[0].field == f"create.major.condition.{field}"


def test_RUL_6_the_devices_of_an_asset_are_known_by_their_series(session: Session, works: Plant) -> None:
    asset = works.assets[0]
    second = plant.device(session, works, "second", asset=asset)
    series.ensure(session, [(second.id, "pressure"), (works.devices[0].id, "spare")], now=NOW)
    silent = {"type": "no_data", "seconds": 60, "of": "asset", "which": "any"}
    definition = {"schema": 1, "create": {"major": {"condition": silent}}}
    draft = AlarmTypeDraft("silent", "Silent", asset_id=asset.id)
    library.add(session, draft, definition, unit=works.company, actor="account:1", now=NOW)
    (one,) = standing.read(session)
    assert sorted(len(device.series) for device in one.instance.context.devices) == [1, 2]
    assert {name for device in one.instance.context.devices for name in device.series} == set(one.instance.metrics)
    assert len(roster.load(session).singles()) == 1
