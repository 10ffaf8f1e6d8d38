import datetime as dt
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mqtt5
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mqtt5 import QoS

from ingest import endpoint
from ingest.batch import Limits
from ingest.consumer import Consumer
from ingest.publisher import Outgoing, alarm_acknowledgement
from ingest.terms import Terms
from kernel.errors import Misconfigured, Unavailable
from tests.ingest.edges import Device, FakeBroker, LoopThread, Recorder, Tap, greet
from tests.mosquitto import Mosquitto
from tests.waiting import until

Starter = Callable[..., Consumer]
TOPIC = "fw/v1/pump/telemetry"


@pytest.fixture
def consume(loop: LoopThread, pipeline: Recorder) -> Iterator[Starter]:
    """Return a starter of consumers; all are stopped after the test."""
    running: list[tuple[Consumer, Any]] = []

    def start(port: int, *, to: Recorder | None = None, limits: Limits | None = None, **terms: Any) -> Consumer:
        where = endpoint.parse(f"mqtt://127.0.0.1:{port}")
        wanted = Terms(**{"watches_drops": False, **terms})
        limits = limits or Limits(wait_ms=5)
        consumer = loop.do(lambda: Consumer(where, to or pipeline, terms=wanted, limits=limits))
        running.append((consumer, loop.begin(consumer.run())))
        return consumer

    yield start
    pipeline.release()
    for consumer, run in running:
        loop.call(consumer.stop())
        run.result(30)


def payloads(messages: list[tuple[str, bytes]]) -> list[int]:
    return [int(payload) for _, payload in messages]


def flood(port: int, count: int, *, start: int = 0, qos: int = 1, topic: str = TOPIC) -> None:
    device = Device(port)
    sent = [device.publish(topic, str(number), qos) for number in range(start, start + count)]
    for each in sent:
        each.wait_for_publish(30)
    device.leave()


def test_ING_2_nothing_is_on_the_wire_before_the_batch_is_durable(
    broker: Mosquitto, pipeline: Recorder, consume: Starter
) -> None:
    tap = Tap(broker.port, pipeline.story)
    pipeline.hold()
    consumer = consume(tap.port, keep_alive_s=4)
    until(lambda: consumer.counters.is_connected)
    flood(broker.port, 200)
    until(lambda: consumer.counters.received == 200)
    heard = len(pipeline.story)

    def ping_followed() -> bool:
        return any(way == "out" and isinstance(packet, mqtt5.PingReqPacket) for way, packet in pipeline.story[heard:])

    # A packet that is sent later than an acknowledgement would be has passed the tap: so there was none.
    until(ping_followed, what="a PINGREQ behind the messages")
    assert acknowledged(pipeline.story) == []
    pipeline.release()
    until(lambda: len(acknowledged(pipeline.story)) == 200)
    durable = 0
    for way, what in pipeline.story:
        if way == "durable":
            durable += what
        elif isinstance(what, mqtt5.PubAckPacket) and way == "out":
            durable -= 1
            assert durable >= 0, "an acknowledgement overtook its batch"
    delivered = [
        packet.packet_id for way, packet in pipeline.story if way == "in" and isinstance(packet, mqtt5.PublishPacket)
    ]
    assert acknowledged(pipeline.story) == delivered
    tap.close()


def acknowledged(story: list[Any]) -> list[int]:
    return [what.packet_id for way, what in story if way == "out" and isinstance(what, mqtt5.PubAckPacket)]


def test_ING_2_kill_9_of_the_intake_at_random_loses_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    seed = random.randrange(10**9)
    store = tmp_path / "stored"
    script = Path(__file__).with_name("intake_process.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def intake(seed: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, script, broker.url, store, seed], env=environment)

    device = Device(broker.port)
    sent = 0
    for life in range(6):
        process = intake(f"{seed} {life}")
        if life == 0:
            until(lambda: b"as fixwright-ingest" in (broker.folder / "log").read_bytes())
        while process.poll() is None:  # it dies of a batch that this brings
            burst = [device.publish(TOPIC, str(number)) for number in range(sent, sent + 40)]
            sent += len(burst)
            burst[-1].wait_for_publish(20)
        assert process.returncode == -signal.SIGKILL, f"seed {seed}"
    process = intake("")
    try:
        everything = {b"%d" % number for number in range(sent)}
        until(lambda: set(store.read_bytes().split()) == everything, timeout_s=60, what=f"seed {seed}")
    finally:
        process.kill()
        process.wait(10)
    device.leave()


def test_a_batch_that_cannot_be_stored_comes_again(broker: Mosquitto, pipeline: Recorder, consume: Starter) -> None:
    pipeline.failures = 2
    consumer = consume(broker.port, limits=Limits(messages=40, wait_ms=5))
    until(lambda: consumer.counters.is_connected)
    flood(broker.port, 100)
    until(lambda: len(set(pipeline.durable)) == 100)
    until(lambda: consumer.counters.acknowledged == 100)
    assert payloads(pipeline.durable) == list(range(100))
    assert consumer.counters.failed_batches == 2
    assert consumer.counters.connects == 3
    assert consumer.counters.forgotten == 0
    assert consumer.counters.last_error == "the disk is full"


def test_a_crash_before_the_commit_brings_every_message_again(
    broker: Mosquitto, loop: LoopThread, pipeline: Recorder, consume: Starter
) -> None:
    crashing = Recorder(loop)
    crashing.hold()
    first = loop.do(
        lambda: Consumer(
            endpoint.parse(broker.url), crashing, terms=Terms(watches_drops=False), limits=Limits(wait_ms=5)
        )
    )
    running = loop.begin(first.run())
    until(lambda: first.counters.is_connected)
    flood(broker.port, 300)
    until(lambda: first.counters.received == 300)
    running.cancel()
    consume(broker.port)
    until(lambda: len(pipeline.durable) == 300)
    assert payloads(pipeline.durable) == list(range(300))
    assert crashing.durable == []


def test_the_restart_of_the_broker_is_survived(broker: Mosquitto, pipeline: Recorder, consume: Starter) -> None:
    consumer = consume(broker.port)
    until(lambda: consumer.counters.is_connected)
    flood(broker.port, 50)
    until(lambda: len(pipeline.durable) == 50)
    broker.stop()
    until(lambda: not consumer.counters.is_connected)
    broker.start()
    flood(broker.port, 50, start=50)
    until(lambda: len(set(pipeline.durable)) == 100)
    assert sorted(set(payloads(pipeline.durable))) == list(range(100))
    assert consumer.counters.connects == 2
    assert consumer.counters.sessions_lost == 0


def test_messages_unacknowledged_when_the_broker_stops_come_again_after_it(
    broker: Mosquitto, pipeline: Recorder, consume: Starter
) -> None:
    pipeline.hold()
    consumer = consume(broker.port)
    until(lambda: consumer.counters.is_connected)
    flood(broker.port, 50)
    until(lambda: consumer.counters.received == 50)
    broker.stop()
    pipeline.release()
    until(lambda: len(pipeline.durable) == 50)
    assert consumer.counters.acknowledged == 0
    broker.start()
    until(lambda: consumer.counters.acknowledged == 50)
    assert set(payloads(pipeline.durable)) == set(range(50))


def test_a_broker_that_forgot_our_session_is_noticed(
    brokers: Callable[..., Mosquitto], pipeline: Recorder, consume: Starter
) -> None:
    broker = brokers("persistence false")
    consumer = consume(broker.port)
    until(lambda: consumer.counters.is_connected)
    broker.kill()
    broker.start()
    until(lambda: consumer.counters.connects == 2)
    assert consumer.counters.sessions_lost == 1
    flood(broker.port, 10)
    until(lambda: len(pipeline.durable) == 10)


def test_batches_keep_their_limit_and_the_order_of_messages(
    broker: Mosquitto, pipeline: Recorder, consume: Starter
) -> None:
    consumer = consume(broker.port, limits=Limits(messages=70, wait_ms=5))
    until(lambda: consumer.counters.is_connected)
    flood(broker.port, 1_000)
    until(lambda: consumer.counters.acknowledged == 1_000)
    assert max(map(len, pipeline.batches)) <= 70
    assert payloads(pipeline.durable) == list(range(1_000))


@pytest.mark.parametrize("qos", [0, 1])
def test_while_the_pipeline_is_slow_the_broker_keeps_the_messages(
    broker: Mosquitto, pipeline: Recorder, consume: Starter, qos: int
) -> None:
    pipeline.hold()
    limits = Limits(messages=100, wait_ms=1)
    consumer = consume(broker.port, limits=limits, receive_maximum=60_000, keep_alive_s=2)
    pipeline.watch = lambda: consumer.counters.waiting
    until(lambda: consumer.counters.is_connected)
    device = Device(broker.port)
    for number in range(3_000):
        device.publish(TOPIC, str(number).rjust(1_000), qos)
    until(lambda: consumer.counters.waiting > limits.messages)
    connects = consumer.counters.connects
    pipeline.release()
    until(lambda: len(pipeline.durable) == 3_000)
    assert payloads(pipeline.durable) == list(range(3_000))
    assert consumer.counters.connects == connects
    assert max(pipeline.watched) <= 2 * limits.messages + 270  # and what one read of the socket holds
    device.leave()


def test_no_payload_can_stop_the_intake(broker: Mosquitto, pipeline: Recorder, consume: Starter) -> None:
    consumer = consume(broker.port)
    until(lambda: consumer.counters.is_connected)
    device = Device(broker.port)
    poison = [b"", b"\0", b"\xff" * 100, b"[" * 100_000, b"x" * 1_000_000, "泵".encode(), b'{"a": NaN}']
    for payload in poison:
        device.say(TOPIC, payload)
    device.say(TOPIC, b"the last")
    until(lambda: len(pipeline.durable) == len(poison) + 1)
    assert [payload for _, payload in pipeline.durable] == [*poison, b"the last"]
    assert consumer.counters.connects == 1
    device.leave()


def test_what_mosquitto_threw_away_is_known(
    brokers: Callable[..., Mosquitto], pipeline: Recorder, consume: Starter
) -> None:
    broker = brokers("max_queued_messages 10\nmax_inflight_messages 10")
    sleeper = Device(broker.port, client_id="sleeper", clean=False)
    sleeper.subscribe("other/#")
    sleeper.leave()
    consumer = consume(broker.port, watches_drops=True)
    until(lambda: consumer.counters.is_connected)
    flood(broker.port, 100, topic="other/topic")
    until(lambda: consumer.counters.dropped_by_broker >= 80, timeout_s=30)
    assert all(not topic.startswith("$SYS") for topic, _ in pipeline.received)


def test_messages_go_out_on_the_same_connection_more_than_the_broker_takes_at_once(
    brokers: Callable[..., Mosquitto], loop: LoopThread, consume: Starter
) -> None:
    broker = brokers("max_inflight_messages 20")
    device = Device(broker.port)
    device.subscribe("fw/v1/pump/alarm/ack")
    consumer = consume(broker.port)
    until(lambda: consumer.counters.is_connected)

    async def send() -> None:
        answers = [consumer.publish(alarm_acknowledgement("pump", seq)) for seq in range(500)]
        for answer in answers:
            await answer

    loop.call(send())
    until(lambda: len(device.received) == 500)
    assert [payload for _, payload in device.received] == [b'{"seq":%d}' % seq for seq in range(500)]
    device.leave()


def test_what_the_pipeline_answers_is_sent_once_the_batch_is_durable(
    broker: Mosquitto, pipeline: Recorder, consume: Starter
) -> None:
    device = Device(broker.port)
    device.subscribe("fw/v1/pump/alarm/ack")
    pipeline.answers = lambda batch: [alarm_acknowledgement("pump", int(payload)) for payload in batch.payloads]
    pipeline.hold()
    consumer = consume(broker.port)
    until(lambda: consumer.counters.is_connected)
    flood(broker.port, 5, topic="fw/v1/pump/alarm")
    until(lambda: consumer.counters.received == 5)
    assert device.received == []
    pipeline.release()
    until(lambda: len(device.received) == 5)
    device.leave()


def test_publishing_without_a_broker_fails_at_once(loop: LoopThread, consume: Starter) -> None:
    consumer = consume(1)

    async def send() -> None:
        await consumer.publish(Outgoing("a", b""))

    with pytest.raises(Unavailable):
        loop.call(send())
    until(lambda: consumer.counters.last_error)


def test_two_intakes_of_one_group_share_the_messages(
    broker: Mosquitto, loop: LoopThread, pipeline: Recorder, consume: Starter
) -> None:
    other = Recorder(loop)
    one = consume(broker.port, client_id="intake-1", group="fixwright")
    two = consume(broker.port, to=other, client_id="intake-2", group="fixwright")
    until(lambda: one.counters.is_connected and two.counters.is_connected)
    flood(broker.port, 400)
    until(lambda: len(pipeline.durable) + len(other.durable) == 400)
    assert sorted(payloads(pipeline.durable + other.durable)) == list(range(400))
    assert pipeline.durable
    assert other.durable


def test_stopping_finishes_what_was_received_and_takes_leave(
    broker: Mosquitto, loop: LoopThread, pipeline: Recorder
) -> None:
    tap = Tap(broker.port, pipeline.story)
    pipeline.hold()
    where = endpoint.parse(f"mqtt://127.0.0.1:{tap.port}")
    consumer = loop.do(lambda: Consumer(where, pipeline, terms=Terms(watches_drops=False), limits=Limits(wait_ms=5)))
    running = loop.begin(consumer.run())
    until(lambda: consumer.counters.is_connected)
    flood(broker.port, 30)
    until(lambda: consumer.counters.received == 30)
    loop.call(consumer.stop())
    pipeline.release()
    running.result(20)
    assert consumer.counters.acknowledged == 30
    until(lambda: any(way == "out" and isinstance(what, mqtt5.DisconnectPacket) for way, what in pipeline.story))
    tap.close()


def test_tls_is_spoken_and_an_unknown_authority_refused(
    brokers: Callable[..., Mosquitto], loop: LoopThread, pipeline: Recorder, tmp_path: Path
) -> None:
    certificate, key = self_signed()
    broker = brokers("certfile {folder}/cert.pem\nkeyfile {folder}/key.pem", {"cert.pem": certificate, "key.pem": key})
    authority = tmp_path / "ca.pem"
    authority.write_text(certificate)
    port = broker.port
    trusting = loop.do(lambda: Consumer(endpoint.parse(f"mqtts://localhost:{port}?cafile={authority}"), pipeline))
    doubting = loop.do(lambda: Consumer(endpoint.parse(f"mqtts://localhost:{port}"), pipeline))
    runs = [loop.begin(trusting.run()), loop.begin(doubting.run())]
    until(lambda: trusting.counters.is_connected)
    until(lambda: "certificate" in doubting.counters.last_error)
    assert doubting.counters.connects == 0
    for consumer in (trusting, doubting):
        loop.call(consumer.stop())
    for run in runs:
        run.result(20)


def self_signed() -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), secret.decode()


# What a well-behaved broker never does.


@pytest.fixture
def script(loop: LoopThread) -> Iterator[Callable[..., FakeBroker]]:
    brokers: list[FakeBroker] = []

    def start(*scripts: Any) -> FakeBroker:
        brokers.append(FakeBroker(loop, *scripts))
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.close()
        assert broker.errors == []


def test_a_qos_2_message_is_received_once_and_its_exchange_completed(
    script: Callable[..., FakeBroker], pipeline: Recorder, consume: Starter
) -> None:
    message = mqtt5.PublishPacket(TOPIC, b"1", qos=QoS.EXACTLY_ONCE, packet_id=9)

    async def first(broker: FakeBroker) -> None:
        await greet(broker)
        broker.say(message)
        assert (await broker.hear(mqtt5.PubRecPacket)).packet_id == 9
        assert len(pipeline.durable) == 1

    async def second(broker: FakeBroker) -> None:
        await greet(broker, session_present=True)
        broker.say(mqtt5.PublishPacket(TOPIC, b"1", qos=QoS.EXACTLY_ONCE, packet_id=9, duplicate=True))
        assert (await broker.hear(mqtt5.PubRecPacket)).packet_id == 9
        broker.say(mqtt5.PubRelPacket(9))
        assert (await broker.hear(mqtt5.PubCompPacket)).packet_id == 9
        broker.say(mqtt5.PublishPacket(TOPIC, b"2", qos=QoS.EXACTLY_ONCE, packet_id=9))
        assert (await broker.hear(mqtt5.PubRecPacket)).packet_id == 9

    broker = script(first, second)
    consume(broker.port)
    until(lambda: broker.finished == 2 or broker.errors)
    assert payloads(pipeline.durable) == [1, 2]


def test_queued_messages_before_the_answer_to_our_subscription_do_not_block_it(
    script: Callable[..., FakeBroker], pipeline: Recorder, consume: Starter
) -> None:
    async def talk(broker: FakeBroker) -> None:
        await broker.hear(mqtt5.ConnectPacket)
        broker.say(mqtt5.ConnAckPacket(session_present=True))
        broker.say(
            *[mqtt5.PublishPacket(TOPIC, b"1", qos=QoS.AT_LEAST_ONCE, packet_id=number + 1) for number in range(500)]
        )
        subscribe = await broker.hear(mqtt5.SubscribePacket)
        for _ in range(500):
            await broker.hear(mqtt5.PubAckPacket)
        refused = mqtt5.SubAckReasonCode.NOT_AUTHORIZED
        broker.say(mqtt5.SubAckPacket(subscribe.packet_id, [refused] * len(subscribe.topic_filters)))
        await broker.hear(mqtt5.DisconnectPacket)

    broker = script(talk)
    consumer = consume(broker.port, limits=Limits(messages=10, wait_ms=5))
    until(lambda: broker.finished or broker.errors)
    assert len(pipeline.durable) == 500
    until(lambda: "refused our subscription" in consumer.counters.last_error)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN),
            "SERVER_SHUTTING_DOWN",
        ),
        (b"\x00\x00", "malformed"),
        (mqtt5.ConnAckPacket(), "unexpected ConnAckPacket"),
        (mqtt5.PingReqPacket(), "unexpected PingReqPacket"),
        (mqtt5.PublishPacket("", b"", topic_alias=3), "topic alias 3"),
    ],
)
def test_whatever_ends_a_connection_the_next_one_follows(
    script: Callable[..., FakeBroker], consume: Starter, said: Any, why: str
) -> None:
    async def talk(broker: FakeBroker) -> None:
        await greet(broker)
        broker.say(said)
        await broker.leaves()

    broker = script(talk)
    consumer = consume(broker.port, topic_aliases=2)
    until(lambda: len(broker.connects) == 2)
    assert why in consumer.counters.last_error
    first, second = broker.connects
    assert not first.clean_start
    assert (first.client_id, first.session_expiry_interval) == (second.client_id, 7 * 86_400)
    assert first.receive_max == 20_000


def test_a_broker_that_refuses_us_is_asked_again_later(script: Callable[..., FakeBroker], consume: Starter) -> None:
    async def refuse(broker: FakeBroker) -> None:
        await broker.hear(mqtt5.ConnectPacket)
        broker.say(mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.NOT_AUTHORIZED))
        await broker.leaves()

    broker = script(refuse)
    consumer = consume(broker.port)
    until(lambda: consumer.counters.is_connected)
    assert consumer.counters.connects == 1
    assert "NOT_AUTHORIZED" in consumer.counters.last_error


def test_a_broker_that_falls_silent_is_left(script: Callable[..., FakeBroker], consume: Starter) -> None:
    async def silent(broker: FakeBroker) -> None:
        await greet(broker)
        await broker.leaves()

    broker = script(silent)
    consumer = consume(broker.port, keep_alive_s=1)
    until(lambda: len(broker.connects) == 2)
    assert consumer.counters.last_error == "the broker has fallen silent"


@pytest.mark.parametrize(
    "url", ["", "http://x", "mqtt://", "mqtt://h:99999", "mqtt://h:x", "mqtts://h?cafile=/nowhere.pem"]
)
def test_an_unusable_address_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        endpoint.parse(url)


def test_an_address_is_taken_apart() -> None:
    where = endpoint.parse("mqtt://us%40er:p%3Aw@broker.example")
    assert (where.host, where.port, where.username, where.password) == (
        "broker.example",
        1883,
        "us@er",
        "p:w",
    )
    assert "p:w" not in repr(where)
