"""Comparing arrays: how far apart, which signs differ, and whether a flipped sign is a tie or a bug."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.bits import Levels, binarize
from bnn_deploy.parity.results import FLIP_BUCKETS
from bnn_deploy.runners.base import Exact

FLOAT_TOLERANCE = 1e-5
"""The stated tolerance: the float error that counts as rounding where no smaller bound is proven, relative to the
largest finite magnitude of the tensor it is found in. `docs/parity.md` says what was measured against it.
"""

FLOAT32_ROUNDOFF = 2.0**-24

MOST_TIES = 0.25
"""The share of a tensor's values that may be ties. A network without BatchNorm, whose small integer sums PyTorch rounds
to a little more or less than 0, reaches some percent; two that disagree about what a bit means reach half.
"""


@dataclass(frozen=True)
class Difference:
    """How `found` differs from `expected`.

    Attributes:
        max_abs_error: The largest absolute difference; infinite where one is NaN or infinite and the other is not.
        tolerance: What counts as rounding where the error uses most of it.
        max_ulp_error: The largest difference in units in the last place of the expected value.
        bound: The largest proven bound of any element; None where none is proven.
        used: The largest share of what counts as rounding.
    """

    max_abs_error: float
    tolerance: float
    max_ulp_error: float = 0.0
    bound: float | None = None
    used: float = 0.0

    @property
    def within(self) -> bool:
        """Whether the difference is rounding."""
        return self.used <= 1.0


def difference(
    expected: NDArray[Any],
    found: NDArray[Any],
    bound: NDArray[np.float64] | None = None,
    *,
    unit_roundoff: float = FLOAT32_ROUNDOFF,
) -> Difference:
    """The difference of two arrays; infinite where their shapes differ. Two NaNs agree, and two equal infinities.

    Args:
        expected: Any shape.
        found: The same shape; its type is that in whose last place errors are counted.
        bound: Element by element what rounding may amount to, NaN where that is not known; None knows nothing.
        unit_roundoff: Of the arithmetic that made `found`.
    """
    wide = expected.astype(np.float64)
    allowed = allowance(wide, bound, unit_roundoff=unit_roundoff)
    proven = None if bound is None or not np.isfinite(bound).any() else float(bound[np.isfinite(bound)].max())
    if expected.shape != found.shape:
        return Difference(np.inf, float(allowed.max(initial=0.0)), np.inf, proven, np.inf)
    gap = gaps(wide, found.astype(np.float64))
    if not gap.size:
        return Difference(0.0, 0.0)
    shares = share(gap, allowed)
    worst = int(shares.argmax())
    return Difference(
        float(gap.max()), float(allowed.flat[worst]), _largest_ulps(wide, gap, found.dtype), proven, float(shares.max())
    )


def gaps(expected: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """|found - expected|: 0 where both are NaN or the same infinity, infinite where only one is."""
    agree = (expected == found) | (np.isnan(expected) & np.isnan(found))
    with np.errstate(invalid="ignore"):
        gap = np.where(agree, 0.0, np.abs(expected - found))
    return np.where(np.isnan(gap), np.inf, gap)


def share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """part / whole, where 0 / 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = part / whole
    return np.where(part == 0, 0.0, np.where(np.isnan(ratio), np.inf, ratio))


def allowance(
    expected: NDArray[np.float64],
    bound: NDArray[np.float64] | None,
    *,
    unit_roundoff: float = FLOAT32_ROUNDOFF,
) -> NDArray[np.float64]:
    """Element by element, the error that counts as rounding: what is proven, and never more than what is stated."""
    stated = tolerance_of(expected) * (unit_roundoff / FLOAT32_ROUNDOFF)
    if bound is None:
        return np.full(expected.shape, stated)
    return np.where(np.isfinite(bound), np.minimum(bound, stated), stated)


def tolerance_of(expected: NDArray[np.float64]) -> float:
    """`FLOAT_TOLERANCE` times the largest finite magnitude; of zeros alone, which have no magnitude, times 1."""
    finite = np.abs(expected[np.isfinite(expected)])
    return FLOAT_TOLERANCE * (float(finite.max(initial=0.0)) or 1.0)


def _largest_ulps(expected: NDArray[np.float64], gap: NDArray[np.float64], dtype: np.dtype[Any]) -> float:
    if not np.issubdtype(dtype, np.floating):
        return float(gap.max(initial=0.0))
    with np.errstate(over="ignore", invalid="ignore"):
        spacing = np.spacing(np.abs(expected).astype(dtype)).astype(np.float64)
    return float(share(gap, np.where(np.isfinite(spacing), spacing, np.inf)).max(initial=0.0))


def shaped(found: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """`found` in another shape of the same size; of another size NaN throughout, which no reference expects."""
    return found.reshape(shape) if found.size == np.prod(shape) else np.full(shape, np.nan)


@dataclass(frozen=True)
class Flips:
    """Values that two runs binarise to different levels. `count = ties + bugs`; `distances` as in `FLIP_BUCKETS`."""

    count: int
    ties: int
    distances: tuple[int, ...] = (0,) * len(FLIP_BUCKETS)

    @property
    def bugs(self) -> int:
        """Flips too far from the threshold to be rounding."""
        return self.count - self.ties


def flips(
    expected: NDArray[np.floating],
    found: NDArray[Any],
    levels: Levels,
    exact: Exact | None = None,
    *,
    unit_roundoff: float = FLOAT32_ROUNDOFF,
) -> Flips:
    """Counts and classifies flips.

    A flip is a tie where the exact value is no further from the threshold than rounding reaches: the rounding of the
    file where it is the file that is on the other side than the exact value, PyTorch's own where it is PyTorch. Where
    rounding cannot move a value at all, as behind a ReLU that cut it off, there are no ties.

    Args:
        expected: The real values that the reference network binarises, at 0.
        found: The levels that the other network has there, of the same shape.
        levels: The reference network's.
        exact: The same values without rounding, and bounds; None takes `expected` and the stated tolerance.
        unit_roundoff: Of the arithmetic that made `found`.
    """
    own = binarize(expected, levels)
    flipped = own != found
    if not flipped.any():
        return Flips(0, 0)
    wide = expected.astype(np.float64)
    value = wide if exact is None else exact.value
    reach = allowance(value, None if exact is None else exact.bound, unit_roundoff=unit_roundoff)
    by_pytorch = (binarize(value, levels) == found) & np.isfinite(wide) & np.isfinite(value)
    with np.errstate(invalid="ignore"):
        reach = np.where(by_pytorch, reach + np.abs(wide - value), reach)
    near = share(np.abs(value), reach)
    if exact is not None:  # nothing is near a threshold that rounding cannot reach, not even the threshold itself
        near = np.where(reach > 0, near, np.inf)
    near = near[flipped]
    ties = near <= 1.0
    # A ratio of exactly 1 is a tie, and counted with those.
    places = (
        np.searchsorted(FLIP_BUCKETS, np.where(near == 1.0, 0.5, np.nan_to_num(near, nan=np.inf)), side="right") - 1
    )
    counts = np.bincount(places, minlength=len(FLIP_BUCKETS))
    return Flips(int(flipped.sum()), int(ties.sum()), tuple(int(count) for count in counts))
