"""Sessions of edge nodes in the database, so that aliases and sequences outlive the process that learnt them.

A node is written with every batch that moves it, and each time it gets another mark. A worker whose mark of a node is
not the stored one has not followed it to where it stands: others did, and it reads the node anew. A state is written
over none but that which it was reached from, so of two workers that follow one node at the same moment one begins anew.
"""

import random
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from ingest.models import SparkplugBirth, SparkplugNode
from ingest.sparkplug.session import Birth, Defined, Life, Node

MOST_RECENT: Final = 4_096
RECENT_MS: Final = 10_000
"""A message that came again is known by its bytes when it is among the latest so many of its node, and not too old.

Too old is what was received so long before the first message of the node's latest batch: it is acknowledged by then.
Time in which nobody was there to take any does not count.
"""
_ENTRY: Final = struct.Struct("<Qq")
_MARK_BITS: Final = 63

_read_metrics = msgspec.json.Decoder(tuple[Defined, ...]).decode
Recent = dict[int, int]
"""Digest of a message → when it was received, the oldest first."""


@dataclass(slots=True)
class Held:
    """A node as this process holds it. ``mark`` tells this state from all others of the node; 0: it has no row."""

    node: Node = field(default_factory=Node)
    recent: Recent = field(default_factory=dict)
    mark: int = 0


class Outrun(Exception):
    """Another worker has followed a node meanwhile; what was made of its messages here does not count."""


def drawn() -> int:
    """Return a mark that no other state of a node has."""
    return random.getrandbits(_MARK_BITS) | 1


def marks(session: Session, node_ids: Collection[int]) -> dict[int, int]:
    """Return the marks of nodes as they are stored."""
    rows = session.execute(
        select(SparkplugNode.device_id, SparkplugNode.mark).where(SparkplugNode.device_id.in_(node_ids))
    )
    return {node_id: mark for node_id, mark in rows}  # noqa: C416 - rows are no pairs to mypy


def load(session: Session, node_ids: Collection[int] | None = None) -> dict[int, Held]:
    """Return what is known of all nodes, or of some, by the id of their device."""
    births: dict[int, dict[str, Birth]] = {}
    columns = SparkplugBirth.node_id, SparkplugBirth.device, SparkplugBirth.life, SparkplugBirth.metrics
    born, nodes = select(*columns), select(SparkplugNode)
    if node_ids is not None:
        born = born.where(SparkplugBirth.node_id.in_(node_ids))
        # Waits for whoever is writing them, so that a node and its births are of one moment.
        nodes = nodes.where(SparkplugNode.device_id.in_(node_ids)).order_by(SparkplugNode.device_id).with_for_update()
    rows = session.scalars(nodes).all()
    for node_id, device, life, metrics in session.execute(born):
        births.setdefault(node_id, {})[device] = Birth(Life(life), _read_metrics(metrics))
    found = {}
    for row in rows:
        node = Node(
            group=row.group_name,
            is_alive=row.is_alive,
            session=row.session,
            seq=row.seq,
            born_ms=row.born_ms,
            asked_ms=row.asked_ms,
            asks=row.asks,
            is_asked=row.is_asked,
            births=births.get(row.device_id, {}),
        )
        found[row.device_id] = Held(node, dict(_ENTRY.iter_unpack(row.recent)), row.mark)
    session.expunge_all()
    return found


def write(session: Session, changed: Mapping[int, tuple[Held, Held]]) -> None:
    """Write nodes by the id of their device, each as it was and as it is; of the births only those that differ.

    Raises:
        Outrun: one of them is no longer as it was.
    """
    if not changed:
        return
    # In one order for all, so that two processes that write the same nodes do not wait for each other in a circle.
    ids = sorted(changed)
    statement = upsert(SparkplugNode)
    columns = [column.name for column in SparkplugNode.__table__.columns if not column.primary_key]
    excluded = statement.excluded
    written = session.scalars(
        statement.on_conflict_do_update(
            index_elements=[SparkplugNode.device_id],
            set_={name: excluded[name] for name in columns},
            # Or as it will be: a commit whose answer was lost on the way is written again.
            where=SparkplugNode.mark.in_([excluded.follows, excluded.mark]),
        ).returning(SparkplugNode.device_id),
        [_row(number, *changed[number]) for number in ids],
    ).all()
    if len(written) < len(ids):
        raise Outrun(f"others follow the nodes {sorted({*ids} - {*written})}")
    births = [row for number in ids for row in _births(number, changed[number][0].node, changed[number][1].node)]
    if births:
        told = upsert(SparkplugBirth)
        session.execute(
            told.on_conflict_do_update(
                index_elements=[SparkplugBirth.node_id, SparkplugBirth.device],
                set_={"life": told.excluded.life, "metrics": told.excluded.metrics},
            ),
            births,
        )


def with_fresh(recent: Recent, fresh: Recent) -> Recent:
    """Return the digests taken lately with those of a batch, as far back as they are kept."""
    merged = {**recent, **fresh}
    if not fresh:
        return merged
    begins = min(fresh.values()) - RECENT_MS
    return {digest: ms for digest, ms in [*merged.items()][-MOST_RECENT:] if ms >= begins}


def _row(device_id: int, before: Held, held: Held) -> dict[str, object]:
    node = held.node
    return {
        "device_id": device_id,
        "group_name": node.group,
        "is_alive": node.is_alive,
        "session": node.session,
        "seq": node.seq,
        "born_ms": node.born_ms,
        "asked_ms": node.asked_ms,
        "asks": node.asks,
        "is_asked": node.is_asked,
        "recent": b"".join(_ENTRY.pack(digest, ms) for digest, ms in held.recent.items()),
        "mark": held.mark,
        "follows": before.mark,
    }


def _births(node_id: int, before: Node, after: Node) -> Iterator[dict[str, object]]:
    if before.births is after.births:
        return
    for device in sorted(after.births):
        birth = after.births[device]
        if before.births.get(device) != birth:
            yield {
                "node_id": node_id,
                "device": device,
                "life": int(birth.life),
                "metrics": msgspec.json.encode(birth.metrics),
            }
