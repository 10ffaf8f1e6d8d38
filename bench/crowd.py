"""Devices that send all the time, a hostile one, a reader of pages and a page left open: the load of live benchmarks.

    python -m bench.crowd devices PORT CONNECTIONS RATE SECONDS
    python -m bench.crowd hostile PORT DEVICE RATE SECONDS
    python -m bench.crowd reader URL COOKIE SECONDS PATH…
    python -m bench.crowd listener URL COOKIE

Processes of their own, so that they take nothing from the interpreter that is measured. Devices are raw MQTT 5 packets
over sockets in one loop; each message carries the time at which it was sent. The reader prints its milliseconds,
the listener each alarm that its open page is told of.
"""

import json
import select
import sys
import time
from collections.abc import Sequence
from typing import Final

import httpx
import mqtt5
from mqtt5 import QoS

from api import access
from bench.flood import connected
from kernel import clock

_EVERY_S: Final = 0.01
_PAUSE_S: Final = 0.2


def reading(device: int, temperature: float, packet_id: int) -> bytes:
    """Return a message of three values of a device, sent now."""
    body = b'{"ts":%d,"values":{"temperature":%.2f,"pressure":%.3f,"rpm":%d}}' % (
        clock.now_ms(), temperature, 3 + device % 7 * 0.1, 1400 + packet_id % 200
    )  # fmt: skip
    topic = f"fw/v1/bench-{device:06d}/telemetry"
    return mqtt5.PublishPacket(topic, body, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id).write()


def devices(port: int, connections: int, rate: int, seconds: float) -> int:
    """Send ``rate`` messages a second, spread over all connections and the time; return how many."""
    streams = [
        connected(port, mqtt5.ConnectPacket(f"crowd-{number}", clean_start=True)) for number in range(connections)
    ]
    answers = select.epoll()
    by_file = {stream.fileno(): stream for stream in streams}
    for file in by_file:
        answers.register(file, select.EPOLLIN)
    _say_so()
    began, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        for number in range(sent, int(elapsed * rate)):
            packet_id = number // connections % 60_000 + 1
            streams[number % connections].sendall(reading(number % connections, 20 + number % 40 * 0.25, packet_id))
        sent = int(elapsed * rate)
        for file, _ in answers.poll(0):
            by_file[file].recv(65_536)
        time.sleep(_EVERY_S)
    for stream in streams:
        stream.close()
    return sent


POISON: Final = (
    b"[" * 10_000,
    b"\xff\xfe",
    b'{"values":{"temperature":1e400}}',
    b'{"values":' + b'"' + b"x" * 100_000 + b'"}',
)
"""Too deep, no UTF-8, no number, a hundred thousand letters."""


def hostile(port: int, device: int, rate: int, seconds: float) -> int:
    """Send ``rate`` messages a second as one device, each tenth of them poison; return how many."""
    with connected(port, mqtt5.ConnectPacket("hostile", clean_start=True)) as stream:
        _say_so()
        began, sent = time.monotonic(), 0
        while (elapsed := time.monotonic() - began) < seconds:
            due = int(elapsed * rate)
            stream.sendall(b"".join(_hostile(device, number) for number in range(sent, due)))
            sent = due
            while select.select([stream], [], [], 0)[0]:
                stream.recv(65_536)
            time.sleep(_EVERY_S)
        return sent


def _say_so() -> None:
    """Tell whoever started this that all are connected and sending begins."""
    print("begun", flush=True)


def _hostile(device: int, number: int) -> bytes:
    packet_id = number % 60_000 + 1
    if number % 10:
        return reading(device, 20 + number % 40 * 0.25, packet_id)
    body = POISON[number // 10 % len(POISON)]
    topic = f"fw/v1/bench-{device:06d}/telemetry"
    return mqtt5.PublishPacket(topic, body, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id).write()


def reader(url: str, secret: str, seconds: float, paths: Sequence[str]) -> list[float]:
    """Read pages one after the other, as somebody does who looks around; return the milliseconds of each."""
    taken = []
    with httpx.Client(base_url=url, timeout=20, cookies={access.COOKIE: secret}) as client:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for path in paths:
                began = time.perf_counter()
                client.get(path).raise_for_status()
                taken.append(1000 * (time.perf_counter() - began))
                time.sleep(_PAUSE_S)
    return taken


def listener(url: str, secret: str) -> None:
    """Keep one page open and print each alarm it is told of, with the moment by the clock all processes share."""
    cookies = {access.COOKIE: secret}
    with httpx.stream("GET", f"{url}/live?topics=alarms", cookies=cookies, timeout=60) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            at = time.perf_counter()
            if line.startswith("retry:"):
                print("ready", flush=True)
            elif line.startswith("data:"):
                print(line.split()[-1], at, flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["devices", port, connections, rate, seconds]:
            print(devices(int(port), int(connections), int(rate), float(seconds)))
        case ["hostile", port, device, rate, seconds]:
            print(hostile(int(port), int(device), int(rate), float(seconds)))
        case ["reader", url, secret, seconds, *paths]:
            print(json.dumps(reader(url, secret, float(seconds), paths)))
        case ["listener", url, secret]:
            listener(url, secret)
        case _:
            sys.exit(__doc__)
