"""RUL-12: how far readings were evaluated outlives the process, and is never ahead of the truth."""

from pathlib import Path

import numpy as np
import pytest

from rules.marks import Marks


def opened(path: Path | None) -> Marks:
    marks = Marks(path)
    marks.open()
    return marks


def of(marks: Marks, *series: int) -> list[int]:
    return marks.of(np.array(series, np.int64)).tolist()


def test_RUL_12_marks_outlive_the_process_without_being_closed(tmp_path: Path) -> None:
    first = opened(tmp_path / "marks")
    first.advance(np.array([3, 7]), np.array([1_000, 2_000]))
    first.advance(np.array([7, 100_000]), np.array([2_500, 3_000]))
    assert of(opened(tmp_path / "marks"), 3, 7, 100_000, 4, -1, 9_999_999) == [1_000, 2_500, 3_000, 0, 0, 0]


def test_RUL_12_a_file_of_something_else_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "marks").write_bytes(b"\xff" * 100_000)
    marks = opened(tmp_path / "marks")
    assert of(marks, 1, 5_000) == [0, 0]
    marks.advance(np.array([1]), np.array([5]))
    assert of(opened(tmp_path / "marks"), 1) == [5]


def test_RUL_12_a_disk_that_takes_no_more_ends_the_marks_and_not_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = opened(tmp_path / "marks")
    marks.advance(np.array([1]), np.array([5]))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    marks.advance(np.array([1_000_000]), np.array([9]))
    marks.advance(np.array([1]), np.array([9]))
    assert of(marks, 1, 1_000_000) == [0, 0]


def test_RUL_12_without_a_path_nothing_is_kept() -> None:
    marks = opened(None)
    marks.advance(np.array([1]), np.array([5]))
    assert of(marks, 1) == [0]
