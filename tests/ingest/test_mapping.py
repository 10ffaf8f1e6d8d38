"""The language of mappings: what the ready ones make of real messages, what is refused with its place, its budget."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import mapping, paths, ready, trial
from ingest.decoded import Reason
from ingest.forms import Element
from ingest.mapping import Definition
from ingest.reading import Reader, Said
from ingest.strict import Refused
from ingest.trial import Sample
from kernel.errors import Invalid
from rules.faults import DefinitionRefused

NOW_MS = 1_795_167_010_000
SENSOR = {"topic": "plant/{device}", "device": "{device}"}


def read(definition: dict[str, Any], payload: Any, topic: str = "plant/press-7", sender: str = "") -> list[Said] | None:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Reader(mapping.parse(definition)).read(topic, raw, NOW_MS, sender=sender)


def values(definition: dict[str, Any], payload: Any, topic: str = "plant/press-7") -> dict[str, Any]:
    (said,) = read({**SENSOR, **definition}, payload, topic) or []
    (element,) = said.elements
    return element.values


def refusal(definition: dict[str, Any], payload: Any) -> tuple[Reason, str]:
    with pytest.raises(Refused) as caught:
        read({**SENSOR, **definition}, payload)
    return caught.value.reason, caught.value.detail


# ── What comes with the product ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("one", ready.READY, ids=lambda one: one.key)
def test_ING_12_every_ready_mapping_understands_what_its_system_sends(one: ready.Ready) -> None:
    definition = trial.demand(one.definition, Sample(one.topic, one.payload), now_ms=NOW_MS)
    assert mapping.parse(mapping.dump(definition)) == definition
    assert trial.run(definition, Sample("else/where/entirely/not/this/one", one.payload), now_ms=NOW_MS).refusal


def said_by(key: str, payload: Any = None, topic: str | None = None) -> list[Said]:
    one = ready.find(key)
    assert one is not None
    raw = one.payload.encode() if payload is None else json.dumps(payload).encode()
    return Reader(mapping.parse(one.definition)).read(topic or one.topic, raw, NOW_MS) or []


def test_zigbee2mqtt_gives_every_value_and_turns_a_leak_into_an_alarm() -> None:
    payload = {"water_leak": True, "battery": 12, "battery_low": True, "state": "ON", "color": {"x": 0.7, "y": 0.3}}
    (said,) = said_by("zigbee2mqtt", {**payload, "voltage": None}, "zigbee2mqtt/Cold room 1")
    assert said.device == "Cold-room-1"
    assert said.elements == [Element(None, {"water_leak": True, "battery": 12, "battery_low": True, "state": True,
                                            "color.x": 0.7, "color.y": 0.3})]  # fmt: skip
    assert [(fault.code, fault.severity, fault.is_raised) for fault in said.faults] == [
        ("water_leak", "critical", True),
        ("battery_low", "minor", True),
    ]
    assert said_by("zigbee2mqtt-availability")[0].is_online is True
    assert said_by("zigbee2mqtt-availability", {"state": "offline"})[0].is_online is False


def test_tasmota_gives_sensors_by_their_place_and_the_last_will_as_state() -> None:
    (said,) = said_by("tasmota-sensor")
    assert {"DS18B20.Temperature": 20.7, "ENERGY.Power": 741, "ENERGY.Total": 312.431}.items() <= said.elements[
        0
    ].values.items()
    assert not {name for name in said.elements[0].values if name.endswith(("Time", "Id", "TempUnit"))}
    assert said_by("tasmota-state")[0].elements[0].values["POWER"] is True
    reader = Reader(mapping.parse(ready.find("tasmota-lwt").definition))  # type: ignore[union-attr]  # it is there
    assert reader.read("tele/pump-plug/LWT", b"Offline", NOW_MS) == [Said("pump-plug", is_online=False)]


def test_shelly_gives_components_at_their_own_time_and_leaves_events_alone() -> None:
    (said,) = said_by("shelly")
    assert said == Said("shellyplus1pm-a8032abe54dc", [Element(1795167005430, {
        "switch:0.aenergy.total": 1532.061, "switch:0.apower": 8.9, "switch:0.current": 0.087,
        "switch:0.voltage": 229.4, "switch:0.temperature.tC": 41.2})])  # fmt: skip
    assert said_by("shelly", {"method": "NotifyEvent", "params": {"ts": 1.0, "events": []}}) == []
    assert said_by("shelly-gen1-energy")[0].elements[0].values == {"relay.0.energy": 1.50235}
    assert said_by("shelly-gen1-power")[0].elements[0].values == {"relay.0.power": 62.15}


def test_chirpstack_and_the_things_stack_give_the_decoded_object_and_the_best_link() -> None:
    (said,) = said_by("chirpstack")
    assert said == Said("0101010101010101", [Element(1795166998775, {
        "temperature": 22.5, "level.cm": 143, "level.percent": 71, "lora.rssi": -86, "lora.snr": 10.5,
        "lora.frames": 4})])  # fmt: skip
    (said,) = said_by("ttn")
    assert said == Said("tank-4", [Element(1795166999569, {
        "temperature": 21.5, "level": 143, "lora.rssi": -35, "lora.snr": 5.2, "lora.frames": 527})])  # fmt: skip


def test_a_thingsboard_gateway_gives_many_devices_each_at_its_own_times() -> None:
    press, pump = said_by("thingsboard-gateway")
    assert (press.device, [one.ts_ms for one in press.elements]) == ("Press-7", [1795166990000, 1795166991000])
    assert pump == Said("Pump-B", [Element(1795166990000, {"running": True})])
    (said,) = said_by("thingsboard-gateway", {"Pump B": [{"temperature": 7}]})
    assert said == Said("Pump-B", [Element(None, {"temperature": 7})])


def test_senml_resolves_base_names_times_and_values() -> None:
    (said,) = said_by("senml")
    assert [(one.ts_ms, one.values) for one in said.elements] == [
        (1795166990000, {"voltage": 229.1}),
        (1795166985000, {"current": 1.2}),
        (1795166986000, {"current": 1.3}),
        (1795166990000, {"current": 1.7}),
        (1795166990000, {"door": False}),
    ]
    (said,) = said_by("senml", [{"n": "t", "t": -60, "v": 1}, {"bv": 20, "n": "t", "v": 2.5}])
    assert said.elements == [Element(NOW_MS - 60_000, {"t": 1}), Element(None, {"t": 22.5})]
    for bad in ({}, [{"n": "t"}, 7], [{"v": 1}], [{"n": "t", "v": "1"}], [{"n": "t", "x_": 1, "v": 1}]):
        with pytest.raises(Refused):
            said_by("senml", bad)


# ── The language ──────────────────────────────────────────────────────────────────────────────────────────────


def test_ING_12_a_hex_frame_yields_three_metrics_with_units() -> None:
    frame = {
        "encoding": "hex",
        "fields": [
            {"name": "temperature", "at": 0, "type": "int16", "scale": 0.1, "unit": "°F", "to": "°C"},
            {"name": "pressure", "at": 2, "type": "uint32", "order": "CDAB", "unit": "Pa", "to": "bar"},
            {"name": "running", "at": 6, "type": "uint8", "bit": 3, "kind": "boolean"},
        ],
    }
    assert read({"format": "frame", "frame": frame}, b"0848 86A0 0001 08", sender="press-7") == [
        Said("press-7", [Element(None, {"temperature": 100.0, "pressure": 1.0, "running": True})])
    ]


def test_a_frame_inside_json_gives_metrics_and_can_raise_an_alarm() -> None:
    definition = {
        "frame": {"path": "data", "encoding": "base64", "length": 3, "fields": [
            {"name": "level", "at": 0, "type": "uint16", "absent": [65535], "unit": "mm", "to": "m"},
            {"name": "state", "at": 2, "type": "uint8", "bit": 0, "bits": 2, "values": {"0": "idle", "1": "run"}}]},
        "alarms": [{"path": "frame.state", "code": "stopped", "severity": "minor", "raised": ["idle"]}],
    }  # fmt: skip
    (said,) = read({**SENSOR, **definition}, {"data": base64.b64encode(b"\x05\xdc\x00").decode()}) or []
    assert said.elements == [Element(None, {"level": 1.5, "state": "idle"})]
    assert [(fault.code, fault.is_raised) for fault in said.faults] == [("stopped", True)]
    assert values(definition, {"data": base64.b64encode(b"\xff\xff\x01").decode()}) == {"state": "run"}
    assert refusal(definition, {"data": "AQ=="}) == (Reason.BAD_FRAME, "frame: it has 1 bytes, expected 3")


def test_values_become_those_of_the_kind_scale_and_unit_wanted() -> None:
    metric = {"name": "x", "path": "x"}
    for row, given_, kept in (
        ({}, 5, 5), ({}, "up", "up"), ({}, True, True), ({}, 2**60 + 1, 2**60 + 1),
        ({"kind": "number"}, " 21.5 ", 21.5), ({"kind": "number"}, True, 1), ({"kind": "text"}, 3.0, "3"),
        ({"kind": "boolean"}, "Off", False), ({"kind": "boolean"}, 1, True),
        ({"scale": 0.1}, 3, 0.3), ({"scale": 0.5, "offset": -40}, "100", 10),
        ({"unit": "°F", "to": "°C"}, 212, 100), ({"unit": "°F", "to": "°C", "scale": 0.1}, 2120, 100),
        ({"unit_path": "u", "to": "bar"}, 2000, 2), ({"values": {"ON": True, "3": "three"}}, "ON", True),
        ({"values": {"ON": True, "3": "three"}}, 3.0, "three"), ({"values": {"ON": True}}, "OFF", "OFF"),
    ):  # fmt: skip
        assert values({"metrics": [{**metric, **row}]}, {"x": given_, "u": "mbar"}) == {"x": kept}, row


@pytest.mark.parametrize(
    ("row", "payload", "reason", "said"),
    [
        ({"path": "x"}, {"y": 1}, Reason.PATH_MISSING, "nothing was found at “x”"),
        ({"path": "x", "required": True}, {"y": 1}, Reason.PATH_MISSING, "metric 1: “x” leads to nothing"),
        ({"path": "x", "kind": "number"}, {"x": "warm"}, Reason.BAD_VALUE, "metric 1 “t”: expected a number"),
        ({"path": "x"}, {"x": {"y": 1}}, Reason.BAD_VALUE, "expected a single value, found an object"),
        ({"path": "x", "kind": "boolean"}, {"x": 7}, Reason.BAD_VALUE, "yes or no, found 7"),
        ({"path": "x", "spread": True}, {"x": [1]}, Reason.BAD_VALUE, "an object to spread, found a list"),
        ({"path": "x", "unit_path": "u", "to": "bar"}, {"x": 1, "u": "psf"}, Reason.UNKNOWN_UNIT, "psf"),
        ({"path": "abs(x)"}, {"x": "y"}, Reason.BAD_VALUE, "abs"),
        ({"path": "x", "scale": 1e308}, {"x": 1e300}, Reason.NOT_FINITE, "no finite number"),
        ({"path": "x", "name": "{=n}"}, {"x": 1, "n": ""}, Reason.BAD_METRIC, "no name for a metric"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(row: dict[str, Any], payload: Any, reason: Reason, said: str) -> None:
    found, detail = refusal({"metrics": [{"name": "t", **row}]}, payload)
    assert found is reason
    assert said in detail


def test_times_in_every_form_and_what_is_none() -> None:
    for time_, payload, expected in (
        ({"path": "t"}, {"t": 5}, 5), ({"path": "t", "form": "s"}, {"t": "1.5"}, 1500),
        ({"path": "t", "form": "iso"}, {"t": "2026-11-20T09:30:00.250Z"}, 1795167000250),
        ({"path": "t", "form": "iso", "zone": "Asia/Shanghai"}, {"t": "2026-11-20T17:30:00"}, 1795167000000),
        ({"path": "t", "form": "s", "base": "b"}, {"t": -5, "b": 100}, 95000), ({"path": "t"}, {}, None),
    ):  # fmt: skip
        definition = {**SENSOR, "time": time_, "metrics": [{"name": "x", "path": "x"}]}
        ((said,),) = [read(definition, {"x": 1, **payload}) or []]
        assert said.elements[0].ts_ms == expected, time_
    timed = {"time": {"path": "t"}, "metrics": [{"name": "x", "path": "x"}]}
    for bad in ("soon", [1], {"a": 1}, 2**70):
        assert refusal(timed, {"x": 1, "t": bad})[0] is Reason.BAD_TS


def test_an_alarm_is_raised_cleared_or_not_spoken_of() -> None:
    def told(row: dict[str, Any], payload: Any) -> list[bool]:
        alarms = {"alarms": [{"path": "a", "code": "a", **row}], "metrics": [{"name": "x", "path": "x"}]}
        (said,) = read({**SENSOR, **alarms}, {"x": 1, **payload}) or []
        return [fault.is_raised for fault in said.faults]

    assert [told({}, {"a": one}) for one in (True, 1, "ALARM", [1])] == [[True]] * 4
    assert [told({}, {"a": one}) for one in (False, 0, "off", "ok", "", [])] == [[False]] * 6
    assert told({}, {}) == told({}, {"a": None}) == []
    assert [told({"raised": ["E1", 2]}, {"a": one}) for one in ("E1", 2, "E9")] == [[True], [True], [False]]
    assert told({"raised": ["E1"], "cleared": ["-"]}, {"a": "E9"}) == []
    assert told({"cleared": ["-"]}, {"a": "E9"}) == [True]


def test_an_alarm_takes_code_severity_and_words_from_the_message() -> None:
    row = {"path": "fault.active", "code": "{=fault.code}", "severity": "{=fault.level}",
           "severities": {"3": "critical"}, "message": "{device}: {=fault.text}"}  # fmt: skip
    fault = {"active": True, "code": "E42", "level": 3, "text": "oil"}
    (said,) = read({**SENSOR, "alarms": [row]}, {"fault": fault}) or []
    (found,) = said.faults
    assert (found.code, found.severity, found.message) == ("E42", "critical", "press-7: oil")
    assert refusal({"alarms": [row]}, {"fault": {**fault, "level": 9}})[0] is Reason.BAD_ALARM


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"topic": "#"}, "topic"), ({"topic": "fw/v1/x/telemetry"}, "topic"), ({"topic": "+/{device}"}, "topic"),
        ({"topic": "plant//x"}, "topic"), ({"topic": "plant/#/x"}, "topic"), ({"topic": "plant/x+"}, "topic"),
        ({"topic": "a/{b}/{b}"}, "topic"), ({"topic": "$SYS/x"}, "topic"), ({"device": ""}, "device"),
        ({"device": "{devise}"}, "device"), ({"device": "{=a..b}"}, "device"), ({"device": "{device"}, "device"),
        ({"metrics": [{"name": "x", "path": "a[?"}]}, "metrics.0.path"),
        ({"metrics": [{"name": "x", "path": "join(',', a)"}]}, "metrics.0.path"),
        ({"metrics": [{"name": "x", "path": "!" * 90 + "a"}]}, "metrics.0.path"),
        ({"metrics": [{"path": "x"}]}, "metrics.0.name"),
        ({"metrics": [{"name": "x", "path": "x", "unit": "bar"}]}, "metrics.0.to"),
        ({"metrics": [{"name": "x", "path": "x", "unit": "bar", "to": "°C"}]}, "metrics.0.unit"),
        ({"metrics": [{"name": "x", "path": "x", "scale": float("nan")}]}, "metrics.0.scale"),
        ({"metrics": []}, "definition"), ({"colour": 1}, "colour"),
        ({"time": {"path": "t", "zone": "Mars/X"}}, "time.zone"),
        ({"frame": {"fields": [{"name": "a", "at": 0, "type": "uint8", "bit": 7, "bits": 2}]}}, "frame.fields.0.bit"),
        ({"frame": {"length": 2, "fields": [{"name": "a", "at": 1}]}}, "frame.fields.0.at"),
        ({"frame": {"fields": [{"name": "a", "at": -1}]}}, "frame.fields.0.at"),
    ],
)  # fmt: skip
def test_a_definition_that_breaks_the_grammar_is_refused_at_its_place(change: dict[str, Any], place: str) -> None:
    good = {**SENSOR, "metrics": [{"name": "x", "path": "x"}]}
    mapping.parse(good)
    with pytest.raises(DefinitionRefused) as caught:
        mapping.parse({**good, **change})
    assert place in [problem.field for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("a/+", "a/b", True), ("a/+", "b/+", False), ("a/#", "a/b/c", True), ("a/+/c", "a/b", False),
        ("+/x", "a/+", True), ("a/b", "a/b", True), ("a/b/#", "a/b", True), ("a/+", "a/b/c", False),
    ],
)  # fmt: skip
def test_whether_two_filters_can_meet(one: str, other: str, meet: bool) -> None:  # noqa: FBT001 - a row of the table
    assert mapping.may_meet(one, other) is mapping.may_meet(other, one) is meet


def test_levels_of_a_topic_name_what_templates_use() -> None:
    definition = {"topic": "v3/{app}@{tenant}/{device}/+", "device": "{tenant}-{device}",
                  "metrics": [{"name": "{app}.x", "path": "x"}]}  # fmt: skip
    (said,) = read(definition, {"x": 1}, "v3/tanks@acme/t4/up") or []
    assert (said.device, said.elements[0].values) == ("acme-t4", {"tanks.x": 1})
    assert mapping.topic_filter(definition["topic"]) == "v3/+/+/+"
    reader = Reader(mapping.parse(definition))
    assert not reader.takes("v3/tanks/t4/up")
    assert not reader.takes("v3/tanks@acme/t4/up/more")


def test_a_version_is_kept_only_with_a_sample_that_it_understands() -> None:
    good = {**SENSOR, "when": "x > `1`", "metrics": [{"name": "x", "path": "x"}]}
    trial.demand(good, Sample("plant/a", '{"x": 2}'), now_ms=NOW_MS)
    for topic, payload, said in (
        ("plant/a", "", "paste one"), ("plant/a", "{", "not understood"), ("other/a", '{"x": 2}', "does not fit"),
        ("plant/a", '{"x": 1}', "proves nothing"), ("plant/a", '{"x": 2, "x": 3}', "given twice"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=said) as caught:
            trial.demand(good, Sample(topic, payload), now_ms=NOW_MS)
        assert caught.value.field == "sample"


# ── The budget ────────────────────────────────────────────────────────────────────────────────────────────────

DOUBLING = " | ".join(["[@, @][]"] * 30)
ENDLESS = (
    DOUBLING,
    " | ".join(["[@, @, @, @, @, @, @, @][]"] * 12),
    "a[].b[*].[c, c, c][].[d, d, d][] | [@, @, @, @][] | [@, @, @, @][] | [@, @, @, @][] | [@, @, @, @][]",
    "a[*].b[*].{x: sort_by(@.c[*] || `[]`, &d)} | [*].x[][]",
)


@pytest.mark.parametrize("path", ENDLESS)
def test_ING_12_a_path_that_grows_is_stopped_by_its_budget(path: str) -> None:
    document = {"a": [{"b": [{"c": [{"d": n} for n in range(20)]} for _ in range(60)]} for _ in range(60)]}
    began = time.process_time()
    budget = paths.Budget(10_000)
    _, reason = reason_of(lambda: [paths.path(path).find(document, budget) for _ in range(100)])
    assert reason is Reason.BUDGET_SPENT
    # No figure of speed: an exponential path that was not stopped would not come back at all.
    assert time.process_time() - began < 60


def test_comparing_two_trees_of_shared_branches_ends_at_once() -> None:
    deep = " | ".join(["[@,@]"] * 28)
    budget = paths.Budget(10_000)
    assert paths.path(f"({deep}) == ({deep})").find(1, budget) is False
    assert paths.path(f"contains([@], ({deep}))").find(1, budget) is False


_names = st.sampled_from(["a", "b", "c"])
_steps = st.one_of(
    _names.map(lambda name: f".{name}"),
    st.sampled_from(["[]", "[*]", ".*", "[0]", "[::2]", "[?a]", ".[a, b]", ".{x: a, y: @}", " | [@, @]", " || b"]),
)
_documents = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=25,
)


def reason_of(work: Callable[[], Any]) -> tuple[Any, Reason | None]:
    """Return what something gave, or the reason why it gave nothing."""
    try:
        return work(), None
    except Refused as refused:
        return refused.detail, refused.reason


@given(st.lists(_steps, max_size=14), _documents)
def test_any_path_on_any_document_ends_within_its_budget(steps: list[str], document: Any) -> None:
    budget = paths.Budget()
    try:
        path = paths.path("@" + "".join(steps))
    except paths.BadPath:
        return
    found, reason = reason_of(lambda: path.find(document, budget))
    assert reason in {None, Reason.BUDGET_SPENT, Reason.BAD_VALUE}
    assert reason or budget.left >= 0
    assert reason or not isinstance(found, list) or len(found) <= paths.STEPS


@given(st.binary(max_size=60), st.sampled_from([one.key for one in ready.READY]))
def test_no_bytes_make_a_ready_mapping_fail_but_with_a_reason(payload: bytes, key: str) -> None:
    one = ready.find(key)
    assert one is not None
    reader = Reader(mapping.parse(one.definition))
    told, reason = reason_of(lambda: reader.read(one.topic, payload, NOW_MS))
    assert reason or told is None or all(one.elements or one.faults or one.is_online is not None for one in told)


@given(_documents)
def test_no_document_makes_a_spread_fail_but_with_a_reason(document: Any) -> None:
    definition = Definition.model_validate({**SENSOR, "metrics": [{"path": "@", "spread": True}]})
    told, reason = reason_of(lambda: Reader(definition).read("plant/a", json.dumps(document).encode(), NOW_MS))
    assert reason in {None, Reason.PATH_MISSING, Reason.BAD_VALUE, Reason.DUPLICATE_KEY}
    assert told
