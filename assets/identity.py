"""Who is speaking: whether what a connection shows belongs to a device. Pure; for every broker alike.

The embedded broker asks at CONNECT, EMQX over HTTP, and Mosquitto's files are written to the same effect. A device
is its key, shown as user name with a password, or as the common name of a client certificate that a trusted
authority signed. While a rotation overlaps, the password before works too, until its instant and not after.

Mosquitto knows one password a user name. There, the password before keeps the plain name until the overlap ends, and
the new one is used under a second name, ``press-7~2``; afterwards both names take the new one. Elsewhere the second
name is simply understood.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

ALIAS_MARK: Final = "~"
"""Between a key and the number of a second user name; no key holds it, so nobody else can be called so."""
_OWN_CLIENT_MARKS: Final = (ALIAS_MARK, ":", "/")
_MARK: Final = re.compile(r"[~:/]")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a device may show. Nothing at all lets nobody in."""

    password_hash: str | None = None
    password_alias: str | None = None
    previous_hash: str | None = None
    previous_alias: str | None = None
    previous_until: datetime | None = None
    client_id: str | None = None
    accepts_certificate: bool = False

    def previous(self, now: datetime) -> str | None:
        """Return the hash of the password before, while it still works."""
        return self.previous_hash if self.previous_until is not None and now < self.previous_until else None


@dataclass(frozen=True, slots=True)
class Login:
    """What a connection shows. ``common_name`` is that of ``certificate`` (DER), whose chain was verified."""

    user: str
    password: str
    client_id: str
    common_name: str | None = None
    certificate: bytes | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """The key of the device it claims to be."""
        return key_of(self.user) if self.user else self.common_name or ""


@dataclass(frozen=True, slots=True)
class Admission:
    """A device that may come in; its connection must end at ``until`` if that is given."""

    device: str
    until: datetime | None = None


def key_of(user: str) -> str:
    """Return the device key that a user name stands for."""
    return user.partition(ALIAS_MARK)[0]


def owner_of(client_id: str) -> str:
    """Return the key of the device whose name a client id is, or begins with."""
    return _MARK.split(client_id, maxsplit=1)[0]


def next_alias(key: str, current: str | None) -> str:
    """Return the second user name for another password: two take turns, so neither means two passwords at once."""
    second = f"{key}{ALIAS_MARK}2"
    return f"{key}{ALIAS_MARK}3" if current == second else second


def admit(
    credentials: Credentials, login: Login, *, key: str, now: datetime, is_right: Callable[[str, str], bool]
) -> Admission | None:
    """Return the admission of a device that is known and not revoked, or None.

    ``is_right(password, hash)`` compares. A certificate of another device opens nothing, whatever password comes
    with it; one of a device that takes no certificates counts for nothing, and the password decides.
    """
    if credentials.client_id is not None and login.client_id != credentials.client_id:
        return None
    if login.common_name is not None:
        if login.common_name != key:
            return None
        if credentials.accepts_certificate:
            return Admission(key)
    names = (key, credentials.password_alias)
    if credentials.password_hash and login.user in names and is_right(login.password, credentials.password_hash):
        return Admission(key)
    before = credentials.previous(now)
    if before and login.user in (key, credentials.previous_alias) and is_right(login.password, before):
        return Admission(key, credentials.previous_until)
    return None


def may_use_client_id(credentials: Credentials, key: str, client_id: str) -> bool:
    """Return whether a device may call its connection so at a broker where such names are one for all devices.

    Its bound name if it has one, else its key, alone or followed by ``~``, ``:`` or ``/`` and anything: whoever could
    choose freely could take over the session of another.
    """
    if credentials.client_id is not None:
        return client_id == credentials.client_id
    return client_id == key or client_id.startswith(tuple(f"{key}{mark}" for mark in _OWN_CLIENT_MARKS))
