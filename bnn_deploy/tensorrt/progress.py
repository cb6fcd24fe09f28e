"""How far a build is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with a phase of the build, the steps done in it, and how many it has."""


def make_monitor(sdk: Any, progress: Progress) -> Any:
    """An `IProgressMonitor` that tells `progress`; `error` is what that raised, which ends the build."""

    class Monitor(sdk.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}
            self.error: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.error is None

        def phase_finish(self, phase_name: str) -> None:
            if self.error is None:
                self._tell(phase_name, self.steps.get(phase_name, 0))

        def _tell(self, phase_name: str, done: int) -> None:
            # An exception must not travel through TensorRT's frames.
            try:
                progress(phase_name, done, self.steps.get(phase_name, 0))
            except BaseException as error:
                self.error = self.error or error

    return Monitor()
