"""Comparing arrays: how far apart, which signs differ, and whether a flipped sign is a tie or a bug."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.bits import Levels, binarize

FLOAT_TOLERANCE = 1e-5
"""The float error that counts as rounding, relative to the largest finite magnitude of the tensor it is found in.

Float paths (PyTorch's, a runtime's) sum in different orders and fold constants differently. A convolution of K float32
products differs by some multiple of sqrt(K) * 2**-24 of its largest term; K is at most a few thousand here.
"""


MOST_TIES = 0.25
"""The share of a tensor's values that may be ties. A network without BatchNorm, whose small integer sums PyTorch rounds
to a little more or less than 0, reaches some percent; two that disagree about what a bit means reach half.
"""


@dataclass(frozen=True)
class Difference:
    """How `found` differs from `expected`.

    Attributes:
        max_abs_error: The largest absolute difference; infinite where one is NaN or infinite and the other is not.
        tolerance: What counts as rounding in this tensor.
    """

    max_abs_error: float
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether the difference is rounding."""
        return self.max_abs_error <= self.tolerance


def difference(expected: NDArray[Any], found: NDArray[Any]) -> Difference:
    """The difference of two arrays; infinite where their shapes differ. Two NaNs agree, and two equal infinities."""
    if expected.shape != found.shape:
        return Difference(float("inf"), tolerance_of(expected.astype(np.float64)))
    wide_expected, wide_found = expected.astype(np.float64), found.astype(np.float64)
    agree = (wide_expected == wide_found) | (np.isnan(wide_expected) & np.isnan(wide_found))
    with np.errstate(invalid="ignore"):
        gap = np.where(agree, 0.0, np.abs(wide_expected - wide_found))
    gap = np.where(np.isnan(gap), np.inf, gap)
    return Difference(float(gap.max(initial=0.0)), tolerance_of(wide_expected))


def tolerance_of(expected: NDArray[np.float64]) -> float:
    """`FLOAT_TOLERANCE` times the largest finite magnitude."""
    finite = np.abs(expected[np.isfinite(expected)])
    return FLOAT_TOLERANCE * float(finite.max(initial=0.0))


def shaped(found: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """`found` in another shape of the same size; of another size NaN throughout, which no reference expects."""
    return found.reshape(shape) if found.size == np.prod(shape) else np.full(shape, np.nan)


@dataclass(frozen=True)
class Flips:
    """Values that two runs binarise to different levels. `count = ties + bugs`."""

    count: int
    ties: int

    @property
    def bugs(self) -> int:
        """Flips too far from the threshold to be rounding."""
        return self.count - self.ties


def flips(expected: NDArray[np.floating], found: NDArray[Any], levels: Levels) -> Flips:
    """Counts and classifies flips. A flip is a tie where the expected value lies within the tolerance of the threshold.

    Args:
        expected: The real values that the reference network binarises, at 0.
        found: The levels that the other network has there, of the same shape.
        levels: The reference network's.
    """
    flipped = binarize(expected, levels) != found
    near = np.abs(expected.astype(np.float64)) <= tolerance_of(expected.astype(np.float64))
    return Flips(int(flipped.sum()), int((flipped & near).sum()))
