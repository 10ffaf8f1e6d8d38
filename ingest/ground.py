"""The assets whose rules one worker evaluates: all of them, or those it has claimed where several share them (OPS-8).

Claiming an asset, taking up the states of its rules as they stand and forgetting what others have claimed are steps
of the path; ``ingest.claims`` has the rows behind them.
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Select
from sqlalchemy.orm import Session, sessionmaker

from ingest.claims import Claims, Moved
from ingest.licence import Licence
from ingest.patience import Patience
from ingest.registry import Registry
from kernel import clock, db
from rules.evaluation import Evaluator
from telemetry.readings import Int64s
from telemetry.store import TelemetryStore


class Ground:
    """What one worker evaluates. For the thread of the path."""

    _store: TelemetryStore

    def __init__(
        self, sessions: sessionmaker[Session], patience: Patience, registry: Registry, rules: Evaluator
    ) -> None:
        self._sessions = sessions
        self._patience = patience
        self._registry = registry
        self._rules = rules
        self._claims: Claims | None = None

    def open(self, store: TelemetryStore) -> None:
        """Take the store that states are taken up from."""
        self._store = store

    def share(self, licence: Licence) -> None:
        """Evaluate only what is claimed from now on."""
        self._claims = Claims(licence)
        self._rules.share()

    @property
    def is_shared(self) -> bool:
        """Whether others evaluate what is not claimed here."""
        return self._claims is not None

    @property
    def assets(self) -> int | None:
        """How many assets are evaluated here; None where all are."""
        return None if self._claims is None else len(self._claims.assets)

    def check(self, losses: int) -> None:
        """Make sure that nothing was lost, by the number that the licence told.

        Raises:
            Moved: something was.
        """
        if self._claims is not None:
            self._claims.check(losses)

    def unsettle(self) -> None:
        """Look at every device again, because some were bound elsewhere."""
        if self._claims is not None:
            self._claims.unsettle()

    def adopt_orphans(self) -> bool:
        """Claim some of the assets whose worker has ended, so that their timers run on; return whether there were any.

        Call it when a worker has ended, until there are none.
        """
        if self._claims is None:
            return False
        try:
            return bool(self._adopt(self._claims.take_orphans))
        except Moved:
            self.lose()
            return True

    def adopt_waiting(self, now: datetime) -> bool:
        """Claim some assets that are nobody's and for whose rules readings wait; return whether there were any."""
        if self._claims is None:
            return False
        with self._sessions() as session:
            if not self._claims.is_any_waiting(session, now):
                return False
        return bool(self._adopt(self._claims.take_orphans))

    def claimed(self) -> Select[int]:
        """Return a query for the assets that are ours."""
        assert self._claims is not None  # noqa: S101 - asked by whoever shares
        return self._claims.claimed()

    def own(self, devices: Int64s) -> None:
        """Claim the assets of devices that are not ours yet."""
        while True:
            try:
                self._claim(devices)
            except Moved:
                self.lose()
            else:
                return

    def _claim(self, devices: Int64s) -> None:
        claims = self._claims
        if claims is None or not (strange := claims.strangers(devices)):
            return
        named = {asset for device in strange if (asset := self._registry.asset_of(device)) is not None}
        wanted = named - claims.assets
        if wanted:
            self._adopt(lambda session: claims.take(session, wanted))
        claims.settle(strange)

    def _adopt(self, claim: Callable[[Session], set[int]]) -> set[int]:
        """Claim assets, and take up their states once that is committed; what fails in between is done again."""
        assert self._claims is not None  # noqa: S101 - asked by the caller

        def write() -> set[int]:
            with db.transaction(self._sessions) as session:
                return claim(session)

        def read() -> None:
            with db.transaction(self._sessions) as session:
                # Which of their metrics have a series was learned elsewhere.
                self._registry.learn_series(session)
                self._rules.reread(session, asset_ids=taken, alarm_type_ids=set())
                self._rules.adopt(session, self._store, taken, now=clock.now())

        taken = self._patience.until_done(write, "database")
        if taken:
            self._patience.until_done(read, "database")
            self._claims.taken(taken)
        return taken

    def lose(self) -> None:
        """Learn which assets others have claimed, and forget what is known of them."""
        assert self._claims is not None  # noqa: S101 - nobody else loses any
        claims = self._claims

        def read() -> tuple[int, set[int]]:
            with db.transaction(self._sessions) as session:
                return claims.lost(session)

        losses, gone = self._patience.until_done(read, "database")
        self._rules.disown(gone)
        self._registry.standing.clear()
        claims.forget(losses, gone)
