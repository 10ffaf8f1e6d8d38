"""How much memory the embedded store may take for its tables, and what follows for how it works.

``FIXWRIGHT_STORE_MEMORY_MB`` is DuckDB's own limit for all it does at once: what is hot, what is being sorted, what
is read, and the blocks of the file it keeps at hand. What does not fit goes to files beside the database for a while,
so a tight limit costs time and never readings. The process needs more than that: Python, what was gathered into
batches, and answers on their way out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MEMORY_MB: Final = 256
"""Enough that nothing is put aside at a million readings a second."""
LEAST_MB: Final = 96

_HOT_ROWS: Final = 500_000
"""16 MB that rise and fall. Four times as many looked like a leak for a minute at 10,000 messages a second."""
_SORTED_ROWS: Final = 1_000_000
_HOT_ROWS_MB: Final = 2_000
_SORTED_ROWS_MB: Final = 4_000
_LEAST_ROWS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Budget:
    """What a store may take."""

    memory_mb: int = MEMORY_MB

    @property
    def hot_rows(self) -> int:
        """How many readings wait in the order they came before they are sorted."""
        return min(_HOT_ROWS, self.memory_mb * _HOT_ROWS_MB)

    @property
    def sorted_rows(self) -> int:
        """How many readings are sorted at once, 41 bytes each: about a sixth of the memory."""
        return min(_SORTED_ROWS, self.memory_mb * _SORTED_ROWS_MB)

    def attempts(self) -> Iterator[int]:
        """Give how many readings to sort at once: all that may be, then less, for when memory runs out all the same."""
        rows = self.sorted_rows
        while rows > _LEAST_ROWS:
            yield rows
            rows //= 2
        yield _LEAST_ROWS
