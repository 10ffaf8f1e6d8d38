"""The session of an edge node, one message at a time: sequence, births, deaths, and when a birth is asked for."""

import itertools
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decoded import Reason
from ingest.sparkplug import payload, session
from ingest.sparkplug.scalars import Type
from ingest.sparkplug.session import AWAITED_MS, FIRST_WAIT_MS, LONGEST_WAIT_MS, Life, Node, Step, Verdict
from tests.ingest.edge_node import EdgeNode, M, Message, temperature

TEMPERATURE = M("temperature", 20.0, Type.DOUBLE, 1)
SPEED = M("speed", 1450, Type.INT32, 2)


class Follower:
    """Steps through messages and keeps what came of each."""

    def __init__(self) -> None:
        self.node = Node()
        self.now_ms = 1_000_000_000
        self.steps: list[Step] = []
        self.known: set[int] = set()

    def hear(self, *messages: Message) -> Step:
        for topic, data in messages:
            said = payload.read(0, topic, data)
            step = session.step(self.node, said, self.now_ms, is_repeated=said.digest in self.known)
            self.known.add(said.digest)
            self.node = step.node
            self.steps.append(step)
        return self.steps[-1]

    @property
    def asked(self) -> int:
        return sum(step.is_asking for step in self.steps)


def born() -> tuple[EdgeNode, Follower]:
    node, host = EdgeNode(), Follower()
    host.hear(node.birth(TEMPERATURE), node.device_birth("motor", SPEED))
    return node, host


def names(step: Step) -> list[tuple[str, int]]:
    return [(name, datatype) for name, datatype, _ in step.metrics]


def test_an_alias_means_what_the_birth_of_its_sender_said() -> None:
    node, host = born()
    assert names(host.hear(node.data(temperature(21.5)))) == [("temperature", Type.DOUBLE)]
    assert names(host.hear(node.device_data("motor", M("", 3, Type.INT32, 2, typed=False)))) == [("speed", Type.INT32)]
    assert names(host.hear(node.data(M("temperature", 1.0, typed=False)))) == [("temperature", Type.DOUBLE)]


def test_numbers_follow_each_other_over_255() -> None:
    node, host = born()
    for _ in range(600):
        assert host.hear(node.data(temperature(1.0))).verdict is Verdict.TAKEN
    assert host.asked == 0


def test_ING_9_a_gap_asks_for_one_birth_and_nothing_is_believed_until_it_comes() -> None:
    node, host = born()
    node.skip()
    step = host.hear(node.data(temperature(1.0)))
    assert (step.verdict, step.reason, step.is_asking) == (Verdict.ASIDE, Reason.OUT_OF_SEQUENCE, True)
    for _ in range(300):
        assert host.hear(node.data(temperature(1.0))).reason is Reason.OUT_OF_SEQUENCE
    assert host.asked == 1
    host.hear(*node.born_again())
    assert host.hear(node.data(temperature(1.0))).verdict is Verdict.TAKEN
    node.skip()
    host.hear(node.data(temperature(1.0)))
    assert host.asked == 2


def test_an_unknown_alias_asks_for_a_birth_and_breaks_no_sequence() -> None:
    node, host = born()
    step = host.hear(node.data(temperature(1.0), temperature(2.0, 77)))
    assert (step.verdict, step.reason, step.is_asking) == (Verdict.ASIDE, Reason.UNKNOWN_ALIAS, True)
    assert step.detail == "alias 77 stands in no birth of edge"
    assert host.hear(node.data(temperature(1.0))).verdict is Verdict.TAKEN
    assert host.hear(node.data(temperature(2.0, 77))).is_asking is False


def test_a_node_and_a_device_without_a_birth_are_asked_for_one() -> None:
    node, host = EdgeNode(), Follower()
    node.birth(TEMPERATURE)
    assert host.hear(node.data(temperature(1.0))).reason is Reason.NOT_BORN
    host.hear(node.birth(TEMPERATURE))
    step = host.hear(node.device_data("motor", M("speed", 1, Type.INT32)))
    assert (step.reason, host.asked) == (Reason.NOT_BORN, 2)


def test_ING_9_a_death_of_this_session_ends_it_and_a_stale_one_does_nothing() -> None:
    node, host = born()
    node.session = 5
    host.hear(*node.born_again())
    before = host.node
    stale = host.hear(node.death(session=4))
    assert (stale.verdict, stale.node, dict(stale.told)) == (Verdict.KNOWN, before, {})
    right = host.hear(node.death())
    assert right.told == {"": False, "motor": False}
    assert not host.node.is_alive
    assert host.hear(node.death()).verdict is Verdict.KNOWN
    assert host.hear(node.data(temperature(1.0))).reason is Reason.NOT_BORN


def test_a_session_number_beyond_255_is_counted_round() -> None:
    node, host = EdgeNode(session=256), Follower()
    host.hear(node.birth(TEMPERATURE))
    assert host.hear(node.death(session=0)).told[""] is False


def test_a_device_that_is_not_born_again_is_gone_after_a_while() -> None:
    node, host = born()
    host.hear(node.device_birth("valve", SPEED), node.birth(TEMPERATURE), node.device_birth("motor", SPEED))
    assert host.node.birth("valve").life is Life.AWAITED
    assert session.overdue(host.node, host.now_ms + AWAITED_MS - 1) is None
    after = session.overdue(host.node, host.now_ms + AWAITED_MS)
    assert after is not None
    assert (after.birth("valve").life, after.birth("motor").life) == (Life.DEAD, Life.ALIVE)
    assert session.overdue(after, host.now_ms + 10**9) is None


def test_a_device_that_died_is_told_once_and_needs_a_birth() -> None:
    node, host = born()
    assert host.hear(node.device_death("motor")).told == {"motor": False}
    assert host.hear(node.device_data("motor", SPEED)).reason is Reason.NOT_BORN


def test_a_node_that_is_never_born_is_asked_less_and_less_often() -> None:
    node, host = EdgeNode(), Follower()
    node.birth(TEMPERATURE)
    asked_at = []
    for _ in range(100_000 // 25):
        host.now_ms += 1_000
        if host.hear(node.data(temperature(1.0))).is_asking:
            asked_at.append(host.now_ms)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert pauses[:3] == [FIRST_WAIT_MS, 2 * FIRST_WAIT_MS, 4 * FIRST_WAIT_MS]
    assert max(pauses) == LONGEST_WAIT_MS


def test_two_nodes_of_one_name_make_no_storm() -> None:
    # Each birth is followed by the other's number, so every message is a gap and every birth is answered by another.
    host = Follower()
    one, other = EdgeNode(), EdgeNode(seq=99)
    for _ in range(1_000):
        host.now_ms += 10
        host.hear(one.birth(TEMPERATURE), other.data(temperature(1.0)))
    assert host.asked <= 4


def test_data_of_another_group_is_not_the_nodes() -> None:
    node, host = born()
    other = EdgeNode(group="elsewhere", seq=node.seq)
    assert host.hear(other.data(temperature(1.0))).reason is Reason.NOT_BORN
    assert host.hear(node.data(temperature(1.0))).verdict is Verdict.TAKEN


def test_what_was_set_aside_is_read_with_the_births_known_now() -> None:
    node, host = born()
    message = node.data(temperature(7.0, 9))
    host.hear(message)
    said = payload.read(0, *message)
    assert session.again(host.node, said).reason is Reason.UNKNOWN_ALIAS
    host.hear(node.birth(TEMPERATURE, M("level", 1.0, Type.DOUBLE, 9)))
    step = session.again(host.node, said)
    assert (names(step), step.node) == ([("level", Type.DOUBLE)], host.node)


def test_a_machine_at_rest_that_gives_no_time_is_not_taken_for_a_repetition() -> None:
    node, host = born()
    topic = f"spBv1.0/{node.group}/NDATA/{node.name}"
    for number in range(600):
        seq = (node.seq + 1 + number) % 256
        body = (
            b"\x12\x0b\x10\x01\x69" + b"\0" * 8 + b"\x18" + (bytes([seq]) if seq < 128 else bytes([seq & 127 | 128, 1]))
        )
        assert host.hear((topic, body)).verdict is Verdict.TAKEN


Action = tuple[str, Any]
ACTIONS: st.SearchStrategy[list[str]] = st.lists(
    st.sampled_from(["data", "device", "again", "session", "dead", "device death", "skip"]), min_size=1, max_size=60
)


def conversation(actions: Iterable[str]) -> list[Message]:
    node = EdgeNode()
    messages = [node.birth(TEMPERATURE), node.device_birth("motor", SPEED)]
    for action in actions:
        match action:
            case "data":
                messages.append(node.data(temperature(1.0)))
            case "device":
                messages.append(node.device_data("motor", M("", 1, Type.INT32, 2, typed=False)))
            case "again":
                messages += node.born_again()
            case "session":
                node.session += 1
                messages += node.born_again()
            case "dead":
                messages.append(node.death())
                node.session += 1
                messages += node.born_again()
            case "device death":
                messages += [node.device_death("motor"), node.device_birth("motor", SPEED)]
            case "skip":
                node.skip()
    return messages


@given(ACTIONS, st.data())
@settings(max_examples=150)
def test_a_redelivered_stretch_changes_nothing_and_is_no_gap(actions: list[str], data: st.DataObject) -> None:
    messages = conversation(actions)
    cut = data.draw(st.integers(1, len(messages)))
    back = data.draw(st.integers(0, cut))
    once, twice = Follower(), Follower()
    once.hear(*messages)
    twice.hear(*messages[:cut])
    before = twice.node
    for message in messages[back:cut]:
        step = twice.hear(message)
        assert (step.verdict, step.node, step.is_asking) == (Verdict.KNOWN, before, False)
    if messages[cut:]:
        twice.hear(*messages[cut:])
    assert twice.node == once.node
    assert twice.asked == once.asked


@given(ACTIONS)
@settings(max_examples=150)
def test_without_a_gap_everything_is_taken_and_nothing_asked(actions: list[str]) -> None:
    host = Follower()
    host.hear(*conversation(action for action in actions if action != "skip"))
    assert {step.verdict for step in host.steps} == {Verdict.TAKEN}
    assert host.asked == 0
    assert host.node.is_alive
