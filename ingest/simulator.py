"""Simulated machines: real MQTT clients that publish what a function says, and repeat their alarms until answered.

They go through the broker like any device and know nothing of the inside of the product.
"""

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiomqtt

from kernel import clock, log
from kernel.settings import Settings, host_and_port

DEFAULT_PORT = 1883
RECONNECT_S = 2.0
REPEAT_S = 5.0
LONGEST_S = 3600
CONNECT_AT_ONCE = 20
"""Clients that shake hands at the same time."""

Read = Callable[[int], dict[str, float]]
"""Milliseconds since 1970 → metric values at that instant."""


@dataclass(frozen=True, slots=True)
class Report:
    """An alarm as a device reports it; ``state`` is ``raised`` or ``cleared``."""

    code: str
    severity: str
    state: str
    message: str


@dataclass(slots=True, eq=False)
class Member:
    """One device of the fleet: its credentials, what it measures, and the alarms it still has to get across."""

    key: str
    password: str
    read: Read
    every_s: float
    seq: int = field(default_factory=clock.now_ms)
    unanswered: dict[int, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    carried_out: deque[str] = field(default_factory=lambda: deque(maxlen=200))

    def obey(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Carry out a command as these machines understand it; return what is answered."""
        if method == "restart":
            return {"result": "restarting"}
        if method == "settings":
            wanted = params.get("settings")
            self.settings |= wanted if isinstance(wanted, dict) else {}
            self._take_interval(self.settings.get("interval_s"))
            return {"result": "set"}
        if method == "set_interval":
            if not self._take_interval(params.get("seconds")):
                return {"error": "seconds must be a number from 1 to 3600"}
            return {"result": {"interval_s": self.every_s}}
        return {"error": f"unknown method {method}"}

    def _take_interval(self, seconds: object) -> bool:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 1 <= seconds <= LONGEST_S:
            return False
        self.every_s = float(seconds)
        self.settings["interval_s"] = seconds
        return True

    def report(self, report: Report) -> None:
        """Queue an alarm; it is published again and again until ``alarm/ack`` names its number."""
        self.seq += 1
        self.unanswered[self.seq] = {
            "seq": self.seq,
            "code": report.code,
            "severity": report.severity,
            "state": report.state,
            "message": report.message,
            "ts": clock.now_ms(),
        }


class Fleet:
    """Devices on one broker, in a thread with a loop of its own."""

    def __init__(self, host: str, port: int, members: Sequence[Member]) -> None:
        self._host = host
        self._port = port
        self._members = members
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="simulator", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self.published = 0

    def start(self) -> None:
        """Let the machines connect and live."""
        self._thread.start()

    def stop(self) -> None:
        """Disconnect them all."""
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout=10)

    async def _live(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        gate = asyncio.Semaphore(CONNECT_AT_ONCE)
        lives = [asyncio.create_task(self._keep_alive(member, gate)) for member in self._members]
        await self._stopping.wait()
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    async def _keep_alive(self, member: Member, gate: asyncio.Semaphore) -> None:
        """Connect, publish, and connect again after a broken connection, for as long as the fleet lives."""
        while True:
            try:
                await self._connected(member, gate)
            except (aiomqtt.MqttError, OSError) as error:
                log.of(__name__).debug("simulated machine reconnects", device=member.key, error=str(error))
                await asyncio.sleep(RECONNECT_S)

    async def _connected(self, member: Member, gate: asyncio.Semaphore) -> None:
        topic = f"fw/v1/{member.key}"
        client = aiomqtt.Client(
            self._host,
            self._port,
            identifier=member.key,
            username=member.key,
            password=member.password,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=True,
            will=aiomqtt.Will(f"{topic}/status", "offline", qos=1, retain=True),
        )
        async with contextlib.AsyncExitStack() as connection:
            async with gate:
                await connection.enter_async_context(client)
            await client.publish(f"{topic}/status", "online", qos=1, retain=True)
            await client.publish(f"{topic}/attributes", json.dumps({"settings": member.settings}), qos=1)
            await client.subscribe(f"{topic}/alarm/ack", qos=1)
            await client.subscribe(f"{topic}/command/+", qos=1)
            answers = asyncio.create_task(_take_answers(client, member))
            connection.callback(answers.cancel)
            await self._publish_for_ever(client, member, topic)

    async def _publish_for_ever(self, client: aiomqtt.Client, member: Member, topic: str) -> None:
        since_repeat = REPEAT_S
        while True:
            now_ms = clock.now_ms()
            body = json.dumps({"ts": now_ms, "values": member.read(now_ms)})
            await client.publish(f"{topic}/telemetry", body, qos=1)
            self.published += 1
            since_repeat += member.every_s
            if member.unanswered and since_repeat >= REPEAT_S:
                since_repeat = 0.0
                for report in list(member.unanswered.values()):
                    await client.publish(f"{topic}/alarm", json.dumps(report), qos=1)
            await asyncio.sleep(member.every_s)


def broker_of(settings: Settings) -> tuple[str, int]:
    """Return host and port of an installation's broker, embedded or not."""
    if settings.mqtt_url is None:
        return host_and_port(settings.mqtt_bind)
    split = urlsplit(settings.mqtt_url)
    return split.hostname or "127.0.0.1", split.port or DEFAULT_PORT


async def _take_answers(client: aiomqtt.Client, member: Member) -> None:
    async for message in client.messages:
        payload, topic = message.payload, message.topic.value
        if isinstance(payload, bytes | str) and "/command/" in topic:
            await _answer(client, member, topic, json.loads(payload))
        elif isinstance(payload, bytes | str):
            member.unanswered.pop(int(json.loads(payload)["seq"]), None)


async def _answer(client: aiomqtt.Client, member: Member, topic: str, body: dict[str, Any]) -> None:
    """Carry a command out, once an id, and answer it; a restart is a broken connection that heals."""
    command_id = topic.rpartition("/")[2]
    if command_id in member.carried_out:
        return
    answer = member.obey(str(body.get("method")), body.get("params") or {})
    await client.publish(f"{topic}/reply", json.dumps(answer), qos=1)
    await client.publish(f"fw/v1/{member.key}/attributes", json.dumps({"settings": member.settings}), qos=1)
    member.carried_out.append(command_id)
