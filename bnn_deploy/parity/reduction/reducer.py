"""Reduces what fails in the course of a check: for each runner the first failure that has a smaller case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import onnx

from bnn_deploy.errors import InputRefused
from bnn_deploy.parity.inputs import InputCase
from bnn_deploy.parity.layerwise import RunnerFactory
from bnn_deploy.parity.reduction.bisect import bisect, bisect_probe, followed
from bnn_deploy.parity.reduction.case import ReducedCase
from bnn_deploy.parity.results import CaseResult, RunnerResult
from bnn_deploy.runners.base import Recording


class Reducer:
    """Writes a folder for each runner that fails.

    Args:
        model: The deployed file.
        factories: Runner name -> what makes one of a model.
        folder: Gets a folder of each runner's name; see `ReducedCase.write`.
        progress: Is told what is being done.

    Attributes:
        written: Runner name -> its folder.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        factories: Mapping[str, RunnerFactory],
        folder: Path,
        progress: Callable[[str], None],
    ) -> None:
        self._model, self._factories, self._folder, self._progress = model, factories, folder, progress
        self.written: dict[str, Path] = {}

    def case(self, case: InputCase, result: CaseResult, recording: Recording) -> None:
        """Reduces what failed on one set of inputs. Without finite values there is nothing to compare floats with."""
        reference = cache(lambda: followed(self._model, case.feeds, recording))  # the same for every runner
        for runner in result.runners:
            if self._wanted(runner) and case.finite:
                self._write(
                    runner.runner,
                    lambda name: bisect(
                        self._model,
                        name,
                        self._factories[name],
                        case.feeds,
                        recording,
                        reference=reference,
                        progress=self._progress,
                    ),
                )

    def probes(self, result: RunnerResult) -> None:
        """Reduces the first binarisation that failed on values that are hard to binarise."""
        wrong = next((probe.layer for probe in result.probes if not probe.passed), None)
        if self._wanted(result) and wrong is not None:
            self._write(
                result.runner,
                lambda name: bisect_probe(self._model, name, self._factories[name], wrong, progress=self._progress),
            )

    def _wanted(self, result: RunnerResult) -> bool:
        return not result.passed and result.runner in self._factories and result.runner not in self.written

    def _write(self, runner: str, reduce: Callable[[str], ReducedCase | None]) -> None:
        try:
            reduced = reduce(runner)
        except InputRefused as error:  # what failed has been found; that it cannot be made smaller is no other verdict
            self._progress(str(error))
            return
        if reduced is None:
            self._progress(f"{runner}: no part of the file fails alone")
            return
        self.written[runner] = reduced.write(self._folder / runner)
        self._progress(f"{runner}: the case is in {self.written[runner]}")
