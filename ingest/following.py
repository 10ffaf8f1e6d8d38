"""How the path follows what people change: devices, series, mappings and rules are read at start, and then their news.

The news come from the table of events (``ingest.changes``). A process that stands by follows the same, and also what
the leading one has learned.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from sqlalchemy.orm import Session, sessionmaker

from assets import attributes
from ingest.changes import Changed, Ear
from ingest.mapper import Mapper
from ingest.patience import Patience
from ingest.registry import Registry
from kernel import clock, db
from rules.evaluation import Changes, Evaluator
from telemetry.store import TelemetryStore


class Following:
    """What one path knows of people's work. For its thread; ``writing`` opens a transaction that only a leader may."""

    _store: TelemetryStore

    def __init__(
        self,
        sessions: sessionmaker[Session],
        writing: Callable[[], AbstractContextManager[Session]],
        patience: Patience,
        registry: Registry,
        rules: Evaluator,
        mapper: Mapper,
    ) -> None:
        self._sessions = sessions
        self._writing = writing
        self._patience = patience
        self._registry = registry
        self._rules = rules
        self._mapper = mapper
        self._ear = Ear()

    def open(self, store: TelemetryStore) -> None:
        """Take the store in which rules find what they need to know."""
        self._store = store

    def begin(self) -> None:
        """Read everything once, and listen from here on."""
        with db.transaction(self._sessions) as session:
            self._ear.start(session, time.monotonic())
            self._registry.load(session)
            self._mapper.load(session)
            self._rules.read(session)

    def keep_warm(self) -> None:
        """Follow what people and the leading worker change, while standing by."""
        at_s = time.monotonic()
        with db.transaction(self._sessions) as session:
            changed, news = self._ear.look(session, at_s)
            met = self._registry.learn_series(session)
            if changed.mappings or changed.types:
                self._mapper.load(session)
            if changed.types:
                self._registry.load(session)
                self._rules.read(session)
            else:
                self._registry.reload(session, changed.devices | set(self._registry.on_assets(changed.assets)))
                fresh = {asset for device in met if (asset := self._registry.asset_of(device)) is not None}
                fresh |= self._stirred(session, changed)
                self._rules.reread(session, asset_ids=changed.assets | fresh, alarm_type_ids=changed.alarm_types)
        self._ear.heard(news, at_s)

    def follow(self) -> Changed:
        """Take up what people changed, and return it."""
        at_s = time.monotonic()
        with self._writing() as session:
            changed, news = self._ear.look(session, at_s)
            if changed.types:
                self._registry.load(session)
            elif changed.devices or changed.assets:
                self._registry.reload(session, changed.devices | set(self._registry.on_assets(changed.assets)))
            if changed.mappings or changed.types:
                self._mapper.load(session)
            if changed.cleared:
                # What a person ended is raised again if it is still said.
                self._registry.standing.clear()
            self._rules.note_cleared(session, changed.cleared)
            stirred = self._stirred(session, changed)
        if changed.types:
            self.reload_rules()
        if changed.assets or stirred:
            self.reload_rules(asset_ids=changed.assets | stirred)
        if changed.alarm_types:
            self.reload_rules(alarm_type_ids=changed.alarm_types)
        self._ear.heard(news, at_s)
        return changed

    def hear(self, devices: Iterable[int]) -> None:
        """Take up what devices said of themselves, where rules take values from it."""
        described = {self._registry.asset_of(device) for device in devices}
        if stirred := described & self._rules.asking():
            self.reload_rules(asset_ids={asset for asset in stirred if asset is not None})

    def _stirred(self, session: Session, changed: Changed) -> set[int]:
        """Return the assets on which a rule may take another value from an attribute than before."""
        asking = self._rules.asking() if changed.attributes else set()
        return {one for subject in changed.attributes for one in attributes.concerned(session, *subject)} & asking

    def reload_rules(self, *, asset_ids: set[int] | None = None, alarm_type_ids: set[int] | None = None) -> None:
        """Read rules anew: those on some assets, those of some alarm types, or all."""
        now = clock.now()

        def read() -> Changes:
            with self._writing() as session:
                return self._rules.read_changes(session, now=now, asset_ids=asset_ids, alarm_type_ids=alarm_type_ids)

        self._rules.take_up(self._patience.until_done(read, "database"), self._store, now=now)
