"""The instances of one engine as they stand: what each watches, its plan, its state, and a machine set up from it.

For ``rules.engine``, which decides what happens to them. Plans and states are kept by slot, as the columns are; a
machine is made for the few instances that something concerns, and what it leaves behind stands once it is applied.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from rules import compiled
from rules.columns import LEAF, WATCH, Columns, Int64s, Ints, Table, expand
from rules.compiled import Compiled
from rules.conditions import AlarmDefinition
from rules.context import NOWHERE, Context
from rules.lookback import Lookback
from rules.machine import Machine
from rules.outcome import LONG_AGO, NEVER, Instances, InstanceUpdate, State

KEEP_SETTLED_MS = 24 * 3_600_000
"""How long (server time) the state of an instance that became idle is kept, to recognise messages delivered again."""


class Installed:
    """All instances of one engine, found by id in ``slots``; ``columns`` and ``lookback`` are the engine's too.

    ``next_ms``: no timer is due and no state kept long enough before this, so a tick in which nothing is looks at
    nothing. ``awake_ms``: when we began to listen.
    """

    def __init__(self, columns: Columns, lookback: Lookback) -> None:
        self.columns = columns
        self.slots: dict[int, int] = {}
        self.plans: dict[int, Compiled] = {}
        self.states: dict[int, State] = {}
        self.next_ms = NEVER
        self.awake_ms = LONG_AGO
        self._lookback = lookback
        self._known: weakref.WeakValueDictionary[tuple[int, Context], Compiled] = weakref.WeakValueDictionary()

    def install(self, instances: Instances) -> None:
        """Add instances, or replace those whose id is known; state survives where the kind is unchanged (A21).

        Raises:
            ValueError: an id comes twice; nothing was changed.
        """
        ids = instances.id.tolist()
        if len(set(ids)) != len(ids):
            raise ValueError("an instance id comes twice")
        contexts = instances.contexts or [NOWHERE] * len(instances.definitions)
        plans = [self._compile(*one) for one in zip(instances.definitions, contexts, strict=True)]
        replaced = [self.slots[number] for number in ids if number in self.slots] if self.slots else []
        carried = [self.states[slot] for slot in replaced if slot in self.states]
        tables = (*_watch_table(instances, plans), *_leaf_table(plans, instances.which))
        is_stepped = np.array([not plan.is_plain for plan in plans], np.bool_)[instances.which]
        gone = np.array(replaced, np.intp)
        slots = self.columns.exchange(gone, instances.id, *tables, is_stepped=is_stepped).tolist()
        self._drop(replaced)
        self._lookback.install(instances, plans, slots)
        timed = np.array([plan.is_timed for plan in plans], np.bool_)[instances.which]
        if timed.any():
            # Time alone can begin something, so the next tick finds out when.
            self.columns.instances["wake_ms"][np.array(slots, np.intp)[timed]] = LONG_AGO
            self.next_ms = LONG_AGO
        self.slots.update(zip(ids, slots, strict=True))
        self.plans.update(zip(slots, map(plans.__getitem__, instances.which.tolist()), strict=True))
        self.take_up(carried)

    def remove(self, ids: Iterable[int]) -> bool:
        """Forget instances and their states; unknown ids are ignored. Return whether there was any."""
        slots = [self.slots.pop(number) for number in ids if number in self.slots]
        if slots:
            self._drop(slots)
            self.columns.remove(np.array(slots, np.intp))
        return bool(slots)

    def take_up(self, states: list[State]) -> None:
        """Go on from states of installed instances, on what their series hold."""
        by_slot = {self.slots[state.instance]: state for state in states}
        self.states.update(by_slot)
        updates = []
        for slot, machine in self.machines(np.array(list(by_slot), np.intp)):
            # A comparison that is not latched is left unknown here, so that the first sample that helps is seen.
            truths = machine.values.create_latches() if self.plans[slot].is_plain else ()
            updates.append(
                InstanceUpdate(slot, by_slot[slot], is_steady=False, wake_ms=machine.wake_ms(), truths=truths)
            )
        self.apply(updates)

    def evaluated_until(self, slot: int) -> int:
        """Return the time of the newest sample that an instance has evaluated, ``LONG_AGO`` where there is none."""
        _, at = self.columns.blocks(np.array([slot], np.intp), "watches")
        watched = self.columns.watches["slot"][at]
        return int(self.columns.series.mark_ms[watched[watched >= 0]].max(initial=LONG_AGO))

    def machines(self, slots: Ints, states: Mapping[int, State] | None = None) -> Iterator[tuple[int, Machine]]:
        """Set up machines for instances as they stand, or in other states."""
        known = self.states if states is None else states
        which, at = self.columns.blocks(slots, "watches")
        watches = self.columns.watches[at]
        held = self.columns.series.of(watches["slot"])
        ends = np.searchsorted(which, np.arange(1, len(slots) + 1)).tolist()
        series, hold_ms = watches["series"].tolist(), watches["hold_ms"].tolist()
        held_ms, mark_ms, value, arrived_ms = (column.tolist() for column in held)
        ids = self.columns.instances["id"][slots].tolist()
        begin = 0
        for slot, number, end in zip(slots.tolist(), ids, ends, strict=True):
            block = slice(begin, end)
            state = known.get(slot)
            at_ms = max(mark_ms[block])
            if at_ms == LONG_AGO and self.plans[slot].is_timed:
                at_ms = max(held_ms[block])
            if state is not None:
                at_ms = max(at_ms, state.at_ms)
            columns = (series[block], held_ms[block], value[block], arrived_ms[block], hold_ms[block])
            if not self.plans[slot].is_plain:
                for place, one in enumerate(columns[0]):
                    if (said := self.columns.text_of(one, columns[1][place])) is not None:
                        columns[2][place] = said
            past = self._lookback.pasts(slot)
            yield slot, Machine(number, self.plans[slot], columns, at_ms, state, past=past, awake_ms=self.awake_ms)
            begin = end

    def update(self, slot: int, machine: Machine, now_ms: int) -> InstanceUpdate:
        """Read off what an instance leaves behind."""
        plan, before = self.plans[slot], self.states.get(slot)
        state = machine.state(before, now_ms)
        return InstanceUpdate(
            slot,
            before if state == before else state,
            is_steady=plan.is_plain and machine.is_steady,
            wake_ms=machine.wake_ms(),
            truths=tuple(machine.values.truths[: plan.create_leaves]) if plan.is_plain else (),
        )

    def apply(self, updates: Sequence[InstanceUpdate]) -> None:
        """Let stand what stepped instances leave behind."""
        if not updates:
            return
        for update in updates:
            if update.state is None:
                self.states.pop(update.slot, None)
            else:
                self.states[update.slot] = update.state
        states = [update.state for update in updates]
        slots = np.array([update.slot for update in updates], np.intp)
        self.columns.mark_running(slots, np.array([state is not None and state.is_running for state in states]))
        instances = self.columns.instances
        instances["is_steady"][slots] = [update.is_steady for update in updates]
        instances["wake_ms"][slots] = [update.wake_ms for update in updates]
        instances["drop_ms"][slots] = [_drop_ms(state) for state in states]
        ends = (int(instances[word][slots].min()) for word in ("wake_ms", "drop_ms"))
        self.next_ms = min(self.next_ms, *ends)
        answered = [update for update in updates if update.truths is not None]
        _, leaves = self.columns.blocks(np.array([update.slot for update in answered], np.intp), "leaves")
        truths = [-1 if truth is None else int(truth) for update in answered for truth in update.truths or ()]
        self.columns.answer(leaves, np.array(truths, np.int8))

    def _drop(self, slots: list[int]) -> None:
        for slot in slots:
            del self.plans[slot]
            self.states.pop(slot, None)
            self._lookback.remove(slot)

    def _compile(self, definition: AlarmDefinition, context: Context) -> Compiled:
        plan = self._known.get((id(definition), context))
        if plan is None:
            plan = self._known[id(definition), context] = compiled.compile_definition(definition, context)
        return plan


def _watch_table(instances: Instances, plans: list[Compiled]) -> tuple[Table, Ints]:
    table = np.zeros(len(instances.series), WATCH)
    table["series"], table["hold_ms"] = instances.series, instances.hold_ms
    return table, np.array([len(plan.metrics) for plan in plans], np.intp)[instances.which]


def _leaf_table(plans: list[Compiled], which: Int64s) -> tuple[Table, Ints]:
    """Return the create comparisons of all instances, each plan written out once for every instance that has it."""
    rows = [
        (leaf.low, leaf.high, leaf.keep_low, leaf.keep_high, 0, leaf.metric, False, False, leaf.is_negated)
        for plan in plans
        if plan.is_plain
        for leaf in plan.leaves[: plan.create_leaves]
    ]
    counts = np.array([plan.create_leaves if plan.is_plain else 0 for plan in plans], np.intp)
    ends = np.cumsum(counts)
    _, at = expand((ends - counts)[which], ends[which])
    return np.array(rows, LEAF)[at], counts[which]


def _drop_ms(state: State | None) -> int:
    return NEVER if state is None or state.settled_ms is None else state.settled_ms + KEEP_SETTLED_MS
