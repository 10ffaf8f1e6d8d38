"""Whose a value of an asset's history is: worked examples, and that a row imported again finds no other device."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.measured import FOREVER_MS
from ingest.old_owners import Known, Measured, Term
from ingest.strict import Refused

OLD, NEW, BESIDE = Known(1, "old", {}), Known(2, "new", {}), Known(3, "beside", {})


def term(
    device: Known, starts_ms: int, ends_ms: int = FOREVER_MS, *, sends: str = "", reach_ms: int | None = None
) -> Term:
    reach = starts_ms if reach_ms is None else reach_ms
    return Term(device, True, frozenset(sends.split()), reach, starts_ms, ends_ms)


def owner(terms: list[Term], metric: str, ts_ms: int) -> str:
    try:
        return Measured("P-1", terms).device(metric, ts_ms).key
    except Refused as refused:
        return "unknown" if "not known" in refused.sentence else "nobody"


REPLACED = [term(OLD, 100, 200, sends="t", reach_ms=0), term(NEW, 250, sends="t v", reach_ms=200)]
SHARED = [term(OLD, 100, sends="t"), term(BESIDE, 150, sends="v")]


@pytest.mark.parametrize(
    ("terms", "metric", "ts_ms", "device"),
    [
        (REPLACED, "t", 150, "old"),
        (REPLACED, "t", 199, "old"),
        (REPLACED, "t", 200, "new"),
        (REPLACED, "t", 300, "new"),
        (REPLACED, "t", 50, "old"),
        (REPLACED, "v", 150, "old"),
        (REPLACED, "new metric", 300, "new"),
        (SHARED, "t", 300, "old"),
        (SHARED, "v", 300, "beside"),
        (SHARED, "v", 120, "unknown"),
        (SHARED, "other", 300, "unknown"),
        (SHARED, "t", 50, "nobody"),
        ([*SHARED, term(NEW, 200, sends="t")], "t", 300, "unknown"),
        ([], "t", 50, "nobody"),
        ([replace(REPLACED[0], is_ours=False)], "t", 150, "nobody"),
    ],
)
def test_a_value_of_an_asset_goes_to_the_device_that_measured_it_then(
    terms: list[Term], metric: str, ts_ms: int, device: str
) -> None:
    assert owner(terms, metric, ts_ms) == device


def test_a_row_that_names_both_wants_that_device_on_that_asset() -> None:
    asset = Measured("P-1", SHARED)
    assert asset.named("old", 300) is OLD
    for key, ts_ms in (("old", 50), ("new", 300)):
        with pytest.raises(Refused, match=key):
            asset.named(key, ts_ms)


@st.composite
def histories(draw: st.DrawFn) -> list[Term]:
    """Return terms as bindings make them: those of a device follow each other, and its first may reach back."""
    found: list[Term] = []
    for device in (OLD, NEW, BESIDE)[: draw(st.integers(1, 3))]:
        edges = sorted(draw(st.lists(st.integers(1, 30), min_size=2, max_size=4, unique=True)))
        ends = [*edges[1:], draw(st.sampled_from([31, FOREVER_MS]))]
        sends = draw(st.sampled_from(["", "t", "v", "t v"]))
        found += [term(device, start, end, sends=sends) for start, end in zip(edges[::2], ends[::2], strict=False)]
    if draw(st.booleans()):
        return [_reaching(one, found) for one in found]
    return found


def _reaching(one: Term, all_of_them: list[Term]) -> Term:
    if any(other.device.id == one.device.id and other.starts_ms < one.starts_ms for other in all_of_them):
        return one
    others = [other.ends_ms for other in all_of_them if other.device.id != one.device.id]
    return replace(one, reach_ms=max((end for end in others if end <= one.starts_ms), default=0))


@given(histories(), st.lists(st.tuples(st.sampled_from("tv"), st.integers(0, 35)), max_size=20))
def test_a_row_that_was_imported_never_goes_to_another_device(terms: list[Term], rows: list[tuple[str, int]]) -> None:
    first = [owner(terms, *row) for row in rows]
    sent = {(key, metric) for key, (metric, _) in zip(first, rows, strict=True)}
    after = [
        replace(one, metrics=one.metrics | {metric for key, metric in sent if key == one.device.key}) for one in terms
    ]
    after = [_backdated(one, [ts_ms for key, (_, ts_ms) in zip(first, rows, strict=True) if key == one.device.key])
             for one in after]  # fmt: skip
    for row, key in zip(rows, first, strict=True):
        assert key in {"unknown", "nobody"} or owner(after, *row) in {key, "unknown"}


def _backdated(one: Term, imported_ms: list[int]) -> Term:
    first_ms = min(imported_ms, default=one.starts_ms)
    return replace(one, starts_ms=min(one.starts_ms, max(one.reach_ms, first_ms)))
