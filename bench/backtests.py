"""How long a backtest of a fleet takes from asking to its end: through the product's own thread, store and tables.

``python -m bench.backtests`` prints the figures; ``measure`` returns them for the table of ``make bench``. Full size is
1,000 device-months of one metric every ten seconds: 250 machines, four months each, 263 million readings.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.beside import Beside
from bench import replay
from kernel import clock, db, postgres
from migrations import run
from rules import backtest_runs, backtests, conditions
from rules.backtests import Wanted
from rules.models import Backtest, BacktestAsset
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from telemetry.readings import Readings
from tests import factories

MONTH: Final = replay.YEAR // 12
"""Samples of a month, one every ten seconds."""
METRIC: Final = "temperature"
LOOK_S: Final = 0.25


def measure(*, machines: int = 250, months: int = 4, samples: int = MONTH) -> dict[str, float]:
    """Return figures of one backtest of ``machines`` over ``months`` of ``samples`` each.

    ``fill_s``: generating the store, which is not part of it. ``looks``: how many different numbers of machines that
    were through a person saw who looked four times a second. ``memory_growth_mb``: at most, while it ran.
    """
    with (
        tempfile.TemporaryDirectory(prefix="fixwright-bench-") as folder,
        postgres.running(Path(folder)) as url,
        closing(DuckDbStore(Path(folder) / "t.duckdb")) as store,
    ):
        engine = db.connect(url)
        run.upgrade(engine)
        sessions = db.sessions(engine, secret=b"bench")
        with db.transaction(sessions) as session:
            company = factories.company(session)
            person = factories.account(session, company, "planner")
            assets, series = _machines(session, company, machines)
            owner, account = company.id, person.id
        began = time.perf_counter()
        end_ms = _fill(store, series, months, samples)
        fill_s = time.perf_counter() - began
        wanted = Wanted(_definition(), assets, replay.START_MS, end_ms)
        with db.transaction(sessions) as session:
            row = backtests.ask(
                session, wanted, name="fleet", alarm_type_id=None, company_id=owner, account_id=account,
                actor=f"account:{account}", now=clock.now(),
            )  # fmt: skip
            identity = row.id
        figures = _carried_out(sessions, store, identity)
        engine.dispose()
    device_months = machines * months * samples / MONTH
    return {
        "machines": machines,
        "device_months": device_months,
        "readings": machines * months * samples,
        "fill_s": fill_s,
        "device_months_per_s": device_months / figures["took_s"],
    } | figures


def _machines(session: Session, company: factories.Company, count: int) -> tuple[list[int], list[int]]:
    assets, series = [], []
    for number in range(count):
        asset = factories.asset(session, company, "harbour", name=f"Machine {number}")
        device = factories.device(session, company, "harbour", on=asset)
        query = select(Series.id).where(Series.device_id == device.id, Series.metric == METRIC)
        assets.append(asset.id)
        series.append(session.scalars(query).one())
    return assets, series


def _fill(store: DuckDbStore, series: list[int], months: int, samples: int) -> int:
    """Write the past of every machine, month by month as it would have come; return its end.

    One history serves all; each machine begins elsewhere in it and runs a little warmer or colder.
    """
    one = replay.history_of(samples).value
    rng = np.random.default_rng(31)
    begins, warmth = rng.integers(0, samples, len(series)), rng.normal(0.0, 3.0, len(series))
    flags = np.zeros(samples, np.uint8)
    for month in range(months):
        ts_ms = replay.START_MS + replay.INTERVAL_MS * (month * samples + np.arange(samples))
        for number, begin, warmer in zip(series, begins.tolist(), warmth.tolist(), strict=True):
            value = np.roll(one, -begin).round(2) + round(warmer, 2)
            store.write(Readings(np.full(samples, number), ts_ms, value, None, flags))
        while store.compact():
            pass
        sys.stderr.write(f"  {month + 1} of {months} months stored\n")
    return replay.START_MS + replay.INTERVAL_MS * months * samples


def _carried_out(sessions: sessionmaker[Session], store: DuckDbStore, identity: int) -> dict[str, float]:
    """Let the thread of backtests carry it out, and look at it as its page does."""
    process = psutil.Process()
    before = peak = process.memory_info().rss
    looks: set[int] = set()
    thread = Beside(
        "backtests",
        lambda is_stopping: backtest_runs.run_next(sessions, store, is_stopping=is_stopping),
        lambda: backtest_runs.sweep(sessions),
    )
    began = time.perf_counter()
    with thread.running():
        thread.wake()
        state = "queued"
        while state in {"queued", "running"}:
            time.sleep(LOOK_S)
            peak = max(peak, process.memory_info().rss)
            with sessions() as session:
                row = session.get_one(Backtest, identity)
                state, done = row.state, row.done
            looks.add(done)
    took_s = time.perf_counter() - began
    assert state == "done", state  # noqa: S101 - a benchmark of nothing
    with sessions() as session:
        found = session.execute(
            select(BacktestAsset.samples, BacktestAsset.alarms).where(BacktestAsset.backtest_id == identity)
        ).all()
    return {
        "took_s": took_s,
        "looks": len(looks),
        "evaluated": sum(row.samples for row in found),
        "episodes": sum(row.alarms for row in found),
        "memory_growth_mb": (peak - before) / 2**20,
    }


def _definition() -> dict[str, object]:
    text = json.dumps(conditions.dump(replay.DEFINITION)).replace('"metric": "t"', f'"metric": "{METRIC}"')
    return dict(json.loads(text))


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=250)
    parser.add_argument("--months", type=int, default=4)
    parser.add_argument("--samples", type=int, default=MONTH)
    figures = measure(**vars(parser.parse_args()))
    print(json.dumps({name: round(figure, 3) for name, figure in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
