"""Brokers, loops and recorders for the tests of the MQTT edge."""

from collections.abc import Callable, Iterator

import pytest

from tests import mosquitto
from tests.ingest.edges import Device, LoopThread, Recorder
from tests.mosquitto import Mosquitto


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(autouse=True)
def _devices_leave() -> Iterator[None]:
    yield
    for device in list(Device.present):
        device.leave()


@pytest.fixture
def pipeline(loop: LoopThread) -> Recorder:
    return Recorder(loop)


@pytest.fixture
def brokers() -> Iterator[Callable[..., Mosquitto]]:
    """Return a starter of Mosquittos; all are ended after the test."""
    if mosquitto.PATH is None:
        pytest.skip("mosquitto is not installed")
    started: list[Mosquitto] = []

    def start(lines: str = "", files: dict[str, str] | None = None, listeners: str = "") -> Mosquitto:
        broker = Mosquitto(lines, files=files, listeners=listeners)
        started.append(broker)
        broker.start()
        return broker

    yield start
    for broker in started:
        broker.remove()


@pytest.fixture
def broker(brokers: Callable[..., Mosquitto]) -> Mosquitto:
    return brokers()
