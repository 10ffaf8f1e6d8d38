"""Which edge to MQTT a process has by its settings: a client of a broker elsewhere, or a broker of its own."""

import platform
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ingest import endpoint
from ingest.batch import Limits, Process
from ingest.belt import OVERLAP
from ingest.consumer import Consumer
from ingest.mapper import Mapper
from ingest.terms import Terms
from ingest.tls import tls_of
from kernel.settings import Settings

if TYPE_CHECKING:
    from ingest.broker import EmbeddedBroker
    from ingest.device_broker import Authenticate

GROUP_SESSION_S: Final = 30
"""When one of a group is gone for longer than this, the broker gives what it held for it to the others."""


def consumer(
    settings: Settings,
    process: Process,
    mapper: Mapper,
    *,
    may_connect: Callable[[], Awaitable[None]],
    speaks: bool,
) -> Consumer:
    """Return a client of the broker that the settings name, alone on it or one of a group.

    ``speaks``: whether it tells edge nodes that we are there.
    """
    terms = Terms(
        receive_maximum=settings.mqtt_receive_maximum,
        more=mapper.filters,
        retired=mapper.retired,
        host_id=settings.sparkplug_host_id,
        speaks=speaks,
    )
    if group := settings.ingest_group:
        name = settings.ingest_name or platform.node()
        terms = replace(terms, client_id=f"{terms.client_id}-{group}-{name}", group=group, session_s=GROUP_SESSION_S)
    where = endpoint.parse(settings.mqtt_url or "")
    return Consumer(where, process, terms=terms, limits=_limits(settings), may_connect=may_connect)


def broker(settings: Settings, process: Process, mapper: Mapper, recognise: "Authenticate") -> "EmbeddedBroker":
    """Return a broker in this process."""
    # Its library takes longer to import than all of ours; a process with a broker elsewhere does not wait for it.
    from ingest.broker import EmbeddedBroker

    return EmbeddedBroker(
        settings.mqtt_bind,
        process,
        recognise,
        limits=_limits(settings),
        tls=tls_of(settings),
        grants=mapper.may_publish,
        host_id=settings.sparkplug_host_id,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(messages=settings.batch_messages, wait_ms=settings.batch_wait_ms, overlap=OVERLAP)
