"""How fast the MQTT edge is: receive alone, decode alone, and both with a pipeline behind them.

Needs Mosquitto. ``python -m bench.edge`` prints the figures; ``make bench`` calls the functions.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import uvloop

from assets.identity import Admission
from bench.flood import fill, payload
from ingest import endpoint
from ingest.batch import Batch, Limits, Process
from ingest.broker import EmbeddedBroker
from ingest.consumer import Consumer
from ingest.decode import Decoder
from ingest.publisher import Outgoing
from ingest.terms import Terms
from tests.mosquitto import Mosquitto

BROKER = "persistence false\nmax_packet_size 1048576"
TERMS = Terms(filters=("fw/v1/+/telemetry",), watches_drops=False)


async def acknowledge_at_once(batch: Batch) -> Sequence[Outgoing]:  # noqa: ARG001 - the ceiling
    """Take a batch as durable without looking at it."""
    return ()


class Decoding:
    """Decodes each batch in a thread, and stores nothing."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self.readings = 0

    async def __call__(self, batch: Batch) -> Sequence[Outgoing]:
        """Decode a batch."""
        self.readings += len(await asyncio.to_thread(self._decoder.decode, batch))
        return ()


def drain(port: int, process: Process, *, messages: int, limits: Limits | None = None) -> float:
    """Consume what ``fill`` queued until all is acknowledged; return messages/s from CONNECT to the last PUBACK."""
    return uvloop.run(_drain(port, process, messages, limits))


def drain_receive_only(port: int, *, messages: int) -> float:
    """Return the messages/s of receiving and acknowledging alone: no pipeline can be faster."""
    return drain(port, acknowledge_at_once, messages=messages)


def decode_rate(*, messages: int = 10_000, devices: int = 1_000, seconds: float = 2.0) -> float:
    """Return the messages/s one core decodes, three values each, in batches of ``messages``."""
    now_ms = int(time.time() * 1000) - messages
    batch = Batch.of(
        (f"fw/v1/bench-{number % devices:04d}/telemetry", payload(number // devices, number % devices, now_ms))
        for number in range(messages)
    )
    decoder = Decoder()
    decoder.decode(batch)
    began, batches = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        decoder.decode(batch)
        batches += 1
    return batches * messages / (time.perf_counter() - began)


def embedded_rate(process: Process, *, messages: int = 40_000) -> float:
    """Return the messages/s that devices in another process bring through the embedded broker, each acknowledged."""
    return uvloop.run(_embedded(process, messages))


def measure(*, messages: int = 200_000) -> dict[str, float]:
    """Run everything against a Mosquitto of its own; return messages/s by name."""
    figures = {"decode": decode_rate()}
    broker = Mosquitto(BROKER)
    broker.start()
    try:
        figures["queue"] = fill(broker.port, messages=messages)
        figures["receive only"] = drain_receive_only(broker.port, messages=messages)
        fill(broker.port, messages=messages)
        figures["receive and decode"] = drain(broker.port, Decoding(), messages=messages)
    finally:
        broker.remove()
    figures["embedded broker and decode"] = embedded_rate(Decoding())
    return figures


async def _drain(port: int, process: Process, messages: int, limits: Limits | None) -> float:
    consumer = Consumer(endpoint.parse(f"mqtt://127.0.0.1:{port}"), process, terms=TERMS, limits=limits)
    began = time.perf_counter()
    running = asyncio.create_task(consumer.run())
    while consumer.counters.acknowledged < messages:
        await asyncio.sleep(0.002)
        if running.done():
            raise RuntimeError(f"the consumer ended: {consumer.counters.last_error}")
    elapsed = time.perf_counter() - began
    await consumer.stop()
    await running
    return messages / elapsed


async def _embedded(process: Process, messages: int) -> float:
    broker = EmbeddedBroker("127.0.0.1:0", process, lambda login: Admission(login.user) if login.password else None)
    await broker.start()
    flood = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.flood", str(broker.port), str(messages), stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await flood.communicate()
    await broker.stop()
    return float(answer)


if __name__ == "__main__":
    print(json.dumps({name: round(rate) for name, rate in measure().items()}, indent=2))
