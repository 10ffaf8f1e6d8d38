"""The upkeep of a DuckDB file beside writes: sorting what is hot, merging segments, building tiers, forgetting.

A step is bounded, and whoever writes waits for none but its last instant, in which a sorted table takes the place of
its sources. What was corrected meanwhile is corrected in the copy, too.
"""

import contextlib
from collections.abc import Callable
from typing import TypeVar

import duckdb

from telemetry import tables, tiers
from telemetry.budget import Budget
from telemetry.duckfile import DuckFile, Move, correct, keep_newest
from telemetry.readings import Readings
from telemetry.retention import Policy
from telemetry.tables import Table

FAN_IN = 6
SEGMENT_ROWS = 24_000_000
"""No merge makes a larger one: sorting this many rows takes seconds, which is what one bounded step may take.
Six times six hot tables must fit though each is sealed a batch or two late, or those would never merge."""

ROUNDS = 3
"""How often housekeeping looks again for what came late while it worked, before it forgets."""

Made = TypeVar("Made")


class Upkeep:
    """Keeps one file in order; see ``TelemetryStore.compact`` and ``TelemetryStore.keep``."""

    def __init__(self, file: DuckFile, *, hot_rows: int, segment_rows: int, fan_in: int, budget: Budget) -> None:
        self._file = file
        self._hot_rows = hot_rows
        self._segment_rows = segment_rows
        self._fan_in = fan_in
        self._budget = budget

    def step(self) -> bool:
        """Do one step: sort a full hot table, merge segments, or build tiers; see ``TelemetryStore.compact``."""
        with self._file.maintaining, self._file.translated():
            sources, newest = self._next_move(full=self._hot_rows)
            if sources:
                self._sort(sources, newest)
                self._checkpoint(is_due=newest is not None)
                return True
            return self._roll_next() or self._mend_hours()

    def keep(self, policy: Policy) -> None:
        """Forget what a policy allows; see ``TelemetryStore.keep``.

        A segment of which a part has expired is written anew without it, beside writes, as compaction does: to
        delete millions of rows would hold up writes for a second. What is not in the tiers yet gets there first.
        """
        with self._file.maintaining, self._file.translated():
            with self._file.writing, self._file.transaction() as cursor:
                # The newest reading of a silent device may expire with the hot table, and must outlive it.
                keep_newest(cursor, "latest", self._file.newest.snapshot())
                tiers.adopt(cursor, policy)
            for table in self._roll_expired():
                self._cut(table)
            with contextlib.closing(self._file.cursor()) as cursor:
                tiers.forget(cursor)
            self._checkpoint()

    def _next_move(self, *, full: int) -> tuple[list[Table], Readings | None]:
        """Return the tables to sort next, and the newest readings when they contain hot ones.

        The hot table is sealed once it holds ``full`` rows.
        """
        with self._file.writing:
            layout = tables.listed(self._file.writer)
            hot = [table for table in layout if table.kind == "hot" and table != self._file.hot]
            if not hot and self._file.hot_count >= full:
                hot = [self._file.hot]
                with self._file.transaction() as cursor:
                    added = tables.add_hot(cursor)
                self._file.hot, self._file.hot_count = added, 0
            sources = hot[:1] or self._mergeable(layout)
            if sources:
                self._file.move = Move(frozenset(sources))
            return sources, self._file.newest.snapshot() if hot else None

    def _mergeable(self, layout: list[Table]) -> list[Table]:
        """Return segments to merge; what is rolled stays apart from what is not."""
        for is_rolled in (False, True):
            alike = [table for table in layout if table.is_rolled == is_rolled]
            found = tables.mergeable(
                alike, fan_in=self._fan_in, least_rows=self._hot_rows, most_rows=self._segment_rows
            )
            if found:
                return found
        return []

    def _sort(self, sources: list[Table], newest: Readings | None) -> None:
        try:
            segment = self._within_budget(lambda cursor, rows: tables.sort(cursor, sources, slice_rows=rows))
            if newest:
                with contextlib.closing(self._file.cursor()) as cursor:
                    keep_newest(cursor, "latest_next", newest)
            with self._file.writing:
                self._swap(sources, segment, newest)
        finally:
            self._file.move = None

    def _within_budget(self, make: Callable[[duckdb.DuckDBPyConnection, int], Made]) -> Made:
        """Return what is made, in a transaction, with a number of rows at work at once.

        With fewer where even that was too much beside all else that takes memory at the moment.
        """
        attempts = [*self._budget.attempts()]
        for rows in attempts:
            with contextlib.closing(self._file.cursor()) as cursor:
                try:
                    cursor.begin()
                    made = make(cursor, rows)
                    cursor.commit()
                except duckdb.Error as error:
                    if rows == attempts[-1] or not _is_want_of_memory(error):
                        raise
                else:
                    return made
        raise AssertionError("the last attempt returns or raises")

    def _swap(self, sources: list[Table], segment: Table, newest: Readings | None) -> None:
        move = self._file.move
        with self._file.transaction() as cursor:
            tables.replace(cursor, sources, segment)
            if newest:
                cursor.execute("DROP TABLE latest")
                cursor.execute("ALTER TABLE latest_next RENAME TO latest")
            # The copy was sorted from an older moment; what was corrected since is corrected in it too.
            for content in move.corrections if move else ():
                correct(cursor, segment.name, content)
                correct(cursor, "latest", content)
        self._file.move = None

    def _roll_next(self) -> bool:
        """Roll a segment that has grown; smaller ones wait, so that what comes late makes no buckets of its own."""
        with self._file.snapshot() as (_, layout):
            grown = self._hot_rows * self._fan_in
            due = [table for table in layout if table.kind == "segment" and not table.is_rolled and table.rows >= grown]
        if due:
            self._roll(due[0])
        return bool(due)

    def _roll(self, table: Table) -> None:
        with self._file.writing:
            self._file.rolling = table  # whoever corrects it from now on marks the hour
        try:
            self._within_budget(lambda cursor, rows: tiers.roll(cursor, table, slice_rows=rows))
        finally:
            with self._file.writing:
                self._file.rolling = None

    def _mend_hours(self) -> bool:
        with self._file.writing:
            if not tiers.has_dirty(self._file.writer):
                return False
            with self._file.transaction() as cursor:
                tiers.mend(cursor, tables.listed(cursor))
        return True

    def _roll_expired(self) -> list[Table]:
        """Roll whatever holds something to forget, raise the horizons, and return the segments concerned.

        What came so late that it can be forgotten at once is sorted and rolled first, too. Of what comes during
        the last step that is seen and done again, a few times: then it counts as too late for the tiers.
        """
        for _ in range(ROUNDS):
            self._seal_expired()
            with self._file.snapshot() as (cursor, layout):
                exact_from = tiers.kept_from_ms(cursor)
            due = [table for table in layout if table.kind == "segment" and table.first_ms < exact_from]
            for table in due:
                if not table.is_rolled and self._has_expired(table):
                    self._roll(table)
            while self._mend_hours():
                pass
            with self._file.writing, self._file.transaction() as cursor:
                if not any(tiers.kept(cursor, table)[0] for table in tables.listed(cursor) if table.kind == "hot"):
                    _settle(cursor)
                    break
        else:
            with self._file.writing, self._file.transaction() as cursor:
                _settle(cursor)
        with self._file.snapshot() as (_, layout):
            return [table for table in layout if table.kind == "segment" and table.first_ms < exact_from]

    def _has_expired(self, table: Table) -> bool:
        with self._file.snapshot() as (cursor, _):
            return tiers.kept(cursor, table)[0] > 0

    def _seal_expired(self) -> None:
        """Sort hot tables that hold something to forget."""
        while True:
            with self._file.snapshot() as (_, layout):
                hot = [table for table in layout if table.kind == "hot"]
            if not any(self._has_expired(table) for table in hot):
                return
            sources, newest = self._next_move(full=1)
            self._sort(sources, newest)

    def _cut(self, table: Table) -> None:
        """Write a segment anew without what may be forgotten, if there is any."""
        with self._file.snapshot() as (cursor, _):
            gone, rows, is_sorted = tiers.kept(cursor, table)
        if not gone or not table.is_rolled:
            return
        with self._file.writing:
            self._file.move = Move(frozenset([table]))
        try:
            segment = self._within_budget(
                lambda cursor, most: tables.write(cursor, rows, is_sorted=is_sorted, is_rolled=True, slice_rows=most)
            )
            with self._file.writing:
                self._swap([table], segment, None)
        finally:
            self._file.move = None

    def _checkpoint(self, *, is_due: bool = False) -> None:
        """Write the log into the file, unless that can wait.

        Writes wait meanwhile, as long as it takes to pack what is hot. Just after the hot table was exchanged that is
        little; at other times it is left to the next exchange if much has come since the last one.
        """
        if not is_due and self._file.hot_count > self._hot_rows // 8:
            return
        with self._file.writing, contextlib.suppress(duckdb.TransactionException):
            # Refused while a reader holds an old moment open; the log then waits for the next time.
            self._file.writer.execute("CHECKPOINT")


def _is_want_of_memory(error: duckdb.Error) -> bool:
    """Return whether less work at once may succeed; a failed commit says so only in its words."""
    return isinstance(error, duckdb.OutOfMemoryException) or "could not allocate" in str(error)


def _settle(cursor: duckdb.DuckDBPyConnection) -> None:
    """Let the tiers answer for what may be forgotten, once they hold every correction of it."""
    while tiers.has_dirty(cursor):
        tiers.mend(cursor, tables.listed(cursor))
    tiers.settle(cursor)
