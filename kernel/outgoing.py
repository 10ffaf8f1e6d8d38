"""Posts to addresses that people typed in: signed, bounded, and never into the network we stand in.

Whoever may configure an address could otherwise ask our own neighbours: databases, routers, a cloud's metadata
service. So a name is looked up once, every address behind it must be public or expressly allowed, the connection goes
to exactly that address, and nothing follows a redirect.
"""

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import SplitResult, urlsplit

from kernel.errors import Invalid, Unavailable

TIMEOUT_S: Final = 8.0
LONGEST_URL: Final = 500
_MOST_READ: Final = 64 * 1024
_OK: Final = range(200, 300)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def networks(allowed: Sequence[str]) -> tuple[Network, ...]:
    """Return networks that may be reached although they are not public, from texts such as ``10.1.0.0/16``.

    Raises:
        Invalid: one is no network.
    """
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in allowed if one.strip())
    except ValueError as error:
        raise Invalid("This is no network: {reason}", field="outgoing_allow", reason=str(error)) from error


def check(url: str) -> SplitResult:
    """Return an address taken apart, if it can be posted to at all; nothing is looked up yet.

    Raises:
        Invalid: it is no http or https address, or carries a name and password.
    """
    parts = urlsplit(url.strip())
    try:
        port = parts.port
    except ValueError:
        port = -1
    if len(url) > LONGEST_URL or parts.scheme not in {"http", "https"} or not parts.hostname or port == -1:
        raise Invalid("This must be an address that begins with https:// or http://.", field="url")
    if parts.username is not None or any(ord(letter) <= ord(" ") for letter in url.strip()):
        raise Invalid("An address must hold no name, password or blanks.", field="url")
    return parts


def signature(key: bytes, body: bytes, at: datetime) -> str:
    """Return what proves to the receiver who sent a body and when: ``t=…,v1=HMAC-SHA256 of "t.body"``."""
    stamp = str(int(at.timestamp()))
    return f"t={stamp},v1={hmac.new(key, stamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def post(url: str, body: bytes, headers: Mapping[str, str], *, allowed: Sequence[Network] = ()) -> int:
    """Post a body and return the status, one of 200 to 299.

    Raises:
        Invalid: the address may not be posted to.
        Unavailable: nobody answered in time, or the answer was anything but a success.
    """
    parts = check(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.sock = _connected(host, port, allowed)
        if parts.scheme == "https":
            connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        answer.read(_MOST_READ)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable("{host} does not answer: {reason}", host=host, reason=type(error).__name__) from error
    finally:
        connection.close()
    if answer.status not in _OK:
        raise Unavailable("{host} answered {status}.", host=host, status=answer.status)
    return answer.status


def _connected(host: str, port: int, allowed: Sequence[Network]) -> socket.socket:
    """Return a connection to the address behind a name that was judged: looked up once, so it cannot change between."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    for address in addresses:
        if not _may_be_reached(ipaddress.ip_address(address.partition("%")[0]), allowed):
            raise Invalid(
                "{host} lies in a network that is not public. FIXWRIGHT_OUTGOING_ALLOW may allow it.",
                field="url",
                host=host,
            )
    return socket.create_connection((addresses[0], port), timeout=TIMEOUT_S)


def _may_be_reached(address: Address, allowed: Sequence[Network]) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address.version == network.version and address in network for network in allowed):
        return True
    return address.is_global and not address.is_multicast
