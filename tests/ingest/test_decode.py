import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import Batch
from ingest.decode import Decoder
from ingest.decoded import Decoded, Reason
from telemetry.readings import MAX_TEXT, Flag

NOW = 1_795_314_590_000
TOPIC = "fw/v1/pump/telemetry"

Row = tuple[str, str, str, int, float, str | None, int]


def rows(decoded: Decoded) -> list[Row]:
    """Return (device, gateway, metric, ts, value, text, flags) of each reading."""
    found = []
    for row in range(len(decoded)):
        source, metric = decoded.names.pairs[decoded.pair[row]]
        owner = decoded.names.sources[source]
        text = None if decoded.text is None else decoded.text[row]
        value = float(decoded.value[row])
        found.append(
            (
                owner.device,
                owner.gateway,
                metric,
                int(decoded.ts_ms[row]),
                value,
                text,
                int(decoded.flags[row]),
            )
        )
    return found


def decode(*messages: tuple[str, bytes], retained: tuple[int, ...] = (), decoder: Decoder | None = None) -> Decoded:
    return (decoder or Decoder()).decode(Batch.of(messages, received_ms=NOW, retained=retained))


def telemetry(payload: bytes, **how: Any) -> Decoded:
    return decode((TOPIC, payload), **how)


def reasons(decoded: Decoded) -> list[str]:
    return [rejected.reason for rejected in decoded.rejected]


def test_ING_1_the_four_forms_store_the_same_reading() -> None:
    forms = (
        b'{"ts": 1795314590000, "values": {"temperature": 21.5}}',
        b'{"values": {"temperature": 21.5}}',
        b'{"temperature": 21.5}',
        b'[{"ts": 1795314590000, "values": {"temperature": 21.5}}]',
        b'[{"values": {"temperature": 21.5}}]',
        b'[{"temperature": 21.5}]',
    )
    expected = [("pump", "", "temperature", NOW, 21.5, None, 0)]
    for payload in forms:
        assert rows(telemetry(payload)) == expected
    one_decoder = Decoder()  # which learns and relearns the form of the topic
    for payload in (*forms, *reversed(forms)):
        decoded = one_decoder.decode(Batch.of([(TOPIC, payload)], received_ms=NOW))
        (row,) = rows(decoded)
        assert (row[0], row[2], row[4]) == ("pump", "temperature", 21.5)
        assert decoded.rejected == []


MALFORMED = [
    (b'{"temperature": "\xff"}', Reason.NOT_UTF8),
    (b"temperature=21.5", Reason.NOT_JSON),
    (b'{"temperature": NaN}', Reason.NOT_FINITE),
    (b'{"values": {"temperature": -Infinity}}', Reason.NOT_FINITE),
    (b'{"values": {"temperature": 1e400}}', Reason.NOT_FINITE),
    (b'{"values": {"motor": {"temperature": 21.5}}}', Reason.NESTED_VALUE),
    (b"{}", Reason.EMPTY),
    (b'{"values": {}}', Reason.EMPTY),
    (b'{"x": "' + b"a" * 262_144 + b'"}', Reason.OVERSIZE),
    (b'{"ts": "2026-11-22", "values": {"temperature": 21.5}}', Reason.BAD_TS),
    (b'{"temperature": 1, "temperature": 2}', Reason.DUPLICATE_KEY),
    (b"[" * 100_000, Reason.TOO_DEEP),
]


def test_ING_1_twelve_malformed_payloads_give_no_reading_and_twelve_reasons() -> None:
    assert len(MALFORMED) == 12
    good = (TOPIC, b'{"ts": 1795314589999, "values": {"temperature": 21.5}}')
    messages = [message for payload, _ in MALFORMED for message in (good, (TOPIC, payload), good)]
    decoded = decode(*messages)
    assert reasons(decoded) == [reason for _, reason in MALFORMED]
    assert [rejected.message for rejected in decoded.rejected] == [3 * n + 1 for n in range(12)]
    assert {rejected.device for rejected in decoded.rejected} == {"pump"}
    assert len(decoded) == 24
    assert sorted(set(decoded.message.tolist())) == [n for n in range(36) if n % 3 != 1]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        *MALFORMED,
        (b"", Reason.NOT_JSON),
        (b"\0", Reason.NOT_JSON),
        (b"\xef\xbb\xbf{}", Reason.NOT_JSON),
        (b'{"a": 1} {"b": 2}', Reason.NOT_JSON),
        (b'{"a": 1},{"b": 2}', Reason.NOT_JSON),
        (b'{"a": 01}', Reason.NOT_JSON),
        (b"[]", Reason.EMPTY),
        (b"[{}]", Reason.EMPTY),
        (b"21.5", Reason.BAD_FORM),
        (b"null", Reason.BAD_FORM),
        (b"[[1]]", Reason.BAD_FORM),
        (b'{"values": 3}', Reason.BAD_FORM),
        (b'{"ts": 1, "temperature": 3}', Reason.BAD_FORM),
        (b'{"temperature": null}', Reason.NULL_VALUE),
        (b'{"temperature": [1]}', Reason.NESTED_VALUE),
        (b'{"a":' * 50_000, Reason.TOO_DEEP),
        (b'{"a":' * 20 + b"1" + b"}" * 20, Reason.TOO_DEEP),
        (b'{"values": {"a": 1, "b": 2, "a": 1}}', Reason.DUPLICATE_KEY),
        (b'{"values": {"a": 1}, "values": {"a": 2}}', Reason.DUPLICATE_KEY),
        (b'{"values": {"a": 1, "\\u0061": 2}}', Reason.DUPLICATE_KEY),
        (b'{"ts": 1795314590000.5, "values": {"a": 1}}', Reason.BAD_TS),
        (b'{"ts": true, "values": {"a": 1}}', Reason.BAD_TS),
        (b'{"ts": null, "values": {"a": 1}}', Reason.BAD_TS),
        (b'{"ts": 99999999999999999999999, "values": {"a": 1}}', Reason.BAD_TS),
        (b'{"": 1}', Reason.BAD_METRIC),
        (b'{"a\\u0000b": 1}', Reason.BAD_TEXT),
        (b'{"a\\nb": 1}', Reason.BAD_METRIC),
        (b'{" a": 1}', Reason.BAD_METRIC),
        (b'{"' + b"a" * 81 + b'": 1}', Reason.BAD_METRIC),
        (b'{"values": {"ts": 1}}', Reason.BAD_METRIC),
        (b'{"a": "\\u0000"}', Reason.BAD_TEXT),
        (b'{"a": "\\ud800"}', Reason.BAD_TEXT),
        (b'{"a": "' + b"x" * (MAX_TEXT + 1) + b'"}', Reason.BAD_TEXT),
        (b'{"a": 1' + b"0" * 400 + b"}", Reason.NOT_FINITE),
        (b'{"a": 1' + b"0" * 9000 + b"}", Reason.NOT_FINITE),
        (b'{"values": {"a": 1}, "unit": "C"}', Reason.UNKNOWN_FIELD),
        (b'{"device": "other", "values": {"a": 1}}', Reason.FOREIGN_DEVICE),
        (b'{"device": "other", "a": 1}', Reason.FOREIGN_DEVICE),
        (b'{"device": 3, "a": 1}', Reason.FOREIGN_DEVICE),
        (b'[{"a": 1}, {"a": null}]', Reason.NULL_VALUE),
    ],
)
def test_a_bad_payload_has_one_stable_reason_and_harms_no_neighbour(payload: bytes, reason: Reason) -> None:
    good = (TOPIC, b'{"ts": 1795314590000, "values": {"a": 1, "mode": "auto", "on": true}}')
    for lane in (good, (TOPIC, b'{"a": 1}'), (TOPIC, b'[{"a": 1}]')):
        decoder = Decoder()
        decode(lane, decoder=decoder)
        decoded = decode(good, (TOPIC, payload), lane, decoder=decoder)
        assert [(rejected.message, rejected.reason) for rejected in decoded.rejected] == [(1, reason)]
        assert set(decoded.message.tolist()) == {0, 2}
        assert decoded.rejected[0].detail
        assert len(decoded.rejected[0].detail) < 300


def test_a_body_may_name_its_own_device() -> None:
    decoded = decode((TOPIC, b'{"device": "pump", "a": 1}'), (TOPIC, b'{"device": "pump", "values": {"a": 2}}'))
    assert [row[2:5:2] for row in rows(decoded)] == [("a", 1.0), ("a", 2.0)]


def test_TEL_1_numbers_booleans_and_texts_arrive_as_sent() -> None:
    payload = (
        b'{"big": 9007199254740993, "minus": -0.0, "tiny": 1e-308, "none": "", "face": "\xf0\x9f\x99\x82", "on": true}'
    )
    decoded = telemetry(payload)
    by_metric = {row[2]: row[4:] for row in rows(decoded)}
    assert by_metric["big"] == (9007199254740992.0, "9007199254740993", Flag.EXACT)
    assert math.copysign(1, by_metric["minus"][0]) == -1
    assert by_metric["tiny"] == (1e-308, None, 0)
    assert math.isnan(by_metric["none"][0])
    assert by_metric["none"][1:] == ("", 0)
    assert by_metric["face"][1] == "🙂"
    assert by_metric["on"] == (1.0, None, Flag.BOOLEAN)


def test_integers_that_a_float_holds_need_no_text() -> None:
    decoded = telemetry(b'{"a": 9007199254740992, "b": -3, "c": 1e300, "d": 9007199254740994}')
    assert decoded.text is None
    assert not decoded.flags.any()


def test_metrics_may_be_named_in_chinese() -> None:
    assert rows(telemetry('{"温度": 21.5}'.encode()))[0][2] == "温度"


def test_ING_5_a_clock_that_is_absurd_or_ahead_is_not_believed() -> None:
    times = {
        "now": NOW,
        "back-fill": NOW - 3_600_000,
        "nine years": NOW - 9 * 365 * 86_400_000,
        "slightly ahead": NOW + 299_000,
        "ahead": NOW + 301_000,
        "next year": NOW + 365 * 86_400_000,
        "1970": 1_000,
        "seconds": NOW // 1000,
        "eleven years": NOW - 11 * 365 * 86_400_000,
        "negative": -1,
    }
    for name, ts_ms in times.items():
        decoded = telemetry(b'{"ts": %d, "values": {"a": 1, "b": 2}}' % ts_ms)
        believed = name in ("now", "back-fill", "nine years", "slightly ahead")
        assert decoded.ts_ms.tolist() == [ts_ms if believed else NOW] * 2, name
        assert decoded.flags.tolist() == [0 if believed else Flag.CLOCK] * 2, name
        assert decoded.skewed.tolist() == ([] if believed else [0, 1]), name
        assert decoded.device_ts_ms.tolist() == ([] if believed else [ts_ms] * 2), name


def test_messages_without_a_time_that_arrive_together_do_not_share_a_key() -> None:
    decoder = Decoder()
    messages = [(f"fw/v1/d{n % 2}/telemetry", b'{"a": %d}' % n) for n in range(6)]
    first = decode(*messages, decoder=decoder)
    assert [row[3] for row in rows(first) if row[0] == "d0"] == [NOW, NOW + 1, NOW + 2]
    assert [row[3] for row in rows(first) if row[0] == "d1"] == [NOW, NOW + 1, NOW + 2]
    again = decode(*messages, decoder=decoder)
    assert [row[3] for row in rows(again) if row[0] == "d0"] == [NOW + 3, NOW + 4, NOW + 5]
    later = decoder.decode(Batch.of([("fw/v1/d0/telemetry", b'{"a": 1}')], received_ms=NOW + 1000))
    assert rows(later)[0][3] == NOW + 1000


def test_readings_stay_in_order_of_reception_whatever_their_form() -> None:
    decoder = Decoder()
    forms = (b'{"values": {"a": %d}}', b'{"a": %d}', b'[{"a": %d}]')
    messages = [(f"fw/v1/d{n % 5}/telemetry", forms[(n * 7) % 3] % n) for n in range(60)]
    decode(*messages[:20], decoder=decoder)
    decoded = decode(*messages, decoder=decoder)
    assert decoded.message.tolist() == list(range(60))
    assert decoded.value.tolist() == [float(n) for n in range(60)]


def test_a_replayed_message_without_a_time_is_no_news() -> None:
    decoded = decode(
        (TOPIC, b'{"a": 1}'),
        (TOPIC, b'{"ts": 1795314580000, "values": {"a": 2}}'),
        ("fw/v1/pump/status", b"online"),
        retained=(0, 1, 2),
    )
    assert reasons(decoded) == [Reason.REPLAYED]
    assert [row[4] for row in rows(decoded)] == [2.0]
    assert decoded.statuses[0].is_replayed


def test_a_gateway_speaks_for_its_children_and_a_bad_child_harms_no_other() -> None:
    payload = json.dumps(
        {
            "child-a": [{"ts": NOW - 5, "values": {"a": 1}}, {"a": 2}],
            "child-b": {"a": 3},
            "child-c": {"a": None},
            "not a key": {"a": 1},
            "child-d": {"device": "pump", "a": 1},
        }
    ).encode()
    decoded = decode(("fw/v1/gw/gateway/telemetry", payload), ("fw/v1/child-a/telemetry", b'{"a": 9}'))
    assert rows(decoded) == [
        ("child-a", "gw", "a", NOW - 5, 1.0, None, 0),
        ("child-a", "gw", "a", NOW, 2.0, None, 0),
        ("child-b", "gw", "a", NOW, 3.0, None, 0),
        ("child-a", "", "a", NOW, 9.0, None, 0),
    ]
    assert [(each.device, each.reason) for each in decoded.rejected] == [
        ("child-c", Reason.NULL_VALUE),
        ("gw", Reason.BAD_DEVICE_KEY),
        ("child-d", Reason.FOREIGN_DEVICE),
    ]


@pytest.mark.parametrize("payload", [b"[]", b"3", b"{}", b"{", b'{"a": {"x": 1}, "a": {"x": 1}}'])
def test_a_gateway_message_that_is_bad_as_a_whole_is_rejected_once(payload: bytes) -> None:
    decoded = decode(("fw/v1/gw/gateway/telemetry", payload))
    assert len(decoded.rejected) == 1
    assert decoded.rejected[0].device == "gw"


def test_an_alarm_is_read_with_its_time_believed_or_not() -> None:
    decoded = decode(
        (
            "fw/v1/pump/alarm",
            (
                b'{"seq": 17, "code": "E42", "severity": "critical", "state": "raised", "message": "Hot",'
                b' "ts": 1795314589000}'
            ),
        ),
        ("fw/v1/pump/alarm", b'{"seq": 18, "code": "E42", "state": "cleared", "ts": 1, "extra": [1]}'),
        ("fw/v1/pump/alarm", b'{"seq": 19, "code": "E42", "severity": "info", "state": "raised"}'),
    )
    raised, cleared, timeless = decoded.alarms
    assert (raised.seq, raised.code, raised.severity, raised.is_raised, raised.text) == (
        17,
        "E42",
        "critical",
        True,
        "Hot",
    )
    assert (raised.ts_ms, raised.device_ts_ms) == (1795314589000, None)
    assert (cleared.is_raised, cleared.ts_ms, cleared.device_ts_ms) == (False, NOW, 1)
    assert timeless.ts_ms == NOW
    assert decoded.rejected == []


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"[]", Reason.BAD_ALARM),
        (b"{}", Reason.BAD_ALARM),
        (b'{"seq": -1, "code": "E", "severity": "info", "state": "raised"}', Reason.BAD_ALARM),
        (b'{"seq": 1.5, "code": "E", "severity": "info", "state": "raised"}', Reason.BAD_ALARM),
        (b'{"seq": true, "code": "E", "severity": "info", "state": "raised"}', Reason.BAD_ALARM),
        (b'{"seq": 1, "code": "", "severity": "info", "state": "raised"}', Reason.BAD_ALARM),
        (b'{"seq": 1, "code": "E", "severity": "loud", "state": "raised"}', Reason.BAD_ALARM),
        (b'{"seq": 1, "code": "E", "state": "raised"}', Reason.BAD_ALARM),
        (b'{"seq": 1, "code": "E", "severity": "info", "state": "gone"}', Reason.BAD_ALARM),
        (b'{"seq": 1, "code": "E", "severity": "info", "state": "raised", "ts": "x"}', Reason.BAD_TS),
        (b'{"seq": 1, "code": "\\u0000", "severity": "info", "state": "raised"}', Reason.BAD_TEXT),
        (b'{"seq": 1, "seq": 2, "code": "E", "severity": "info", "state": "raised"}', Reason.DUPLICATE_KEY),
        (
            b'{"seq": 1, "code": "E", "severity": "info", "state": "raised", "device": "x"}',
            Reason.FOREIGN_DEVICE,
        ),
    ],
)
def test_a_bad_alarm_is_rejected_with_its_reason(payload: bytes, reason: Reason) -> None:
    decoded = decode(("fw/v1/pump/alarm", payload))
    assert decoded.alarms == []
    assert reasons(decoded) == [reason]


def test_attributes_statuses_replies_and_sparkplug_are_told_apart() -> None:
    decoded = decode(
        ("fw/v1/pump/attributes", b'{"firmware": "1.2", "net": {"ip": "10.0.0.1"}}'),
        ("fw/v1/pump/attributes", b"[1]"),
        ("fw/v1/pump/status", b"online"),
        ("fw/v1/pump/status", b"offline"),
        ("fw/v1/pump/status", b"ONLINE"),
        ("fw/v1/pump/command/c1/reply", b'{"result": {"ok": true}}'),
        ("fw/v1/pump/command/c1/reply", b"ok"),
        ("spBv1.0/g/NDATA/pump", b"\x18\x01"),
        ("fw/v1/pump/telemetrie", b"{}"),
        ("fw/v1/a b/telemetry", b"{}"),
    )
    assert [each.attributes for each in decoded.attributes] == [{"firmware": "1.2", "net": {"ip": "10.0.0.1"}}]
    assert [each.is_online for each in decoded.statuses] == [True, False]
    assert [(each.command_id, each.body) for each in decoded.replies] == [("c1", {"result": {"ok": True}})]
    told = [(each.message, each.verb.name, each.node, each.seq) for each in decoded.sparkplug]
    assert told == [(7, "NDATA", "pump", 1)]
    assert [(each.message, each.reason) for each in decoded.rejected] == [
        (1, Reason.BAD_FORM),
        (4, Reason.BAD_STATUS),
        (6, Reason.NOT_JSON),
        (8, Reason.UNKNOWN_TOPIC),
        (9, Reason.BAD_DEVICE_KEY),
    ]


def test_a_duplicate_key_is_found_beside_messages_that_lack_quotation_marks() -> None:
    # The count over the batch must not be made up for by a message with fewer marks than its form would need.
    decoded = decode(
        *[(TOPIC, b'{"values": {"a": 1}}')] * 3,
        (TOPIC, b"x"),
        (TOPIC, b'{"values": {"a": 1, "a": 2}}'),
        (TOPIC, b"{}"),
    )
    assert [(each.message, each.reason) for each in decoded.rejected] == [
        (3, Reason.NOT_JSON),
        (4, Reason.DUPLICATE_KEY),
        (5, Reason.EMPTY),
    ]


def test_texts_with_escaped_quotation_marks_are_read() -> None:
    assert rows(telemetry(rb'{"values": {"a": "say \"hi\"", "b": 1}}'))[0][5] == 'say "hi"'


def test_pairs_keep_their_numbers_from_batch_to_batch() -> None:
    decoder = Decoder()
    first = decode((TOPIC, b'{"a": 1, "b": 2}'), decoder=decoder)
    second = decode((TOPIC, b'{"b": 3, "c": 4}'), decoder=decoder)
    assert second.names is first.names
    assert first.pair.tolist() == [0, 1]
    assert second.pair.tolist() == [1, 2]


def test_an_empty_batch_decodes_to_nothing() -> None:
    assert len(decode()) == 0


SCALARS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(max_size=5),
)
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=6)
VALUES = st.dictionaries(NAMES, SCALARS, min_size=1, max_size=4)
MESSAGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["good", "bare", "array"]), VALUES),
        st.tuples(st.just("bad"), st.binary(max_size=12)),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_every_message_ends_as_its_own_readings_or_as_one_reject(messages: list[tuple[str, Any]]) -> None:
    wrap = {
        "good": lambda values: json.dumps({"values": values}),
        "bare": json.dumps,
        "array": lambda values: json.dumps([values]),
    }
    batch = [
        (f"fw/v1/d{n % 3}/telemetry", body if form == "bad" else wrap[form](body).encode())
        for n, (form, body) in enumerate(messages)
    ]
    decoded = decode(*batch)
    rejected = {each.message for each in decoded.rejected}
    assert len(rejected) == len(decoded.rejected)
    assert rejected | set(decoded.message.tolist()) == set(range(len(batch)))
    assert not rejected & set(decoded.message.tolist())
    for number, (form, body) in enumerate(messages):
        if form == "bad" or number in rejected:
            continue
        at = np.flatnonzero(decoded.message == number)
        assert [decoded.names.pairs[pair][1] for pair in decoded.pair[at]] == list(body)
        for row, value in zip(at, body.values(), strict=True):
            if isinstance(value, str):
                assert decoded.text is not None
                assert decoded.text[row] == value
            else:
                assert decoded.value[row] == float(value)
