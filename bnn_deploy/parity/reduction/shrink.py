"""The smallest input on which the same nodes still fail in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.parity.reduction.delta import ddmin, shrink_range
from bnn_deploy.parity.reduction.oracle import of_samples
from bnn_deploy.parity.reduction.trial import Part, Trial


def shrink(trial: Trial, part: Part, progress: Callable[[str], None]) -> Part:
    """Fewer samples, smaller images, then zeros in rows, columns and channels (words, where a tensor holds bits).

    Args:
        trial: What judges; it stops accepting smaller parts when no runs are left.
        part: It fails.
        progress: Is told what is being done.

    Returns:
        A part with the nodes of `part` that fails as it does.
    """
    part = _fewer_samples(trial, part)
    progress(f"{_samples(part)} samples are left")
    if not part.computable:
        return part
    for axis in (-2, -1):
        part = _smaller_images(trial, part, axis)
    for name in part.inputs:
        part = _zeros(trial, part, name)
    return part


def _samples(part: Part) -> int:
    return max((array.shape[0] for array in part.inputs.values() if array.ndim), default=0)


def _fewer_samples(trial: Trial, part: Part) -> Part:
    count = _samples(part)

    def of(chosen: list[int]) -> Part:
        inputs = {name: of_samples(array, chosen, count) for name, array in part.inputs.items()}
        if part.computable:
            return part.given(inputs)
        expected = {name: wanted.samples(chosen, count) for name, wanted in part.expected.items()}
        return Part(part.subject, part.chosen, inputs, expected, computable=False, kind=part.kind)

    return _smallest(trial, part, list(range(count)), of)


def _smaller_images(trial: Trial, part: Part, axis: int) -> Part:
    """Rows (axis -2) or columns (-1), of every input that is an image; all have to be of one size."""
    images = {name: array for name, array in part.inputs.items() if array.ndim == 4}
    sizes = {array.shape[_image_axis(array, axis)] for array in images.values()}
    if len(sizes) != 1:
        return part

    def cut(first: int, last: int) -> Part:
        lines = range(first, last)
        return part.given(
            part.inputs | {name: array.take(lines, _image_axis(array, axis)) for name, array in images.items()}
        )

    first, last = shrink_range(0, sizes.pop(), lambda first, last: _fails(trial, part, lambda: cut(first, last)))
    smaller = _built(lambda: cut(first, last))
    return smaller if smaller is not None else part


def _zeros(trial: Trial, part: Part, name: str) -> Part:
    """Zero wherever one input need not be anything else."""
    cleared = _built(lambda: part.given(part.inputs | {name: np.zeros_like(part.inputs[name])}))
    if cleared is not None and trial.fails(cleared, part.kind):
        return cleared
    for axis in range(1, part.inputs[name].ndim):
        array = part.inputs[name]

        def of(kept: list[int], array: NDArray[Any] = array, axis: int = axis, part: Part = part) -> Part:
            zeroed = np.zeros_like(array)
            where = (slice(None),) * axis + (kept,)
            zeroed[where] = array[where]
            return part.given(part.inputs | {name: zeroed})

        part = _smallest(trial, part, list(range(array.shape[axis])), of)
    return part


def _smallest(trial: Trial, part: Part, items: list[int], of: Callable[[list[int]], Part]) -> Part:
    if len(items) < 2:
        return part
    kept = ddmin(items, lambda some: _fails(trial, part, lambda: of(some)))
    smaller = _built(lambda: of(kept)) if len(kept) < len(items) else None
    return smaller if smaller is not None else part


def _fails(trial: Trial, part: Part, build: Callable[[], Part]) -> bool:
    smaller = _built(build)
    return smaller is not None and trial.fails(smaller, part.kind)


def _built(build: Callable[[], Part]) -> Part | None:
    """None where the nodes do not take such an input."""
    try:
        part = build()
    except Exception:  # NumPy's and the evaluator's own, of every type
        return None
    return part if all(wanted.values.size for wanted in part.expected.values()) else None


def _image_axis(array: NDArray[Any], axis: int) -> int:
    """Bits lie as [N, H, W, words], floats as [N, C, H, W]."""
    return axis + 4 - (array.dtype == np.int32)
