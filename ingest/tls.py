"""TLS of the embedded broker: its certificate, and the authorities whose client certificates name devices.

A client certificate is asked for only where authorities are named, and is never required: devices with passwords use
the same listener. One that no named authority signed ends the handshake.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.errors import Misconfigured
from kernel.settings import Settings


@dataclass(frozen=True, slots=True)
class Tls:
    """Where the embedded broker speaks TLS, and with what."""

    bind: str
    certificate: Path
    key: Path
    client_ca: Path | None = None


def tls_of(settings: Settings) -> Tls | None:
    """Return the TLS listener that the settings ask for, or None.

    Raises:
        Misconfigured: an address is set without certificate or key, or a file cannot be used.
    """
    if settings.mqtt_tls_bind is None:
        return None
    if settings.mqtt_tls_cert is None or settings.mqtt_tls_key is None:
        raise Misconfigured("FIXWRIGHT_MQTT_TLS_BIND needs FIXWRIGHT_MQTT_TLS_CERT and FIXWRIGHT_MQTT_TLS_KEY.")
    tls = Tls(settings.mqtt_tls_bind, settings.mqtt_tls_cert, settings.mqtt_tls_key, settings.mqtt_tls_client_ca)
    context(tls)  # so that a file that does not fit is said at the start, in words
    return tls


def context(tls: Tls) -> ssl.SSLContext:
    """Return how the listener speaks TLS: 1.2 or newer.

    Raises:
        Misconfigured: a file cannot be read, or key and certificate do not belong together.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            "FIXWRIGHT_MQTT_TLS_CERT and FIXWRIGHT_MQTT_TLS_KEY cannot be used: {why}", why=error
        ) from error
    if tls.client_ca is not None:
        try:
            made.load_verify_locations(tls.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured("FIXWRIGHT_MQTT_TLS_CLIENT_CA cannot be used: {why}", why=error) from error
        made.verify_mode = ssl.CERT_OPTIONAL
    return made


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Return the common name of a verified certificate as ``ssl`` describes it; None where it has none, or several."""
    if certificate is None:
        return None
    names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return names[0] if len(names) == 1 else None
