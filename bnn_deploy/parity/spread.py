"""PyTorch against itself: how far float rounding alone takes a network that is free to run.

The same module on the same inputs, summed in another order. Each way is compared with the recording as a runner is,
only that nothing of it is judged: it shows which part of a runner's distance is float's own.
"""

from __future__ import annotations

from collections.abc import Mapping

from bnn_deploy.bits import binarize
from bnn_deploy.parity.compare import difference
from bnn_deploy.parity.free_run import argmax_agreement
from bnn_deploy.parity.results import FreeRun, Spread
from bnn_deploy.runners.base import Recording


def spread(reference: Recording, others: Mapping[str, Recording]) -> Spread:
    """Compares other recordings of a network with `reference`, on the same inputs.

    Args:
        reference: How the network ran when runners were compared with it.
        others: How else it was computed -> what came out.
    """
    return Spread({name: _compare(reference, other) for name, other in others.items()})


def _compare(reference: Recording, other: Recording) -> FreeRun:
    total, first = 0, None
    for record, again in zip(reference.binarizations, other.binarizations, strict=True):
        count = int((binarize(record.x, record.levels) != binarize(again.x, record.levels)).sum())
        total += count
        first = record.name if count and first is None else first
    gaps = [difference(expected, other.outputs[name]) for name, expected in reference.outputs.items()]
    worst = max(gaps, key=lambda gap: gap.max_abs_error)
    agreement = argmax_agreement(reference.outputs, other.outputs)
    return FreeRun(worst.max_abs_error, worst.tolerance, agreement, total, first)
