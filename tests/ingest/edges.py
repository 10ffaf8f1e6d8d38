"""Parts that tests of the MQTT edge share: a loop in a thread, a pipeline that records, devices, a tap on the wire."""

import asyncio
import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar, TypeVar

import mqtt5
import paho.mqtt.client as paho
import uvloop
from paho.mqtt.enums import CallbackAPIVersion

from ingest.batch import Batch
from ingest.publisher import Outgoing
from tests.waiting import until

Value = TypeVar("Value")
_names = itertools.count(1)


class LoopThread:
    """An event loop as in production, in a thread, so that a test waits for what happens on it from outside."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, Value], timeout_s: float = 30) -> Value:
        return self.begin(work).result(timeout_s)

    def begin(self, work: Coroutine[Any, Any, Value]) -> Future[Value]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def do(self, function: Callable[[], Value]) -> Value:
        async def run() -> Value:
            return function()

        return self.call(run())

    def close(self) -> None:
        async def end_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.loop.shutdown_default_executor()

        self.call(end_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Recorder:
    """Stands where the pipeline will: keeps what came, and makes it durable when told to."""

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self.batches: list[Batch] = []
        self.durable: list[tuple[str, bytes]] = []
        self.story: list[Any] = []
        self.answers: Callable[[Batch], Sequence[Outgoing]] = lambda _: ()
        self.failures = 0
        self.watch: Callable[[], int] = lambda: 0
        self.watched: list[int] = []
        self._open = loop.do(asyncio.Event)
        self.release()

    async def __call__(self, batch: Batch) -> Sequence[Outgoing]:
        self.batches.append(batch)
        self.watched.append(self.watch())
        await self._open.wait()
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the disk is full")
        self.durable.extend(zip(batch.topics, batch.payloads, strict=True))
        self.story.append(("durable", len(batch)))
        return self.answers(batch)

    def hold(self) -> None:
        self._loop.do(self._open.clear)

    def release(self) -> None:
        self._loop.do(self._open.set)

    @property
    def received(self) -> list[tuple[str, bytes]]:
        return [message for batch in self.batches for message in zip(batch.topics, batch.payloads, strict=True)]


class Device:
    """A device as its maker would write it, with paho. Those that do not leave are sent away after the test."""

    present: ClassVar[list["Device"]] = []

    def __init__(
        self,
        port: int,
        *,
        username: str | None = None,
        password: str | None = None,
        client_id: str = "",
        clean: bool = True,
        will: tuple[str, bytes] | None = None,
        version: int = paho.MQTTv311,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id or f"device-{next(_names)}",
            clean_session=clean if version == paho.MQTTv311 else None,
            protocol=version,  # type: ignore[arg-type]
            reconnect_on_failure=False,
        )
        self.client.max_inflight_messages_set(65_000)
        self.client.max_queued_messages_set(0)
        if username is not None or password is not None:
            self.client.username_pw_set(username, password)
        if tls is not None:
            self.client.tls_set_context(tls)
        if will:
            self.client.will_set(will[0], will[1], qos=1, retain=True)
        self.connack: Any = None
        self.granted: list[int] = []
        self.received: list[tuple[str, bytes]] = []
        self.is_gone = False
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = lambda _c, _d, message: self.received.append((message.topic, bytes(message.payload)))
        self.client.connect("127.0.0.1", port, keepalive=30)
        self.client.loop_start()
        Device.present.append(self)
        until(lambda: self.connack is not None or self.is_gone, what="CONNACK")

    @property
    def is_accepted(self) -> bool:
        return self.connack is not None and not self.connack.is_failure

    def publish(self, topic: str, payload: bytes | str, qos: int = 1, *, retain: bool = False) -> paho.MQTTMessageInfo:
        return self.client.publish(topic, payload, qos, retain)

    def say(self, topic: str, payload: bytes | str, qos: int = 1, *, retain: bool = False) -> None:
        """Publish and wait for the acknowledgement."""
        self.publish(topic, payload, qos, retain=retain).wait_for_publish(20)

    def subscribe(self, topic_filter: str, qos: int = 1) -> int:
        """Subscribe; return the code granted."""
        before = len(self.granted)
        self.client.subscribe(topic_filter, qos)
        until(lambda: len(self.granted) > before, what="SUBACK")
        return self.granted[-1]

    def leave(self) -> None:
        if self not in Device.present:
            return
        Device.present.remove(self)
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()  # paho leaves the pair that wakes its loop to the garbage collector

    def die(self) -> None:
        """Vanish without DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        self.client.socket().close()  # type: ignore[union-attr]

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self.connack = code

    def _on_disconnect(self, *_: Any) -> None:
        self.is_gone = True

    def _on_subscribe(self, _client: Any, _data: Any, _mid: Any, codes: Any, _properties: Any) -> None:
        self.granted.extend(code.value for code in codes)


class Tap:
    """A wire between an MQTT 5 client and a broker that writes down every packet, in order, into one story."""

    def __init__(self, port: int, story: list[Any]) -> None:
        self._target = port
        self._story = story
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = [self._server]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            broker = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, broker]
            threading.Thread(target=self._copy, args=(client, broker, "out"), daemon=True).start()
            threading.Thread(target=self._copy, args=(broker, client, "in"), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        rest = b""
        while True:
            try:
                data = source.recv(65_536)
            except OSError:
                data = b""
            if not data:
                break
            rest += data
            while True:
                try:
                    packet, size = mqtt5.read(memoryview(rest))
                except IndexError:
                    break
                rest = rest[size:]
                self._story.append((direction, packet))
            try:
                sink.sendall(data)
            except OSError:
                break
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


Scripted = Callable[["FakeBroker"], Awaitable[None]]


class FakeBroker:
    """A broker that follows a script, for what a well-behaved one never does. One script a connection."""

    def __init__(self, loop: LoopThread, *scripts: Scripted) -> None:
        self._loop = loop
        self._scripts = list(scripts)
        self._server = loop.call(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.connects: list[mqtt5.ConnectPacket] = []
        self.errors: list[BaseException] = []
        self.finished = 0
        self._buffer = b""

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._talk, "127.0.0.1", 0)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._buffer = reader, writer, b""
        script = self._scripts.pop(0) if self._scripts else accept
        try:
            await script(self)
            self.finished += 1
        except (AssertionError, OSError, IndexError) as error:
            self.errors.append(error)
        finally:
            writer.close()

    async def hear(self, kind: type[Value]) -> Value:
        """Return the next packet, which must be of a kind; pings and acknowledgements of nothing are passed over."""
        while True:
            try:
                packet, size = mqtt5.read(memoryview(self._buffer))
            except IndexError:
                data = await self._reader.read(65_536)
                assert data, f"the client left before {kind.__name__}"
                self._buffer += data
                continue
            self._buffer = self._buffer[size:]
            if isinstance(packet, mqtt5.PingReqPacket) and kind is not mqtt5.PingReqPacket:
                continue
            assert isinstance(packet, kind), f"expected {kind.__name__}, heard {packet}"
            return packet

    async def leaves(self) -> None:
        """Wait until the client has closed the connection."""
        while await self._reader.read(65_536):
            pass

    def say(self, *packets: Any) -> None:
        self._writer.write(b"".join(each if isinstance(each, bytes) else each.write() for each in packets))

    def close(self) -> None:
        self._loop.do(self._server.close)


async def greet(broker: FakeBroker, **connack: Any) -> None:
    broker.connects.append(await broker.hear(mqtt5.ConnectPacket))
    broker.say(mqtt5.ConnAckPacket(**connack))
    subscribe = await broker.hear(mqtt5.SubscribePacket)
    granted = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
    broker.say(mqtt5.SubAckPacket(subscribe.packet_id, [granted] * len(subscribe.topic_filters)))


async def accept(broker: FakeBroker) -> None:
    await greet(broker)
    await broker.leaves()
