"""The harness: a reference network, a deployed file, some runners, some inputs; a verdict for each runner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from bnn_deploy.parity.compare import MOST_TIES
from bnn_deploy.parity.free_run import compare_free_run
from bnn_deploy.parity.layerwise import RunnerFactory, compare_layers, compare_pytorch
from bnn_deploy.parity.results import BinarizationResult, LayerResult, RunnerResult
from bnn_deploy.runners.base import Recording, RecordingRunner


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
    recording = reference.record(feeds)
    samples = next(iter(feeds.values())).shape[0]
    own = compare_pytorch(recording)
    results = {reference.name: RunnerResult(reference.name, samples, tuple(own), (), None, tuple(_layer_failures(own)))}
    for name, factory in factories.items():
        results[name] = _check_runner(name, model, factory, feeds, recording, samples)
    return results


def _check_runner(
    name: str,
    model: onnx.ModelProto,
    factory: RunnerFactory,
    feeds: Mapping[str, NDArray[Any]],
    recording: Recording,
    samples: int,
) -> RunnerResult:
    layers, binarizations, others = compare_layers(model, factory, feeds, recording)
    # The nearest cause first: an output is off because a layer is.
    failures = _layer_failures(layers) + _binarization_failures(binarizations) + others
    free_run, more = compare_free_run(model, factory, feeds, recording)
    return RunnerResult(name, samples, tuple(layers), tuple(binarizations), free_run, tuple(failures + more))


def _layer_failures(layers: list[LayerResult]) -> list[str]:
    failures = []
    for layer in layers:
        if layer.accumulator_mismatches:
            failures.append(f"{layer.layer}: {layer.accumulator_mismatches} of {layer.elements} accumulators differ")
        elif not layer.passed:
            failures.append(
                f"{layer.layer}: the epilogue is off by {layer.max_abs_error:.3g} (tolerance {layer.tolerance:.3g})"
            )
    return failures


def _binarization_failures(results: list[BinarizationResult]) -> list[str]:
    failures = []
    for result in results:
        if result.packed_mismatches:
            failures.append(f"{result.layer}: {result.packed_mismatches} packed words break the bit contract")
        elif result.sign_flips > result.ties:
            bugs = result.sign_flips - result.ties
            failures.append(f"{result.layer}: {bugs} signs differ that no rounding explains")
        elif result.ties > MOST_TIES * result.elements:
            share = f"{result.ties} of {result.elements}"
            failures.append(f"{result.layer}: {share} signs differ by a tie each; so many are no accident of rounding")
        elif not result.passed:
            failures.append(
                f"{result.layer}: its input is off by {result.max_abs_error or 0:.3g} "
                f"(tolerance {result.tolerance:.3g})"
            )
    return failures
