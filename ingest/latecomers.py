"""Readings that came late, judged at their own time: one rule on one asset after the other, beside the path.

What it takes to judge is read beside the path; only the settling waits its turn between two batches.
"""

import asyncio
from typing import Final

from ingest.licence import Deposed
from ingest.patience import TRANSIENT
from ingest.pipeline import Pipeline
from ingest.tending import Between
from kernel import clock, log
from rules import late

EVERY_S: Final = 0.5

_log = log.of(__name__)


async def for_ever(pipeline: Pipeline, between: Between) -> None:
    """Judge what came late until the licence is lost."""
    while True:
        try:
            task = await between(lambda: pipeline.judging.late_task(clock.now()))
            if task is not None:
                await _judge(pipeline, between, task)
                continue
        except TRANSIENT as error:
            _log.warning("late readings wait", reason=type(error).__name__)
        except Deposed:
            return
        except Exception as error:  # noqa: BLE001 - the edge of a task: logged, and it is tried again later
            _log.error("late readings could not be judged", exc_info=error)
        await asyncio.sleep(EVERY_S)


async def _judge(pipeline: Pipeline, between: Between, task: late.Task) -> None:
    try:
        found = await asyncio.to_thread(pipeline.judging.read_late, task)
        await between(lambda: pipeline.judging.judge_late(found, clock.now()))
    except (*TRANSIENT, Deposed):
        raise
    except Exception:
        await between(lambda: pipeline.judging.put_off_late(task, clock.now()))
        raise
