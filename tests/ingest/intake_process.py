"""An intake that is killed: consumes, writes each batch to a file durably, and at some batch meets kill -9.

Run as ``python intake_process.py URL FILE SEED``; the seed says at which batch, and whether before the batch
is written or between that and its acknowledgement. An empty seed means never.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ingest import endpoint
from ingest.batch import Batch, Limits
from ingest.consumer import Consumer
from ingest.publisher import Outgoing
from ingest.terms import Terms


async def main(url: str, store: BinaryIO, seed: str) -> None:
    chance = random.Random(seed)
    fatal = chance.randrange(1, 4) if seed else None
    is_early = chance.random() < 0.5
    batches = 0

    def durably(batch: Batch) -> None:
        nonlocal batches
        batches += 1
        if batches == fatal and is_early:
            os.kill(os.getpid(), signal.SIGKILL)
        store.write(b"".join(payload + b"\n" for payload in batch.payloads))
        store.flush()
        os.fsync(store.fileno())
        if batches == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    async def write(batch: Batch) -> Sequence[Outgoing]:
        await asyncio.to_thread(durably, batch)
        return ()

    terms = Terms(watches_drops=False, receive_maximum=500)
    await Consumer(endpoint.parse(url), write, terms=terms, limits=Limits(messages=100, wait_ms=5)).run()


if __name__ == "__main__":
    with Path(sys.argv[2]).open("ab") as file:
        asyncio.run(main(sys.argv[1], file, sys.argv[3]))
