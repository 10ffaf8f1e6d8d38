"""A device's password: drawn at random, shown once, kept as a hash in Mosquitto's own format.

``$7$<iterations>$<salt>$<hash>``, PBKDF2 with HMAC-SHA-512 (RFC 8018), salt and hash in base64: one hash serves the
embedded broker and the password file of a Mosquitto. The iterations are Mosquitto's own default and few on
purpose: the password has 160 random bits, which no dictionary shortens, and after a broker's restart a hundred
thousand devices sign in at once.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Final

from kernel import ids
from kernel.errors import Invalid

ITERATIONS: Final = 101
_MOST_ITERATIONS: Final = 1_000_000
_SALT_BYTES: Final = 12
_FORMAT: Final = re.compile(r"\$7\$(\d{1,7})\$([A-Za-z0-9+/=]{4,256})\$([A-Za-z0-9+/=]{88})", re.ASCII)


def draw() -> str:
    """Return a new password: URL-safe text of 160 random bits."""
    return ids.token(160)


def hashed(password: str, *, iterations: int = ITERATIONS) -> str:
    """Return the hash to keep of a password.

    Raises:
        Invalid: it is empty, or holds a character that CONNECT cannot carry.
    """
    if not password or "\0" in password:
        raise Invalid("A password must not be empty or hold NUL.", field="password")
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"$7${iterations}${_text(salt)}${_text(_derived(password, salt, iterations))}"


def is_hash(stored: str) -> bool:
    """Return whether this is a hash in Mosquitto's format, as ``hashed`` and ``mosquitto_passwd`` make it."""
    return _FORMAT.fullmatch(stored) is not None


def is_right(password: str, stored: str | None) -> bool:
    """Return whether a password belongs to a hash; False for None and for a hash of another format.

    The time taken does not tell how much of it is right.
    """
    parts = _FORMAT.fullmatch(stored or "")
    if parts is None or not 0 < int(parts[1]) <= _MOST_ITERATIONS:
        return False
    try:
        salt, expected = base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(_derived(password, salt, int(parts[1])), expected)


def _derived(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(errors="surrogatepass"), salt, iterations)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
