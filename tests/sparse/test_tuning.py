"""The choice among ways of doing the work, with a clock that is told what to say."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable

import pytest
import torch

from tsp3d.sparse import tuning
from tsp3d.sparse.tuning import Choice, Tuner

PLAIN, FAST, SLOW = Choice("rows"), Choice("sorted", 2, 3), Choice("gather")
WAYS = [PLAIN, FAST, SLOW]
VALUES = torch.tensor([1.0, -4.0, 2.0])


class Bench:
    """Runs choices and times them: each choice has a time in milliseconds, an error to raise, or a list of times."""

    def __init__(self, times: dict, results: dict | None = None):
        self.times, self.results, self.ran, self.last = times, results or {}, [], PLAIN

    def run(self, choice: Choice) -> torch.Tensor:
        self.ran.append(choice)
        self.last = choice
        result = self.results.get(choice, VALUES)
        if isinstance(result, Exception):
            raise result
        return result

    def timer(self, work: Callable) -> float:
        work()
        time = self.times[self.last]
        if isinstance(time, Exception):
            raise time
        return time.pop(0) if isinstance(time, list) else time

    def choose(self, path=None, ways=WAYS, key="conv") -> Choice:
        return Tuner(path, self.timer).choose(key, ways, self.run, 1e-3)


def test_the_fastest_wins():
    assert Bench({PLAIN: 2.0, FAST: 1.0, SLOW: 3.0}).choose() == FAST
    assert Bench({PLAIN: 2.0, FAST: 5.0, SLOW: 3.0}).choose() == PLAIN


def test_the_plain_way_stays_where_nothing_is_clearly_faster():
    assert Bench({PLAIN: 1.0, FAST: 0.98, SLOW: 3.0}).choose() == PLAIN


def test_one_mistimed_run_changes_nothing():
    noisy = {PLAIN: [2.0, 2.0, 0.001, 2.0, 2.0], FAST: [1.0, 50.0, 1.0, 1.0, 70.0], SLOW: [3.0, 0.001, 3.0, 0.0, 3.0]}
    assert Bench(noisy).choose() == FAST


@pytest.mark.parametrize(
    "wrong", [VALUES + 0.1, VALUES * torch.nan, VALUES[:2], VALUES.double(), RuntimeError("memory")]
)
def test_what_fails_or_is_wrong_cannot_win(wrong, tmp_path):
    path = tmp_path / "choices.json"
    assert Bench({PLAIN: 2.0, FAST: 0.1, SLOW: 1.0}, {FAST: wrong}).choose(path) == SLOW
    assert json.loads(path.read_text())["choices"] == {"conv": ["gather", 0, 0]}


@pytest.mark.parametrize("time", [0.0, -1.0, float("nan"), float("inf"), RuntimeError("launch failed")])
def test_what_cannot_be_timed_cannot_win(time):
    assert Bench({PLAIN: 2.0, FAST: time, SLOW: 1.0}).choose() == SLOW


def test_rounding_is_no_error():
    assert Bench({PLAIN: 2.0, FAST: 1.0, SLOW: 3.0}, {FAST: VALUES + 0.003}).choose() == FAST


def test_where_the_plain_way_fails_nothing_is_kept(tmp_path):
    path = tmp_path / "choices.json"
    with pytest.raises(RuntimeError, match="no GPU"):
        Bench({}, {PLAIN: RuntimeError("no GPU")}).choose(path)
    with pytest.raises(RuntimeError, match="lost"):
        Bench({PLAIN: RuntimeError("lost"), FAST: 1.0, SLOW: 1.0}).choose(path)
    assert not path.exists()
    assert Bench({PLAIN: 0.0, FAST: 1.0, SLOW: 1.0}).choose() == PLAIN  # nothing to compare with


def test_measured_once_and_kept_on_disk(tmp_path):
    path = tmp_path / "folder" / "choices.json"
    times = {PLAIN: 2.0, FAST: 1.0, SLOW: 3.0}
    assert Bench(times).choose(path) == FAST
    again = Bench(times)
    tuner = Tuner(path, again.timer)
    assert tuner.choose("conv", WAYS, again.run, 1e-3) == FAST and not again.ran
    assert tuner.choose("other", WAYS, again.run, 1e-3) == FAST and again.ran
    assert sorted(json.loads(path.read_text())["choices"]) == ["conv", "other"]
    assert [file.name for file in path.parent.iterdir()] == ["choices.json"]  # nothing unfinished beside it


def test_a_choice_that_is_no_candidate_any_more_is_measured_anew(tmp_path):
    path = tmp_path / "choices.json"
    Bench({PLAIN: 2.0, FAST: 1.0, SLOW: 3.0}).choose(path)
    bench = Bench({PLAIN: 2.0, SLOW: 1.0})
    assert bench.choose(path, [PLAIN, SLOW]) == SLOW and bench.ran


def test_two_processes_keep_each_others_choices(tmp_path):
    path, bench = tmp_path / "choices.json", Bench({PLAIN: 2.0, FAST: 1.0, SLOW: 3.0})
    first, second = (Tuner(path, bench.timer) for _ in range(2))
    assert first.known("a", WAYS) is None and second.known("b", WAYS) is None
    first.choose("a", WAYS, bench.run, 1e-3)
    second.choose("b", WAYS, bench.run, 1e-3)
    assert sorted(json.loads(path.read_text())["choices"]) == ["a", "b"]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"format": 1}', '{"format": 1, "choices": [1]}', '{"format": 1, "choices": {"conv": "rows"}}',
     '{"format": 1, "choices": {"conv": ["rows", "2", 3]}}', "\x00\xff"],
)  # fmt: skip
def test_a_broken_file_is_named_and_made_anew(content, tmp_path):
    path = tmp_path / "choices.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.warns(RuntimeWarning, match=r"choices\.json does not hold choices"):
        assert Bench({PLAIN: 2.0, FAST: 1.0, SLOW: 3.0}).choose(path) == FAST
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Tuner(path).known("conv", WAYS) == FAST


def test_a_file_of_another_format_is_not_read(tmp_path):
    path = tmp_path / "choices.json"
    path.write_text('{"format": 0, "choices": {"conv": ["sorted", 2, 3]}}')
    assert Tuner(path).known("conv", WAYS) is None


def test_where_nothing_can_be_written_choices_stay_in_memory(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    bench = Bench({PLAIN: 2.0, FAST: 1.0, SLOW: 3.0})
    tuner = Tuner(blocked / "choices.json", bench.timer)
    with pytest.warns(RuntimeWarning, match="TSP3D_CACHE names another folder"):
        assert tuner.choose("conv", WAYS, bench.run, 1e-3) == FAST
    assert tuner.known("conv", WAYS) == FAST


def test_the_file_is_named_after_gpu_and_library(monkeypatch, tmp_path):
    monkeypatch.setenv("TSP3D_CACHE", str(tmp_path))
    path = tuning.cache_file("NVIDIA H100 80GB/HBM3", "0.1.0 torch-2.13.0+cu130")
    assert path == tmp_path / "tuning" / "NVIDIA-H100-80GB-HBM3-0.1.0-torch-2.13.0-cu130.json"
    monkeypatch.delenv("TSP3D_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert tuning.cache_folder() == tmp_path / "x" / "tsp3d"
