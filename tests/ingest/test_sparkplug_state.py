"""ING-9, OPS-8: however many workers read, one of them says whether the host is there, and its will is believed."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ingest import endpoint
from ingest.batch import Limits
from ingest.consumer import Consumer
from ingest.sparkplug.host import TRUSTED_AHEAD_MS, Statement
from ingest.terms import Terms
from tests.ingest.edges import Device, LoopThread, Recorder
from tests.mosquitto import Mosquitto
from tests.waiting import until

STATE = "spBv1.0/STATE/works"
Start = Callable[..., Consumer]


@pytest.fixture
def start(loop: LoopThread, pipeline: Recorder, broker: Mosquitto) -> Iterator[Start]:
    """Return a starter of members of a group; all are stopped after the test."""
    running: list[tuple[Consumer, Any]] = []

    def join(name: str, *, speaks: bool) -> Consumer:
        where = endpoint.parse(f"mqtt://127.0.0.1:{broker.port}")
        terms = Terms(client_id=name, group="hall", host_id="works", speaks=speaks, watches_drops=False)
        consumer = loop.do(lambda: Consumer(where, pipeline, terms=terms, limits=Limits(wait_ms=5)))
        running.append((consumer, loop.begin(consumer.run())))
        until(lambda: consumer.counters.is_connected, what=f"{name} is connected")
        return consumer

    yield join
    for consumer, run in running:
        loop.call(consumer.stop(leaves_nobody=False))
        run.result(30)


def _said(watcher: Device) -> list[tuple[bool, int]]:
    return [(one["online"], one["timestamp"]) for one in (json.loads(said) for _, said in watcher.received)]


def _vanish(loop: LoopThread, consumer: Consumer) -> None:
    loop.do(consumer._connection._link.abort)  # type: ignore[union-attr]


def test_the_statement_of_a_host_is_never_older_than_what_was_heard() -> None:
    statement = Statement("works", is_spoken_here=True)
    first = statement.begin(1000)
    assert first is not None
    assert first.since_ms == 1000
    assert statement.hear(b'{"online":true,"timestamp":5000}', 1000) is None
    assert statement.hear(b'{"online":false,"timestamp":900}', 1000) == 900
    second = statement.begin(2000)
    assert second is not None
    assert second.since_ms == 5001
    far = b'{"online":false,"timestamp":%d}' % (TRUSTED_AHEAD_MS + 2001)
    assert [statement.hear(said, 2000) for said in (far, b"OFFLINE", b"[]", b'{"timestamp":"x"}')] == [0, 0, 0, 0]
    third = statement.begin(6000)
    assert third is not None
    assert third.since_ms == 6000


def test_ING_9_a_worker_that_does_not_speak_for_the_host_leaves_no_will(
    broker: Mosquitto, loop: LoopThread, start: Start
) -> None:
    watcher = Device(broker.port)
    watcher.subscribe(STATE)
    eldest, other = start("eldest", speaks=True), start("other", speaks=False)
    until(lambda: len(_said(watcher)) == 1, what="the eldest says that the host is there")
    ((is_online, since_ms),) = _said(watcher)
    assert is_online
    _vanish(loop, other)
    until(lambda: other.counters.connects == 2, what="it is back")
    assert _said(watcher) == [(True, since_ms)]
    assert eldest.counters.connects == 1


def test_ING_9_who_begins_to_speak_connects_anew_so_that_its_will_bears_the_time_of_its_birth(
    broker: Mosquitto, loop: LoopThread, start: Start
) -> None:
    watcher = Device(broker.port)
    watcher.subscribe(STATE)
    eldest, other = start("eldest", speaks=True), start("other", speaks=False)
    until(lambda: len(_said(watcher)) == 1, what="the eldest says that the host is there")
    loop.call(eldest.stop(leaves_nobody=False))
    loop.do(lambda: other.speak(is_spoken_here=True))
    until(lambda: len(_said(watcher)) == 2, what="the other says so")
    before, after = _said(watcher)
    assert before[0]
    assert after[0]
    assert after[1] > before[1]

    # It dies: the broker says so with the very time of its birth, and it is heard of again with a later one.
    _vanish(loop, other)
    until(lambda: (False, after[1]) in _said(watcher), what="its will")
    until(lambda: _said(watcher)[-1][0] and _said(watcher)[-1][1] > after[1], what="its next birth")

    # A will of a clock that is ahead is outbid, and one of a clock that is behind contradicted.
    last_ms = _said(watcher)[-1][1] + 60_000
    for denied_ms in (last_ms, last_ms - 1):
        watcher.say(STATE, json.dumps({"online": False, "timestamp": denied_ms}).encode(), retain=True)
        until(lambda denied_ms=denied_ms: (False, denied_ms) in _said(watcher), what="the denial")
        until(lambda: _said(watcher)[-1] == (True, last_ms + 1), what="the answer")

    loop.call(other.stop(leaves_nobody=True))
    until(lambda: _said(watcher)[-1] == (False, last_ms + 1), what="the last one says that the host is gone")
