"""The password and rights files of a Mosquitto broker, kept in step with the registered devices.

Written aside and moved into place, so that the broker never reads half a file; the platform's own account takes
its password from ``FIXWRIGHT_MQTT_URL``. The broker reads them again when told (SIGHUP), and then cuts every
connection whose password no longer stands there.

It does not cut a connection that was opened with a client certificate, whatever the files say. So a revoked device
that used one is first denied every topic, and then its connection is taken over and ended: Mosquitto knows one
connection a client id, and with ``use_username_as_clientid`` the client id is the device's key.
"""

import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import passwords
from assets.models import Device
from ingest import changes, credentials, endpoint, mappings
from ingest.endpoint import Endpoint
from kernel import log
from kernel.errors import Misconfigured
from kernel.settings import Settings

WHOLE_EVERY: Final = timedelta(minutes=5)
"""How often the files are compared with what is registered though nothing was heard of."""
_TAKE_OVER_S: Final = 5.0
_CONNACK_SIZE: Final = 4

_log = log.of(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """What the files are written from: user names, second names, revoked keys, and when an overlap ends next."""

    users: dict[str, str]
    aliases: set[str]
    shut_out: set[str]
    next_end: datetime | None
    mapped: Sequence[tuple[str, str | None]] = ()
    """Topic filters of mappings, each with the key of the device that may publish there."""


def listed(session: Session, now: datetime) -> Listed:
    """Return what is registered, as it counts at an instant."""
    users: dict[str, str] = {}
    ends: list[datetime] = []
    shut_out: set[str] = set()
    shows_something = Device.password_hash.is_not(None) | Device.accepts_certificate
    for device in session.scalars(select(Device).where(shows_something)).yield_per(1000):
        if device.revoked_at is not None:
            shut_out.add(device.key)
            continue
        shown = device.credentials
        users |= credentials.users_of(device.key, shown, now)
        if shown.previous(now) and shown.previous_until:
            ends.append(shown.previous_until)
    aliases = {user for user in users if "~" in user}
    return Listed(users, aliases, shut_out, min(ends, default=None), mappings.topics(session))


def write(session: Session, settings: Settings, folder: Path, now: datetime) -> bool:
    """Write ``passwd`` and ``acl`` where they differ from what is registered; return whether anything did.

    Raises:
        Misconfigured: the broker's URL does not name the platform's account with a password.
    """
    return _written(listed(session, now), settings, folder)


@dataclass(slots=True)
class Keeper:
    """Keeps the files of one broker in step. ``pid_file`` is that of the broker, where we are to tell it to read."""

    settings: Settings
    folder: Path
    pid_file: Path | None = None
    _ear: changes.Ear | None = None
    _whole_at: datetime | None = None
    _shut_out: set[str] = field(default_factory=set)

    def look(self, session: Session, now: datetime) -> bool:
        """Write and reload where something changed since the last look; return whether anything was written.

        Raises:
            Misconfigured: as ``write``.
        """
        if not self._is_news(session, now):
            return False
        found = listed(session, now)
        is_first = self._whole_at is None
        ends = [moment for moment in (found.next_end, now + WHOLE_EVERY) if moment is not None]
        self._whole_at = min(ends)
        is_written = _written(found, self.settings, self.folder)
        if is_written:
            self._reload()
        if not is_first:
            for key in sorted(found.shut_out - self._shut_out):
                self._end_connection(key, found)
        self._shut_out = found.shut_out
        return is_written

    def _is_news(self, session: Session, now: datetime) -> bool:
        clock_s = time.monotonic()
        if self._ear is None:
            self._ear = changes.Ear()
            self._ear.start(session, clock_s)
            return True
        changed, news = self._ear.look(session, clock_s)
        self._ear.heard(news, clock_s)
        return bool(changed.devices or changed.mappings) or self._whole_at is None or now >= self._whole_at

    def _reload(self) -> None:
        if self.pid_file is None:
            return
        try:
            os.kill(int(self.pid_file.read_text()), signal.SIGHUP)
        except (OSError, ValueError) as error:
            _log.error("the broker could not be told to read its files again", reason=str(error))

    def _end_connection(self, key: str, found: Listed) -> None:
        """Take over the connection of a revoked device with a password of one moment, and hang up."""
        password = passwords.draw()
        for_a_moment = {**found.users, key: passwords.hashed(password)}
        _written(Listed(for_a_moment, found.aliases, found.shut_out, None, found.mapped), self.settings, self.folder)
        self._reload()
        where = endpoint.parse(self.settings.mqtt_url or "")
        give_up_at = time.monotonic() + _TAKE_OVER_S
        while not _connects(where, key, password):
            if time.monotonic() > give_up_at:
                _log.error("a revoked device may still be connected, without any rights", device=key)
                break
            time.sleep(0.1)
        _written(found, self.settings, self.folder)
        self._reload()


def _written(found: Listed, settings: Settings, folder: Path) -> bool:
    url = urlsplit(settings.mqtt_url or "")
    if unquote(url.username or "") != credentials.INGEST_USER or not url.password:
        raise Misconfigured(
            "FIXWRIGHT_MQTT_URL must carry the account {user} and its password: mqtt://{user}:…@host:port",
            user=credentials.INGEST_USER,
        )
    folder.mkdir(parents=True, exist_ok=True)
    own = _own_hash(folder / "passwd", unquote(url.password))
    texts: Mapping[str, str] = {
        "acl": credentials.access_file(found.aliases, found.shut_out, mapped=found.mapped),
        "passwd": credentials.password_file(found.users, ingest=own),
    }
    replaced = [_replace(folder / name, text) for name, text in texts.items()]
    return any(replaced)


def _own_hash(path: Path, password: str) -> str:
    """Return the hash of the platform's account; the one that stands in the file already when it still fits."""
    if path.exists():
        for line in path.read_text().splitlines():
            user, _, stored = line.partition(":")
            if user == credentials.INGEST_USER and passwords.is_right(password, stored):
                return stored
    return passwords.hashed(password)


def _replace(path: Path, text: str) -> bool:
    if path.exists() and path.read_text() == text:
        return False
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    # The broker runs as another user; the file holds hashes of random passwords only.
    draft.chmod(0o644)
    draft.replace(path)
    return True


def _connects(where: Endpoint, user: str, password: str) -> bool:
    """Return whether a broker lets a user in, by the first two packets of MQTT 3.1.1; then hang up."""
    fields = b"".join(len(part).to_bytes(2) + part for part in (user.encode(), user.encode(), password.encode()))
    body = b"\x00\x04MQTT\x04\xc2\x00\x0a" + fields
    with contextlib.suppress(OSError, ssl.SSLError), socket.create_connection((where.host, where.port), 2) as plain:
        line = plain if where.tls is None else where.tls.wrap_socket(plain, server_hostname=where.host)
        with line:
            line.sendall(b"\x10" + _length(len(body)) + body)
            return line.recv(_CONNACK_SIZE, socket.MSG_WAITALL if where.tls is None else 0)[3:4] == b"\x00"
    return False


def _length(size: int) -> bytes:
    return bytes((size,)) if size < 128 else bytes((size % 128 | 128, size // 128))  # noqa: PLR2004 - MQTT's lengths
