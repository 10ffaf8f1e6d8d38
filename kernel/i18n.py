"""Languages: gettext catalogues read from ``kernel/locale/<language>/*.po`` and merged.

The source language is English; a message without a translation falls back to itself, and a test proves that
none is missing. ``gettext`` marks and translates; the current language is a context variable set at the edge.
"""

from contextvars import ContextVar
from functools import cache
from pathlib import Path

from babel.messages.pofile import read_po

LANGUAGES = ("en", "zh")
LOCALE = Path(__file__).with_name("locale")

language: ContextVar[str] = ContextVar("language", default="en")


@cache
def catalogue(lang: str) -> dict[str, str]:
    """Return message → translation for one language; English is empty because it is the source."""
    merged: dict[str, str] = {}
    for path in sorted((LOCALE / lang).glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=lang):
                if message.id and isinstance(message.id, str) and isinstance(message.string, str) and message.string:
                    merged[message.id] = message.string
    return merged


def gettext(message: str, /, **values: object) -> str:
    """Return ``message`` in the current language, with ``{name}`` placeholders filled from ``values``."""
    translated = catalogue(language.get()).get(message, message)
    return translated.format(**values) if values else translated


def noop(message: str) -> str:
    """Mark a message for translation that is translated later, where it is shown."""
    return message


def preferred(accept_language: str | None) -> str:
    """Return the language of ours that a browser's Accept-Language asks for first; English when none is."""
    for part in (accept_language or "").split(","):
        wanted = part.split(";")[0].strip().lower()[:2]
        if wanted in LANGUAGES:
            return wanted
    return "en"
