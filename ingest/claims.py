"""Which worker evaluates the rules of an asset, where several share the work (OPS-8).

The broker sends a device's messages to one worker, and to another when workers come and go. An asset is evaluated where
its messages arrive: a worker that hears of one it does not own claims it, in a transaction that waits for whatever the
former owner has under way, and then takes up the states as they stand. The former owner learns of its loss with its
next batch, because every batch asks, once it has been evaluated, whether anything was lost meanwhile; what was
evaluated on lost ground is thrown away and evaluated anew, after claiming back. So at each instant one worker's word
counts for an asset, and a batch that concerns nobody else's costs one look into an array, and one short query.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import numpy as np
from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import InstrumentedAttribute, Session

from ingest.licence import LOCKS, Licence
from ingest.models import IngestClaim, IngestWorker
from rules import passed
from rules.models import PassedReading, RuleState
from telemetry.readings import Int64s, Mask

_MOVES: Final = -1
"""The lock under which claims are moved, one transaction at a time: moves are rare, and so nobody waits in a circle."""
_A_PORTION: Final = 500


class Moved(Exception):
    """Others have claimed assets of this worker since it last looked; what it evaluated meanwhile does not count."""


class Claims:
    """The assets of one worker. For the thread of the path."""

    def __init__(self, licence: Licence) -> None:
        self.assets: set[int] = set()
        self._licence = licence
        self._losses = 0
        self._is_settled: Mask = np.zeros(1024, np.bool_)

    # A batch ----------------------------------------------------------------------------------------------------

    def strangers(self, devices: Int64s) -> list[int]:
        """Return the devices, of those heard in a batch, of which it is not known that their asset is ours."""
        if not len(devices):
            return []
        highest = int(devices.max())
        if highest >= len(self._is_settled):
            self._is_settled = np.append(self._is_settled, np.zeros(2 * highest - len(self._is_settled) + 2, np.bool_))
        strange = devices[~self._is_settled[devices]]
        found: list[int] = np.unique(strange).tolist()
        return found

    def settle(self, devices: Iterable[int]) -> None:
        """Take note that the assets of devices are ours, or that they have none."""
        self._is_settled[list(devices)] = True

    def unsettle(self) -> None:
        """Look at every device again: devices were bound elsewhere, or assets were lost."""
        self._is_settled[:] = False

    def check(self, losses: int) -> None:
        """Make sure that nothing was lost, by the number that the licence told.

        Raises:
            Moved: something was.
        """
        if losses != self._losses:
            raise Moved("assets were claimed by another ingest worker")

    # Moves ------------------------------------------------------------------------------------------------------

    def take(self, session: Session, assets: Iterable[int]) -> set[int]:
        """Claim assets, and return them; they are ours once this is committed and ``taken`` is called.

        Raises:
            Deposed: this worker's life has ended.
            Moved: it must first learn what it lost.
        """
        self._begin(session)
        return self._move(session, set(assets))

    def take_orphans(self, session: Session) -> set[int]:
        """Claim some assets whose rules run and whose worker has ended, or that never had one, until none are left.

        Their timers would stand still until the next message, which of a silent machine never comes; and what was
        passed on for their rules would wait for ever.
        """
        self._begin(session)
        running = select(RuleState.asset_id).where(_is_nobodys(RuleState.asset_id)).distinct().limit(_A_PORTION)
        waiting = passed.waits_in(_is_nobodys(PassedReading.asset_id)).limit(_A_PORTION)
        return self._move(session, {*session.scalars(running), *session.scalars(waiting)})

    def is_any_waiting(self, session: Session, now: datetime) -> bool:
        """Return whether readings have waited for the rules of an asset that no living worker evaluates."""
        waiting = passed.waits_in(_is_nobodys(PassedReading.asset_id) & (PassedReading.at <= now - passed.SETTLED))
        return session.scalars(waiting.limit(1)).first() is not None

    def claimed(self) -> Select[int]:
        """Return a query for the assets that are ours."""
        return select(IngestClaim.asset_id).where(IngestClaim.worker_id == self._licence.life)

    def taken(self, assets: Iterable[int]) -> None:
        """Take note that a claim is committed."""
        self.assets |= set(assets)

    def lost(self, session: Session) -> tuple[int, set[int]]:
        """Return the assets that others have claimed since the last look, and the number behind; see ``forget``."""
        losses = self._licence.hold(session)
        ours = set(session.scalars(self.claimed()))
        return losses, self.assets - ours

    def forget(self, losses: int, gone: set[int]) -> None:
        """Count assets as ours no more."""
        self._losses = losses
        self.assets -= gone
        self.unsettle()

    def _begin(self, session: Session) -> None:
        session.execute(select(func.pg_advisory_xact_lock(LOCKS, _MOVES)))
        self.check(self._licence.hold(session))

    def _move(self, session: Session, assets: set[int]) -> set[int]:
        if not assets:
            return assets
        life, wanted = self._licence.life, sorted(assets)
        owners = session.scalars(
            select(IngestClaim.worker_id)
            .where(IngestClaim.asset_id == func.any(cast(wanted, ARRAY(BigInteger))), IngestClaim.worker_id != life)
            .distinct()
        ).all()
        # Waits until what they have under way is committed, so that the states read next are whole.
        session.execute(
            select(IngestWorker.id).where(IngestWorker.id.in_(owners)).order_by(IngestWorker.id).with_for_update()
        )
        session.execute(
            update(IngestWorker)
            .where(IngestWorker.id.in_(owners))
            .values(losses=IngestWorker.losses + 1)
            .execution_options(synchronize_session=False)
        )
        rows = func.unnest(cast(wanted, ARRAY(BigInteger))).table_valued("asset_id", name="wanted").render_derived()
        statement = upsert(IngestClaim).from_select(
            ["asset_id", "worker_id"], select(rows.c.asset_id, literal(life, BigInteger))
        )
        session.execute(
            statement.on_conflict_do_update(index_elements=[IngestClaim.asset_id], set_={"worker_id": life})
        )
        return assets


def _is_nobodys(asset_id: InstrumentedAttribute[int]) -> ColumnElement[bool]:
    """Return the condition that no worker has claimed an asset, or one that has ended."""
    living = (
        select(IngestClaim.asset_id)
        .join(IngestWorker, IngestWorker.id == IngestClaim.worker_id)
        .where(IngestClaim.asset_id == asset_id, IngestWorker.ended_at.is_(None))
    )
    return ~living.exists()
