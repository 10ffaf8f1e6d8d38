"""How much memory the process keeps beyond what it uses: said once at its start, before it has threads.

glibc gives threads that allocate at the same time arenas of their own, up to eight a core, and each keeps what was
freed in it. With a score of threads, most of which wait for each other, that is memory nobody uses, and a floor that
creeps up for minutes.
"""

import ctypes
import os
import sys
from typing import Final

ARENAS: Final = 2
"""For threads that wait for each other anyway, for the interpreter or the store."""
_M_ARENA_MAX: Final = -8


def bound_arenas() -> bool:
    """Let glibc share ``ARENAS`` arenas among all threads; return whether it does.

    Whoever runs the process may ask for another number with ``MALLOC_ARENA_MAX``. Elsewhere than on glibc nothing is
    done.
    """
    if not sys.platform.startswith("linux") or "MALLOC_ARENA_MAX" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_ARENA_MAX, ARENAS) == 1
