"""From a batch of messages to what is stored, evaluated, raised and committed: the data path, in five steps.

``process`` is the path. A batch is done when all of it is durable, and only then does the edge acknowledge it.
Every step may be repeated: readings are keyed by series and time, alarms of devices by their number, rule states
say what was evaluated, rejected messages are kept by their digest. So a redelivered batch has the effects of one,
wherever the first attempt ended (promises P1, P2, P7).
"""

import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session, sessionmaker

from assets import commands
from ingest import crash, device_alarms, fairuse, newcomers, publisher, rejected, status, topics, webhooks
from ingest.batch import Batch
from ingest.books import Books
from ingest.changes import Changed, Ear
from ingest.claims import Claims, Moved
from ingest.decode import Decoder
from ingest.decoded import Decoded, Reason, Rejected
from ingest.events import IntakeCaughtUp, IntakeFellBehind
from ingest.late import Late
from ingest.licence import Deposed, Licence
from ingest.mapper import Mapper
from ingest.models import RejectedMessage
from ingest.patience import TRANSIENT, Patience
from ingest.publisher import Outgoing
from ingest.registry import Registry
from ingest.resolve import Resolved, Resolver
from ingest.sparkplug.follow import Follower
from ingest.stuck import Seen, Stuck
from kernel import clock, db, events, log
from rules import late
from rules.evaluation import Changes, Evaluator
from rules.outcome import Outcome
from telemetry import series
from telemetry.readings import Int64s, Latest, Readings
from telemetry.series import Pair
from telemetry.store import TelemetryStore

_REPLAYS: Final = 500

_log = log.of(__name__)


class Pipeline:
    """The data path of one process. For one thread at a time, and one more that only calls ``decode``.

    ``licence`` is the right to write, where several processes may take each other's place. A process that stands by
    calls ``prepare`` and ``keep_warm``, and ``open`` and ``resume`` when its time has come; any other one ``load``.
    """

    _store: TelemetryStore

    def __init__(
        self,
        sessions: sessionmaker[Session],
        store: TelemetryStore | None = None,
        *,
        patience: Patience | None = None,
        terms: fairuse.Terms | None = None,
        late_limit: timedelta = late.LIMIT,
    ) -> None:
        self.registry = Registry()
        self.rules = Evaluator(late_limit)
        self.patience = patience or Patience()
        self._sessions = sessions
        self._licence: Licence | None = None
        self._claims: Claims | None = None
        if store is not None:
            self._store = store
        self.mapper = Mapper(self.registry.type_of)
        self._decoder = Decoder(self.mapper)
        self._newcomers = newcomers.Newcomers()
        self._decoding = threading.Lock()
        self._resolver = Resolver(self.registry, self._name)
        self._sparkplug = Follower(self.registry, self._newest)
        self._stuck = Stuck(self._newest_of)
        self._fairness = fairuse.FairUse(terms or fairuse.Terms(), self.registry, self._resolver)
        self._ear = Ear()
        self._late = Late(self._writing, self.patience)
        self.books = Books(self._resolver, self.mapper, self._writing)

    @property
    def over_limit(self) -> int:
        """Messages that were over a limit since the start."""
        return self._fairness.refused

    def tell_lag(self, lag_s: float | None, now: datetime) -> None:
        """Tell that messages wait too long to be stored, or with None that they no longer do."""
        with self._writing() as session:
            event = IntakeCaughtUp() if lag_s is None else IntakeFellBehind(round(lag_s))
            events.emit(session, event, subject="ingest", at=now, actor="system")

    def load(self) -> None:
        """Read devices, series, rules and their states; run the timers that are overdue (A19)."""
        self.prepare()
        self.resume()

    def prepare(self) -> None:
        """Read what takes long and changes little: devices, series and rules."""

        def read() -> None:
            with db.transaction(self._sessions) as session:
                self._ear.start(session, time.monotonic())
                self.registry.load(session)
                self.mapper.load(session)
                self.rules.read(session)

        # While a million objects come that stay, nobody looks for garbage among them.
        gc.disable()
        try:
            self.patience.until_done(read, "database")
        finally:
            gc.enable()

    def keep_warm(self) -> None:
        """Follow what people and the leading worker change, while standing by."""
        at_s = time.monotonic()
        with db.transaction(self._sessions) as session:
            changed, news = self._ear.look(session, at_s)
            met = self.registry.learn_series(session)
            if changed.mappings or changed.types:
                self.mapper.load(session)
            if changed.types:
                self.registry.load(session)
                self.rules.read(session)
            else:
                self.registry.reload(session, changed.devices | set(self.registry.on_assets(changed.assets)))
                fresh = {asset for device in met if (asset := self.registry.asset_of(device)) is not None}
                self.rules.reread(session, asset_ids=changed.assets | fresh, alarm_type_ids=changed.alarm_types)
        self._ear.heard(news, at_s)

    def bind(self, licence: Licence) -> None:
        """Write from now on only as long as a licence stands."""
        self._licence = licence

    def open(self, store: TelemetryStore) -> None:
        """Give the path the store that it had to wait for."""
        self._store = store

    def resume(self) -> None:
        """Take up the states of the rules as whoever led before has left them, and run the timers that are overdue."""

        def read() -> None:
            with db.transaction(self._sessions) as session:
                self._sparkplug.load(session)
                self.rules.resume(session, self._store, now=clock.now())

        self.patience.until_done(self.keep_warm, "database")
        # While a million objects come that stay, nobody looks for garbage among them.
        gc.disable()
        try:
            self.patience.until_done(read, "database")
        finally:
            gc.enable()
        self.run_timers(clock.now())

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """Open a transaction that holds only as long as nobody has taken over."""
        with db.transaction(self._sessions) as session:
            if self._licence is not None:
                self._licence.hold(session)
            yield session

    @contextmanager
    def _settling(self) -> Iterator[Session]:
        """Open a transaction for what rules have found; it fails with ``Moved`` if any of it was another's ground."""
        with db.transaction(self._sessions) as session:
            if self._licence is not None:
                losses = self._licence.hold(session)
                if self._claims is not None:
                    self._claims.check(losses)
            yield session

    # Where several processes share the assets -------------------------------------------------------------------

    def share(self) -> None:
        """Evaluate only the assets that this worker has claimed; call it after ``bind`` and before ``resume``."""
        assert self._licence is not None  # noqa: S101 - ``bind`` comes first
        self._claims = Claims(self._licence)
        self.rules.share()

    @property
    def assets(self) -> int | None:
        """How many assets are evaluated here; None where all are."""
        return None if self._claims is None else len(self._claims.assets)

    def adopt_orphans(self) -> bool:
        """Claim some of the assets whose worker has ended, so that their timers run on; return whether there were any.

        Call it when a worker has ended, until there are none.
        """
        if self._claims is None:
            return False
        try:
            return bool(self._adopt(self._claims.take_orphans))
        except Moved:
            self._lose()
            return True

    def _own(self, devices: Int64s) -> None:
        """Claim the assets of devices that are not ours yet."""
        while True:
            try:
                self._claim(devices)
            except Moved:
                self._lose()
            else:
                return

    def _claim(self, devices: Int64s) -> None:
        claims = self._claims
        if claims is None or not (strange := claims.strangers(devices)):
            return
        named = {asset for device in strange if (asset := self.registry.asset_of(device)) is not None}
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
                self.registry.learn_series(session)
                self.rules.reread(session, asset_ids=taken, alarm_type_ids=set())
                self.rules.adopt(session, self._store, taken, now=clock.now())

        taken = self.patience.until_done(write, "database")
        if taken:
            self.patience.until_done(read, "database")
            self._claims.taken(taken)
        return taken

    def _lose(self) -> None:
        """Learn which assets others have claimed, and forget what is known of them."""
        assert self._claims is not None  # noqa: S101 - nobody else loses any
        claims = self._claims

        def read() -> tuple[int, set[int]]:
            with db.transaction(self._sessions) as session:
                return claims.lost(session)

        losses, gone = self.patience.until_done(read, "database")
        self.rules.disown(gone)
        self.registry.standing.clear()
        claims.forget(losses, gone)

    # The path ---------------------------------------------------------------------------------------------------

    def process(self, batch: Batch) -> list[Outgoing]:
        """Make a batch durable and return what to publish now that it is.

        Raises:
            Exception: it could not be made durable; nothing of it may be acknowledged.
        """
        return self.finish(batch, self.decode(batch))

    def decode(self, batch: Batch) -> Decoded:
        """Read a batch, perhaps while the one before it is being finished. Batches are finished in this order."""
        with self._decoding:
            return self._decoder.decode(batch)

    def finish(self, batch: Batch, decoded: Decoded) -> list[Outgoing]:
        """Make a batch durable that has been read; see ``process``."""
        try:
            return self._path(batch, decoded)
        except (*TRANSIENT, Deposed):
            raise
        except Exception as error:  # noqa: BLE001 - the edge of a batch: the one message at fault is set aside
            return self._apart(batch, error)

    def _path(self, batch: Batch, decoded: Decoded, replays: Sequence[int] = ()) -> list[Outgoing]:
        followed = None
        if decoded.sparkplug:
            followed = self._sparkplug.follow(batch, decoded, is_replay=bool(replays))
            decoded = followed.decoded
        resolved = self._resolver.resolve(batch, decoded, clock.now())
        if followed is not None:
            resolved.join(followed)
        if not replays:
            self._fairness.hold_back(resolved)
        seen = self._look_for_stuck(resolved)
        if resolved.fresh_assets:
            self._reload_rules(asset_ids=resolved.fresh_assets)
        # Before the readings are stored: what is taken up with an asset must not know the batch already.
        self._own(resolved.part_device)
        crash.here("before_store")
        written = self.patience.until_done(lambda: self._store.write(resolved.readings), "telemetry store")
        crash.here("after_store")
        self._late.tell(resolved.readings)
        news = self._settled(resolved, replays)
        self._stuck.settle(seen)
        self.books.enter(resolved, written, news)
        if batch.fates is not None:
            batch.fates.note(resolved, written, news)
        crash.here("before_ack")
        if self._licence is not None:
            self._licence.require()
        answers = [
            publisher.alarm_acknowledgement(report.said.device, report.said.seq)
            for report in resolved.reports
            if report.is_acknowledged
        ]
        return answers if followed is None else answers + followed.asked

    def _look_for_stuck(self, resolved: Resolved) -> Seen | None:
        """Mark the readings of sensors that have stopped moving."""
        if not self.registry.watches_stuck:
            return None
        flags, seen = self._stuck.judge(resolved.readings, self.registry.stuck_after)
        if flags is not None:
            resolved.readings = replace(resolved.readings, flags=flags)
        return seen

    def _settled(self, resolved: Resolved, replays: Sequence[int]) -> set[int]:
        """Evaluate a batch on assets that are ours, and write what comes of it; return the news."""
        while True:
            try:
                return self._commit(resolved, self._evaluate(resolved), replays)
            except Moved:
                self._lose()
                self._own(resolved.part_device)

    def _evaluate(self, resolved: Resolved) -> Outcome:
        readings, chosen = resolved.readings, resolved.for_rules
        columns, text = (readings.series, readings.ts_ms, readings.value), readings.text
        if chosen is not None:
            columns = readings.series[chosen], readings.ts_ms[chosen], readings.value[chosen]
            text = None if text is None else [text[row] for row in chosen.nonzero()[0].tolist()]
        now_ms = int(resolved.batch.received_ms.max(initial=0))
        return self.patience.until_done(lambda: self.rules.evaluate(*columns, now_ms, text), "telemetry store")

    def _commit(self, resolved: Resolved, outcome: Outcome, replays: Sequence[int]) -> set[int]:
        """Write what the batch changes in the database, in one transaction, or open none; return the news."""

        def write() -> set[int]:
            with self._settling() as session:
                news = self._write(session, resolved, replays)
                self.rules.write(session, outcome, now=resolved.now)
                crash.here("before_commit")
            return news

        news: set[int] = set()
        is_shared = self._claims is not None
        if is_shared or resolved.is_more_than_readings or _says(outcome) or replays:
            news = self.patience.until_done(write, "database")
            crash.here("after_commit")
        self.rules.commit(outcome)
        if resolved.followed is not None:
            self._sparkplug.settle(resolved.followed)
        self.registry.stands(resolved.standing)
        if resolved.newcomers:
            now_ms = clock.to_ms(resolved.now)
            self._newcomers.proposed(self._newcomers.due(resolved.newcomers, now_ms), now_ms)
        return news

    def _write(self, session: Session, resolved: Resolved, replays: Sequence[int]) -> set[int]:
        now = resolved.now
        news = device_alarms.take(session, resolved.reports, now=now)
        status.tell(session, resolved.statuses, now=now, alone=resolved.alone)
        if resolved.followed is not None:
            self._sparkplug.write(session, resolved.followed, now=now)
        status.describe(session, resolved.attributes)
        resolved.strays = _strays(resolved, commands.settle(session, [one for *_, one in resolved.answers], now=now))
        kept = webhooks.owned(session, self._resolver.kept(resolved.batch, [*resolved.rejects, *resolved.strays]))
        fresh = self._newcomers.due(resolved.newcomers, clock.to_ms(now))
        if fresh:
            newcomers.propose(session, fresh, now=now)
        if replays:
            refused = dict(reversed(kept))
            used = [number for message, number in enumerate(replays) if message not in refused]
            rejected.settle(session, used, [(replays[one], reject) for one, reject in refused.items()], now=now)
        else:
            rejected.keep(session, [reject for _, reject in kept] + resolved.over_kept)
        return news

    def _name(self, pairs: Sequence[Pair]) -> dict[Pair, int]:
        """Give pairs their series."""

        def ensure() -> dict[Pair, int]:
            with db.transaction(self._sessions) as session:
                return series.ensure(session, pairs, now=clock.now())

        return self.patience.until_done(ensure, "database")

    def _newest(self, numbers: Sequence[int]) -> dict[int, Latest]:
        return self.patience.until_done(lambda: self._store.latest(numbers), "telemetry store")

    def _newest_of(self, numbers: Int64s) -> Readings:
        return self.patience.until_done(lambda: self._store.newest(numbers), "telemetry store")

    def _apart(self, batch: Batch, error: Exception) -> list[Outgoing]:
        """Process the halves of a batch that fails for no fault of database or store, down to the message at fault."""
        if len(batch) > 1:
            middle = len(batch) // 2
            return self.process(_part(batch, 0, middle)) + self.process(_part(batch, middle, len(batch)))
        _log.error("a message could not be processed and was set aside", topic=batch.topics[0], exc_info=error)
        detail = f"{type(error).__name__}: {error}"
        reject = Rejected(0, Reason.FAILED, detail, topics.parse(batch.topics[0]).device)

        def write() -> None:
            with self._writing() as session:
                rejected.keep(session, [one for _, one in self._resolver.kept(batch, [reject])])

        self.patience.until_done(write, "database")
        self.books.refuse(reject, int(batch.received_ms[0]))
        if batch.fates is not None:
            batch.fates.refuse(reject)
        return []

    def judge(self, readings: Readings, fresh_assets: set[int]) -> None:
        """Let rules see readings that are stored and came by no message; some assets have a series they had not."""
        if fresh_assets:
            self._reload_rules(asset_ids=fresh_assets)
        now = clock.now()
        try:
            columns = readings.series, readings.ts_ms, readings.value
            self._settle(self.rules.evaluate(*columns, clock.to_ms(now)), now)
        except Moved:
            # What is lost is judged where it went, from its next value on.
            self._lose()

    # Time and change --------------------------------------------------------------------------------------------

    def run_timers(self, now: datetime) -> None:
        """Let rules see that time has passed, and that people ended alarms or edited rules."""
        try:
            self._run_timers(now)
        except Moved:
            # What is lost runs elsewhere; what is not runs again with the next tick.
            self._lose()

    def _run_timers(self, now: datetime) -> None:
        now_ms = clock.to_ms(now)
        self._settle(self.rules.tick(now_ms), now)
        for instance in self.rules.adrift():
            outcome = self.rules.let_go(instance, now_ms)
            if outcome is not None:
                self._settle(outcome, now)
        edited = self.rules.revisit(now_ms)
        if edited is not None:
            self._settle(edited, now)
            self.rules.revisited()

    # Late readings, judged at their own time -----------------------------------------------------------------------

    def late_task(self, now: datetime) -> late.Task | None:
        """Return a rule on an asset whose late readings are to be judged now; between two batches."""
        with db.transaction(self._sessions) as session:
            return next(iter(self.rules.late_tasks(session, now=now)), None)

    def read_late(self, task: late.Task) -> late.History:
        """Read the history it is judged by; beside the path."""
        return late.read(self._sessions, self._store, task)

    def judge_late(self, found: late.History, now: datetime) -> None:
        """Judge it, with what was stored since, and write what comes of it; between two batches."""
        found = late.catch_up(self._store, found)
        try:
            with self._settling() as session:
                outcome = self.rules.judge_late(session, found, now=now)
                crash.here("before_late_commit")
        except Moved:
            self._lose()
            return
        if outcome is not None:
            self.rules.commit(outcome)

    def put_off_late(self, task: late.Task, now: datetime) -> None:
        """Try it again later, because it could not be judged."""
        with self._writing() as session:
            late.put_off(session, task, now=now)

    def see_who_was_not_born(self, now: datetime) -> None:
        """Take the Sparkplug devices offline that their node's new birth was not followed by."""
        missed = self._sparkplug.missed(now)
        if missed:
            with self._writing() as session:
                self._sparkplug.give_up(session, missed, now=now)
            self._sparkplug.given_up(missed)

    def _settle(self, outcome: Outcome, now: datetime) -> None:
        if _says(outcome):
            with self._settling() as session:
                self.rules.write(session, outcome, now=now)
        self.rules.commit(outcome)

    def follow_changes(self, now: datetime) -> Changed:
        """Take up what people changed; return it, so that the edge can cut connections."""
        at_s = time.monotonic()
        with self._writing() as session:
            changed, news = self._ear.look(session, at_s)
            if changed.types:
                self.registry.load(session)
            elif changed.devices or changed.assets:
                self.registry.reload(session, changed.devices | set(self.registry.on_assets(changed.assets)))
            if changed.mappings or changed.types:
                self.mapper.load(session)
            if changed.cleared:
                # What a person ended is raised again if it is still said.
                self.registry.standing.clear()
            self.rules.note_cleared(session, changed.cleared)
        if changed.types:
            self._reload_rules()
        if changed.assets:
            self._reload_rules(asset_ids=changed.assets)
        if changed.alarm_types:
            self._reload_rules(alarm_type_ids=changed.alarm_types)
        self._ear.heard(news, at_s)
        if changed:
            if self._claims is not None:
                self._claims.unsettle()
            self.run_timers(now)
        return changed

    def _reload_rules(self, *, asset_ids: set[int] | None = None, alarm_type_ids: set[int] | None = None) -> None:
        now = clock.now()

        def read() -> Changes:
            with self._writing() as session:
                return self.rules.read_changes(session, now=now, asset_ids=asset_ids, alarm_type_ids=alarm_type_ids)

        self.rules.take_up(self.patience.until_done(read, "database"), self._store, now=now)

    def replay(self) -> list[Outgoing]:
        """Try the messages again that somebody asked for, each as if it came when it first came."""
        with self._sessions() as session:
            numbers = rejected.asked(session, limit=_REPLAYS)
        outgoing: list[Outgoing] = []
        for number in numbers:
            # One at a time, so that one that fails takes no other along, and large ones are not all held at once.
            with self._sessions() as session:
                row = session.get_one(RejectedMessage, number)
            batch = Batch.of([(row.topic, row.payload)], received_ms=clock.to_ms(row.received_at))
            try:
                outgoing += self._path(batch, self.decode(batch), replays=[number])
            except (*TRANSIENT, Deposed):
                raise
            except Exception as error:  # noqa: BLE001 - the edge of a replay: it stays set aside, with the reason
                self._refuse_again(number, batch, error)
        return outgoing

    def _refuse_again(self, number: int, batch: Batch, error: Exception) -> None:
        reject = Rejected(0, Reason.FAILED, f"{type(error).__name__}: {error}", topics.parse(batch.topics[0]).device)
        ((_, whole),) = self._resolver.kept(batch, [reject])
        with self._writing() as session:
            rejected.settle(session, [], [(number, whole)], now=clock.now())


def _says(outcome: Outcome) -> bool:
    """Return whether an outcome has anything to write."""
    return bool(outcome.transitions or outcome.states or outcome.late_spans)


def _part(batch: Batch, begin: int, end: int) -> Batch:
    return Batch(
        batch.topics[begin:end],
        batch.payloads[begin:end],
        batch.received_ms[begin:end],
        frozenset(row - begin for row in batch.retained if begin <= row < end),
        None if batch.fates is None else batch.fates.part(begin, end),
    )


def _strays(resolved: Resolved, positions: Sequence[int]) -> list[Rejected]:
    """Return the answers at some positions as rejects: they answer no command of their device."""
    return [
        Rejected(message, Reason.UNKNOWN_COMMAND, f"no command {answer.token} was sent to {key}", key)
        for message, key, answer in (resolved.answers[position] for position in positions)
    ]
