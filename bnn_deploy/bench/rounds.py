"""The turns that contenders take: A B B A.

Whatever slows the machine down for a while slows all of them, so the ratio of two neighbours says more than either of
their times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LEAST_ROUNDS = 5  # also where `seconds` are over: fewer have no percentiles


@dataclass(frozen=True)
class Schedule:
    """How long to measure.

    Attributes:
        rounds: The most rounds; in a round each contender has one turn.
        seconds: No round begins after this many seconds, but for the first `LEAST_ROUNDS`.
        warm_up: Rounds ahead of the others whose times are not kept.
        repeats: Timed runs of a turn, of which the mean counts: for what is over in less than a millisecond.
    """

    rounds: int = 50
    seconds: float = 10.0
    warm_up: int = 2
    repeats: int = 1


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    schedule: Schedule,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Times every contender once a round.

    Every other round goes through the contenders backwards, since who runs before leaves caches, and the clock, to who
    runs behind. A turn begins with a run that is not timed. It brings code and weights back into the caches, where they
    are when a network runs again and again: it is the taking turns that has driven them out.

    Args:
        contenders: Name -> what runs it once.
        schedule: How often.
        clock: Seconds, from any beginning.

    Returns:
        Name -> milliseconds for a run, one for each round.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(schedule.warm_up):
        for run in contenders.values():
            run()
    order = list(contenders.items())
    begin = clock()
    for done in range(schedule.rounds):
        if done >= LEAST_ROUNDS and clock() - begin >= schedule.seconds:
            break
        for name, run in reversed(order) if done % 2 else order:
            run()
            start = clock()
            for _ in range(schedule.repeats):
                run()
            times[name].append(1e3 * (clock() - start) / schedule.repeats)
    return times
