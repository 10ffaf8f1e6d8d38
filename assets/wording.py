"""What people type, made fit for the tables: trimmed and of a fitting length, or refused under the field's name."""

import unicodedata

from kernel.errors import Invalid


def needed(text: str | None, field: str, *, longest: int = 200) -> str:
    """Return a text that may not be missing, trimmed.

    Raises:
        Invalid: it is empty, too long, or holds control characters.
    """
    trimmed = optional(text, field, longest=longest)
    if trimmed is None:
        raise Invalid("This is needed.", field=field)
    return trimmed


def optional(text: str | None, field: str, *, longest: int = 200) -> str | None:
    """Return a text trimmed, or None where there is none.

    Raises:
        Invalid: it is too long or holds control characters.
    """
    trimmed = (text or "").strip()
    if len(trimmed) > longest:
        raise Invalid("At most {longest} characters fit here.", field=field, longest=longest)
    if any(unicodedata.category(character) == "Cc" for character in trimmed):
        raise Invalid("Line breaks and control characters do not fit here.", field=field)
    return trimmed or None
