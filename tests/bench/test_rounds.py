"""Turns are taken and times are kept as documented; the clock is made of numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bnn_deploy.bench import Schedule, interleave


class Stopwatch:
    """Stands still but for the contenders, each run of which takes as long as it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def contender(self, name: str, *seconds: float) -> Callable[[], None]:
        """A run takes the next of `seconds`, the last of them from then on."""
        left = list(seconds)

        def run() -> None:
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_a_turn_is_a_run_that_is_not_timed_and_runs_that_are() -> None:
    watch = Stopwatch()
    a, b = watch.contender("a", 9, 1, 2, 9, 3, 4), watch.contender("b", 8, 0.5, 0.25, 8, 0.5, 0.5)
    times = interleave({"a": a, "b": b}, Schedule(rounds=2, seconds=1e9, warm_up=0, repeats=2), watch)
    assert watch.log == ["a"] * 3 + ["b"] * 3 + ["b"] * 3 + ["a"] * 3
    assert times == {"a": [1500.0, 3500.0], "b": [375.0, 500.0]}


def test_every_other_round_goes_backwards() -> None:
    watch = Stopwatch()
    contenders = {name: watch.contender(name, 1) for name in "abc"}
    interleave(contenders, Schedule(rounds=3, seconds=1e9, warm_up=0, repeats=1), watch)
    assert "".join(watch.log) == "aabbcc" + "ccbbaa" + "aabbcc"


def test_warm_up_is_not_kept() -> None:
    watch = Stopwatch()
    a = watch.contender("a", 100, 100, 100, 100, 1)
    times = interleave({"a": a, "b": watch.contender("b", 2)}, Schedule(rounds=3, seconds=1e9, warm_up=4), watch)
    assert watch.log[:8] == ["a", "b"] * 4
    assert times == {"a": [1000.0] * 3, "b": [2000.0] * 3}


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [(0.0, 5), (10.0, 5), (13.0, 7), (1e9, 20)],  # a round takes 2 seconds; warm-up does not count
)
def test_time_is_over_between_rounds_and_not_before_the_fifth(seconds: float, kept: int) -> None:
    watch = Stopwatch()
    times = interleave({"a": watch.contender("a", 1)}, Schedule(rounds=20, seconds=seconds), watch)
    assert len(times["a"]) == kept


def test_fewer_rounds_than_five_where_asked() -> None:
    watch = Stopwatch()
    assert len(interleave({"a": watch.contender("a", 1)}, Schedule(rounds=1, seconds=0), watch)["a"]) == 1


def test_an_error_of_a_contender_passes_through() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interleave({"a": broken}, Schedule())
