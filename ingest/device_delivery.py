"""What devices ask to hear at the embedded broker, and what reaches them: their own subtrees, and whether we are there.

amqtt would find the takers of a message among all sessions and keep what is retained; here a message names its device,
whose sessions are known, and nothing is retained.
"""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any, Final

from amqtt.broker import Broker, RetainedApplicationMessage
from amqtt.contexts import BrokerConfig
from amqtt.errors import AMQTTError, ProtocolHandlerError
from amqtt.session import Session

from ingest import topics
from ingest.publisher import Outgoing
from ingest.sparkplug.host import Host
from kernel import log
from kernel.errors import Unavailable

_KEPT: Final = 100
_FILTERS: Final = "fixwright.filters"

_log = log.of(__name__)


class DeliveringBroker(Broker):  # type: ignore[misc]
    """amqtt's broker with delivery by device."""

    host: Host | None
    """What Sparkplug's edge nodes are told, when they ask, about who is there."""

    def __init__(self, config: BrokerConfig) -> None:
        super().__init__(config)
        self._of_device: defaultdict[str, set[str]] = defaultdict(set)

    def _admit(self, device: str, session: Session) -> None:
        """Count a session as one of a device."""
        self._of_device[device].add(session.client_id)

    async def send(self, message: Outgoing) -> int:
        """Deliver to the sessions of the device that a topic names, and keep for those that are away.

        Returns the number of those that took it over.

        Raises:
            Unavailable: a session that is connected did not take it.
        """
        takers = 0
        for bound in tuple(self._of_device.get(_device_of(message.topic), ())):
            session, line = self._sessions[bound]
            wanted = [
                quality
                for pattern, quality in session.attributes[_FILTERS].items()
                if topics.matches(pattern, message.topic)
            ]
            if not wanted:
                continue
            quality = min(message.qos, max(wanted))
            if not session.transitions.is_connected():
                _keep(session, message, quality)
                continue
            try:
                await line.mqtt_publish(message.topic, message.payload, quality, retain=False)
            except (AMQTTError, ProtocolHandlerError, OSError, asyncio.CancelledError) as error:
                # amqtt cancels what waits for an answer when the connection ends.
                if isinstance(error, asyncio.CancelledError) and asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                _keep(session, message, quality)
                raise Unavailable("The device did not take the message.") from error
            takers += 1
        return takers

    @staticmethod
    def _begin(session: Session) -> None:
        """Let a session ask anew for what it wants to hear."""
        session.attributes[_FILTERS] = {}

    async def retain_message(self, *_: object, **__: object) -> None:
        """Keep nothing: no device may read another's topics, and the pipeline has it already."""

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Tell an edge node that its host is there, as long as this broker is; nothing else is retained."""
        bound, (topic_filter, quality) = session.client_id, subscription
        if self.host is None or not topics.matches(topic_filter, self.host.topic) or bound not in self._sessions:
            return
        state = self.host.state(is_online=True)
        # On its own: the node's answer is read by the task that waits here.
        telling = asyncio.ensure_future(
            self._sessions[bound][1].mqtt_publish(state.topic, state.payload, min(quality, 1), retain=True)
        )
        telling.add_done_callback(seen)

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Subscribe a session to a filter of its own device; return the QoS granted, or 0x80."""
        topic_filter, quality = subscription
        if not topics.may_subscribe(session.client_id.partition("/")[0], topic_filter):
            _log.warning("mqtt subscription refused", client=session.client_id, filter=topic_filter[:200])
            return 0x80
        granted = min(quality, 1)
        session.attributes[_FILTERS][topic_filter] = granted
        return granted

    def _del_subscription(self, a_filter: str, session: Session) -> int:
        return 0 if session.attributes[_FILTERS].pop(a_filter, None) is None else 1

    async def _del_all_subscriptions(self, session: Session) -> None:
        session.attributes[_FILTERS].clear()
        self._of_device[session.client_id.partition("/")[0]].discard(session.client_id)


def _device_of(topic: str) -> str:
    """Return the device a topic addresses: both trees have it in a fixed place."""
    levels = topic.split("/")
    place = 3 if levels[0] == topics.SPARKPLUG_ROOT else 2
    return levels[place] if len(levels) > place else ""


def _keep(session: Session, message: Outgoing, quality: int) -> None:
    if quality and not session.clean_session and session.retained_messages.qsize() < _KEPT:
        session.retained_messages.put_nowait(RetainedApplicationMessage(None, message.topic, message.payload, quality))


async def only(sending: Coroutine[Any, Any, int]) -> None:
    """Wait for a sending, whoever took it."""
    await sending


def seen(task: asyncio.Future[None]) -> None:
    """Look at how a sending ended, which nobody else does."""
    if not task.cancelled():
        task.exception()
