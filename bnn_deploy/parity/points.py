"""Where to look in an instrumented file: binarisations, layers, and the tensors that carry them.

A binarisation may be a node of its own, the second output of a fused convolution, or all that a convolution writes; a
pool of bits may follow it. To the harness they are all a `PackPoint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.bits import Levels, binarize, pack_levels, unpack_levels
from bnn_deploy.errors import InputRefused
from bnn_deploy.parity.compare import shaped


@dataclass(frozen=True)
class PackPoint:
    """A binarisation in the file.

    Attributes:
        name: As the reference network's recording has it.
        levels: What its bits mean.
        channels: How many of them are real.
        condition: The tensor that it compares; for a layer that writes bits alone, the accumulator of its twin, and for
            one that rounds its y to float16, the y of its float32 twin.
        stream: The same tensor as float ops read it.
        bounds: (lower, upper) of an interval, each [1] or [C]; None for the plain comparisons with a threshold.
        threshold: Of a plain comparison.
        written: The bits that it writes.
        read: The bits that layers read: the same, or what a pool made of them.
        plain: Whether `condition` is the very tensor that the reference network binarises at 0.
    """

    name: str
    levels: Levels
    channels: int
    condition: str
    stream: str
    bounds: tuple[NDArray[Any], NDArray[Any]] | None
    threshold: NDArray[Any]
    written: str
    read: str
    plain: bool

    @property
    def forced(self) -> str:
        """The input that stands for `read` in the teacher-forced model."""
        return f"{self.read}.forced"

    def own_bits(self, condition: NDArray[Any], levels: Levels) -> NDArray[np.int32]:
        """What should be written of a runner's own values, by the bit contract. condition: [N, C, *spatial].

        `levels` are those of the reference network: where the condition is its very tensor they decide, not the file.
        """
        if self.plain:
            values = binarize(condition, levels)
        elif self.bounds is None:
            threshold = np.reshape(self.threshold, (1, -1, *[1] * (condition.ndim - 2)))
            values = binarize(condition, self.levels, 0.0 if self.levels is Levels.TERNARY else threshold)
        else:
            shape = (1, -1, *[1] * (condition.ndim - 2))
            lower, upper = (np.reshape(bound, shape) for bound in self.bounds)
            values = ((lower <= condition) & (condition <= upper)).astype(np.int8)
        return pack_levels(np.moveaxis(values, 1, -1), self.levels)

    def read_levels(self, words: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[Any]:
        """The levels that layers read, in the shape of the reference network's tensor; NaN where they do not fit."""
        try:
            values = np.moveaxis(unpack_levels(words, self.channels, self.levels), -1, 1)
        except InputRefused:
            return np.full(shape, np.nan)
        return shaped(values, shape)


@dataclass(frozen=True)
class FloatPoint:
    """A binarisation that the file holds in standard ops, because float layers read it.

    Attributes:
        name: As the reference network's recording has it.
        read: The tensor of levels, float.
        rank: Of that tensor.
    """

    name: str
    read: str
    rank: int

    @property
    def forced(self) -> str:
        """The input that stands for `read` in the teacher-forced model."""
        return f"{self.read}.forced"

    def read_levels(self, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The levels, in the shape of the reference network's tensor; NaN where they do not fit."""
        return shaped(values, shape)


@dataclass(frozen=True)
class LayerPoint:
    """A 1-bit layer in the file, or several that were merged into one.

    Attributes:
        names: Of the layers, in the order of their outputs.
        pack: The PackPoint whose bits it reads; empty for a layer with float activations.
        accumulator: The output of its twin.
        output: Its float output; empty where it writes bits alone.
        epilogue: What stands behind the accumulator.
        operands: Operand name (`scale`, `bias`, `residual`, ...) -> tensor name.
        clip: The bounds of a clip.
    """

    names: tuple[str, ...]
    pack: str
    accumulator: str
    output: str
    epilogue: opset.Epilogue
    operands: Mapping[str, str]
    clip: tuple[float, float]


@dataclass(frozen=True)
class Instrumented:
    """A variant, and where to look in it."""

    model: onnx.ModelProto
    packs: tuple[PackPoint, ...]
    floats: tuple[FloatPoint, ...]
    layers: tuple[LayerPoint, ...]
    streams: Mapping[str, str] = field(default_factory=dict)
    """Name of a PackPoint -> the input that float ops read in place of the tensor that it binarises."""

    def binarizations(self) -> dict[str, PackPoint | FloatPoint]:
        """Every binarisation by its name in the reference network's recording."""
        points: list[PackPoint | FloatPoint] = [*self.packs, *self.floats]
        return {point.name: point for point in points}
