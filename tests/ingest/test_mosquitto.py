"""The rights of D15, on a real Mosquitto with the files we write for it."""

from collections.abc import Callable, Iterator

import pytest

from assets import passwords
from ingest import credentials, endpoint, mosquitto
from ingest.batch import Limits
from ingest.consumer import Consumer
from ingest.publisher import Outgoing, alarm_acknowledgement
from ingest.terms import Terms
from tests.ingest.edges import Device, LoopThread, Recorder
from tests.mosquitto import Mosquitto
from tests.waiting import until

SECRETS = {key: passwords.draw() for key in ("_fixwright", "pump", "spy")}


@pytest.fixture
def guarded(brokers: Callable[..., Mosquitto]) -> Mosquitto:
    hashes = {key: passwords.hashed(secret) for key, secret in SECRETS.items()}
    text = credentials.password_file(
        {key: stored for key, stored in hashes.items() if key[0] != "_"}, ingest=hashes["_fixwright"]
    )
    lines = f"{mosquitto.SETTINGS}\npassword_file {{folder}}/passwd\nacl_file {{folder}}/acl\nsys_interval 1"
    return brokers(lines, {"passwd": text, "acl": credentials.access_file()})


@pytest.fixture
def consumer(guarded: Mosquitto, loop: LoopThread, pipeline: Recorder) -> Iterator[Consumer]:
    where = endpoint.parse(f"mqtt://_fixwright:{SECRETS['_fixwright']}@127.0.0.1:{guarded.port}")
    consumer = loop.do(lambda: Consumer(where, pipeline, terms=Terms(), limits=Limits(wait_ms=5)))
    run = loop.begin(consumer.run())
    until(lambda: consumer.counters.is_connected)
    yield consumer
    loop.call(consumer.stop())
    run.result(20)


def login(broker: Mosquitto, key: str, **how: str) -> Device:
    return Device(broker.port, username=key, password=SECRETS[key], **how)  # type: ignore[arg-type]


def test_D15_a_device_speaks_in_its_own_subtree_and_the_intake_hears_it(
    guarded: Mosquitto, consumer: Consumer, pipeline: Recorder
) -> None:
    device = login(guarded, "pump")
    own = ["telemetry", "attributes", "alarm", "status", "command/c1/reply", "gateway/telemetry"]
    foreign = ["fw/v1/spy/telemetry", "fw/v1/pump/alarm/ack", "fw/v1/pump/else", "spBv1.0/g/NDATA/spy", "a/b"]
    for topic in foreign:
        device.say(topic, b"foreign")
    for subtopic in own:
        device.say(f"fw/v1/pump/{subtopic}", b"own")
    device.say("spBv1.0/plant/NDATA/pump", b"own")
    until(lambda: len(pipeline.durable) == len(own) + 1)
    assert {payload for _, payload in pipeline.durable} == {b"own"}
    assert consumer.counters.last_error == ""
    device.leave()


def test_D15_a_device_hears_only_what_is_meant_for_it(guarded: Mosquitto, consumer: Consumer, loop: LoopThread) -> None:
    spy, pump = login(guarded, "spy"), login(guarded, "pump")
    for topic_filter in (
        "#",
        "$SYS/#",
        "fw/v1/#",
        "fw/v1/+/alarm/ack",
        "fw/v1/pump/telemetry",
        "fw/v1/spy/alarm/ack",
    ):
        spy.subscribe(topic_filter)
    pump.subscribe("fw/v1/pump/alarm/ack")
    pump.subscribe("fw/v1/pump/command/+")
    pump.say("fw/v1/pump/telemetry", b"{}")

    async def send() -> None:
        for message in (
            alarm_acknowledgement("pump", 1),
            Outgoing("fw/v1/pump/command/c1", b"{}"),
            alarm_acknowledgement("spy", 2),
        ):
            await consumer.publish(message)

    loop.call(send())
    until(lambda: len(pump.received) == 2 and spy.received)
    assert {topic for topic, _ in spy.received} == {"fw/v1/spy/alarm/ack"}
    for device in (spy, pump):
        device.leave()


def test_D15_strangers_are_refused_and_no_client_id_is_stolen(guarded: Mosquitto, consumer: Consumer) -> None:
    for username, password in ((None, None), ("pump", "guess"), ("pump", ""), ("nobody", "x")):
        assert not Device(guarded.port, username=username, password=password).is_accepted
    pump = login(guarded, "pump", client_id="shared")
    for client_id in ("shared", "pump", "fixwright-ingest", "_fixwright"):
        assert login(guarded, "spy", client_id=client_id).is_accepted
    pump.say("fw/v1/pump/telemetry", b"{}")
    assert not pump.is_gone
    assert consumer.counters.is_connected
    assert consumer.counters.connects == 1


def test_ING_6_a_revoked_device_is_cut_off_when_the_files_are_read_again(guarded: Mosquitto) -> None:
    pump, spy = login(guarded, "pump"), login(guarded, "spy")
    file = guarded.folder / "passwd"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("pump:")))
    guarded.reload()
    until(lambda: pump.is_gone, timeout_s=2)
    assert not login(guarded, "pump").is_accepted
    spy.say("fw/v1/spy/telemetry", b"{}")
    assert not spy.is_gone
