"""How long the figures of a year of alarms take to answer: a million of them, on twenty desks."""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from kernel import clock, db, postgres
from migrations import run
from people import scope
from rules import alarm_figures, alarm_weeks
from tests import factories

DESKS: Final = 20
ROUNDS: Final = 3
YEAR: Final = 365


def measure(*, alarms: int = 1_000_000) -> dict[str, float]:
    """Return the milliseconds of a year's figures and of a month's, and how long it took to set all weeks aside.

    ``year_unaided_ms`` is the baseline: the same figures from the alarms themselves, before any week was set aside.
    """
    with tempfile.TemporaryDirectory(prefix="fixwright-bench-") as name, postgres.running(Path(name)) as url:
        engine = db.connect(url)
        run.upgrade(engine)
        sessions = db.sessions(engine, secret=b"bench")
        with db.transaction(sessions) as session:
            company = factories.company(session)
            for number in range(DESKS):
                factories.unit(session, company.units["mill"], f"Hall {number}", kind="site")
            session.flush()
            _generate(session, company.id, alarms)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        viewer, now = scope.operator(company.units["company"]), clock.now()

        def took_ms(days: int) -> float:
            with sessions() as session:
                began = time.perf_counter()
                found = alarm_figures.measure(session, viewer, *alarm_figures.last(days, now))
                assert found.load.announced  # noqa: S101 - a benchmark of nothing
                return (time.perf_counter() - began) * 1e3

        figures = {"alarms": float(alarms), "year_unaided_ms": took_ms(YEAR)}
        began = time.perf_counter()
        waits = True
        while waits:
            with db.transaction(sessions) as session:
                waits = bool(alarm_weeks.set_aside(session, now))
        figures["set_aside_s"] = time.perf_counter() - began
        # The best of rounds: what else runs on a machine only ever slows.
        figures |= {f"{name}_ms": min(took_ms(days) for _ in range(ROUNDS)) for name, days in _PERIODS.items()}
        engine.dispose()
        return figures


_PERIODS: Final = {"year": YEAR, "month": 30}


def _generate(session: Session, company_id: int, alarms: int) -> None:
    """Write alarms of 500 machines and a dozen codes, most acknowledged, a few over at once, a few for days."""
    session.execute(
        text("""
            INSERT INTO alarm (company_id, unit_id, subject, type_key, origin, severity, peak_severity, message,
                is_active, is_acknowledged, acknowledged_at, began_at, raised_at, detected_at, announced_at,
                last_seen_at, ended_at, cleared_at, count, evidence)
            SELECT :company, desks.ids[1 + machine % cardinality(desks.ids)], 'asset:' || machine,
                'E' || floor(-4 * ln(1 - random() * 0.95)), 'device', severities[1 + floor(random() * 5)::int],
                'major', '', false, taken, CASE WHEN taken THEN at + random() * interval '1 hour' END,
                at, at, at + interval '1 s', CASE WHEN n % 20 > 0 THEN at + interval '1 s' END, at,
                at + lasts, at + lasts, 1, '{}'
            FROM (SELECT n, floor(random() * 500)::int machine, random() < 0.7 taken,
                         now() - random() * interval '365 days' AS at, -ln(1 - random() * 0.9999)
                             * CASE WHEN random() < 0.1 THEN interval '20 s' ELSE interval '4 h' END AS lasts
                  FROM generate_series(1, :alarms) n) made,
                 (SELECT array_agg(id) ids FROM org_unit WHERE name LIKE 'Hall %') desks,
                 (SELECT ARRAY['critical', 'major', 'minor', 'warning', 'info'] severities) kinds
        """),
        {"company": company_id, "alarms": alarms},
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--alarms", type=int, default=1_000_000)
    print(json.dumps(measure(**vars(arguments.parse_args())), indent=2))
