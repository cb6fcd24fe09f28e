"""The harness: a reference network, a deployed file, some runners, some inputs; a verdict for each runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from types import TracebackType
from typing import Any, Self

import onnx
from numpy.typing import NDArray

from bnn_deploy.opset import FP16, FP32, PRECISION
from bnn_deploy.parity.adversarial import probe
from bnn_deploy.parity.compare import FLOAT32_ROUNDOFF, MOST_TIES
from bnn_deploy.parity.constants import constant_failures
from bnn_deploy.parity.free_run import compare_free_run
from bnn_deploy.parity.inputs import InputCase
from bnn_deploy.parity.instrument import teacher_forced
from bnn_deploy.parity.kept_open import KeptOpen
from bnn_deploy.parity.layerwise import RunnerFactory, compare_layers, compare_pytorch, reference_accumulators
from bnn_deploy.parity.results import BinarizationResult, CaseResult, LayerResult, RunnerResult
from bnn_deploy.parity.thresholds import threshold_failures
from bnn_deploy.runners.base import Recording, RecordingRunner

UNIT_ROUNDOFF = {FP32: FLOAT32_ROUNDOFF, FP16: 2.0**-11}


def check(
    reference: RecordingRunner,
    model: onnx.ModelProto,
    factories: Mapping[str, RunnerFactory],
    feeds: Mapping[str, NDArray[Any]],
) -> dict[str, RunnerResult]:
    """Compares each runner with the reference network, layer by layer and end to end.

    Args:
        reference: The PyTorch network.
        model: The deployed file.
        factories: Runner name -> what makes one of a model.
        feeds: Input name -> array, the first axis the samples.

    Returns:
        Runner name -> result; `pytorch` itself against the integer reference comes first.
    """
    with Harness(reference, model, factories) as harness:
        case = harness.check(InputCase("inputs", "inputs", dict(feeds)))
    own, *others = case.runners
    wrong = harness.file_failures
    return {own.runner: own} | {result.runner: replace(result, failures=result.failures + wrong) for result in others}


class Harness:
    """Checks one file on several sets of inputs; sessions that were made for one serve the next.

    Args:
        reference: The PyTorch network.
        model: The deployed file.
        factories: Runner name -> what makes one of a model.

    Attributes:
        precision: Of the file: `fp32` or `fp16`.
        file_failures: What is wrong with the file itself, whatever runs it; known after the first check.
    """

    def __init__(
        self, reference: RecordingRunner, model: onnx.ModelProto, factories: Mapping[str, RunnerFactory]
    ) -> None:
        self._reference, self._model = reference, model
        self._stack = ExitStack()
        self._factories = {name: self._stack.enter_context(KeptOpen(factory)) for name, factory in factories.items()}
        self._given = tuple(teacher_forced(model, force_streams=True).streams)
        self.precision = precision_of(model)
        self.file_failures: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def runners(self) -> tuple[str, ...]:
        """The names of the runners that are compared."""
        return tuple(self._factories)

    def record(self, case: InputCase) -> Recording:
        """What the PyTorch network does with the inputs of a case, as `check` compares with it."""
        return self._reference.record(case.feeds, precision=self.precision, given=self._given)

    def check(self, case: InputCase, recording: Recording | None = None) -> CaseResult:
        """Compares every runner on one set of inputs.

        Args:
            case: The inputs.
            recording: Of `record`; None makes it.
        """
        recording = recording or self.record(case)
        self.file_failures = self.file_failures or (
            *constant_failures(self._model, recording),
            *threshold_failures(self._model, recording),
        )
        accumulators = reference_accumulators(recording)
        own = compare_pytorch(recording, accumulators)
        failures = tuple(_layer_failures(own)) if case.finite else ()
        results = [RunnerResult(self._reference.name, case.samples, tuple(own), (), None, failures)]
        # A whole analysis of its own: only where a sign differs, and then once for all runners.
        analysed = cache(lambda: self._reference.record(case.feeds, precision=self.precision))
        results += [self._runner(name, case, recording, accumulators, analysed) for name in self._factories]
        return CaseResult(case.name, case.description, case.samples, tuple(results), None, recording.unproven)

    def probe(self, name: str) -> RunnerResult:
        """Gives every binarisation of the file values that are hard to binarise, and compares its words."""
        probes = probe(self._model, self._factories[name])
        failures = tuple(
            f"{result.layer}: given {result.probe}, {result.packed_mismatches} of {result.elements} values break the "
            "bit contract"
            for result in probes
            if not result.passed
        )
        return RunnerResult(name, 0, (), (), None, failures, tuple(probes))

    def _runner(
        self,
        name: str,
        case: InputCase,
        recording: Recording,
        accumulators: Mapping[str, NDArray[Any]],
        analysed: Callable[[], Recording],
    ) -> RunnerResult:
        factory, unit = self._factories[name], UNIT_ROUNDOFF[self.precision]
        layers, binarizations, others = compare_layers(
            self._model,
            factory,
            case.feeds,
            recording,
            accumulators=accumulators,
            finite=case.finite,
            unit_roundoff=unit,
        )
        # The nearest cause first: an output is off because a layer is.
        failures = _layer_failures(layers) + _binarization_failures(binarizations) + others
        free_run, more = compare_free_run(
            self._model, factory, case.feeds, recording, unit_roundoff=unit, analysed=analysed if case.finite else None
        )
        failures += more if case.finite else []
        return RunnerResult(name, case.samples, tuple(layers), tuple(binarizations), free_run, tuple(failures))


def precision_of(model: onnx.ModelProto) -> str:
    """The type of everything in a file that is not 1-bit: `fp32` or `fp16`."""
    return next((entry.value for entry in model.metadata_props if entry.key == PRECISION), FP32)


def _layer_failures(layers: list[LayerResult]) -> list[str]:
    failures = []
    for layer in layers:
        if layer.passed:
            continue
        if layer.accumulator_mismatches:
            failures.append(f"{layer.layer}: {layer.accumulator_mismatches} of {layer.elements} accumulators differ")
        elif layer.bound_used > 1.0:
            failures.append(
                f"{layer.layer}: the epilogue is off by {layer.max_abs_error:.3g} (tolerance {layer.tolerance:.3g})"
            )
        else:
            failures.append(
                f"{layer.layer}: the epilogue of {layer.inexact} of {layer.elements} values is not the documented one, "
                f"by up to {layer.max_ulp_error:.3g} units in the last place"
            )
    return failures


def _binarization_failures(results: list[BinarizationResult]) -> list[str]:
    failures = []
    for result in results:
        if result.passed:
            continue
        if result.packed_mismatches:
            failures.append(f"{result.layer}: {result.packed_mismatches} packed words break the bit contract")
        elif result.sign_flips > result.ties:
            bugs = result.sign_flips - result.ties
            failures.append(f"{result.layer}: {bugs} signs differ that no rounding explains")
        elif result.ties > MOST_TIES * result.elements:
            share = f"{result.ties} of {result.elements}"
            failures.append(f"{result.layer}: {share} signs differ by a tie each; so many are no accident of rounding")
        else:
            failures.append(
                f"{result.layer}: its input is off by {result.max_abs_error or 0:.3g} "
                f"(tolerance {result.tolerance:.3g})"
            )
    return failures
