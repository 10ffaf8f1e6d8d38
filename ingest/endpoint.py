"""Where the external broker is: the address in ``FIXWRIGHT_MQTT_URL`` taken apart."""

import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from kernel.errors import Misconfigured

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker and the account to use there. ``tls`` is None for plain TCP."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)


def parse(url: str) -> Endpoint:
    """Return the broker an address means.

    ``mqtt://user:password@host:1883``, or ``mqtts://…:8883`` over TLS; ``?cafile=/path/ca.pem`` names the
    authority to trust in place of the system's. User and password are percent-encoded.

    Raises:
        Misconfigured: the scheme, host, port or file is unusable.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Misconfigured("FIXWRIGHT_MQTT_URL must read mqtt://user:password@host:port, or mqtts:// for TLS.")
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        raise Misconfigured("The port in FIXWRIGHT_MQTT_URL is no port number.") from error
    return Endpoint(
        parts.hostname,
        port,
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
        _context(parts.query) if parts.scheme == "mqtts" else None,
    )


def _context(query: str) -> ssl.SSLContext:
    cafile = parse_qs(query).get("cafile", [None])[-1]
    try:
        return ssl.create_default_context(cafile=cafile)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured("FIXWRIGHT_MQTT_URL names {file}, which cannot be read.", file=cafile) from error
