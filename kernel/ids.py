"""Names that cannot be guessed, and codes that people can read out over the phone."""

import hashlib
import secrets

# Crockford's alphabet without the letters that look like digits: what stands on a label is read aloud.
ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"


def token(bits: int = 160) -> str:
    """Return an unguessable URL-safe token of at least ``bits`` random bits."""
    return secrets.token_urlsafe((bits + 7) // 8)


def code(length: int = 8) -> str:
    """Return a readable code, e.g. ``7KQ4-M2XA``: grouped by four, without look-alike characters."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(length))
    return "-".join(letters[start : start + 4] for start in range(0, length, 4))


def fingerprint(secret: str) -> str:
    """Return the SHA-256 of a random secret in hex: what the database keeps instead of the secret.

    Only for secrets of 128 random bits or more; a password goes through argon2 in ``people.accounts``.
    """
    return hashlib.sha256(secret.encode()).hexdigest()
