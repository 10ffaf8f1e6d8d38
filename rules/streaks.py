"""When a streak of matches is long enough: simple, duration, repeating, repeating within a window (A5, A12)."""

from rules.compiled import Length, Truth
from rules.outcome import NEVER, Streak


class Running:
    """The streak of one rule while it is stepped, instant by instant. ``began_ms`` is None while nothing matches."""

    __slots__ = ("began_ms", "count", "matches")

    def __init__(self) -> None:
        self.began_ms: int | None = None
        self.count = 0
        self.matches: list[int] = []

    def end(self) -> None:
        """Forget everything."""
        self.began_ms = None
        self.count = 0
        self.matches.clear()

    def take_up(self, streak: Streak) -> None:
        """Go on where a stored streak stood."""
        self.began_ms = streak.began_ms
        self.count = streak.count
        self.matches = list(streak.matches)

    def stored(self, of: str, kind: str) -> Streak | None:
        """Return what must be remembered, None when nothing matches."""
        if self.began_ms is None:
            return None
        return Streak(of, kind, self.began_ms, self.count, tuple(self.matches))

    def step(self, length: Length, root: Truth, at_ms: int, *, is_counted: bool, begins_ms: int | None) -> bool:
        """Take note of one instant, and return whether the streak is long enough now.

        ``is_counted``: a sample of the rule's own metrics came. ``begins_ms``: when a streak that starts with this
        instant began; None where none may start, because only time has passed.
        """
        if length.window_ms:
            return self._step_window(length, root, at_ms, is_counted=is_counted)
        if root is not True:
            self.end()
            return False
        if self.began_ms is None:
            if begins_ms is None:
                return False
            self.began_ms = begins_ms
        self.count += is_counted
        return self.is_long(length, at_ms)

    def is_long(self, length: Length, at_ms: int) -> bool:
        """Return whether the streak, without a window, is long enough at an instant."""
        return self.began_ms is not None and at_ms - self.began_ms >= length.ms and self.count >= length.times

    def due_ms(self, length: Length, at_ms: int) -> int:
        """Return the next instant after ``at_ms`` at which time alone changes the answer."""
        if self.began_ms is None:
            return NEVER
        if length.window_ms:
            return self.began_ms + length.window_ms + 1 if len(self.matches) >= length.times else NEVER
        due = self.began_ms + length.ms
        return due if due > at_ms else NEVER

    def drop_old(self, length: Length, at_ms: int) -> None:
        """Forget matches that an instant's window no longer reaches; a window without matches starts afresh."""
        while self.matches and self.matches[0] < at_ms - length.window_ms:
            del self.matches[0]
        if self.matches:
            self.began_ms = self.matches[0]
        else:
            self.end()

    def _step_window(self, length: Length, root: Truth, at_ms: int, *, is_counted: bool) -> bool:
        self.drop_old(length, at_ms)
        if root is True and is_counted:
            self.count += 1
            self.matches.append(at_ms)
            del self.matches[: -length.times]
            self.began_ms = self.matches[0]
        return len(self.matches) >= length.times
