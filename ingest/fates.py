"""What became of each message of a batch, for an edge that answers its sender in words instead of a PUBACK.

An MQTT batch carries none of this and pays nothing for it. The unit is that of the ledger: a message, and in a
gateway's message each child's part.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Self

import numpy as np

from ingest.decoded import Rejected
from ingest.resolve import Resolved
from telemetry.readings import Int64s, Written


@dataclass(frozen=True, slots=True, eq=False)
class Fates:
    """Columns of one length: parts stored and duplicate (int64), and what was set aside, by message."""

    stored: Int64s
    duplicate: Int64s
    rejects: list[list[Rejected]]

    @classmethod
    def of(cls, size: int) -> Self:
        """Return the fates of messages of which nothing is known yet."""
        return cls(np.zeros(size, np.int64), np.zeros(size, np.int64), [[] for _ in range(size)])

    def __len__(self) -> int:
        return len(self.rejects)

    def part(self, begin: int, end: int) -> Self:
        """Return the fates of some of the messages; what is noted there is noted here."""
        return type(self)(self.stored[begin:end], self.duplicate[begin:end], self.rejects[begin:end])

    def note(self, resolved: Resolved, written: Written, news: AbstractSet[int]) -> None:
        """Take note of a durable batch; ``written`` says which readings told something new, ``news`` which reports."""
        fresh = np.ones(len(resolved.part), np.bool_)
        if len(resolved.part) and written.duplicate:
            fresh = ~np.logical_and.reduceat(written.is_duplicate, resolved.part)
        np.add.at(self.stored, resolved.part_message[fresh], 1)
        np.add.at(self.duplicate, resolved.part_message[~fresh], 1)
        for position, report in enumerate(resolved.reports):
            if not report.said.is_beside:
                (self.stored if position in news else self.duplicate)[report.said.message] += 1
        for message, _ in resolved.words:
            self.stored[message] += 1
        for reject in (*resolved.rejects, *resolved.over_told):
            self.refuse(reject)
        # A mapping may find that a message repeats what is known, or belongs to nobody it should ask for.
        for message in np.flatnonzero(self.stored + self.duplicate == 0).tolist():
            self.duplicate[message] += not self.rejects[message]

    def refuse(self, reject: Rejected) -> None:
        """Take note of a message, or a part of one, that was set aside."""
        self.rejects[reject.message].append(reject)
