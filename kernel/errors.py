"""What can go wrong, in words that know nothing of HTTP. The edges map each kind once.

Every error carries a sentence for a person (English, translated at the edge through gettext with the
``values`` filled in) and, where one field is to blame, the name of that field.
"""

from typing import Any


class FixwrightError(Exception):
    """Something a person or program asked for could not be done, and nothing was changed."""

    def __init__(self, sentence: str, *, field: str | None = None, **values: Any) -> None:  # noqa: ANN401 - shown as text
        super().__init__(sentence.format(**values) if values else sentence)
        self.sentence = sentence
        self.values = values
        self.field = field


class Invalid(FixwrightError):
    """The input breaks a rule; ``field`` names where."""


class NotFound(FixwrightError):
    """It does not exist, or lies outside the viewer's scope: the two answer alike."""


class Conflict(FixwrightError):
    """It is no longer, or not yet, in the state the request needs; ``values`` may hold what is allowed."""


class Stale(FixwrightError):
    """Somebody else changed it since it was read (a lost update was prevented)."""


class Forbidden(FixwrightError):
    """The viewer may see it but not do this to it."""


class Unauthenticated(FixwrightError):
    """Nobody is signed in, or the credentials are wrong."""


class TooMany(FixwrightError):
    """A rate limit was reached; ``retry_after_s`` says when to come back."""

    def __init__(self, sentence: str, *, retry_after_s: int, **values: Any) -> None:  # noqa: ANN401 - shown as text
        super().__init__(sentence, **values)
        self.retry_after_s = retry_after_s


class Gone(FixwrightError):
    """It existed and was revoked or expired."""


class TooLarge(FixwrightError):
    """The upload is larger than allowed."""


class Unsupported(FixwrightError):
    """The upload is of a kind we do not keep."""


class Unavailable(FixwrightError):
    """A part this needs (database, telemetry store) does not answer right now."""


class Misconfigured(FixwrightError):
    """A setting or the machine's state forbids starting; the sentence says what to change."""
