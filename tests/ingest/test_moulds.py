"""Moulds: what is read as a record says exactly what it says when read as a dictionary."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import Batch
from ingest.decode import Decoder
from ingest.decoded import Decoded
from ingest.moulds import NO_CAST, Moulds

NOW = 1_795_314_590_000
SAID = {"temperature": 21.5, "state": "on", "is_open": True}
METRICS = tuple(SAID)
USUAL = json.dumps({"ts": NOW, "values": SAID}).encode()


def heard(decoded: Decoded) -> tuple[list[Any], list[Any]]:
    """Return all readings by message and name, and all rejects, in an order that does not depend on how they came."""
    text = decoded.text or [None] * len(decoded)
    names = [decoded.names.pairs[pair][1] for pair in decoded.pair]
    columns = (decoded.message.tolist(), names, decoded.ts_ms.tolist(), decoded.value.tolist(), text, decoded.flags)
    rejected = [(one.message, one.reason, one.detail) for one in decoded.rejected]
    return sorted(zip(*(map(str, column) for column in columns), strict=True)), rejected


def batch(payloads: list[bytes]) -> Batch:
    topics = [f"fw/v1/d{number % 3}/telemetry" for number in range(len(payloads))]
    return Batch.of(zip(topics, payloads, strict=True), received_ms=NOW)


def experienced() -> Decoder:
    """Return a decoder that has a mould for three topics."""
    decoder = Decoder()
    decoder.decode(batch([USUAL] * 300))
    return decoder


VALUES = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(allow_nan=True), st.booleans(), st.text(max_size=5), st.none(), st.just({})
)
PAYLOADS = st.one_of(
    st.just(USUAL),
    st.binary(max_size=9),
    st.builds(
        lambda values, more: json.dumps({"ts": NOW, "values": values} | more).encode(),
        st.dictionaries(st.sampled_from([*METRICS, "rpm", "", "ts", 'a"b', "a\\b"]), VALUES, max_size=4),
        st.dictionaries(st.sampled_from(["ts", "device", "more"]), VALUES, max_size=2),
    ),
    # A key given twice, and keys in another order.
    st.permutations([f'"{name}":{json.dumps(value)}' for name, value in SAID.items()] * 2).map(
        lambda parts: f'{{"values":{{{",".join(parts[:4])}}}}}'.encode()
    ),
    st.permutations([f'"{name}":{json.dumps(value)}' for name, value in SAID.items()]).map(
        lambda parts: f'{{"values":{{{",".join(parts)}}},"ts":{NOW}}}'.encode()
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PAYLOADS, max_size=12))
def test_a_decoder_with_moulds_hears_what_one_without_hears(payloads: list[bytes]) -> None:
    usual = batch(payloads)
    assert heard(experienced().decode(usual)) == heard(Decoder().decode(usual))


def test_what_fits_is_read_as_a_record_and_a_topic_that_varies_is_read_as_ever() -> None:
    moulds = Moulds()
    for number in range(100):
        moulds.learn(f"topic-{number}", METRICS, number)
    topics = ["topic-98", "topic-99", "a stranger"]
    ((mould, places, shapes),) = moulds.groups(moulds.casts(topics))
    assert (places.tolist(), shapes.tolist()) == ([0, 1], [98, 99])
    record = mould.read(USUAL)
    assert (record.ts, mould.values([record])) == (NOW, [*SAID.values()])
    moulds.misfit(["topic-98"])
    assert moulds.casts(topics).tolist() == [NO_CAST, 99, NO_CAST]


def test_names_and_sets_that_a_device_invents_make_no_end_of_moulds() -> None:
    moulds = Moulds()
    for number in range(300):
        for _ in range(70):
            moulds.learn("topic", (f"metric-{number}",), number)
    casts = moulds.casts(["topic"])
    ((mould, _, _),) = moulds.groups(casts)
    assert mould.metrics == ("metric-255",)
    for _ in range(70):
        moulds.learn("other", ('a"b', "c"), 1)
        moulds.learn("other", tuple(map(str, range(65))), 2)
    assert moulds.casts(["other"]).tolist() == [NO_CAST]
