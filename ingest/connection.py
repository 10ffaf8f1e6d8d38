"""One connection to an external broker: what is asked, what is taken, and what is acknowledged once it is durable.

For ``ingest.consumer``, which opens the next one whenever one ends.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Final

import mqtt5
from mqtt5 import DisconnectReasonCode, QoS, RetainHandling

from ingest.batch import Gatherer, Limits, Process
from ingest.endpoint import Endpoint
from ingest.link import QOS_2, Link, LinkLost, acknowledgements
from ingest.publisher import Outgoing
from ingest.sender import Sender
from ingest.sparkplug.host import Host, Statement
from ingest.terms import DROPS, ConsumerCounters, Terms
from kernel import clock, log

_ANSWER_S: Final = 10.0
_REFUSED: Final = 0x80

_log = log.of(__name__)


class Connection:
    """One connection: from CONNECT until it is lost, and until what came through it is finished."""

    def __init__(
        self,
        terms: Terms,
        limits: Limits,
        process: Process,
        counters: ConsumerCounters,
        unreleased: set[int],
        statement: Statement | None,
    ) -> None:
        self._terms = terms
        self._counters = counters
        self._unreleased = unreleased
        self._statement = statement
        self._host: Host | None = None if statement is None else statement.begin(clock.now_ms())
        self._turning = asyncio.Event()
        self._aside = {*([DROPS] if terms.watches_drops else []), *([statement.topic] if statement else [])}
        self._link = Link(self._messages, self._packet, max_packet=terms.max_packet, topic_aliases=terms.topic_aliases)
        self._gatherer = Gatherer[int](process, self._durable, limits=limits, counters=counters, room=self._link.resume)
        self.sender = Sender(self._link.write)
        self._keep_alive_s = terms.keep_alive_s
        self._asked: dict[int, list[str]] = {}
        self._connack: asyncio.Future[mqtt5.ConnAckPacket] = asyncio.get_running_loop().create_future()

    async def open(self, endpoint: Endpoint) -> None:
        """Connect.

        Raises:
            OSError: the broker cannot be reached or refuses; TimeoutError when it does not answer.
        """
        async with asyncio.timeout(_ANSWER_S):
            await asyncio.get_running_loop().create_connection(
                lambda: self._link,
                endpoint.host,
                endpoint.port,
                ssl=endpoint.tls,
                server_hostname=endpoint.host if endpoint.tls else None,
            )
            self._link.write(self._connect_packet(endpoint).write())
            await asyncio.wait((self._connack, self._link.lost), return_when=asyncio.FIRST_COMPLETED)
            if not self._connack.done():
                raise self._link.lost.result()
            connack = self._connack.result()
            if connack.reason_code.value:
                raise LinkLost(f"the broker refused us: {connack.reason_code.name}", connack.reason_code.value)
            self._accept(connack)

    async def serve(self, stopping: asyncio.Event, more: Iterable[str] = ()) -> None:
        """Process what comes in until the connection is lost, a batch fails, ``stopping`` is set, or it is to ``turn``.

        ``more`` are filters to subscribe to beside those of the contract.

        Raises:
            Exception: what ``process`` raised, or ``LinkLost``.
        """
        # The answer to this lies behind the messages the broker kept for us, so nobody waits for it here.
        self._link.write(self._subscribe_packet().write())
        self.follow(self._terms.retired, more)
        self._tell_state(is_online=True)
        async with asyncio.TaskGroup() as tasks:
            pump = tasks.create_task(_caught(self._gatherer.run()))
            pinger = tasks.create_task(self._ping())
            stopper = tasks.create_task(stopping.wait())
            turner = tasks.create_task(self._turning.wait())
            await asyncio.wait((pump, stopper, turner, self._link.lost), return_when=asyncio.FIRST_COMPLETED)
            if not pump.done():
                # Batches already here are finished before the next connection brings them again: never two
                # copies at work side by side, and nothing of QoS 0 is lost.
                self._link.pause()
                self._gatherer.drain()
            failure = await pump
            pinger.cancel()
            stopper.cancel()
            turner.cancel()
        if failure is not None:
            self._counters.forgotten += self._gatherer.forget().count(0)
            self._link.abandon(LinkLost("a batch could not be stored"), DisconnectReasonCode.UNSPECIFIED_ERROR)
            raise failure
        if self._link.lost.done():
            raise self._link.lost.result()

    def turn(self) -> None:
        """Finish what was received and end, so that the next connection begins with another will."""
        self._turning.set()

    def leave(self, *, says_so: bool) -> None:
        """Take leave of the broker, which drops the will; the session stays."""
        if says_so:
            self._tell_state(is_online=False)
        self._link.close()

    def follow(self, before: Iterable[str], after: Iterable[str]) -> None:
        """Subscribe to what is new and leave what is gone."""
        new, gone = sorted({*after} - {*before}), sorted({*before} - {*after})
        if new:
            packet = mqtt5.SubscribePacket(self.sender.next_id(), [self._filter(name) for name in new])
            self._asked[packet.packet_id] = new
            self._link.write(packet.write())
        if gone:
            names = [self._shared(name) for name in gone]
            self._link.write(mqtt5.UnsubscribePacket(self.sender.next_id(), names).write())

    def _tell_state(self, *, is_online: bool) -> None:
        if self._host is not None:
            self.sender.publish(self._host.state(is_online=is_online))

    def abort(self) -> None:
        """End the connection if it still stands, and with it what waits to be sent."""
        self._link.abort()
        self.sender.fail()

    def _connect_packet(self, endpoint: Endpoint) -> mqtt5.ConnectPacket:
        will = None
        if self._host is not None:
            away = self._host.state(is_online=False)
            will = mqtt5.Will(away.topic, payload=away.payload, qos=QoS.AT_LEAST_ONCE, retain=True)
        return mqtt5.ConnectPacket(
            self._terms.client_id,
            will=will,
            username=endpoint.username,
            password=None if endpoint.password is None else endpoint.password.encode(),
            clean_start=False,
            keep_alive=self._terms.keep_alive_s,
            session_expiry_interval=self._terms.session_s,
            receive_max=self._terms.receive_maximum,
            topic_alias_max=self._terms.topic_aliases,
            max_packet_size=self._terms.max_packet,
        )

    def _subscribe_packet(self) -> mqtt5.SubscribePacket:
        filters = [self._filter(name) for name in self._terms.filters]
        if self._terms.watches_drops:
            filters.append(mqtt5.TopicFilter(DROPS, max_qos=QoS.AT_MOST_ONCE))
        if self._statement is not None:
            filters.append(mqtt5.TopicFilter(self._statement.topic, max_qos=QoS.AT_MOST_ONCE))
        return mqtt5.SubscribePacket(self.sender.next_id(), filters)

    def _filter(self, name: str) -> mqtt5.TopicFilter:
        return mqtt5.TopicFilter(
            self._shared(name),
            max_qos=QoS.AT_LEAST_ONCE,
            retain_as_published=False,
            retain_handling=RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
        )

    def _shared(self, name: str) -> str:
        return f"$share/{self._terms.group}/{name}" if self._terms.group else name

    def _accept(self, connack: mqtt5.ConnAckPacket) -> None:
        self.sender.accept(connack)
        if connack.server_keep_alive is not None:
            self._keep_alive_s = connack.server_keep_alive
        if not connack.session_present:
            self._unreleased.clear()
            if self._counters.connects:
                self._counters.sessions_lost += 1
                _log.error("the mqtt broker has forgotten our session; what it held for us is gone")

    def _check(self, suback: mqtt5.SubAckPacket) -> None:
        asked = self._asked.pop(suback.packet_id, None)
        if asked is not None:
            for name, code in zip(asked, suback.reason_codes, strict=False):
                if code.value >= _REFUSED:
                    _log.error("the broker refused our subscription to the topics of a mapping", filter=name)
            return
        for name, code in zip(self._terms.filters, suback.reason_codes, strict=False):
            if code.value >= _REFUSED:
                error = LinkLost(f"the broker refused our subscription to {name}: {code.name}", code.value)
                self._link.abandon(error, DisconnectReasonCode.NORMAL_DISCONNECTION)

    async def _ping(self) -> None:
        if not self._keep_alive_s:
            return
        loop, half = asyncio.get_running_loop(), self._keep_alive_s / 2
        while True:
            await asyncio.sleep(half)
            if loop.time() - self._link.wrote_at >= half:
                self._link.write(mqtt5.PingReqPacket().write())
            # While reading is paused the answers lie unread in the socket; silence then proves nothing.
            if not self._link.is_paused and loop.time() - self._link.heard_at > 2 * self._keep_alive_s:
                self._link.abandon(LinkLost("the broker has fallen silent"), DisconnectReasonCode.KEEP_ALIVE_TIMEOUT)

    def _messages(self, names: list[str], payloads: list[bytes], handles: list[int], retained: list[int]) -> None:
        if max(handles) >= QOS_2 or not self._aside.isdisjoint(names):
            kept = [row for row, name in enumerate(names) if self._is_news(name, payloads[row], handles[row])]
            retained = [place for place, row in enumerate(kept) if row in set(retained)]
            names, payloads = [names[row] for row in kept], [payloads[row] for row in kept]
            handles = [handles[row] for row in kept]
        if names:
            self._gatherer.add(names, payloads, handles, retained=retained)
            if self._gatherer.is_full:
                self._link.pause()

    def _is_news(self, name: str, payload: bytes, handle: int) -> bool:
        """Take aside the broker's own count, our own state, and the second copy of a QoS 2 message not yet released."""
        if name == DROPS:
            if payload.isdigit():
                self._counters.dropped_by_broker, self._counters.hears_drops = int(payload), True
            return False
        if self._statement is not None and name == self._statement.topic:
            denied_ms = self._statement.hear(payload, clock.now_ms())
            if self._host is not None and denied_ms is not None:
                # The last will of the connection before this one, or of another worker, may come late, and would stay.
                if denied_ms < self._host.since_ms:
                    self._tell_state(is_online=True)
                else:
                    self.turn()
            return False
        if handle < QOS_2:
            return True
        if handle in self._unreleased:
            self._link.write(acknowledgements([handle]))
            return False
        return True

    def _packet(self, packet: mqtt5.Packet) -> None:
        match packet:
            case mqtt5.PubAckPacket():
                self.sender.answered(packet)
            case mqtt5.PubRelPacket():
                self._unreleased.discard(packet.packet_id | QOS_2)
                self._link.write(mqtt5.PubCompPacket(packet.packet_id).write())
            case mqtt5.PingRespPacket() | mqtt5.UnsubAckPacket():
                pass
            case mqtt5.ConnAckPacket() if not self._connack.done():
                self._connack.set_result(packet)
            case mqtt5.SubAckPacket():
                self._check(packet)
            case mqtt5.DisconnectPacket():
                why = f"the broker ended the connection: {packet.reason_code.name}"
                self._link.end(LinkLost(why, packet.reason_code.value))
            case _:
                raise LinkLost(f"unexpected {type(packet).__name__}", DisconnectReasonCode.PROTOCOL_ERROR.value)

    def _durable(self, handles: list[int], outgoing: Sequence[Outgoing]) -> None:
        self._unreleased.update(handle for handle in handles if handle >= QOS_2)
        if self._link.lost.done():
            return
        answers = acknowledgements(handles)
        self._link.write(answers)
        self._counters.acknowledged += len(answers) // 4
        for message in outgoing:
            self.sender.publish(message)


async def _caught(work: Coroutine[None, None, None]) -> Exception | None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - the edge: a batch failed, for its caller to judge
        return error
    return None
