"""What corrected history says about alarms that are on record (A18): add, amend, or no longer supported.

Pure. The alarms of one rule on one asset as they stand go in with the episodes of the corrected history; out come the
few things to do. When all of it is done the record says what the history says, so doing it again does nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rules.replay import Episode


@dataclass(frozen=True, slots=True)
class Known:
    """An alarm on record. ``ended_ms`` None: it is open.

    ``is_supported``: history supported it so far. ``is_judged``: raised by the version that is judged now; others are
    left as they are.
    """

    id: int
    began_ms: int
    raised_ms: int
    ended_ms: int | None
    is_supported: bool = True
    is_judged: bool = True
    is_by_hand: bool = False


@dataclass(slots=True)
class Findings:
    """What is to be done. ``amended`` holds every pair, also of those that are right as they stand."""

    recorded: list[Episode] = field(default_factory=list)
    """Would have existed and are over."""
    raised: list[Episode] = field(default_factory=list)
    """Would have existed and still stands: at most one."""
    amended: list[tuple[Known, Episode]] = field(default_factory=list)
    unsupported: list[Known] = field(default_factory=list)


def compare(known: Sequence[Known], found: Sequence[Episode], from_ms: int) -> Findings:
    """Compare the record with what a corrected history comes to; nothing that ended before ``from_ms`` is touched.

    What would have been raised before that while no alarm was on record stays off it: readings before the late ones
    were judged when they came, or came so late that no rule judges them.
    """
    findings = Findings()
    left = sorted(known, key=lambda one: one.raised_ms)
    unmatched: list[Episode] = []
    for episode in found:
        match = _match(episode, left, found)
        if match is None:
            unmatched.append(episode)
            continue
        left.remove(match)
        if match.is_judged and not _is_before(match.ended_ms, episode.ended_ms, from_ms):
            findings.amended.append((match, episode))
    foreign = [one for one in known if not one.is_judged]
    for episode in unmatched:
        if episode.ended_ms is None:
            findings.raised.append(episode)
        elif _is_news(episode, known, from_ms) and not any(_overlap_ms(one, episode) is not None for one in foreign):
            findings.recorded.append(episode)
    findings.unsupported = [
        one
        for one in left
        if one.is_judged and one.is_supported and not _is_before(one.ended_ms, one.ended_ms, from_ms)
    ]
    return findings


def _is_news(episode: Episode, known: Sequence[Known], from_ms: int) -> bool:
    at_ms = episode.raised_ms
    return at_ms >= from_ms or any(
        one.is_supported and one.raised_ms <= at_ms and (one.ended_ms is None or at_ms <= one.ended_ms) for one in known
    )


def _is_before(one_ms: int | None, other_ms: int | None, from_ms: int) -> bool:
    return one_ms is not None and other_ms is not None and max(one_ms, other_ms) < from_ms


def _match(episode: Episode, left: Sequence[Known], found: Sequence[Episode]) -> Known | None:
    """Return the alarm on record that an episode is.

    What stands is what is open. What is over is an alarm raised at the same instant, else the one it shares most time
    with; the open one only where nothing stands any more.
    """
    if episode.ended_ms is None:
        return next((one for one in left if one.ended_ms is None), None)
    stands = any(one.ended_ms is None for one in found)
    fits = [one for one in left if one.ended_ms is not None or not stands]
    same = [one for one in fits if one.raised_ms == episode.raised_ms]
    if same:
        return same[0]
    # An alarm that another episode is raised at the very instant of is left to that.
    taken = {one.raised_ms for one in found}
    shared = [
        (time, one) for one in fits if one.raised_ms not in taken and (time := _overlap_ms(one, episode)) is not None
    ]
    return max(shared, key=lambda pair: (pair[0], -pair[1].raised_ms), default=(0, None))[1]


def _overlap_ms(known: Known, episode: Episode) -> int | None:
    """Return for how long both lasted, None where they do not touch."""
    ends = [one for one in (known.ended_ms, episode.ended_ms) if one is not None]
    end_ms = min(ends) if ends else max(known.raised_ms, episode.raised_ms)
    shared = end_ms - max(known.began_ms, episode.began_ms)
    return shared if shared >= 0 else None
