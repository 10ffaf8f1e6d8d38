"""Devices that behave: they repeat what was not acknowledged, and write down what they sent: the judge's record."""

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiomqtt

from kernel import clock

HOT = 60.0
"""From this temperature on, the plant's rule says *major*."""
REPEAT_S = 1.0


@dataclass(slots=True, eq=False)
class Sent:
    """What one device sent. ``readings`` are (ms, temperature), each acknowledged by the broker before the next."""

    key: str
    readings: list[tuple[int, float]] = field(default_factory=list)
    alarms: dict[int, str] = field(default_factory=dict)
    """Number → ``raised`` or ``cleared``, in order."""
    waiting: dict[int, bytes] = field(default_factory=dict)
    """Alarms that were not acknowledged by the platform."""
    owed: list[bytes] = field(default_factory=list)
    """Alarms that are sent anyway, acknowledged or not, as by a device that does not listen."""
    is_raised: bool = False

    def runs(self) -> list[int]:
        """Return how many hot readings each alarm of the rule must have counted."""
        runs, length = [], 0
        for _, temperature in self.readings:
            if temperature >= HOT:
                length += 1
            elif length:
                runs.append(length)
                length = 0
        return [*runs, length] if length else runs


class Fleet:
    """Many devices on one broker, each with a connection, in a thread with a loop of its own."""

    def __init__(self, port: int, keys: list[str], *, every_s: float, alarms: float, seed: int) -> None:
        self.devices = [Sent(key) for key in keys]
        self._port = port
        self._every_s = every_s
        self._alarms = alarms
        self._random = random.Random(seed)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._is_quiet = threading.Event()
        self._is_over = threading.Event()
        self._failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def quieten(self) -> None:
        """Say nothing new; what is not acknowledged is still repeated."""
        self._is_quiet.set()

    @property
    def is_silent(self) -> bool:
        """Whether all is said and acknowledged, down to the last alarm."""
        assert self._failure is None, self._failure
        return self._is_quiet.is_set() and not any(device.waiting or device.owed for device in self.devices)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(20)

    async def _live(self) -> None:
        gate = asyncio.Semaphore(10)
        lives = [asyncio.create_task(self._one(device, gate)) for device in self.devices]
        try:
            while not self._is_over.is_set():
                await asyncio.sleep(0.05)
                for life in lives:
                    if life.done():
                        life.result()
        except Exception as error:
            self._failure = error
            raise
        finally:
            for life in lives:
                life.cancel()
            await asyncio.gather(*lives, return_exceptions=True)

    async def _one(self, device: Sent, gate: asyncio.Semaphore) -> None:
        """Live, through however many connections that takes."""
        messages = self._messages()
        unsent = [next(messages)]
        while True:
            client = aiomqtt.Client("127.0.0.1", self._port, identifier=device.key, clean_session=True, timeout=60)
            try:
                async with contextlib.AsyncExitStack() as connection:
                    async with gate:
                        await connection.enter_async_context(client)
                    await client.subscribe(f"fw/v1/{device.key}/alarm/ack", qos=1)
                    beside = [asyncio.create_task(_hear(client, device)), asyncio.create_task(_repeat(client, device))]
                    try:
                        await self._speak(client, device, messages, unsent)
                    finally:
                        for task in beside:
                            task.cancel()
                        await asyncio.gather(*beside, return_exceptions=True)
            except (aiomqtt.MqttError, OSError):
                await asyncio.sleep(0.3)

    async def _speak(
        self,
        client: aiomqtt.Client,
        device: Sent,
        messages: Iterator[tuple[int, float]],
        unsent: list[tuple[int, float]],
    ) -> None:
        while True:
            await asyncio.sleep(self._every_s * self._random.uniform(0.5, 1.5))
            if self._is_quiet.is_set():
                # Keeps the connection, and hears of a broken one.
                await client.publish(f"fw/v1/{device.key}/status", b"online", qos=1)
                continue
            at_ms, temperature = unsent[0]
            body = {"ts": at_ms, "values": {"temperature": temperature}}
            await client.publish(f"fw/v1/{device.key}/telemetry", json.dumps(body), qos=1)
            device.readings.append(unsent.pop())
            unsent.append(next(messages))
            if self._random.random() < self._alarms:
                await self._toggle(client, device)

    def _messages(self) -> Iterator[tuple[int, float]]:
        last_ms, hot = 0, False
        while True:
            hot = self._random.random() < (0.5 if hot else 0.1)
            temperature = round(self._random.uniform(60, 90) if hot else self._random.uniform(10, 59), 1)
            last_ms = max(last_ms + 1, clock.now_ms())
            yield last_ms, temperature

    async def _toggle(self, client: aiomqtt.Client, device: Sent) -> None:
        device.is_raised = not device.is_raised
        seq, state = len(device.alarms) + 1, "raised" if device.is_raised else "cleared"
        body = {"seq": seq, "code": "E42", "severity": "critical", "state": state, "ts": clock.now_ms()}
        device.alarms[seq] = state
        device.waiting[seq] = json.dumps(body).encode()
        await client.publish(f"fw/v1/{device.key}/alarm", device.waiting[seq], qos=1)


async def _hear(client: aiomqtt.Client, device: Sent) -> None:
    async for message in client.messages:
        assert isinstance(message.payload, bytes)
        device.waiting.pop(json.loads(message.payload)["seq"], None)


async def _repeat(client: aiomqtt.Client, device: Sent) -> None:
    while True:
        while device.owed:
            await client.publish(f"fw/v1/{device.key}/alarm", device.owed[-1], qos=1)
            device.owed.pop()
        await asyncio.sleep(REPEAT_S)
        for payload in list(device.waiting.values()):
            await client.publish(f"fw/v1/{device.key}/alarm", payload, qos=1)
