"""The password and rights files of a Mosquitto broker, kept in step with the registered devices.

Written aside and moved into place, so that the broker never reads half a file; the platform's own account takes
its password from ``FIXWRIGHT_MQTT_URL``.
"""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import passwords
from assets.models import Device
from ingest import credentials
from kernel.errors import Misconfigured
from kernel.settings import Settings


def write(session: Session, settings: Settings, folder: Path) -> bool:
    """Write ``passwd`` and ``acl`` where they differ from what is registered; return whether anything did.

    Raises:
        Misconfigured: the broker's URL does not name the platform's account with a password.
    """
    url = urlsplit(settings.mqtt_url or "")
    if unquote(url.username or "") != credentials.INGEST_USER or not url.password:
        raise Misconfigured(
            "FIXWRIGHT_MQTT_URL must carry the account {user} and its password: mqtt://{user}:…@host:port",
            user=credentials.INGEST_USER,
        )
    devices = select(Device.key, Device.password_hash).where(
        Device.revoked_at.is_(None), Device.password_hash.is_not(None)
    )
    known = {key: stored or "" for key, stored in session.execute(devices)}
    folder.mkdir(parents=True, exist_ok=True)
    own = _own_hash(folder / "passwd", unquote(url.password))
    texts = {"passwd": credentials.password_file(known, ingest=own), "acl": credentials.access_file()}
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
