"""TensorRT's progress monitor."""

from __future__ import annotations

from bnn_deploy.tensorrt.progress import make_monitor
from bnn_deploy.tensorrt.sdk import load_sdk


def test_a_monitor_lets_nothing_escape_into_tensorrt() -> None:
    def fail(phase: str, done: int, steps: int) -> None:
        raise ValueError(phase)

    monitor = make_monitor(load_sdk(), fail)
    monitor.phase_start("first", None, 3)
    assert monitor.step_complete("first", 0) is False
    monitor.phase_finish("first")
    assert repr(monitor.error) == "ValueError('first')"


def test_a_phase_that_ends_early_is_told_as_complete() -> None:
    told: list[tuple[str, int, int]] = []
    monitor = make_monitor(load_sdk(), lambda *step: told.append(step))
    monitor.phase_start("first", None, 3)
    assert monitor.step_complete("first", 0) is True
    monitor.phase_finish("first")
    assert told == [("first", 0, 3), ("first", 1, 3), ("first", 3, 3)]
