"""Sets of inputs for the harness to run a network on: batches, sizes, and values that are hard to compute with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnn_deploy.opset import FP16
from bnn_deploy.samples import LARGE_IMAGE_PIXELS, random_samples

BATCHES = (1, 2, 7, 32)
LARGE_IMAGE_BATCHES = (1, 2, 7)
"""Every tensor of every layer is kept, in float64 too: 32 large images would take tens of gigabytes."""

Shape = tuple[int, ...]
OpenShape = tuple[int | None, ...]


@dataclass(frozen=True)
class InputCase:
    """One set of inputs.

    Attributes:
        name: As the report has it, and unique in it: `digits`, `batch 7`, `all zeros`.
        description: What the inputs are, in a line.
        feeds: Input name -> array, the first axis the samples.
        finite: Whether every value is finite. Behind one that is not, PyTorch and a runtime may each make NaN of what
            the other makes infinity; then only bits are judged.
    """

    name: str
    description: str
    feeds: dict[str, NDArray[Any]]
    finite: bool = True

    @property
    def samples(self) -> int:
        """How many."""
        return next(iter(self.feeds.values())).shape[0]


def open_shapes(model: onnx.ModelProto) -> dict[str, OpenShape]:
    """Input name -> its shape in the file; None where the size is open."""
    return {
        value.name: tuple(
            size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim
        )
        for value in model.graph.input
    }


def batches_of(
    shapes: Mapping[str, OpenShape], exported: Sequence[Sequence[int]], asked: Sequence[int], most: int | None = None
) -> list[int]:
    """The batch sizes to try: those asked for, else the usual ones up to `most`; or the one that the file has."""
    fixed = next((shape[0] for shape in shapes.values() if shape and shape[0] is not None), None)
    if fixed is not None:
        return [fixed]
    if asked:
        return list(dict.fromkeys(asked))
    large = any(len(shape) > 2 and int(np.prod(shape[2:])) > LARGE_IMAGE_PIXELS for shape in exported)
    usual = LARGE_IMAGE_BATCHES if large else BATCHES
    return [batch for batch in usual if most is None or batch <= most]


def sizes_of(shapes: Mapping[str, OpenShape], exported: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """(height, width) to try where the file leaves both open: larger, smaller, and never square."""
    for shape, known in zip(shapes.values(), exported, strict=True):
        if len(shape) == 4 and shape[2] is None and shape[3] is None:
            height, width = known[2:]
            return [(height + 1, width + 5), (max(1, height * 3 // 4), width), (height, max(1, width // 2 + 1))]
    return []


def concrete(shapes: Mapping[str, OpenShape], exported: Sequence[Sequence[int]], batch: int) -> dict[str, Shape]:
    """Input name -> shape with that batch size, all else as it was exported."""
    return {
        name: (batch, *(size if size is not None else known[axis] for axis, size in enumerate(shape) if axis > 0))
        for (name, shape), known in zip(shapes.items(), exported, strict=True)
    }


def resized(shapes: Mapping[str, Shape], size: tuple[int, int]) -> dict[str, Shape]:
    """The same with another height and width, for every input that is an image."""
    return {name: (*shape[:2], *size) if len(shape) == 4 else shape for name, shape in shapes.items()}


def random_case(name: str, description: str, shapes: Mapping[str, Shape], seed: int) -> InputCase:
    """Random images with structure. Two samples more than asked for are drawn: the last two are blank and constant."""
    feeds = {
        key: random_samples(shape, shape[0] + 2, seed + place)[: shape[0]]
        for place, (key, shape) in enumerate(shapes.items())
    }
    return InputCase(name, description, feeds)


def adversarial_cases(shapes: Mapping[str, Shape], seed: int, precision: str) -> list[InputCase]:
    """What no camera sees. shapes: with the batch size that each case has, one kind of value a sample in turn.

    Where the batch is smaller than the number of kinds, there are as many cases as it takes.
    """
    large, small, denormal = (1e3, 1e-6, 1e-7) if precision == FP16 else (1e30, 1e-30, 1e-40)
    finite = {
        "zeros": lambda x: np.zeros_like(x),
        "negative zeros": lambda x: np.full_like(x, -0.0),
        "ones": lambda x: np.ones_like(x),
        "minus ones": lambda x: -np.ones_like(x),
        "denormals": lambda x: np.sign(x) * np.float32(denormal),
        f"images scaled by {small:g}": lambda x: x * np.float32(small),
        f"images scaled by {large:g}": lambda x: x * np.float32(large),
        "a checkerboard": _checkerboard,
    }
    infinite = {
        "NaN": lambda x: np.full_like(x, np.nan),
        "infinities": lambda x: np.full_like(x, np.inf),
        "negative infinities": lambda x: np.full_like(x, -np.inf),
        "images with a NaN": lambda x: _with_one(x, np.nan),
        "images with an infinity": lambda x: _with_one(x, np.inf),
        "images with both infinities": lambda x: _with_one(_with_one(x, np.inf), -np.inf, 1),
    }
    cases = []
    for title, kinds, is_finite in (("hard values", finite, True), ("not finite", infinite, False)):
        batch = next(iter(shapes.values()))[0]
        names = list(kinds)
        for first in range(0, len(names), batch):
            chosen = [names[min(first + sample, len(names) - 1)] for sample in range(batch)]
            drawn = {
                key: random_samples(shape, batch + 2, seed + place)[:batch]
                for place, (key, shape) in enumerate(shapes.items())
            }
            feeds = {
                key: np.concatenate([kinds[kind](x[at : at + 1]) for at, kind in enumerate(chosen)])
                for key, x in drawn.items()
            }
            label = title if batch >= len(names) else f"{title}: {chosen[0]}"
            cases.append(InputCase(label, ", ".join(dict.fromkeys(chosen)), feeds, is_finite))
    return cases


def _checkerboard(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 and -1 in turn along every axis."""
    return np.where(np.indices(x.shape).sum(axis=0) % 2 == 0, 1.0, -1.0).astype(np.float32)


def _with_one(x: NDArray[np.float32], value: float, place: int = 0) -> NDArray[np.float32]:
    """One value in place of another, in the middle of the tensor."""
    changed = x.copy()
    changed.flat[(x.size // 2 + place) % x.size] = value
    return changed


def is_finite(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether no array holds an infinity or NaN."""
    return all(bool(np.isfinite(array).all()) for array in arrays.values())
