"""The worker's ticks: what has much to do does it in small transactions, one after the other, and not for ever."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.worker import Tick, Worker
from tests.waiting import until

AN_HOUR_S = 3600


def test_a_tick_with_much_to_do_runs_again_at_once_in_transactions_of_its_own(
    database: sessionmaker[Session], database_url: str
) -> None:
    seen: dict[str, list[str]] = {"once": [], "thrice": [], "until done": []}

    def noting(name: str, left: int) -> Callable[[Session, datetime], bool]:
        def run(session: Session, _now: datetime) -> bool:
            seen[name].append(session.execute(text("SELECT pg_current_xact_id()::text")).scalar_one())
            return len(seen[name]) <= left

        return run

    ticks = [
        Tick("once", AN_HOUR_S, noting("once", 9)),
        Tick("thrice", AN_HOUR_S, noting("thrice", 9), in_a_row=3),
        Tick("until done", AN_HOUR_S, noting("until done", 1), in_a_row=9),
    ]
    worker = Worker(database, database_url, {}, ticks)
    worker.start()
    try:
        until(lambda: [len(one) >= most for one, most in zip(seen.values(), (1, 3, 2), strict=True)] == [True] * 3)
    finally:
        worker.stop()
    assert [len(set(one)) for one in seen.values()] == [1, 3, 2]
    assert [len(one) for one in seen.values()] == [1, 3, 2]
