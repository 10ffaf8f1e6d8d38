"""Passwords: what is accepted, how it is kept (argon2id), and how one is compared in the same time for everybody.

Follows NIST SP 800-63B: length counts, composition rules do not, and the most guessed ones are refused.
"""

import threading
import unicodedata

from pwdlib import PasswordHash

from kernel import ids
from kernel.errors import Invalid

SHORTEST = 10
LONGEST = 200
FEWEST_DIFFERENT = 5
# One comparison takes 64 MB; this many at once, whatever the number of requests.
_turns = threading.BoundedSemaphore(4)
_argon2 = PasswordHash.recommended()
_GUESSED = ("password", "qwertyuiop", "1234567890", "0987654321", "iloveyou", "letmein", "welcome", "fixwright")
# What is compared for an account that does not exist or has no password, so that the answer takes as long.
_NOBODY = _argon2.hash(ids.token())


def hashed(password: str, *, username: str = "") -> str:
    """Return what is kept of a new password.

    Raises:
        Invalid: it is too short or too long, holds the user name, or is one of those that are guessed first.
    """
    plain = unicodedata.normalize("NFC", password)
    if len(plain) < SHORTEST:
        raise Invalid("Use at least {n} characters.", field="password", n=SHORTEST)
    if len(plain) > LONGEST:
        raise Invalid("Use at most {n} characters.", field="password", n=LONGEST)
    if username and username.casefold() in plain.casefold():
        raise Invalid("The password must not hold the user name.", field="password")
    if len(set(plain)) < FEWEST_DIFFERENT or any(plain.casefold().startswith(word) for word in _GUESSED):
        raise Invalid("This password is easy to guess. Several words together are better.", field="password")
    with _turns:
        return _argon2.hash(plain)


def matches(password: str, kept: str | None) -> bool:
    """Return whether a password is the one that was kept; with None it never is, after the same time."""
    plain = unicodedata.normalize("NFC", password)[:LONGEST]
    with _turns:
        same = _argon2.verify(plain, kept or _NOBODY)
    return same and kept is not None


def invented() -> str:
    """Return a new random password of 78 bits that can be read out over the phone."""
    return ids.code(16)
