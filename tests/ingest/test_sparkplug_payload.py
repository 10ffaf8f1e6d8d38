"""Payloads of Sparkplug B: every type in both directions, templates and tables as metrics of their own."""

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.decoded import Reason
from ingest.sparkplug import host, keys, payload, scalars
from ingest.sparkplug.payload import Metric, Verb
from ingest.sparkplug.scalars import Type
from ingest.sparkplug.schema import Payload
from ingest.strict import Refused
from ingest.topics import is_device_key
from tests.ingest.edge_node import EdgeNode, M, encoded

TOPIC = "spBv1.0/plant/NBIRTH/edge"
FOREIGN = base64.b64decode(
    "CAUSEAoESU5UOBAAGOgHIAFQ+wESEgoFSU5UMTYQARjpByACUNT9AxIUCgVJTlQzMhACGOoHIANQkN37/w8SGQoFSU5UNjQQAxjr"
    "ByAEWICAgICAgICAwAESEQoFVUlOVDgQBBjsByAFUMgBEhMKBlVJTlQxNhAFGO0HIAZQ4NQDEhUKBlVJTlQzMhAGGO4HIAdQgNCs"
    "8w4SGgoGVUlOVDY0EAcY7wcgCFj///////////8BEhMKBUZMT0FUEAgY8AcgCWUAAMA/EhgKBkRPVUJMRRAJGPEHIAppmpmZmZmZ"
    "ub8SEgoHQk9PTEVBThAKGPIHIAtwARITCgZTVFJJTkcQCxjzByAMegLDvBIYCghEQVRFVElNRRAMGPQHIA1YgNDqtrczEhAKBFRF"
    "WFQQDRj1ByAOegF0EhAKBFVVSUQQDhj2ByAPegF1EhgKCklOVDhfQVJSQVkQDxj3ByAWggEC/wISGwoLSU5UMTZfQVJSQVkQEBj4"
    "ByAXggEE//8CABIfCgtJTlQzMl9BUlJBWRARGPkHIBiCAQj/////AgAAABInCgtJTlQ2NF9BUlJBWRASGPoHIBmCARD/////////"
    "/wIAAAAAAAAAEhkKC1VJTlQ4X0FSUkFZEBMY+wcgGoIBAv8CEhwKDFVJTlQxNl9BUlJBWRAUGPwHIBuCAQT//wIAEiAKDFVJTlQz"
    "Ml9BUlJBWRAVGP0HIByCAQj/////AgAAABIoCgxVSU5UNjRfQVJSQVkQFhj+ByAdggEQ//////////8CAAAAAAAAABIbCgtGTE9B"
    "VF9BUlJBWRAXGP8HIB6CAQQAAMA/EiAKDERPVUJMRV9BUlJBWRAYGIAIIB+CAQiamZmZmZm5PxIeCg1CT09MRUFOX0FSUkFZEBkY"
    "gQggIIIBBQMAAACgEhwKDFNUUklOR19BUlJBWRAaGIIIICGCAQRhAGIAEiIKDkRBVEVUSU1FX0FSUkFZEBsYgwggIoIBCACo2nab"
    "AQAAGAM="
)
"""A birth with a metric of each type, written by the library pysparkplug 0.6.1."""


def readings(*metrics: M) -> dict[str, Any]:
    said = payload.read(0, TOPIC, encoded(metrics, ts=1, seq=0))
    found: dict[str, Any] = {}
    for metric in said.metrics:
        if metric.value is not None:
            found |= dict(scalars.scalars(metric.name, metric.datatype, metric.value, lambda _: 0))
    return found


def refusal(*metrics: M) -> Reason:
    with pytest.raises(Refused) as caught:
        readings(*metrics)
    return caught.value.reason


def test_the_wire_format_is_that_of_the_specification() -> None:
    # Written by hand from the field table: timestamp 1, metrics 2, seq 3; of a metric name 1, alias 2, timestamp 3,
    # datatype 4, is_historical 5, int 10, long 11, float 12, double 13, boolean 14, string 15.
    metrics = (
        b"\x0a\x01i\x10\x00\x18\x05\x20\x03\x50\xff\xff\xff\xff\x0f",
        b"\x0a\x01l\x20\x04\x58" + b"\xff" * 9 + b"\x01",
        b"\x0a\x01f\x20\x09\x65" + struct.pack("<f", 1.5),
        b"\x0a\x01d\x20\x0a\x69" + struct.pack("<d", -0.1),
        b"\x0a\x01b\x20\x0b\x28\x01\x70\x01",
        b"\x0a\x01s\x20\x0c\x7a\x02ok",
        b"\x0a\x01n\x20\x0a\x38\x01",
    )
    body = b"\x08\x07" + b"".join(b"\x12" + bytes([len(each)]) + each for each in metrics) + b"\x18\x09"
    said = payload.read(3, "spBv1.0/plant/DDATA/edge/motor", body)
    assert (said.message, said.verb, said.group, said.node, said.device) == (3, Verb.DDATA, "plant", "edge", "motor")
    assert (said.ts_ms, said.seq) == (7, 9)
    first = said.metrics[0]
    assert (first.name, first.alias, first.ts_ms, first.datatype, first.value) == ("i", 0, 5, 3, 2**32 - 1)
    assert [each.is_historical for each in said.metrics] == [False, False, False, False, True, False, False]
    assert said.metrics[-1].value is None
    read = {
        each.name: scalars.scalar(each.name, each.datatype, each.value)  # type: ignore[arg-type]
        for each in said.metrics[:-1]
    }
    assert read == {"i": -1, "l": -1, "f": 1.5, "d": -0.1, "b": True, "s": "ok"}


@given(
    st.sampled_from([(1, 8), (2, 16), (3, 32), (4, 64)]).flatmap(
        lambda kind: st.tuples(st.just(kind[0]), st.integers(-(2 ** (kind[1] - 1)), 2 ** (kind[1] - 1) - 1))
    )
)
def test_signed_integers_of_every_width_come_back(sent: tuple[int, int]) -> None:
    assert readings(M("n", sent[1], sent[0])) == {"n": sent[1]}


@given(
    st.sampled_from([(5, 8), (6, 16), (7, 32), (8, 64), (13, 63)]).flatmap(
        lambda kind: st.tuples(st.just(kind[0]), st.integers(0, 2 ** kind[1] - 1))
    )
)
def test_unsigned_integers_and_instants_come_back(sent: tuple[int, int]) -> None:
    assert readings(M("n", sent[1], sent[0])) == {"n": sent[1]}


def test_what_another_implementation_writes_is_read_as_it_was_meant() -> None:
    said = payload.read(0, TOPIC, FOREIGN)
    found: dict[str, Any] = {}
    for metric in said.metrics:
        assert metric.value is not None
        found |= dict(scalars.scalars(metric.name, metric.datatype, metric.value, lambda _: 0))
    instant = 1_767_225_600_000
    assert [found[name] for name in ("INT8", "INT16", "INT32", "INT64")] == [-5, -300, -70_000, -(2**62)]
    assert [found[name] for name in ("UINT8", "UINT16", "UINT32", "UINT64")] == [200, 60_000, 4 * 10**9, 2**64 - 1]
    assert [found[name] for name in ("FLOAT", "DOUBLE", "BOOLEAN", "DATETIME")] == [1.5, -0.1, True, instant]
    assert [found[name] for name in ("STRING", "TEXT", "UUID")] == ["ü", "t", "u"]
    for width in (8, 16, 32, 64):
        assert [found[f"INT{width}_ARRAY/{place}"] for place in (0, 1)] == [-1, 2]
        assert [found[f"UINT{width}_ARRAY/{place}"] for place in (0, 1)] == [2**width - 1, 2]
    assert [found[f"BOOLEAN_ARRAY/{place}"] for place in range(3)] == [True, False, True]
    assert [found[f"STRING_ARRAY/{place}"] for place in range(2)] == ["a", "b"]
    assert (found["FLOAT_ARRAY/0"], found["DOUBLE_ARRAY/0"], found["DATETIME_ARRAY/0"]) == (1.5, 0.1, instant)
    assert [metric.alias for metric in said.metrics] == [*range(len(said.metrics))]


def test_a_small_integer_may_be_sent_in_its_own_width() -> None:
    assert scalars.scalar("n", Type.INT8, 0xFF) == -1
    assert scalars.scalar("n", Type.INT8, 0xFFFFFFFF) == -1


@given(st.binary(max_size=200))
def test_bytes_of_strangers_are_read_or_refused(data: bytes) -> None:
    try:
        said = payload.read(0, TOPIC, data)
    except Refused:
        return
    assert 0 <= (said.seq or 0) < 256


@pytest.mark.parametrize(
    ("topic", "data", "reason"),
    [
        ("spBv1.0/STATE/host", b"", Reason.UNKNOWN_TOPIC),
        ("spBv1.0/plant/NCMD/edge", b"\x18\x00", Reason.UNKNOWN_TOPIC),
        ("spBv1.0/plant/NDATA/edge/motor", b"\x18\x00", Reason.UNKNOWN_TOPIC),
        ("spBv1.0/plant/DDATA/edge", b"\x18\x00", Reason.UNKNOWN_TOPIC),
        ("spBv1.0/pl\x07ant/NDATA/edge", b"\x18\x00", Reason.BAD_DEVICE_KEY),
        (TOPIC, b"{}", Reason.BAD_FORM),
        (TOPIC, b"", Reason.BAD_FORM),
        (TOPIC, b"\x18\x80\x02", Reason.BAD_FORM),
        (TOPIC, b"\x18\x00\x12\x03\x0a\x01\xff", Reason.NOT_UTF8),
    ],
)
def test_what_is_no_message_is_refused_by_name(topic: str, data: bytes, reason: Reason) -> None:
    with pytest.raises(Refused) as caught:
        payload.read(0, topic, data)
    assert caught.value.reason is reason


def test_members_of_a_template_are_metrics_of_their_own() -> None:
    def pump(metric: Any) -> None:
        metric.template_value.template_ref = "Pump"
        metric.template_value.metrics.add(name="speed", datatype=Type.INT64, long_value=1450)
        inner = metric.template_value.metrics.add(name="motor", datatype=Type.TEMPLATE)
        inner.template_value.metrics.add(name="on", datatype=Type.BOOLEAN, boolean_value=True)

    def definition(metric: Any) -> None:
        pump(metric)
        metric.template_value.is_definition = True

    assert readings(M("pump", pump, Type.TEMPLATE)) == {"pump/speed": 1450, "pump/motor/on": True}
    assert readings(M("Pump", definition, Type.TEMPLATE)) == {}
    said = payload.read(0, TOPIC, encoded((M("pump", pump, Type.TEMPLATE),), ts=1, seq=0))
    assert ("pump/motor/on", None, 11) in list(scalars.defined(said.metrics))


def table(rows: int, columns: int = 2) -> Any:
    def fill(metric: Any) -> None:
        metric.dataset_value.num_of_columns = columns
        metric.dataset_value.columns.extend("abcd"[:columns])
        metric.dataset_value.types.extend([Type.DOUBLE, Type.STRING, Type.DOUBLE, Type.DOUBLE][:columns])
        for number in range(rows):
            row = metric.dataset_value.rows.add()
            row.elements.add(double_value=number / 2)
            row.elements.add(string_value=f"r{number}")

    return fill


def test_a_table_becomes_its_cells_and_a_large_one_is_set_aside() -> None:
    assert readings(M("t", table(1), Type.DATA_SET)) == {"t/a": 0.0, "t/b": "r0"}
    assert readings(M("t", table(2), Type.DATA_SET)) == {"t/0/a": 0.0, "t/0/b": "r0", "t/1/a": 0.5, "t/1/b": "r1"}
    assert refusal(M("t", table(200), Type.DATA_SET)) is Reason.NOT_DECODED


def test_arrays_become_their_elements() -> None:
    assert readings(M("a", struct.pack("<3h", 1, -2, 3), 23)) == {"a/0": 1, "a/1": -2, "a/2": 3}
    assert readings(M("a", struct.pack("<1Q", 2**64 - 1), 29)) == {"a/0": 2**64 - 1}
    assert readings(M("a", struct.pack("<1d", 0.5), 31)) == {"a/0": 0.5}
    assert readings(M("a", b"\x03\x00\x00\x00\xa0", 32)) == {"a/0": True, "a/1": False, "a/2": True}
    assert readings(M("a", b"on\0off\0", 33)) == {"a/0": "on", "a/1": "off"}
    assert refusal(M("a", b"\0" * 3, 23)) is Reason.WRONG_TYPE
    assert refusal(M("a", b"\0" * 4000, 23)) is Reason.NOT_DECODED


def test_what_no_reading_can_hold_is_refused_by_name() -> None:
    assert refusal(M("f", float("nan"), Type.FLOAT)) is Reason.NOT_FINITE
    assert refusal(M("s", "x" * 1001, Type.STRING)) is Reason.BAD_TEXT
    assert refusal(M("b", b"\x01", Type.BYTES)) is Reason.NOT_DECODED
    assert refusal(M("x" * 81, 1.0)) is Reason.BAD_METRIC
    metric = Metric("d", None, Type.DOUBLE, None, "warm")
    with pytest.raises(Refused) as caught:
        scalars.scalar("d", metric.datatype, "warm")
    assert caught.value.reason is Reason.WRONG_TYPE


def test_a_rebirth_command_is_what_nodes_wait_for() -> None:
    asked = host.rebirth("plant", "edge", 42)
    assert (asked.topic, asked.qos, asked.retain) == ("spBv1.0/plant/NCMD/edge", 0, False)
    sent = Payload.FromString(asked.payload)
    assert (sent.timestamp, sent.HasField("seq"), len(sent.metrics)) == (42, False, 1)
    metric = sent.metrics[0]
    assert (metric.name, metric.datatype, metric.boolean_value) == ("Node Control/Rebirth", 11, True)


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
def test_every_device_behind_a_node_has_a_key_of_its_own(one: str, other: str) -> None:
    first, second = keys.source("edge", one), keys.source("edge", other)
    assert is_device_key(first.device)
    assert first.gateway == "edge"
    assert (first == second) == (one == other)


def test_a_name_that_fits_stays_readable() -> None:
    assert keys.source("edge", "motor-1").device == "edge.motor-1"
    assert keys.source("edge", "Motor 1").device.startswith("edge.Motor-1-")
    assert len(keys.source("n" * 64, "一号泵").device) <= 64
    assert keys.source("edge", "").device == "edge"


def test_an_edge_node_counts_to_255_and_begins_again() -> None:
    node = EdgeNode()
    node.birth()
    sent = [payload.read(0, *node.data()).seq for _ in range(256)]
    assert sent == [*range(1, 256), 0]
