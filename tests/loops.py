"""Coroutines in tests that are none: a loop of their own, in a thread of their own.

Once a test has started the shared browser, the main thread has a running loop for the rest of the run, and
``asyncio.run`` refuses there, whichever test asks.
"""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end and return what it returns."""
    with ThreadPoolExecutor(1, thread_name_prefix="loop") as thread:
        return thread.submit(asyncio.run, coroutine).result()
