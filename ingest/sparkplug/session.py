"""The session of an edge node as the messages tell it: what was born, what follows what, and when to ask for a birth.

Pure. A message is taken, is known already, or is set aside with the reason; a node whose messages cannot be followed
is asked, once, to be born again, and until it is, nothing that depends on its births is believed: a birth that was
missed may have given the aliases other meanings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from types import MappingProxyType
from typing import Final

from ingest.decoded import Reason
from ingest.sparkplug.payload import SEQUENCE, Metric, Said, Verb
from ingest.sparkplug.scalars import defined

OWN: Final = ""
"""Under this name the births of a node hold its own."""
FIRST_WAIT_MS: Final = 10_000
LONGEST_WAIT_MS: Final = 600_000
CALM_MS: Final = 60_000
"""A node that needed no birth for so long is asked at once again."""
AT_ONCE: Final = 3
"""Births that may be asked for one after the other, each answered, before the pauses between them grow."""
AWAITED_MS: Final = 30_000
"""A device that was there before its node was born (again) is gone when it is not born within this."""
MOST_DEVICES: Final = 4_096

Defined = tuple[str, int | None, int]
"""Name, alias, data type."""


class Life(IntEnum):
    """Whether a device is there. ``AWAITED``: its node was born again, and it not yet. Stored, so never renumbered."""

    DEAD = 0
    ALIVE = 1
    AWAITED = 2


@dataclass(frozen=True)
class Birth:
    """What a node or device said at its birth that it would speak of."""

    life: Life
    metrics: tuple[Defined, ...]

    @cached_property
    def by_alias(self) -> dict[int, tuple[str, int]]:
        """Name and data type of each alias."""
        return {alias: (name, datatype) for name, alias, datatype in self.metrics if alias is not None}

    @cached_property
    def types(self) -> dict[str, int]:
        """Data type of each name."""
        return {name: datatype for name, _, datatype in self.metrics if name}

    def definition(self, metric: Metric) -> tuple[str, int] | None:
        """Return name and data type of a metric, None where nothing tells them."""
        if metric.name:
            datatype = metric.datatype or self.types.get(metric.name, 0)
            return (metric.name, datatype) if datatype else None
        known = None if metric.alias is None else self.by_alias.get(metric.alias)
        return known if known is None or not metric.datatype else (known[0], metric.datatype)


NOTHING: Final = Birth(Life.DEAD, ())


@dataclass(frozen=True, slots=True)
class Node:
    """An edge node. ``seq`` is the number of the latest message taken, None when the sequence is lost.

    ``session`` is the number its birth gave (bdSeq). ``asked_ms``: when it was last asked to be born again, ``asks``
    how often in a row, ``is_asked`` whether the answer is outstanding. All times are those of reception.
    """

    group: str = ""
    is_alive: bool = False
    session: int | None = None
    seq: int | None = None
    born_ms: int = 0
    asked_ms: int = 0
    asks: int = 0
    is_asked: bool = False
    births: Mapping[str, Birth] = field(default_factory=lambda: MappingProxyType({}))

    def birth(self, device: str) -> Birth:
        """Return the birth of a device, or of the node itself."""
        return self.births.get(device, NOTHING)

    @property
    def is_awaiting(self) -> bool:
        """Whether devices that were there before have not been born since."""
        return any(birth.life is Life.AWAITED for birth in self.births.values())


class Verdict(IntEnum):
    """What becomes of a message."""

    TAKEN = 0
    KNOWN = 1
    ASIDE = 2


Named = tuple[str, int, Metric]
"""A metric with its name and data type."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a message does: the node after it, and what is to be done about it.

    ``metrics`` are those to read. ``told`` says who is there now and who is not. ``is_asking``: the node is to be
    asked to be born again.
    """

    node: Node
    verdict: Verdict
    metrics: tuple[Named, ...] = ()
    told: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    reason: Reason = Reason.FAILED
    detail: str = ""
    is_asking: bool = False


def step(  # noqa: PLR0911 - one answer for each kind of message
    node: Node, said: Said, received_ms: int, *, is_repeated: bool = False
) -> Step:
    """Return what a message does to a node. ``is_repeated``: the very same bytes were taken lately."""
    # Where a payload bears no time, a machine at rest may say the same again after 256 messages.
    if is_repeated and (said.ts_ms is not None or said.seq != _next(node)):
        return Step(node, Verdict.KNOWN)
    if said.verb is Verb.NBIRTH:
        return _node_born(node, said, received_ms)
    if said.verb is Verb.NDEATH:
        return _node_dead(node, said)
    if not node.is_alive or said.group != node.group:
        return _aside(node, Reason.NOT_BORN, f"no birth of {said.node} in group {said.group} is known", received_ms)
    if said.seq != _next(node):
        detail = f"sequence number {said.seq} after {'a gap' if node.seq is None else node.seq}"
        return _aside(replace(node, seq=None), Reason.OUT_OF_SEQUENCE, detail, received_ms)
    node = replace(node, seq=said.seq)
    if said.verb is Verb.DBIRTH:
        return _device_born(node, said)
    if said.verb is Verb.DDEATH:
        return _device_dead(node, said)
    return _data(node, said, received_ms)


def again(node: Node, said: Said) -> Step:
    """Return what a message that was set aside gives now: its metrics, and nothing that it did to the session."""
    if said.verb in {Verb.NBIRTH, Verb.DBIRTH}:
        return Step(node, Verdict.TAKEN, _named(said.metrics))
    if said.verb in {Verb.NDEATH, Verb.DDEATH}:
        return Step(node, Verdict.TAKEN)
    named, unknown = _resolved(node.birth(said.device), said)
    if unknown is None:
        return Step(node, Verdict.TAKEN, named)
    return Step(node, Verdict.ASIDE, reason=Reason.UNKNOWN_ALIAS, detail=unknown)


def overdue(node: Node, now_ms: int) -> Node | None:
    """Return the node without the devices that were awaited in vain, None if there are none."""
    if not node.is_awaiting or now_ms - node.born_ms < AWAITED_MS:
        return None
    births = {
        name: Birth(Life.DEAD, birth.metrics) if birth.life is Life.AWAITED else birth
        for name, birth in node.births.items()
    }
    return replace(node, births=births)


def _node_born(node: Node, said: Said, received_ms: int) -> Step:
    births = {
        name: Birth(Life.DEAD if birth.life is Life.DEAD else Life.AWAITED, birth.metrics)
        for name, birth in node.births.items()
        if name != OWN
    }
    told = {name: birth.life is not Life.DEAD for name, birth in births.items()} | {OWN: True}
    births[OWN] = Birth(Life.ALIVE, tuple(defined(said.metrics)))
    born = Node(
        group=said.group,
        is_alive=True,
        session=said.session,
        seq=said.seq,
        born_ms=received_ms,
        asked_ms=node.asked_ms,
        asks=node.asks,
        births=births,
    )
    return Step(born, Verdict.TAKEN, _named(said.metrics), told)


def _node_dead(node: Node, said: Said) -> Step:
    # The will of a connection that was replaced comes late, and is about the session before this one.
    if not node.is_alive or said.group != node.group or said.session != node.session:
        return Step(node, Verdict.KNOWN)
    births = {name: Birth(Life.DEAD, birth.metrics) for name, birth in node.births.items()}
    told = dict.fromkeys((OWN, *births), False)
    return Step(replace(node, is_alive=False, seq=None, births=births), Verdict.TAKEN, told=told)


def _device_born(node: Node, said: Said) -> Step:
    if said.device not in node.births and len(node.births) > MOST_DEVICES:
        detail = f"{said.node} has more than {MOST_DEVICES} devices"
        return Step(node, Verdict.ASIDE, reason=Reason.OVERSIZE, detail=detail)
    births = {**node.births, said.device: Birth(Life.ALIVE, tuple(defined(said.metrics)))}
    return Step(replace(node, births=births), Verdict.TAKEN, _named(said.metrics), {said.device: True})


def _device_dead(node: Node, said: Said) -> Step:
    before = node.birth(said.device)
    if before is NOTHING:
        return Step(node, Verdict.TAKEN, told={said.device: False})
    births = {**node.births, said.device: Birth(Life.DEAD, before.metrics)}
    return Step(replace(node, births=births), Verdict.TAKEN, told={said.device: False})


def _data(node: Node, said: Said, received_ms: int) -> Step:
    birth = node.birth(said.device)
    if birth.life is not Life.ALIVE:
        return _aside(node, Reason.NOT_BORN, f"no birth of {said.device} at {said.node} is known", received_ms)
    named, unknown = _resolved(birth, said)
    if unknown is not None:
        return _aside(node, Reason.UNKNOWN_ALIAS, unknown, received_ms)
    return Step(node, Verdict.TAKEN, named)


def _resolved(birth: Birth, said: Said) -> tuple[tuple[Named, ...], str | None]:
    """Return the metrics of a data message with their names, or what it speaks of that no birth told."""
    named = []
    for metric in said.metrics:
        definition = birth.definition(metric)
        if definition is None:
            what = f"“{metric.name[:80]}”" if metric.name else f"alias {metric.alias}"
            return (), f"{what} stands in no birth of {said.device or said.node}"
        named.append((*definition, metric))
    return tuple(named), None


def _named(metrics: tuple[Metric, ...]) -> tuple[Named, ...]:
    return tuple((metric.name, metric.datatype, metric) for metric in metrics)


def _aside(node: Node, reason: Reason, detail: str, received_ms: int) -> Step:
    asks = node.asks
    waited_ms = received_ms - node.asked_ms
    if not node.is_asked and not 0 <= waited_ms < CALM_MS:
        asks = 0
    wait_ms = min(FIRST_WAIT_MS << min(max(asks - 1, 0), 10), LONGEST_WAIT_MS)
    is_free = not node.is_asked and asks < AT_ONCE
    if not is_free and 0 <= waited_ms < wait_ms:
        return Step(node, Verdict.ASIDE, reason=reason, detail=detail)
    asked = replace(node, asked_ms=received_ms, asks=asks + 1, is_asked=True)
    return Step(asked, Verdict.ASIDE, reason=reason, detail=detail, is_asking=True)


def _next(node: Node) -> int | None:
    return None if node.seq is None else (node.seq + 1) % SEQUENCE
