import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest

from assets import passwords
from assets.identity import Admission, Login
from ingest import credentials
from ingest.batch import Limits
from ingest.broker import EmbeddedBroker
from ingest.publisher import Outgoing, alarm_acknowledgement, command
from kernel.errors import Misconfigured, Unavailable
from tests.ingest.edges import Device, LoopThread, Recorder
from tests.waiting import until

PASSWORDS = {f"dev{number}": f"secret {number}" for number in range(20)}
HASHES = {device: passwords.hashed(password) for device, password in PASSWORDS.items()}

Starter = Callable[..., EmbeddedBroker]
Connect = Callable[..., Device]
Dial = Callable[..., "RawDevice"]


class Gate:
    """Who may come in; a test revokes by taking a device out."""

    def __init__(self) -> None:
        self.hashes = dict(HASHES)
        self._checker = credentials.Checker()

    def __call__(self, login: Login) -> Admission | None:
        assert login.client_id
        stored = self.hashes.get(login.user)
        return Admission(login.user) if stored and self._checker.is_right(login.password, stored) else None


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def serve(loop: LoopThread, pipeline: Recorder, gate: Gate) -> Iterator[Starter]:
    brokers: list[EmbeddedBroker] = []

    def start(bind: str = "127.0.0.1:0", limits: Limits | None = None) -> EmbeddedBroker:
        broker = loop.do(lambda: EmbeddedBroker(bind, pipeline, gate, limits=limits or Limits(wait_ms=5)))
        loop.call(broker.start())
        brokers.append(broker)
        return broker

    yield start
    pipeline.release()
    for broker in brokers:
        loop.call(broker.stop(), 60)


@pytest.fixture
def broker(serve: Starter) -> EmbeddedBroker:
    return serve()


@pytest.fixture
def connect(broker: EmbeddedBroker) -> Iterator[Connect]:
    devices: list[Device] = []

    def start(username: str = "dev0", **how: Any) -> Device:
        device = Device(broker.port, username=username, password=PASSWORDS.get(username), **how)
        devices.append(device)
        return device

    yield start
    for device in devices:
        device.leave()


@pytest.fixture
def dial(broker: EmbeddedBroker) -> Iterator[Dial]:
    """Return a caller of the broker by hand."""
    devices: list[RawDevice] = []

    def start(port: int | None = None, **how: Any) -> RawDevice:
        devices.append(RawDevice(port or broker.port, **how))
        return devices[-1]

    yield start
    for device in devices:
        device.socket.close()


class RawDevice:
    """MQTT 3.1.1 by hand, for what no library would send and for the order of bytes on the wire."""

    def __init__(self, port: int, username: str = "dev0", *, keep_alive: int = 60, will: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        flags = 0xC2 | (0x04 if will else 0)
        fields = (b"raw", *((f"fw/v1/{username}/status".encode(), will) if will else ()))
        fields += (username.encode(), PASSWORDS[username].encode())
        body = text(b"MQTT") + bytes((4, flags)) + struct.pack(">H", keep_alive) + b"".join(map(text, fields))
        self.socket.sendall(frame(0x10, body))
        assert self.hear() == b"\x20\x02\x00\x00"

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, packet_id: int = 1, duplicate: bool = False) -> None:
        first = 0x30 | qos << 1 | (8 if duplicate else 0)
        self.socket.sendall(
            frame(first, text(topic.encode()) + (struct.pack(">H", packet_id) if qos else b"") + payload)
        )

    def ping(self) -> None:
        self.socket.sendall(b"\xc0\x00")

    def hear(self) -> bytes:
        """Return the next packet, empty when the connection is closed."""
        try:
            head = self.socket.recv(2, socket.MSG_WAITALL)
            return head + (self.socket.recv(head[1], socket.MSG_WAITALL) if len(head) == 2 and head[1] else b"")
        except ConnectionResetError:
            return b""


def text(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def frame(first: int, body: bytes) -> bytes:
    length, size = len(body), b""
    while True:
        length, part = divmod(length, 128)
        size += bytes((part | (128 if length else 0),))
        if not length:
            return bytes((first,)) + size + body


def test_ING_2_a_device_hears_no_acknowledgement_before_its_batch_is_durable(
    dial: Dial, broker: EmbeddedBroker, pipeline: Recorder
) -> None:
    pipeline.hold()
    device = dial()
    for number in range(3):
        device.publish("fw/v1/dev0/telemetry", b"%d" % number, packet_id=10 + number)
    until(lambda: broker.counters.received == 3)
    device.ping()
    # The answer to the ping was written after everything that was due before it.
    assert device.hear() == b"\xd0\x00"
    pipeline.release()
    assert [device.hear() for _ in range(3)] == [
        b"\x40\x02\x00\x0a",
        b"\x40\x02\x00\x0b",
        b"\x40\x02\x00\x0c",
    ]
    assert len(pipeline.durable) == 3


def test_a_qos_2_message_is_received_once(dial: Dial, broker: EmbeddedBroker, pipeline: Recorder) -> None:
    pipeline.hold()
    device = dial()
    device.publish("fw/v1/dev0/telemetry", b"1", qos=2, packet_id=7)
    until(lambda: broker.counters.received == 1)
    device.ping()
    assert device.hear() == b"\xd0\x00"
    pipeline.release()
    assert device.hear() == b"\x50\x02\x00\x07"
    device.publish("fw/v1/dev0/telemetry", b"1", qos=2, packet_id=7, duplicate=True)
    assert device.hear() == b"\x50\x02\x00\x07"
    device.socket.sendall(b"\x62\x02\x00\x07")
    assert device.hear() == b"\x70\x02\x00\x07"
    device.publish("fw/v1/dev0/telemetry", b"2", qos=2, packet_id=7)
    assert device.hear() == b"\x50\x02\x00\x07"
    assert [payload for _, payload in pipeline.durable] == [b"1", b"2"]


@pytest.mark.parametrize("piece", [1, 3, 50])
def test_packets_are_whole_however_the_stream_is_cut(dial: Dial, pipeline: Recorder, piece: int) -> None:
    device = dial()
    sent = [b"x" * (number * 13 % 300) for number in range(40)]
    stream = b"".join(
        frame(0x32, text(b"fw/v1/dev0/telemetry") + struct.pack(">H", number + 1) + payload)
        for number, payload in enumerate(sent)
    )
    for start in range(0, len(stream), piece):
        device.socket.sendall(stream[start : start + piece])
    assert [device.hear() for _ in sent] == [b"\x40\x02" + struct.pack(">H", n + 1) for n in range(40)]
    assert [payload for _, payload in pipeline.durable] == sent


def test_a_batch_that_cannot_be_stored_ends_the_connection_unacknowledged(
    dial: Dial, broker: EmbeddedBroker, pipeline: Recorder
) -> None:
    pipeline.failures = 1
    device = dial(will=b"offline")
    device.publish("fw/v1/dev0/telemetry", b"1")
    assert device.hear() == b""
    again = dial()
    again.publish("fw/v1/dev0/telemetry", b"1", duplicate=True)
    assert again.hear() == b"\x40\x02\x00\x01"
    # Our own fault is not reported as the death of a device.
    assert pipeline.durable == [("fw/v1/dev0/telemetry", b"1")]
    assert broker.counters.failed_batches == 1


def test_a_thousand_messages_of_paho_arrive_in_order(connect: Connect, pipeline: Recorder) -> None:
    device = connect()
    sent = [device.publish("fw/v1/dev0/telemetry", str(number)) for number in range(1_000)]
    for each in sent:
        each.wait_for_publish(20)
    assert [int(payload) for _, payload in pipeline.durable] == list(range(1_000))


def test_mqtt_5_is_refused_in_its_own_words(broker: EmbeddedBroker) -> None:
    device = Device(broker.port, username="dev0", password=PASSWORDS["dev0"], version=paho.MQTTv5)
    assert not device.is_accepted
    device.leave()


@pytest.mark.parametrize(
    ("username", "password"),
    [
        (None, None),
        ("", ""),
        ("dev0", None),
        ("dev0", "secret 1"),
        ("dev0", ""),
        ("nobody", "secret 0"),
        ("#", "x"),
    ],
)
def test_D15_nobody_comes_in_without_the_right_password(
    broker: EmbeddedBroker, username: str | None, password: str | None
) -> None:
    device = Device(broker.port, username=username, password=password)
    assert not device.is_accepted
    device.leave()
    until(lambda: broker.counters.refused_connects == 1)
    assert broker.connected() == set()


def test_D15_a_topic_with_a_nul_ends_the_connection_and_reaches_no_database(
    dial: Dial, broker: EmbeddedBroker, pipeline: Recorder
) -> None:
    device = dial()
    device.publish("fw/v1/dev0/telemetry", b"own")
    assert device.hear() == b"\x40\x02\x00\x01"
    device.publish("fw/v1/dev0/command/a\0b/reply", b"{}", packet_id=2)
    assert device.hear() == b""
    assert pipeline.durable == [("fw/v1/dev0/telemetry", b"own")]
    assert broker.counters.received == 1


@pytest.mark.parametrize(
    "topic",
    [
        "fw/v1/dev1/telemetry",
        "fw/v1/dev0/alarm/ack",
        "fw/v1/dev0/command/1",
        "fw/v1/dev0/x",
        "$SYS/x",
        "a",
        "spBv1.0/g/NDATA/dev1",
    ],
)
def test_D15_a_foreign_topic_is_never_stored_nor_acknowledged(
    dial: Dial, broker: EmbeddedBroker, pipeline: Recorder, topic: str
) -> None:
    device = dial()
    device.publish("fw/v1/dev0/telemetry", b"own")
    assert device.hear() == b"\x40\x02\x00\x01"
    device.publish(topic, b"foreign", packet_id=2)
    assert device.hear() == b""
    assert pipeline.durable == [("fw/v1/dev0/telemetry", b"own")]
    assert broker.counters.refused_messages == 1


@pytest.mark.parametrize(
    "topic_filter",
    [
        "#",
        "+/#",
        "$SYS/#",
        "fw/v1/#",
        "fw/v1/+/alarm/ack",
        "fw/v1/dev1/alarm/ack",
        "fw/v1/dev0/#",
        "fw/v1/dev0/telemetry",
    ],
)
def test_D15_a_foreign_subscription_is_refused(
    connect: Connect, loop: LoopThread, broker: EmbeddedBroker, topic_filter: str
) -> None:
    spy, victim = connect("dev0"), connect("dev1")
    assert spy.subscribe(topic_filter) == 0x80
    assert spy.subscribe("fw/v1/dev0/alarm/ack") == 1
    assert victim.subscribe("fw/v1/dev1/alarm/ack") == 1
    victim.say("fw/v1/dev1/telemetry", b"{}")
    for device in ("dev1", "dev0"):
        loop.do(lambda device=device: broker.publish(alarm_acknowledgement(device, 1)))  # type: ignore[misc]
    until(lambda: spy.received and victim.received)
    assert spy.received == [("fw/v1/dev0/alarm/ack", b'{"seq":1}')]
    assert victim.received == [("fw/v1/dev1/alarm/ack", b'{"seq":1}')]


def test_D15_a_last_will_in_a_foreign_topic_is_refused(connect: Connect) -> None:
    assert not connect("dev0", will=("fw/v1/dev1/status", b"offline")).is_accepted
    assert connect("dev0", will=("fw/v1/dev0/status", b"offline")).is_accepted


@pytest.mark.parametrize("clean", [True, False])
def test_D15_a_foreign_client_id_takes_nothing_over(
    broker: EmbeddedBroker,
    connect: Connect,
    loop: LoopThread,
    clean: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    victim = connect("dev1", client_id="shared", clean=False)
    victim.subscribe("fw/v1/dev1/command/+")
    thief = connect("dev0", client_id="shared", clean=clean)
    wrong = Device(broker.port, username="dev1", password="guess", client_id="shared", clean=clean)
    assert thief.is_accepted
    assert not wrong.is_accepted
    wrong.leave()
    victim.say("fw/v1/dev1/telemetry", b"still here")
    assert broker.connected() == {"dev0", "dev1"}
    loop.do(lambda: broker.publish(command("dev1", "c1", "reset", {})))
    until(lambda: victim.received)
    assert thief.received == []
    assert not victim.is_gone


def test_ING_6_revoking_cuts_the_live_connection_at_once(
    broker: EmbeddedBroker, connect: Connect, loop: LoopThread, gate: Gate
) -> None:
    revoked, other = connect("dev0"), connect("dev1")
    second = connect("dev0")
    del gate.hashes["dev0"]
    assert loop.do(lambda: broker.disconnect("dev0")) == 2
    until(lambda: revoked.is_gone and second.is_gone, timeout_s=2)
    assert not connect("dev0").is_accepted
    other.say("fw/v1/dev1/telemetry", b"{}")
    assert broker.connected() == {"dev1"}
    assert loop.do(lambda: broker.disconnect("nobody")) == 0


def test_sessions_of_a_device_are_bounded(connect: Connect) -> None:
    devices = [connect("dev0", client_id=f"c{number}", clean=False) for number in range(9)]
    assert [device.is_accepted for device in devices] == [True] * 8 + [False]


def test_a_device_that_vanishes_leaves_its_will_and_one_that_leaves_does_not(
    broker: EmbeddedBroker, connect: Connect, pipeline: Recorder
) -> None:
    dying, leaving = (
        connect("dev0", will=("fw/v1/dev0/status", b"offline")),
        connect("dev1", will=("fw/v1/dev1/status", b"offline")),
    )
    dying.say("fw/v1/dev0/status", b"online", retain=True)
    leaving.leave()
    dying.die()
    until(lambda: ("fw/v1/dev0/status", b"offline") in pipeline.durable)
    until(lambda: broker.connected() == set())
    assert pipeline.durable == [("fw/v1/dev0/status", b"online"), ("fw/v1/dev0/status", b"offline")]
    assert pipeline.batches[0].retained == frozenset()


def test_a_silent_device_is_given_up_after_one_and_a_half_keep_alives(dial: Dial, pipeline: Recorder) -> None:
    device = dial(keep_alive=1, will=b"offline")
    until(lambda: pipeline.durable == [("fw/v1/dev0/status", b"offline")], timeout_s=10)
    assert device.hear() == b""


def test_the_same_device_coming_back_takes_its_old_connection_over(
    broker: EmbeddedBroker, connect: Connect, pipeline: Recorder
) -> None:
    for clean in (True, False):
        pipeline.durable.clear()
        first = connect("dev0", client_id="c", clean=clean, will=("fw/v1/dev0/status", b"offline"))
        second = connect("dev0", client_id="c", clean=clean, will=("fw/v1/dev0/status", b"offline"))
        until(lambda first=first: first.is_gone)  # type: ignore[misc]
        second.say("fw/v1/dev0/status", b"online")
        assert [payload for _, payload in pipeline.durable] == [b"offline", b"online"]
        second.leave()
        until(lambda: broker.connected() == set())


def test_messages_wait_for_a_device_with_a_session_and_a_clean_one_starts_afresh(
    broker: EmbeddedBroker, connect: Connect, loop: LoopThread
) -> None:
    for clean, expected in ((False, [b'{"seq":1}', b'{"seq":2}']), (True, [b'{"seq":2}'])):
        device = connect("dev0", client_id="c", clean=clean)
        device.subscribe("fw/v1/dev0/alarm/ack")
        device.leave()
        until(lambda: broker.connected() == set())
        loop.do(lambda: broker.publish(alarm_acknowledgement("dev0", 1)))
        back = connect("dev0", client_id="c", clean=clean)
        if clean:
            back.subscribe("fw/v1/dev0/alarm/ack")
        loop.do(lambda: broker.publish(alarm_acknowledgement("dev0", 2)))
        until(lambda back=back, expected=expected: [payload for _, payload in back.received] == expected)  # type: ignore[misc]
        back.leave()
        until(lambda: broker.connected() == set())


def test_a_command_goes_to_its_device_and_its_reply_comes_back(
    broker: EmbeddedBroker, connect: Connect, loop: LoopThread, pipeline: Recorder
) -> None:
    device, bystander = connect("dev0"), connect("dev1")
    device.subscribe("fw/v1/dev0/command/+")
    bystander.subscribe("fw/v1/dev1/command/+")

    async def send() -> None:
        await broker.publish(command("dev0", "c-1", "restart", {"after_s": 5}))

    loop.call(send())
    assert device.received == [("fw/v1/dev0/command/c-1", b'{"method":"restart","params":{"after_s":5}}')]
    device.say("fw/v1/dev0/command/c-1/reply", b'{"result":true}')
    assert pipeline.durable == [("fw/v1/dev0/command/c-1/reply", b'{"result":true}')]
    assert bystander.received == []


def test_what_the_pipeline_answers_is_sent_once_the_batch_is_durable(
    broker: EmbeddedBroker, connect: Connect, pipeline: Recorder
) -> None:
    pipeline.answers = lambda batch: [alarm_acknowledgement("dev0", int(payload)) for payload in batch.payloads]
    device = connect("dev0")
    device.subscribe("fw/v1/dev0/alarm/ack")
    pipeline.hold()
    sent = [device.publish("fw/v1/dev0/alarm", str(seq)) for seq in range(5)]
    until(lambda: broker.counters.received == 5)
    assert device.received == []
    pipeline.release()
    for each in sent:
        each.wait_for_publish(20)
    until(lambda: len(device.received) == 5)


def test_while_the_pipeline_is_slow_devices_are_held_back(serve: Starter, pipeline: Recorder) -> None:
    limits = Limits(messages=50, wait_ms=1)
    broker = serve(limits=limits)
    pipeline.hold()
    pipeline.watch = lambda: broker.counters.waiting
    device = Device(broker.port, username="dev0", password=PASSWORDS["dev0"])
    for number in range(2_000):
        device.publish("fw/v1/dev0/telemetry", str(number).rjust(1_000))
    until(lambda: broker.counters.waiting > limits.messages)
    newcomer = Device(broker.port, username="dev1", password=PASSWORDS["dev1"])
    assert newcomer.is_accepted
    pipeline.release()
    until(lambda: len(pipeline.durable) == 2_000)
    assert [int(payload) for _, payload in pipeline.durable] == list(range(2_000))
    assert max(map(len, pipeline.batches)) <= 50
    assert max(pipeline.watched) <= 2 * limits.messages + 70  # and what one read of the socket holds
    for each in (device, newcomer):
        each.leave()


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x10\xff\xff\xff\xff\x7f",
        b"\x10\xff\xff\xff\x7f" + b"\x00\x04MQTT\x04\xc2\x00\x3c" + b"\xff\xff" * 1000,
        b"\x32\x05\x00\x01a\x00\x01",
        frame(0x10, text(b"MQIsdp") + b"\x03\xc2\x00\x3c" + text(b"c") + text(b"dev0") + text(b"secret 0")),
    ],
)
def test_a_stranger_who_speaks_no_mqtt_harms_nobody(broker: EmbeddedBroker, connect: Connect, data: bytes) -> None:
    stranger = socket.create_connection(("127.0.0.1", broker.port), timeout=20)
    stranger.sendall(data)
    stranger.shutdown(socket.SHUT_WR)
    while stranger.recv(100):
        pass
    stranger.close()
    connect().say("fw/v1/dev0/telemetry", b"{}")


@pytest.mark.parametrize(
    "data",
    [
        frame(0x36, text(b"fw/v1/dev0/telemetry") + b"\0\1x"),  # QoS 3
        frame(0x32, text(b"fw/v1/dev0/telemetry") + b"\0\0x"),  # packet id 0
        frame(0x32, b"\xff\xff"),  # a topic longer than its packet
        frame(0x32, text(b"\xff\xfe") + b"\0\1x"),  # a topic that is not UTF-8
        frame(0x32, text(b"fw/v1/+/telemetry") + b"\0\1x"),
        frame(0x32, text(b"") + b"\0\1x"),
        b"\x32\xff\xff\xff\x7f",  # 256 MB to come
        b"\x32\xff\xff\xff\xff\x7f",
        frame(0x10, text(b"MQTT") + b"\4\2\0\0" + text(b"c")),  # a second CONNECT
        frame(0xF0, b""),
        frame(0x82, b"\0"),
    ],
)
def test_a_device_that_breaks_the_protocol_is_hung_up_on(dial: Dial, pipeline: Recorder, data: bytes) -> None:
    device = dial()
    device.publish("fw/v1/dev0/telemetry", b"before", packet_id=9)
    device.socket.sendall(data)
    heard = [device.hear()]
    while heard[-1]:
        heard.append(device.hear())
    assert heard in ([b"\x40\x02\x00\x09", b""], [b""])
    again = dial()
    again.publish("fw/v1/dev0/telemetry", b"after")
    assert again.hear() == b"\x40\x02\x00\x01"
    assert [payload for _, payload in pipeline.durable] == [b"before", b"after"]


def test_a_busy_port_is_told_in_words(serve: Starter, broker: EmbeddedBroker) -> None:
    with pytest.raises(Misconfigured, match=f"127.0.0.1:{broker.port}: another program listens there"):
        serve(f"127.0.0.1:{broker.port}")


def test_a_port_can_be_used_again_at_once(loop: LoopThread, serve: Starter) -> None:
    first = serve()
    bind = f"127.0.0.1:{first.port}"
    device = Device(first.port, username="dev0", password=PASSWORDS["dev0"])
    loop.call(first.stop())
    until(lambda: device.is_gone)
    serve(bind)
    device.leave()


def test_stopping_acknowledges_what_was_received_and_declares_nobody_dead(
    dial: Dial, loop: LoopThread, serve: Starter, pipeline: Recorder
) -> None:
    broker = serve()
    pipeline.hold()
    device = dial(broker.port, will=b"offline")
    device.publish("fw/v1/dev0/telemetry", b"1")
    until(lambda: broker.counters.received == 1)
    stopping = loop.begin(broker.stop())
    pipeline.release()
    stopping.result(30)
    assert device.hear() == b"\x40\x02\x00\x01"
    assert device.hear() == b""
    assert pipeline.durable == [("fw/v1/dev0/telemetry", b"1")]

    async def send() -> None:
        await broker.publish(Outgoing("fw/v1/dev0/alarm/ack", b""))

    with pytest.raises(Unavailable):
        loop.call(send())
    with pytest.raises(Unavailable):
        _ = broker.port
