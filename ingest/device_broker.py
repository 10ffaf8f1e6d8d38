"""The broker that the embedded one runs: who is recognised, what is taken, when it is answered.

amqtt brings the protocol. Its own order of work is not kept where it would harm: it looks up, overwrites and
takes over sessions before it has seen the password, so recognising a device comes first here.
"""

import asyncio
import math
import ssl
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

from amqtt.adapters import BufferReader, WriterAdapter
from amqtt.contexts import BrokerConfig, ListenerConfig
from amqtt.errors import AMQTTError
from amqtt.mqtt.connack import BAD_USERNAME_PASSWORD, NOT_AUTHORIZED, SERVER_UNAVAILABLE, ConnackPacket
from amqtt.session import Session

from assets.identity import Admission, Login
from ingest import topics
from ingest.batch import Gatherer, IntakeCounters, Limits, Process
from ingest.device_delivery import DeliveringBroker, only, seen
from ingest.device_line import DeviceLine, Reader, Writer, speaks_mqtt_5
from ingest.publisher import Outgoing
from ingest.tls import Tls, common_name, context
from kernel import clock, log

Authenticate = Callable[[Login], Admission | None]
"""Answers what a connection shows with the device it is, or None. Quick; called on the loop."""

Grants = Callable[[str, str], bool]
"""Answers (key of a device, topic) with whether it may publish there, outside of its own subtree."""

Handle = tuple[DeviceLine | None, int]
_CONNECT_S: Final = 10.0
_TAKE_OVER_S: Final = 5.0
_RETRY_S: Final = 1.0
_LONGEST_WAIT_S: Final = 3600.0
_SESSIONS_A_DEVICE: Final = 8
_SESSION_S: Final = 7 * 86_400
_PATIENCE: Final = 1.5  # MQTT-3.1.2-24: one and a half times the keep-alive
_NO_MQTT_5: Final = b"\x20\x03\x00\x84\x00"  # CONNACK of MQTT 5: unsupported protocol version

_log = log.of(__name__)


@dataclass(slots=True)
class BrokerCounters(IntakeCounters):
    """What passed through the embedded broker since it started."""

    connected: int = 0
    connects: int = 0
    refused_connects: int = 0
    refused_messages: int = 0
    """Messages to topics their device may not use; each ended its connection."""


class DeviceBroker(DeliveringBroker):
    """That broker with recognition first and acknowledgement last."""

    grants: Grants
    """Says which topics outside of its own subtree a device may publish to: those of a mapping it is the bridge of."""

    def __init__(
        self,
        bind: str,
        tls: Tls | None,
        process: Process,
        authenticate: Authenticate,
        limits: Limits,
        counters: BrokerCounters,
    ) -> None:
        listeners = {"default": ListenerConfig(bind=bind)}
        if tls is not None:
            listeners["tls"] = ListenerConfig(bind=tls.bind, ssl=True, certfile=tls.certificate, keyfile=tls.key)
        self._tls = tls
        super().__init__(
            BrokerConfig(
                listeners=listeners,
                session_expiry_interval=_SESSION_S,
                plugins={},
            )
        )
        self._authenticate_device = authenticate
        self._counters = counters
        self._room = asyncio.Event()
        self._room.set()
        self._gatherer = Gatherer[Handle](process, self._durable, limits=limits, counters=counters, room=self._room.set)
        self._conversations: dict[str, asyncio.Task[Any]] = {}
        self._is_closing = False
        self._is_mute = False
        self._moved: set[str] = set()

    @property
    def port(self) -> int:
        """The TCP port of the plain listener."""
        return self.port_of("default")

    def port_of(self, listener: str) -> int:
        """Return the TCP port of a listener."""
        port: int = self._servers[listener].instance.sockets[0].getsockname()[1]
        return port

    async def pump(self) -> None:
        """Process batches until closed. A batch that fails ends every connection: devices then repeat it."""
        while not self._is_closing:
            try:
                await self._gatherer.run()
            except Exception as error:  # noqa: BLE001 - the edge: a batch failed, the next one may not
                _log.error("a batch could not be stored; devices must repeat it", reason=str(error))
                lost = self._gatherer.forget()
                self._counters.forgotten += sum(handle == 0 for _, handle in lost)
                await self._hang_up_all()
                self._room.set()
                await asyncio.sleep(_RETRY_S)

    def close(self) -> None:
        """Accept no connection, read no more, and let ``pump`` finish."""
        self._is_closing = self._is_mute = True
        self._room.clear()
        for server in self._servers.values():
            server.instance.close()
        self._gatherer.drain()

    def hang_up(self, device: str) -> int:
        """Drop the live connections of a device; return how many."""
        lines = [self._sessions[bound][1] for bound in self._of_device.get(device, ()) if bound in self._conversations]
        for line in lines:
            line.hang_up()
        return len(lines)

    def connected(self) -> set[str]:
        """Return the devices with a live connection."""
        return {bound.partition("/")[0] for bound in self._conversations}

    def moved(self) -> set[str]:
        """Return the devices that came or went since this was asked last."""
        moved, self._moved = self._moved, set()
        return moved

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Talk with one client until it is gone."""
        try:
            await self._client_connected(listener_name, Reader(reader), Writer(writer))
        except Exception as error:  # noqa: BLE001 - the edge: one connection ends, whatever it sent
            _log.info("mqtt connection ended", reason=f"{type(error).__name__}: {error}")
        finally:
            writer.close()

    async def _initialize_client_session(
        self, reader: Reader, writer: Writer, remote_address: str, remote_port: int
    ) -> tuple[DeviceLine, Session]:
        """Recognise the device, then find or make its session."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                connect = await reader.connect()
        except TimeoutError:
            raise AMQTTError(f"{remote_address}:{remote_port} sent no CONNECT") from None
        if speaks_mqtt_5(connect):
            writer.write(_NO_MQTT_5)
            raise AMQTTError("MQTT 5 is not spoken here")
        line, incoming = await DeviceLine.init_from_connect(BufferReader(connect), writer, self.plugins_manager)
        given = incoming.client_id
        name = self._common_name(writer)
        certificate = writer.peer_certificate_der if name is not None else None
        shown = Login(incoming.username or "", incoming.password or "", given, name, certificate)
        admission = self._authenticate_device(shown)
        if admission is None:
            await self._refuse(writer, BAD_USERNAME_PASSWORD, "wrong user name, password or certificate", incoming)
        device = admission.device
        if incoming.will_flag and not self._may_publish(device, incoming.will_topic):
            await self._refuse(writer, NOT_AUTHORIZED, "a last will in a foreign topic", incoming)
        elif self._is_closing:
            await self._refuse(writer, SERVER_UNAVAILABLE, "stopping", incoming)
        # Client ids are names within a device: the same one of another device is another session.
        incoming.client_id = bound = f"{device}/{given}"
        await self._take_over(bound)
        if len(self._of_device[device] - {bound}) >= _SESSIONS_A_DEVICE:
            await self._refuse(writer, SERVER_UNAVAILABLE, "too many sessions", incoming)
        session = await self._session_for(incoming)
        incoming.password = None
        line.recognised(device, self._take, self._room)
        self._admit(device, session)
        if admission.until is not None:
            _at(admission.until, line.hang_up)
        return line, session

    def _common_name(self, writer: Writer) -> str | None:
        """Return whom a client certificate names, once its chain was verified against our own authorities."""
        if self._tls is None or self._tls.client_ca is None:
            return None
        return common_name(writer.peer_certificate)

    def _create_ssl_context(self, _listener: ListenerConfig) -> ssl.SSLContext:
        """Return how TLS is spoken: as we decide, not as the library does."""
        assert self._tls is not None  # noqa: S101 - only its listener asks
        return context(self._tls)

    async def _handle_client_session(
        self, reader: Reader, writer: Writer, client_session: Session, handler: DeviceLine, *rest: object
    ) -> None:
        bound = client_session.client_id
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this
        self._conversations[bound] = task
        self._counters.connects += 1
        self._counters.connected += 1
        self._moved.add(bound.partition("/")[0])
        try:
            await super()._handle_client_session(reader, writer, client_session, handler, *rest)
        finally:
            self._counters.connected -= 1
            if self._conversations.get(bound) is task:
                del self._conversations[bound]
            if not self._is_mute:
                self._moved.add(bound.partition("/")[0])

    async def _session_for(self, incoming: Session) -> Session:
        """Return the session to go on with: the device's own from before if it asks for that, else a new one."""
        bound = incoming.client_id
        incoming.keep_alive = math.ceil(incoming.keep_alive * _PATIENCE)
        self._begin(incoming)
        before = self._sessions.get(bound, (None, None))[0]
        if incoming.clean_session or before is None or before.clean_session:
            await self._delete_session(bound)
            incoming.parent = 0
            return incoming
        for name in ("will_flag", "will_message", "will_topic", "will_qos", "will_retain", "keep_alive"):
            setattr(before, name, getattr(incoming, name))
        before.parent = 1
        return before

    async def _take_over(self, bound: str) -> None:
        """End the connection that still holds a session, and wait until it has said its last."""
        conversation = self._conversations.get(bound)
        if conversation is None:
            return
        self._sessions[bound][1].hang_up()
        await asyncio.wait((conversation,), timeout=_TAKE_OVER_S)

    async def _refuse(self, writer: WriterAdapter, code: int, why: str, incoming: Session) -> NoReturn:
        self._counters.refused_connects += 1
        _log.warning("mqtt connection refused", reason=why, user=incoming.username, address=incoming.remote_address)
        await ConnackPacket.build(0, code).to_stream(writer)
        raise AMQTTError(why)

    def _take(self, line: DeviceLine, names: list[str], payloads: list[bytes], handles: list[int]) -> bool:
        """Give a device's messages to the intake, up to the first it may not send."""
        allowed = 0
        while allowed < len(names) and self._may_publish(line.device, names[allowed]):
            allowed += 1
        if allowed:
            self._gather(names[:allowed], payloads[:allowed], [(line, handle) for handle in handles[:allowed]])
        if allowed == len(names):
            return True
        self._counters.refused_messages += 1
        _log.warning("mqtt message refused", device=line.device, topic=names[allowed][:200])
        return False

    def _may_publish(self, device: str, topic: str) -> bool:
        return topics.may_publish(device, topic) or self.grants(device, topic)

    def _gather(self, names: Sequence[str], payloads: Sequence[bytes], handles: Sequence[Handle]) -> None:
        self._gatherer.add(names, payloads, handles)
        if self._gatherer.is_full:
            self._room.clear()

    def _durable(self, handles: list[Handle], outgoing: Sequence[Outgoing]) -> None:
        answers: defaultdict[DeviceLine, list[int]] = defaultdict(list)
        for line, handle in handles:
            if line is not None and handle and line.session is not None:
                answers[line].append(handle)
        for line, ids in answers.items():
            line.answer(ids)
            self._counters.acknowledged += len(ids)
        for message in outgoing:
            asyncio.ensure_future(only(self.send(message))).add_done_callback(seen)

    async def _hang_up_all(self) -> None:
        # The fault is ours, so no last will is believed: a thousand dead devices would be a lie (ING-15).
        self._is_mute = True
        for bound in tuple(self._conversations):
            self._sessions[bound][1].hang_up()
        if self._conversations:
            await asyncio.wait(tuple(self._conversations.values()), timeout=_TAKE_OVER_S)
        self._is_mute = False

    async def _authenticate(self, *_: object) -> bool:
        return True  # it was recognised before its session was touched

    async def _broadcast_message(
        self, session: Session | None, topic: str | None, data: bytes | bytearray | None, force_qos: int | None = None
    ) -> None:
        """Take a last will into the intake: the one thing amqtt still broadcasts here."""
        del session, force_qos
        if topic and not self._is_mute:
            self._gather((topic,), (bytes(data or b""),), ((None, 0),))

    async def _cleanup_session(self, client_id: str) -> None:
        # amqtt's monitor lists the sessions to end and then ends them one by one; a device may have come back.
        if client_id in self._conversations and not self._is_closing:
            return
        await super()._cleanup_session(client_id)


def _at(moment: datetime, act: Callable[[], None]) -> None:
    """Act when a moment has come; one longer off than the loop can wait for is looked at again."""
    left = (moment - clock.now()).total_seconds()
    if left <= 0:
        act()
        return
    asyncio.get_running_loop().call_later(min(left, _LONGEST_WAIT_S), _at, moment, act)
