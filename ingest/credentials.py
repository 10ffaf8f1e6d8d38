"""Who may speak over MQTT: passwords checked quickly, and Mosquitto's files written from what is registered."""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from assets import identity, passwords
from assets.identity import Credentials
from ingest import topics
from kernel.errors import Invalid

INGEST_USER: Final = "_fixwright"
"""The platform's own account. No device key begins with an underscore, so no device can be called so."""

_REMEMBERED: Final = 20_000
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+(~[0-9]+)?", re.ASCII)


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


def password_file(users: Mapping[str, str], *, ingest: str) -> str:
    """Return the text of Mosquitto's ``password_file``.

    ``users``: user name, a device's key or second name, to stored hash. ``ingest``: that of the platform's account.

    Raises:
        Invalid: a name or a hash could not stand in the file.
    """
    lines = [_line(INGEST_USER, ingest)]
    for user, stored in sorted(users.items()):
        if not topics.is_device_key(identity.key_of(user)) or not _NAME.fullmatch(user):
            raise Invalid("“{key}” is no device key.", field="key", key=user)
        lines.append(_line(user, stored))
    return "".join(lines)


def users_of(key: str, shown: Credentials, now: datetime) -> dict[str, str]:
    """Return the user names of a device at a broker that knows one password each, with the hashes to keep there."""
    users: dict[str, str] = {}
    before = shown.previous(now)
    if shown.password_hash:
        users[key] = before or shown.password_hash
        if shown.password_alias:
            users[shown.password_alias] = shown.password_hash
    if before and shown.previous_alias:
        users[shown.previous_alias] = before
    return users


def access_file(
    aliases: Iterable[str] = (), shut_out: Iterable[str] = (), *, mapped: Sequence[tuple[str, str | None]] = ()
) -> str:
    """Return the text of Mosquitto's ``acl_file``.

    Patterns serve every device that is called by its key. ``aliases`` are second user names in use; ``shut_out`` are
    keys of revoked devices whose certificates no password file can void. ``mapped`` are the topic filters that the
    platform reads by mappings, each with the key of the device that may publish there.
    """
    names = sorted(aliases)
    lines = [
        "# A device uses its own subtree and nothing else: %u is the user name, which is its key.",
        *(f"pattern write {name}" for name in _publishes("%u")),
        *(f"pattern read {name}" for name in _subscribes("%u")),
        "",
        f"user {INGEST_USER}",
        f"topic readwrite {topics.ROOT}/#",
        f"topic readwrite {topics.SPARKPLUG_ROOT}/#",
        "topic read $SYS/broker/publish/messages/dropped",
        *(f"topic read {name}" for name in sorted({name for name, _ in mapped})),
        "",
    ]
    for alias in names:
        key = identity.key_of(alias)
        # The patterns would give it a subtree of its own, in which nobody could be heard.
        lines += [
            f"user {alias}",
            f"topic deny {topics.ROOT}/{alias}/#",
            *(f"topic write {name}" for name in _publishes(key)),
        ]
        lines += [*(f"topic read {name}" for name in _subscribes(key)), ""]
    for user in sorted({bridge for _, bridge in mapped if bridge} | {*names}):
        granted = sorted({name for name, bridge in mapped if bridge == identity.key_of(user)})
        lines += [f"user {user}", *(f"topic write {name}" for name in granted), ""] if granted else []
    for key in sorted(shut_out):
        lines += [f"user {key}", "topic deny #", ""]
    return "\n".join(lines)


def _publishes(key: str) -> list[str]:
    return topics.patterns(key, topics.DEVICE_PUBLISHES, topics.SPARKPLUG_PUBLISHES)


def _subscribes(key: str) -> list[str]:
    return topics.patterns(key, topics.DEVICE_SUBSCRIBES, topics.SPARKPLUG_SUBSCRIBES)


def _line(user: str, stored: str) -> str:
    if not passwords.is_hash(stored):
        raise Invalid("The password of {user} is not stored in Mosquitto's format.", user=user)
    return f"{user}:{stored}\n"
