"""Times of contenders that take turns: A B A B.

What is timed is a recording: a CUDA graph of many runs, so that what the host does is not counted. Each replay is timed
by events, behind one that is not timed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from slots import Library, Pointer

from bnn_deploy.bench import Times

FEWEST_RUNS, MOST_RUNS = 8, 2000  # of a recording


class Recording(Protocol):
    """Runs that can be replayed."""

    def milliseconds(self) -> float:
        """Replays it; the time of all its runs."""

    def close(self) -> None:
        """Gives its resources back."""


@dataclass(frozen=True)
class Contender:
    """Something that runs again and again.

    Attributes:
        record: Makes a recording of so many runs, which go through the slots in turn.
        slots: How many copies of its data it has.
    """

    record: Callable[[int], Recording]
    slots: int


@dataclass(frozen=True)
class Schedule:
    """How long to measure.

    Attributes:
        rounds: Times that are kept of each contender.
        recording_ms: How long a recording should be; it has at least one run for every slot.
        fewest_runs: That a recording has, however long they take.
    """

    rounds: int = 11
    recording_ms: float = 2.0
    fewest_runs: int = FEWEST_RUNS


# Enqueues the run of a slot on a stream, an address; None is the stream that all wait for.
Launch = Callable[[int, int | None], None]


class GraphRecording:
    """Launches of ours, recorded by the library."""

    def __init__(self, library: Library, launch: Launch, slots: int, runs: int) -> None:
        self._library, self._recording = library, Pointer()
        launch(0, None)  # loads the kernel, which cannot be recorded
        stream = Pointer()
        library.call("bnn_cuda_begin_recording", ctypes.byref(stream))
        try:
            for run in range(runs):
                launch(run % slots, stream.value)
        finally:  # also ends the stream
            library.call("bnn_cuda_end_recording", stream, ctypes.byref(self._recording))

    def milliseconds(self) -> float:
        """See `Recording`."""
        found = ctypes.c_float()
        self._library.call("bnn_cuda_replay", self._recording, 1, ctypes.byref(found))
        return found.value

    def close(self) -> None:
        """See `Recording`."""
        self._library.call("bnn_cuda_forget", self._recording)


class DryRecording:
    """Runs each slot once, and says that a run takes a microsecond: where there is no GPU to time."""

    def __init__(self, launch: Launch, slots: int, runs: int) -> None:
        self._runs = runs
        for slot in range(min(slots, runs)):
            launch(slot, None)

    def milliseconds(self) -> float:
        """See `Recording`."""
        return 1e-3 * self._runs

    def close(self) -> None:
        """See `Recording`."""


def contender(library: Library, launch: Launch, slots: int, *, dry: bool) -> Contender:
    """One of ours."""
    if dry:
        return Contender(lambda runs: DryRecording(launch, slots, runs), slots)
    return Contender(lambda runs: GraphRecording(library, launch, slots, runs), slots)


def runs_for(run_ms: float, slots: int, recording_ms: float, fewest: int = FEWEST_RUNS) -> int:
    """How many runs a recording has: as many as fill the time, and as many for one slot as for the next."""
    wanted = min(max(round(recording_ms / max(run_ms, 1e-6)), fewest), MOST_RUNS)
    return -(-wanted // slots) * slots


def take_turns(
    contenders: Mapping[str, Contender], schedule: Schedule
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Microseconds of one run of each contender, and what went wrong with those that are missing.

    Returns:
        Name -> p10_us, p50_us, p90_us and the number of runs in a recording; name -> message.
    """
    found: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        ready: dict[str, tuple[Recording, int]] = {}
        for name, one in contenders.items():
            with noted(failures, name):
                runs = runs_for(
                    _pilot_ms(one, schedule.fewest_runs), one.slots, schedule.recording_ms, schedule.fewest_runs
                )
                recording = one.record(runs)
                stack.callback(_closed, recording)
                ready[name] = recording, runs
        times: dict[str, list[float]] = {name: [] for name in ready}
        for _ in range(schedule.rounds):
            for name, (recording, runs) in ready.items():
                if name not in failures:
                    with noted(failures, name):
                        times[name].append(1e3 * recording.milliseconds() / runs)
        for name, (_, runs) in ready.items():
            if name not in failures:
                own = asdict(Times.of(times[name], times[name]))
                found[name] = {f"p{p}_us": own[f"p{p}_ms"] for p in (10, 50, 90)} | {"runs": runs}
    return found, failures


def _pilot_ms(one: Contender, fewest_runs: int) -> float:
    """About how long a run takes."""
    runs = max(fewest_runs, one.slots)
    recording = one.record(runs)
    try:
        return recording.milliseconds() / runs
    finally:
        recording.close()


def _closed(recording: Recording) -> None:
    """Closes it; after an error of the GPU that fails too, and says nothing new."""
    with suppress(Exception):
        recording.close()


class noted:
    """Notes an exception under a name, and goes on: one contender that fails is no reason to lose the others."""

    def __init__(self, failures: dict[str, str], name: str) -> None:
        self._failures, self._name = failures, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception):
            self._failures[self._name] = f"{type(error).__name__}: {error}".splitlines()[0]
            return True
        return False
