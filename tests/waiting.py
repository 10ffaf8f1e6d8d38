"""Waiting for something to become true, with a deadline: the only way tests wait."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def until(predicate: Callable[[], Value], *, timeout_s: float = 20, every_s: float = 0.02, what: str = "") -> Value:
    """Return the first truthy answer of ``predicate``; fail when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {timeout_s} s: {what or predicate}")
        time.sleep(every_s)
    return answer
