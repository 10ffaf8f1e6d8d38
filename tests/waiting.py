"""Waiting for something to become true, with a deadline: the only way tests wait."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def until(
    predicate: Callable[[], Value],
    *,
    timeout_s: float = 20,
    every_s: float = 0.02,
    what: str | Callable[[], str] = "",
) -> Value:
    """Return the first truthy answer of ``predicate``; fail when none comes in time, and say ``what`` did not."""
    deadline = time.monotonic() + timeout_s
    while not (answer := predicate()):
        if time.monotonic() > deadline:
            said = what() if callable(what) else what
            raise AssertionError(f"did not happen within {timeout_s} s: {said or predicate}")
        time.sleep(every_s)
    return answer
