"""Named places at which a test may end the process as a power cut would.

``FIXWRIGHT_CRASH_AT=after_store`` ends it at the first pass, ``after_store:3`` at the third. Unset, which is
always outside tests, a place is an empty function.
"""

import os
import signal
from collections.abc import Callable
from typing import Final

VARIABLE: Final = "FIXWRIGHT_CRASH_AT"
PLACES: Final = ("before_store", "after_store", "before_commit", "after_commit", "before_ack")
"""Those of the data path, in its order. Beside it lie ``command_sent``, ``before_late_commit`` and
``before_passed_commit``."""


def _place(wanted: str | None) -> Callable[[str], None]:
    if wanted is None:
        return lambda _name: None
    place, _, times = wanted.partition(":")
    left = [int(times or 1)]

    def die(name: str) -> None:
        if name == place:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    return die


here = _place(os.environ.get(VARIABLE))
