"""Who may speak over MQTT: passwords checked quickly, and Mosquitto's files written from what is registered."""

import hashlib
import secrets
from collections.abc import Mapping
from typing import Final

from assets import passwords
from ingest import topics
from kernel.errors import Invalid

INGEST_USER: Final = "_fixwright"
"""The platform's own account. No device key begins with an underscore, so no device can be called so."""

_REMEMBERED: Final = 20_000


class Checker:
    """Checks passwords and remembers the right ones for a while, so that a storm of reconnects is cheap.

    Remembered is a keyed digest of hash and password, under a key that lives and dies with this object. A new
    hash is a new entry: a changed password is never answered from memory. Wrong ones are not remembered.
    """

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, None] = {}

    def is_right(self, password: str, stored: str) -> bool:
        """Return whether a password belongs to a hash."""
        told = len(stored).to_bytes(4) + stored.encode() + password.encode(errors="surrogatepass")
        mark = hashlib.blake2b(told, key=self._key, digest_size=32).digest()
        if mark in self._right:
            return True
        if not passwords.is_right(password, stored):
            return False
        if len(self._right) >= self._limit:
            del self._right[next(iter(self._right))]
        self._right[mark] = None
        return True


def password_file(devices: Mapping[str, str], *, ingest: str) -> str:
    """Return the text of Mosquitto's ``password_file``.

    ``devices``: key to stored hash. ``ingest``: the hash of the platform's own account.

    Raises:
        Invalid: a key or a hash could not stand in the file.
    """
    lines = [_line(INGEST_USER, ingest)]
    for key, stored in sorted(devices.items()):
        if not topics.is_device_key(key):
            raise Invalid("“{key}” is no device key.", field="key", key=key)
        lines.append(_line(key, stored))
    return "".join(lines)


def access_file() -> str:
    """Return the text of Mosquitto's ``acl_file``: it names no device, so it never changes with them."""
    own = "%u"
    patterns = [
        *(
            f"pattern write {name}"
            for name in topics.patterns(own, topics.DEVICE_PUBLISHES, topics.SPARKPLUG_PUBLISHES)
        ),
        *(
            f"pattern read {name}"
            for name in topics.patterns(own, topics.DEVICE_SUBSCRIBES, topics.SPARKPLUG_SUBSCRIBES)
        ),
    ]
    return "\n".join(
        (
            "# A device uses its own subtree and nothing else: %u is the user name, which is its key.",
            *patterns,
            "",
            f"user {INGEST_USER}",
            f"topic readwrite {topics.ROOT}/#",
            f"topic readwrite {topics.SPARKPLUG_ROOT}/#",
            "topic read $SYS/broker/publish/messages/dropped",
            "",
        )
    )


def _line(user: str, stored: str) -> str:
    if not passwords.is_hash(stored):
        raise Invalid("The password of {user} is not stored in Mosquitto's format.", user=user)
    return f"{user}:{stored}\n"
