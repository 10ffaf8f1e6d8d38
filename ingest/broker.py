"""The embedded broker: MQTT 3.1.1 for the devices of one machine, feeding the same pipeline as any other.

Promises: a QoS 1 or 2 message is acknowledged only after the pipeline made its batch durable; nothing is
acknowledged and then thrown away. A device uses its own subtree and nothing else, its last will included.
Messages to a device that is away are kept for its persistent session while this process lives, at most 100.

Not promised: MQTT 5 and shared subscriptions; retained messages for subscribers, but for the state of the host
that Sparkplug's edge nodes wait for; sessions across a restart, after which devices subscribe anew and repeat what
was not acknowledged.
"""

import asyncio
import errno
import logging
from typing import Final

from amqtt.errors import BrokerError

from ingest.batch import Limits, Process
from ingest.device_broker import Authenticate, BrokerCounters, DeviceBroker, Grants
from ingest.device_delivery import only, seen
from ingest.publisher import Outgoing
from ingest.sparkplug.host import Host
from ingest.tls import Tls
from kernel import clock
from kernel.errors import Misconfigured, Unavailable

_STOP_S: Final = 30.0


class EmbeddedBroker:
    """An MQTT broker in this process. ``start`` and everything else belong to one event loop."""

    def __init__(
        self,
        bind: str,
        process: Process,
        authenticate: Authenticate,
        *,
        limits: Limits | None = None,
        tls: Tls | None = None,
        grants: Grants = lambda _device, _topic: False,
        host_id: str = "",
    ) -> None:
        self._grants = grants
        self._host_id = host_id
        self.counters = BrokerCounters()
        self._tls = tls
        self._bind = bind
        self._process = process
        self._authenticate = authenticate
        self._limits = limits or Limits()
        self._broker: DeviceBroker | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        if self._broker is None:
            raise Unavailable("The embedded MQTT broker is not running.")
        return self._broker.port

    @property
    def tls_port(self) -> int:
        """The TCP port of its TLS listener."""
        if self._broker is None or self._tls is None:
            raise Unavailable("The embedded MQTT broker does not speak TLS.")
        return self._broker.port_of("tls")

    async def start(self) -> None:
        """Listen.

        Raises:
            Misconfigured: the address is in use or not ours.
        """
        for chatty in ("amqtt", "transitions"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        broker = DeviceBroker(self._bind, self._tls, self._process, self._authenticate, self._limits, self.counters)
        broker.grants = self._grants
        broker.host = Host(self._host_id, clock.now_ms()) if self._host_id else None
        try:
            await broker.start()
        except BrokerError as error:
            binds = self._bind if self._tls is None else f"{self._bind} or FIXWRIGHT_MQTT_TLS_BIND {self._tls.bind}"
            raise Misconfigured("FIXWRIGHT_MQTT_BIND {bind}: {why}.", bind=binds, why=_why(error.__cause__)) from error
        self._broker = broker
        self._pump = asyncio.create_task(broker.pump())

    async def stop(self) -> None:
        """Take no more, finish and acknowledge what was received, then hang up."""
        if self._broker is None or self._pump is None:
            return
        self._broker.close()
        await asyncio.wait((self._pump,), timeout=_STOP_S)
        self._pump.cancel()
        await self._broker.shutdown()
        self._broker = self._pump = None

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        """Send a message to its device; see ``ingest.publisher.Publisher``."""
        if self._broker is not None:
            sending = asyncio.ensure_future(only(self._broker.send(message)))
            sending.add_done_callback(seen)
            return sending
        future = asyncio.get_running_loop().create_future()
        future.set_exception(Unavailable("The embedded MQTT broker is not running."))
        future.exception()  # seen: nobody needs to await it
        return future

    def disconnect(self, device: str) -> int:
        """Cut every live connection of a device at once; return how many there were."""
        return 0 if self._broker is None else self._broker.hang_up(device)

    async def deliver(self, message: Outgoing) -> int:
        """Send a message to its device; return how many of its connections took it over.

        Raises:
            Unavailable: it does not run, or a connection did not take the message.
        """
        if self._broker is None:
            raise Unavailable("The embedded MQTT broker is not running.")
        return await self._broker.send(message)

    def moved(self) -> set[str]:
        """Return the keys of devices that connected or left since this was asked last; not those that we sent away."""
        return set() if self._broker is None else self._broker.moved()

    def connected(self) -> set[str]:
        """Return the keys of the devices that are connected now."""
        return set() if self._broker is None else self._broker.connected()


def _why(cause: BaseException | None) -> str:
    if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
        return "another program listens there"
    return str(cause)
