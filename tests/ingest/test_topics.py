import pytest

from ingest import topics
from ingest.topics import Kind


@pytest.mark.parametrize(
    ("name", "kind", "device", "command_id"),
    [
        ("fw/v1/pump-7/telemetry", Kind.TELEMETRY, "pump-7", ""),
        ("fw/v1/pump-7/attributes", Kind.ATTRIBUTES, "pump-7", ""),
        ("fw/v1/pump-7/alarm", Kind.ALARM, "pump-7", ""),
        ("fw/v1/pump-7/status", Kind.STATUS, "pump-7", ""),
        ("fw/v1/gw.1/gateway/telemetry", Kind.GATEWAY, "gw.1", ""),
        ("fw/v1/pump-7/command/c_1/reply", Kind.REPLY, "pump-7", "c_1"),
        ("spBv1.0/plant/NDATA/edge1", Kind.SPARKPLUG, "edge1", ""),
        ("spBv1.0/plant/DDATA/edge1/motor", Kind.SPARKPLUG, "edge1", ""),
        ("spBv1.0/STATE/host", Kind.SPARKPLUG, "", ""),
    ],
)
def test_each_topic_of_the_contract_is_understood(name: str, kind: Kind, device: str, command_id: str) -> None:
    topic = topics.parse(name)
    assert (topic.kind, topic.device, topic.command_id, topic.fault) == (kind, device, command_id, "")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "unknown_topic"),
        ("fw/v1", "unknown_topic"),
        ("fw/v2/pump/telemetry", "unknown_topic"),
        ("FW/v1/pump/telemetry", "unknown_topic"),
        ("fw/v1/pump/telemetry/", "unknown_topic"),
        ("fw/v1/pump/alarm/ack", "unknown_topic"),
        ("fw/v1/pump/command/1", "unknown_topic"),
        ("fw/v1/pump/command/a b/reply", "unknown_topic"),
        ("fw/v1/pump", "unknown_topic"),
        ("fw/v1//telemetry", "bad_device_key"),
        ("fw/v1/泵/telemetry", "bad_device_key"),
        ("fw/v1/-pump/telemetry", "bad_device_key"),
        ("fw/v1/_fixwright/telemetry", "bad_device_key"),
        ("fw/v1/a:b/telemetry", "bad_device_key"),
        ("fw/v1/a\n/telemetry", "bad_device_key"),
        (f"fw/v1/{'x' * 65}/telemetry", "bad_device_key"),
        ("spBv1.0/g", "unknown_topic"),
        ("spBv1.0/g//e", "unknown_topic"),
        ("spBv1.0/g/NDATA/é", "bad_device_key"),
    ],
)
def test_a_topic_outside_the_contract_says_why(name: str, fault: str) -> None:
    topic = topics.parse(name)
    assert (topic.kind, topic.fault) == (Kind.UNKNOWN, fault)


def test_topics_are_parsed_once_and_the_memory_of_them_is_bounded() -> None:
    understood = topics.Understood(limit=3)
    first = understood["fw/v1/a/telemetry"]
    assert understood["fw/v1/a/telemetry"] is first
    for number in range(10):
        assert understood[f"fw/v1/d{number}/status"].device == f"d{number}"
        assert len(understood) <= 3


@pytest.mark.parametrize(
    "name",
    ["fw/v1/a/telemetry", "fw/v1/a/command/17/reply", "fw/v1/a/gateway/telemetry", "spBv1.0/g/DDATA/a/motor"],
)
def test_a_device_publishes_in_its_own_subtree(name: str) -> None:
    assert topics.may_publish("a", name)


@pytest.mark.parametrize(
    "name",
    [
        "spBv1.0/g/NDATA/b",
        "spBv1.0/g/NCMD/a",
        "fw/v1/b/telemetry",
        "fw/v1/a/alarm/ack",
        "fw/v1/a/command/17",
        "fw/v1/a/command//reply",
        "fw/v1/a/anything",
        "fw/v1/a/telemetry/x",
        "$SYS/broker/uptime",
        "fw/v1/+/telemetry",
        "#",
        "",
    ],
)
def test_a_device_publishes_nowhere_else(name: str) -> None:
    assert not topics.may_publish("a", name)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "fw/v1/a/alarm/ack",
        "fw/v1/a/command/+",
        "fw/v1/a/command/17",
        "spBv1.0/+/NCMD/a",
        "spBv1.0/plant/NCMD/a",
    ],
)
def test_a_device_subscribes_to_its_own_topics(topic_filter: str) -> None:
    assert topics.may_subscribe("a", topic_filter)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "fw/v1/a/command/#",
        "fw/v1/a/#",
        "fw/v1/a/telemetry",
        "fw/v1/b/alarm/ack",
        "fw/v1/+/alarm/ack",
        "+/v1/a/alarm/ack",
        "spBv1.0/+/NCMD/+",
        "$SYS/#",
        "$share/g/fw/v1/a/command/+",
        "#",
        "+",
        "",
    ],
)
def test_a_device_subscribes_to_nothing_else(topic_filter: str) -> None:
    assert not topics.may_subscribe("a", topic_filter)
