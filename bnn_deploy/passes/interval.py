r"""The condition under which a pack writes 1, as an interval per channel: `lower[c] <= x <= upper[c]`.

It is closed under what stands in front of a binarisation. What x must fulfil so that f(x) fulfils the condition is an
interval again, for every f that only ever rises or only ever falls:

- `k * (x - m) + b in [l, u]` is `x in [m + (l - b) / k, m + (u - b) / k]` for k > 0; for k < 0 the ends change places,
  and with them the direction of the comparison; for k = 0 it is always true or never, whichever b says;
- `max(x, 0) in [l, u]` is `x in [l, u]` where l > 0, `x <= u` where l <= 0 <= u, and never where u < 0.

The quotients are not what is written down. A bound has to be the one float32 number at which the rounded f, and not the
exact one, crosses over; so f is tried, and the number found by bisection over all float32 numbers. What is absorbed in
this way gives the same bits for every float32 there is, ties and infinities included.

NaN is in no interval, so it packs as the lesser level whatever was absorbed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.passes.graph import add_initializer, constant

PACKS = (opset.PACK_BIPOLAR, opset.PACK_UNIPOLAR, opset.PACK_INTERVAL)
LARGEST = np.finfo(np.float32).max
_LARGEST_RANK = 0x7F7FFFFF  # its bit pattern

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Interval:
    """lower, upper: [C] float32. Empty where lower > upper."""

    lower: Floats
    upper: Floats

    def holds(self, x: Floats) -> NDArray[np.bool_]:
        """Where the condition holds. x: any shape that the bounds broadcast against -> bool."""
        return (self.lower <= x) & (x <= self.upper)

    def before(self, function: Callable[[Floats], Floats], falls: NDArray[np.bool_]) -> Interval:
        """The condition on x, given that this is the condition on `function(x)`.

        Args:
            function: [C] float32 -> [C] float32, monotone in each channel, not NaN for a finite number.
            falls: [C] bool, where it falls as x rises.
        """
        direction = np.where(falls, np.float32(-1), np.float32(1))

        def rising(x: Floats) -> Floats:
            return function(direction * x)

        with np.errstate(all="ignore"):
            first = _first(lambda x: rising(x) >= self.lower)
            behind = _first(lambda x: ~(rising(x) <= self.upper))
            lower, upper = _number(first), _number(behind - 1)
            # 0 * infinity is NaN: a constant channel is 1 for finite numbers alone.
            infinity = np.full_like(lower, np.inf)
            lower = np.where(self.holds(rising(-infinity)), -infinity, lower)
            upper = np.where(self.holds(rising(infinity)), infinity, upper)
        positive_zero = np.float32(0)  # added to a zero of either sign
        return Interval(np.where(falls, -upper, lower) + positive_zero, np.where(falls, -lower, upper) + positive_zero)


def read_interval(pack: ir.Node) -> Interval:
    """The condition of a `PackBipolar`, `PackUnipolar` or `PackInterval`, broadcast to its channels."""
    channels = int(pack.attributes["channels"].as_int())
    operands = []
    for value in pack.inputs[1:]:
        array = constant(value)
        if array is None:
            raise ValueError(f"{pack.name}: its thresholds are not constant")
        operands.append(np.broadcast_to(array.astype(np.float32), channels))
    if pack.op_type == opset.PACK_INTERVAL:
        return Interval(*operands)
    (threshold,) = operands
    if pack.op_type == opset.PACK_UNIPOLAR:  # x > t: from the next float32 on
        threshold = np.nextafter(threshold, np.float32(np.inf))
    return Interval(threshold, np.full(channels, np.inf, np.float32))


def add_bounds(model: ir.Model, pack: ir.Node, interval: Interval) -> list[ir.Value]:
    """Registers lower and upper as initializers, named after the pack whose condition this is."""
    name = pack.name or pack.op_type
    return [
        add_initializer(model, f"{name}.lower", interval.lower),
        add_initializer(model, f"{name}.upper", interval.upper),
    ]


def _first(condition: Callable[[Floats], NDArray[np.bool_]]) -> NDArray[np.int64]:
    """The rank of the first finite float32 for which a condition holds that holds from somewhere on, per channel.

    One beyond the largest finite rank, the rank of infinity, where it holds for none.
    """
    channels = condition(np.zeros(1, np.float32)).shape
    low, high = np.full(channels, -_LARGEST_RANK, np.int64), np.full(channels, _LARGEST_RANK + 1, np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        # Where the search is over, the middle may be infinity: there `low` is `high` and stays.
        holds = condition(_number(middle)) | (low >= high)
        low, high = np.where(holds, low, middle + 1), np.where(holds, middle, high)
    return low


def _number(rank: NDArray[np.int64]) -> Floats:
    """The float32 numbers in ascending order have the ranks ..., -1, 0, 1, ...; 0 is 0.0, both zeros.

    The rank of a number that is not negative is its bit pattern, read as an integer.
    """
    magnitude = np.abs(rank).astype(np.int32).view(np.float32)
    return np.where(rank < 0, -magnitude, magnitude)
