"""History from a CSV file into the store: asked for by a person, tried first, then carried out beside live readings.

A row says how far it is; the file waits in a folder of the process that carries it out. An import that was
interrupted is begun again, and one that is repeated changes nothing, because readings are keyed by series and time.
Rules do not see what is imported; what is derived from it is worked out anew; a latest value is touched by nothing
older. The rows of a file are read in ``ingest.oldrows``.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from assets import dirty, wording
from assets.events import AssetChanged
from assets.models import Asset, Binding
from ingest import backdating, csvrows
from ingest.models import HistoryImport
from ingest.old_owners import Owners
from ingest.oldrows import Chunk, Report, chunks
from ingest.strict import SAID
from kernel import audit, clock, db, events, jobs, log
from kernel.errors import Conflict, FixwrightError, Invalid, NotFound, Unavailable
from kernel.i18n import noop
from telemetry import series
from telemetry.derived import hour_of
from telemetry.readings import Readings
from telemetry.series import Pair
from telemetry.store import TelemetryStore

KEPT: Final = timedelta(days=7)
"""How long a file waits for somebody to start its import."""
MOST_OPEN: Final = 5
"""Imports of one person that are not over."""
BROKE: Final = noop("Something broke here ({kind}), not in your file. Send it again later; the server's log says more.")
_WAITING: Final = ("open", "queued", "running", "checked")
_BEAT_S: Final = 1.0

Pause = Callable[[float], object]
"""Waits so many seconds, or less when the process stops."""


class Interrupted(Exception):
    """The process that carries an import out is asked to stop, or somebody discarded it."""


def ask(
    session: Session,
    *,
    file_name: str,
    zone: str,
    device_key: str,
    asset_code: str,
    backdates: bool,
    company_id: int,
    account_id: int,
    actor: str,
    now: datetime,
) -> HistoryImport:
    """Open an import, which then waits for its file.

    Raises:
        Invalid: there is no such time zone, or too many of one's own are open.
    """
    if not zone.strip():
        raise Invalid("This is needed.", field="zone")
    csvrows.zone_of(zone.strip())
    mine = select(func.count()).where(HistoryImport.account_id == account_id, HistoryImport.state.in_(_WAITING))
    if (session.scalar(mine) or 0) >= MOST_OPEN:
        raise Invalid("At most {most} imports wait at once; please finish or discard one.", field="", most=MOST_OPEN)
    row = HistoryImport(
        company_id=company_id,
        account_id=account_id,
        actor=actor,
        state="open",
        file_name=wording.optional(file_name, "file") or "history.csv",
        zone=zone.strip(),
        device_key=wording.optional(device_key, "device", longest=80) or "",
        asset_code=wording.optional(asset_code, "asset", longest=60) or "",
        backdates=backdates,
        asked_at=now,
    )
    session.add(row)
    session.flush()
    return row


def find(session: Session, identity: int, account_id: int) -> HistoryImport:
    """Return an import of one's own.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    mine = select(HistoryImport).where(HistoryImport.id == identity, HistoryImport.account_id == account_id)
    row = session.scalars(mine).one_or_none()
    if row is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return row


def listed(session: Session, account_id: int, *, after: int | None, limit: int) -> Sequence[HistoryImport]:
    """Return one's own imports, the newest first."""
    query = select(HistoryImport).where(HistoryImport.account_id == account_id)
    query = query.order_by(HistoryImport.id.desc()).limit(limit)
    return session.scalars(query if after is None else query.where(HistoryImport.id < after)).all()


def path(folder: Path, identity: int) -> Path:
    """Return where the file of an import lies, which may be gone."""
    return folder / str(identity) / "history.csv"


def received(session: Session, row: HistoryImport, *, size: int) -> None:
    """Let a file that has arrived be tried.

    Raises:
        Conflict: the import has its file already, or is over.
    """
    _hold(session, row)
    if row.state != "open":
        raise Conflict("This import has its file already.")
    row.state, row.is_trial, row.size = "queued", True, size


def start(session: Session, row: HistoryImport) -> None:
    """Carry an import out that has been tried.

    Raises:
        Conflict: it has not been tried, runs already, or is over.
    """
    _hold(session, row)
    if row.state != "checked":
        raise Conflict("This import has not been tried yet, or is under way.")
    row.state, row.is_trial, row.percent = "queued", False, 0


def discard(session: Session, row: HistoryImport, *, now: datetime) -> None:
    """Leave an import; what of it is stored stays.

    Raises:
        Conflict: it is over.
    """
    _hold(session, row)
    if row.state not in _WAITING:
        raise Conflict("This import is over.")
    row.state, row.ended_at = "discarded", now


def _hold(session: Session, row: HistoryImport) -> None:
    session.refresh(row, with_for_update=True)


# Carrying out -----------------------------------------------------------------------------------------------------


def run_next(
    sessions: sessionmaker[Session],
    store: TelemetryStore,
    folder: Path,
    *,
    most_bytes: int,
    is_stopping: Callable[[], bool],
    pause: Pause = time.sleep,
) -> bool:
    """Try or carry out the next import that waits, or whose runner died; False when there is none.

    ``most_bytes``: a file may hold no more, unpacked.
    """
    now = clock.now()
    with db.transaction(sessions) as session:
        row = jobs.take(session, HistoryImport, now)
        if row is None:
            return False
        row.percent = 0
    run = _Run(sessions, store, row, path(folder, row.id), most_bytes, is_stopping, pause)
    try:
        run.carry_out()
    except Interrupted:
        run.interrupted()
        return False
    except Exception as error:  # noqa: BLE001 - the edge of an import: it ends as failed, and says why
        run.failed(error)
    return True


def sweep(sessions: sessionmaker[Session], folder: Path) -> None:
    """Remove the files of imports that are over, and discard those that nobody started."""
    now = clock.now()
    with db.transaction(sessions) as session:
        late = (HistoryImport.state.in_(("open", "checked"))) & (HistoryImport.asked_at < now - KEPT)
        for row in session.scalars(select(HistoryImport).where(late)):
            row.state, row.ended_at = "discarded", now
    waiting = [int(one.name) for one in folder.glob("*") if one.name.isdecimal()]
    if waiting:
        with db.transaction(sessions) as session:
            over = HistoryImport.state.in_(("done", "failed", "discarded"))
            for identity in session.scalars(select(HistoryImport.id).where(HistoryImport.id.in_(waiting), over)):
                shutil.rmtree(path(folder, identity).parent, ignore_errors=True)


class _Run:
    """One import as it is tried or carried out."""

    def __init__(  # noqa: PLR0917 - where things lie, the import, and what may end or slow it
        self,
        sessions: sessionmaker[Session],
        store: TelemetryStore,
        row: HistoryImport,
        file: Path,
        most_bytes: int,
        is_stopping: Callable[[], bool],
        pause: Pause,
    ) -> None:
        self._sessions = sessions
        self._store = store
        self._row = row
        self._file = file
        self._most_bytes = most_bytes
        self._is_stopping = is_stopping
        self._pause = pause
        self._numbers: dict[Pair, int] = {}
        self._fresh: set[int] = set()
        self._beat_s = time.monotonic()

    def carry_out(self) -> None:
        report = Report()
        owners = Owners(
            self._sessions,
            self._row.account_id,
            device_key=self._row.device_key,
            asset_code=self._row.asset_code,
            backdates=self._row.backdates,
        )
        for chunk in chunks(
            self._file,
            self._row.zone,
            owners,
            report,
            keeps_text=self._store.keeps_text,
            most_bytes=self._most_bytes,
        ):
            if not self._row.is_trial:
                self._store_chunk(chunk, report)
            self._beat(chunk.read_bytes)
        self._finish(report)

    def _store_chunk(self, chunk: Chunk, report: Report) -> None:
        unknown = chunk.pairs - self._numbers.keys()
        if unknown:
            with db.transaction(self._sessions) as session:
                known = set(series.load(session, {device_id for device_id, _ in unknown}))
                self._numbers |= series.ensure(session, sorted(unknown), now=clock.now())
            self._fresh |= {device_id for device_id, _ in unknown - known}
        readings = chunk.readings(self._numbers)
        began_s = time.monotonic()
        written = self._store.write(readings)
        took_s = time.monotonic() - began_s
        report.stored += written.stored - written.corrected
        report.replaced += written.corrected
        report.duplicate += written.duplicate
        with db.transaction(self._sessions) as session:
            _make_due(session, readings)
        # Live readings are written between two chunks: they never wait longer than for one, and half the time not.
        self._pause(took_s)

    def _beat(self, read_bytes: int) -> None:
        if self._is_stopping():
            raise Interrupted
        if time.monotonic() - self._beat_s < _BEAT_S:
            return
        self._beat_s = time.monotonic()
        with db.transaction(self._sessions) as session:
            row = session.get_one(HistoryImport, self._row.id, with_for_update=True)
            if row.state != "running":
                raise Interrupted
            row.beat_at, row.percent = clock.now(), min(99, int(100 * read_bytes / max(row.size, 1)))

    def _finish(self, report: Report) -> None:
        now = clock.now()
        with db.transaction(self._sessions) as session:
            row = session.get_one(HistoryImport, self._row.id, with_for_update=True)
            if row.state != "running":
                return
            row.percent, row.report = 100, report.told()
            if row.is_trial:
                row.state = "checked"
                return
            row.state, row.ended_at = "done", now
            if row.backdates:
                for device_id, first_ms in report.first_ms.items():
                    backdating.backdate(session, device_id, first_ms, actor=row.actor, now=now)
            _announce(session, self._fresh, actor=row.actor, now=now)
            audit.record(
                session,
                "telemetry.import",
                subject=f"import:{row.id}",
                actor=row.actor,
                at=now,
                after={"file": row.file_name, "zone": row.zone, "backdates": row.backdates} | report.counts(),
                company_id=row.company_id,
            )

    def interrupted(self) -> None:
        with db.transaction(self._sessions) as session:
            row = session.get_one(HistoryImport, self._row.id, with_for_update=True)
            if row.state == "running":
                row.state = "queued"

    def failed(self, error: Exception) -> None:
        log.of(__name__).warning("an import failed", imported=self._row.id, error=repr(error))
        known = error if isinstance(error, FixwrightError) else Unavailable(BROKE, kind=type(error).__name__)
        values = {name: one if isinstance(one, int) else str(one)[:SAID] for name, one in known.values.items()}
        with db.transaction(self._sessions) as session:
            row = session.get_one(HistoryImport, self._row.id, with_for_update=True)
            if row.state == "running":
                row.state, row.ended_at = "failed", clock.now()
                row.trouble = {"sentence": known.sentence, "values": values}


def _make_due(session: Session, readings: Readings) -> None:
    """Let what is derived from imported readings be worked out anew."""
    numbers = np.unique(readings.series)
    for number in numbers.tolist():
        mine = readings.ts_ms[readings.series == number]
        dirty.mark_series(session, [number], hour_of(int(mine.min())), int(mine.max()) + 1, clock.now())


def _announce(session: Session, device_ids: set[int], *, actor: str, now: datetime) -> None:
    """Tell of assets that have metrics they had not, so that rules begin to watch those."""
    bound = select(Asset).join(Binding, Binding.asset_id == Asset.id)
    for asset in session.scalars(bound.where(Binding.device_id.in_(device_ids), Binding.ends_at.is_(None))):
        events.emit(
            session, AssetChanged(asset.id), subject=f"asset:{asset.id}", at=now, actor=actor, unit_id=asset.unit_id
        )
