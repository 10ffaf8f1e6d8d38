"""How the processes of one run share the tests: a file stays together, and what takes longest begins first.

Whatever starts the demo counts as one file. A demo is a dozen processes that want a good part of a core: two at once,
one for each process of the run, cost more than one after the other.
"""

from itertools import takewhile

import pytest
from xdist.scheduler import LoadFileScheduling

DEMO = ("tests/journeys/", "tests/test_start.py")
FIRST = (*DEMO, "tests/reliability/", "tests/intake/test_kill.py", "tests/web/", "tests/ingest/")
"""Beginnings of names: the longest files, in the order they begin; the short ones fill up what is left at the end."""


class Shares(LoadFileScheduling):
    """The distribution that ``--dist loadfile`` asks for, with the demo's tests in one share."""

    def _split_scope(self, nodeid: str) -> str:
        return DEMO[0] if nodeid.startswith(DEMO) else super()._split_scope(nodeid)


def longest_first(items: list[pytest.Item]) -> None:
    """Bring tests into the order of ``FIRST``; those that it does not name keep theirs."""
    items.sort(key=lambda item: len(list(takewhile(lambda start: not item.nodeid.startswith(start), FIRST))))
