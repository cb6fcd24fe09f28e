"""End to end: the network runs freely, and the first place where it leaves the reference is found and classified.

One flip, once it happens, changes everything behind it, so only the first divergence can be judged: up to there both
networks computed from the same bits, and the difference is float rounding or a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from bnn_deploy.bits import binarize
from bnn_deploy.parity.compare import FLOAT32_ROUNDOFF, difference, flips
from bnn_deploy.parity.instrument import observed
from bnn_deploy.parity.layerwise import RunnerFactory
from bnn_deploy.parity.results import FreeRun
from bnn_deploy.runners.base import BinarizationRecord, Recording


def compare_free_run(
    model: onnx.ModelProto,
    factory: RunnerFactory,
    feeds: Mapping[str, NDArray[Any]],
    recording: Recording,
    *,
    unit_roundoff: float = FLOAT32_ROUNDOFF,
    analysed: Callable[[], Recording] | None = None,
) -> tuple[FreeRun, list[str]]:
    """Runs `model` as it is, and finds the first place where it leaves the reference.

    Args:
        model: The deployed file.
        factory: Makes a runner of a model.
        feeds: Input name -> array.
        recording: What the PyTorch network did with the same feeds.
        unit_roundoff: Of the file's float type.
        analysed: Records the same feeds with bounds from the inputs on, for a network that is given no real tensor on
            the way. It is called where a sign differs; None judges by the stated tolerance.

    Returns:
        What was found, and what failed.
    """
    variant = observed(model)
    with factory(variant.model) as runner:
        outputs = {**feeds, **runner.infer(feeds)}
    points = variant.binarizations()
    failures: list[str] = []
    total, first = 0, None
    for record in recording.binarizations:
        if record.name not in points:
            continue
        point = points[record.name]
        found = point.read_levels(outputs[point.read], record.x.shape)
        count = int((binarize(record.x, record.levels) != found).sum())
        total += count
        if count and first is None:
            first = record.name
            exact = None if analysed is None else _named(analysed(), first).exact
            bugs = flips(record.x, found, record.levels, exact, unit_roundoff=unit_roundoff).bugs
            if bugs:
                failures.append(f"{first}: end to end, {bugs} of {count} signs differ that no rounding explains")
    gaps = {
        name: difference(expected, outputs[name], unit_roundoff=unit_roundoff)
        for name, expected in recording.outputs.items()
    }
    worst = max(gaps.values(), key=lambda gap: gap.max_abs_error, default=None)
    if first is None:
        failures += [
            f"output {name!r}: off by {gap.max_abs_error:.3g} (tolerance {gap.tolerance:.3g}) though all signs agree"
            for name, gap in gaps.items()
            if not gap.within
        ]
    run = FreeRun(
        max_abs_error=worst.max_abs_error if worst else 0.0,
        tolerance=worst.tolerance if worst else 0.0,
        argmax_agreement=argmax_agreement(recording.outputs, outputs),
        sign_flips=total,
        first_divergence=first,
    )
    return run, failures


def _named(recording: Recording, name: str) -> BinarizationRecord:
    return next(record for record in recording.binarizations if record.name == name)


def argmax_agreement(expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]) -> float | None:
    """The share of samples whose first output has its largest value in the same place; None for no class scores."""
    name = next(iter(expected))
    if expected[name].ndim != 2 or expected[name].size == 0 or found[name].shape != expected[name].shape:
        return None
    return float((expected[name].argmax(axis=1) == found[name].argmax(axis=1)).mean())
