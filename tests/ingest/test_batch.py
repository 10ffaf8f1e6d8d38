import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ingest.batch import Batch, Gatherer, IntakeCounters, Limits
from ingest.publisher import Outgoing
from tests import loops

FAR = 10_000  # ms: a wait that no test sits out


class Desk:
    """A pipeline whose batches are finished one by one, and what came of them."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.finish: list[asyncio.Future[Sequence[Outgoing]]] = []
        self.done: list[list[int]] = []
        self.arrived = asyncio.Event()
        self.rooms = 0

    async def process(self, batch: Batch) -> Sequence[Outgoing]:
        self.batches.append(batch)
        self.finish.append(asyncio.get_running_loop().create_future())
        self.arrived.set()
        return await self.finish[len(self.batches) - 1]

    async def wait_for(self, count: int) -> None:
        while len(self.batches) < count:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 10)


def gatherer(desk: Desk, counters: IntakeCounters | None = None, **limits: Any) -> Gatherer[int]:
    def room() -> None:
        desk.rooms += 1

    return Gatherer(
        desk.process,
        lambda handles, _: desk.done.append(handles),
        limits=Limits(**limits),
        counters=counters or IntakeCounters(),
        room=room,
    )


def add(gathering: Gatherer[int], first: int, count: int, size: int = 1) -> None:
    handles = list(range(first, first + count))
    gathering.add([f"t/{handle}" for handle in handles], [b"x" * size] * count, handles)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_batch_is_due_by_count_by_size_or_by_time() -> None:
    async def run() -> None:
        for limits, count, size in (
            ({"messages": 3, "wait_ms": FAR}, 3, 1),
            ({"size": 30, "wait_ms": FAR}, 3, 10),
            ({"wait_ms": 1}, 1, 1),
            ({"wait_ms": 0}, 1, 1),
        ):
            desk = Desk()
            gathering = gatherer(desk, **limits)
            running = asyncio.create_task(gathering.run())
            add(gathering, 0, count, size)
            await desk.wait_for(1)
            assert len(desk.batches[0]) == count
            running.cancel()

    loops.run(run())


def test_a_batch_never_exceeds_its_limit_and_the_rest_follows_in_order() -> None:
    async def run() -> None:
        desk, counters = Desk(), IntakeCounters()
        gathering = gatherer(desk, counters, messages=100, wait_ms=1)
        running = asyncio.create_task(gathering.run())
        add(gathering, 0, 250)
        for number in range(3):
            await desk.wait_for(number + 1)
            assert counters.waiting == 250 - 100 * number
            desk.finish[number].set_result(())
        gathering.drain()
        await running
        assert [len(batch) for batch in desk.batches] == [100, 100, 50]
        assert [handle for handles in desk.done for handle in handles] == list(range(250))
        assert [topic for batch in desk.batches for topic in batch.topics] == [f"t/{n}" for n in range(250)]
        assert all(len(batch.received_ms) == len(batch) for batch in desk.batches)
        assert (counters.received, counters.batches, counters.waiting, counters.largest_batch) == (
            250,
            3,
            0,
            100,
        )

    loops.run(run())


def test_the_next_batch_is_gathered_while_one_is_processed_and_then_reading_stops() -> None:
    async def run() -> None:
        desk = Desk()
        gathering = gatherer(desk, messages=10, wait_ms=1)
        running = asyncio.create_task(gathering.run())
        add(gathering, 0, 10)
        await desk.wait_for(1)
        assert not gathering.is_full
        add(gathering, 10, 9)
        assert not gathering.is_full
        add(gathering, 19, 1)
        assert gathering.is_full
        await settled()
        assert len(desk.batches) == 1
        rooms = desk.rooms
        desk.finish[0].set_result(())
        await desk.wait_for(2)
        assert not gathering.is_full
        assert desk.rooms == rooms + 1
        running.cancel()

    loops.run(run())


def test_batches_that_overlap_are_acknowledged_in_order_of_reception() -> None:
    async def run() -> None:
        desk = Desk()
        gathering = gatherer(desk, messages=2, wait_ms=FAR, overlap=2)
        running = asyncio.create_task(gathering.run())
        add(gathering, 0, 4)
        await desk.wait_for(2)
        desk.finish[1].set_result(())
        await settled()
        assert desk.done == []
        desk.finish[0].set_result(())
        gathering.drain()
        await running
        assert desk.done == [[0, 1], [2, 3]]

    loops.run(run())


def test_a_failed_batch_ends_the_run_and_nothing_after_it_is_acknowledged() -> None:
    async def run() -> None:
        desk, counters = Desk(), IntakeCounters()
        gathering = gatherer(desk, counters, messages=2, wait_ms=FAR, overlap=2)
        running = asyncio.create_task(gathering.run())
        add(gathering, 0, 5)
        await desk.wait_for(2)
        desk.finish[1].set_result(())
        desk.finish[0].set_exception(OSError("the disk is full"))
        with pytest.raises(OSError, match="the disk is full"):
            await running
        assert desk.done == []
        assert gathering.forget() == [4]
        assert (counters.failed_batches, counters.batches, counters.waiting) == (1, 0, 0)

    loops.run(run())


def test_a_run_can_begin_again_after_a_failure() -> None:
    async def run() -> None:
        desk = Desk()
        gathering = gatherer(desk, messages=2, wait_ms=1)
        running = asyncio.create_task(gathering.run())
        add(gathering, 0, 2)
        await desk.wait_for(1)
        desk.finish[0].set_exception(OSError("no"))
        with pytest.raises(OSError, match="no"):
            await running
        gathering.forget()
        running = asyncio.create_task(gathering.run())
        await settled()
        add(gathering, 7, 1)
        await desk.wait_for(2)
        desk.finish[1].set_result(())
        gathering.drain()
        await running
        assert desk.done == [[7]]

    loops.run(run())


def test_replayed_messages_keep_their_mark_when_a_batch_is_cut() -> None:
    async def run() -> None:
        desk = Desk()
        gathering = gatherer(desk, messages=3, wait_ms=1)
        running = asyncio.create_task(gathering.run())
        gathering.add(["a", "b"], [b"", b""], [1, 2], retained=[1])
        gathering.add(["c", "d", "e"], [b""] * 3, [3, 4, 5], retained=[0, 2])
        await desk.wait_for(1)
        desk.finish[0].set_result(())
        await desk.wait_for(2)
        assert [sorted(batch.retained) for batch in desk.batches] == [[1, 2], [1]]
        running.cancel()

    loops.run(run())
