"""Activations: binary ones, which differ in the gradient that stands in for the sign's, and ReActNet's shifted PReLU.

All of the binary ones share the forward `sign(x)` of `functional.sign`: +1 where x >= 0 (so both zeros are +1), -1
elsewhere and for NaN. With `zero="zero"` an exact zero stays 0, as `torch.sign` has it, and the layer exports as
ternary. In the equations g is the gradient of the output.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import functional
from bnn_deploy.nn.checks import check_feature_map, check_whole
from bnn_deploy.nn.layer import BinaryLayer

STRAIGHT_THROUGH_METHODS = (0, -1)


class BirealBinaryActivation(BinaryLayer):
    """Sign with the gradient of Bi-Real Net's piecewise polynomial.

    Forward: `y = sign(x)`. Backward: `dx = g * p(x)` with `p(x) = 2 + 2x` on [-1, 0), `2 - 2x` on [0, 1), else 0.
    Both are finite for every finite x; an infinite or NaN x gets the gradient 0.

    Shapes: x, any -> y, the same, same dtype. No parameters.
    Paper: Bi-Real Net, arXiv:1808.00278, section 3.3.

    Args:
        zero: What sign(0) is: `"one"` or `"zero"`.
    """

    def __init__(self, zero: str = "one") -> None:
        super().__init__()
        functional.check_choice(self.where(), "zero", zero, functional.ZERO_KINDS)
        self.zero = zero

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape -> the same shape, values -1 and +1."""
        return functional.binarize(x, ste="polynomial", zero=self.zero, layer=self.layer_name)

    def extra_repr(self) -> str:
        return f"zero={self.zero!r}"


class ApproxSign(BirealBinaryActivation):
    """`BirealBinaryActivation` under the name that the paper gives to the function whose derivative it uses.

    Forward: `y = sign(x)`. Backward: `dx = g * (2 - 2|x|)` where |x| < 1, else 0.

    Shapes: x, any -> y, the same, same dtype. No parameters.
    Paper: Bi-Real Net, arXiv:1808.00278, section 3.3, ApproxSign.

    Args:
        zero: What sign(0) is: `"one"` or `"zero"`.
    """


class StraightThroughBinaryActivation(BinaryLayer):
    """Sign whose gradient passes unchanged, or no binarisation at all.

    Forward: `y = sign(x)` (`method=0`) or `y = x` (`method=-1`, the float network with the same structure).
    Backward: `dx = g` in both.

    Shapes: x, any -> y, the same, same dtype. No parameters.
    Paper: the straight-through estimator, arXiv:1308.3432.

    Args:
        method: 0 or -1.
        zero: What sign(0) is: `"one"` or `"zero"`.

    Raises:
        InputRefused: Another method.
    """

    def __init__(self, method: int = 0, zero: str = "one") -> None:
        super().__init__()
        functional.check_choice(self.where(), "method", method, STRAIGHT_THROUGH_METHODS)
        functional.check_choice(self.where(), "zero", zero, functional.ZERO_KINDS)
        self.method, self.zero = method, zero

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape -> the same shape."""
        if self.method == -1:
            return x
        return functional.binarize(x, ste="identity", zero=self.zero, layer=self.layer_name)

    def extra_repr(self) -> str:
        return f"method={self.method}, zero={self.zero!r}"


class SteSign(BinaryLayer):
    """Sign with a clipped straight-through gradient.

    Forward: `y = sign(x)`. Backward: `dx = g * 1{|x| <= clip}`; with `clip=1` the derivative of the hard tanh.

    Shapes: x, any -> y, the same, same dtype. No parameters.
    Paper: Binarized Neural Networks, arXiv:1602.02830, section 1.3.

    Args:
        clip: Greater than 0; infinity passes every gradient.
        zero: What sign(0) is: `"one"` or `"zero"`.

    Raises:
        InputRefused: A clip that is not greater than 0.
    """

    def __init__(self, clip: float = 1.0, zero: str = "one") -> None:
        super().__init__()
        if not clip > 0:
            raise InputRefused(self.where(), f"clip={clip!r}", "a number greater than 0", "math.inf clips nothing")
        functional.check_choice(self.where(), "zero", zero, functional.ZERO_KINDS)
        self.clip, self.zero = float(clip), zero

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape -> the same shape, values -1 and +1."""
        return functional.binarize(x, ste="identity", clip=self.clip, zero=self.zero, layer=self.layer_name)

    def extra_repr(self) -> str:
        return f"clip={'inf' if self.clip == math.inf else self.clip}, zero={self.zero!r}"


class RSign(BinaryLayer):
    """ReActNet's sign with a learned threshold per channel.

    Forward: `y = sign(x + b[c])`. Backward, with `z = x + b[c]`: `dx = g * (2 - 2|z|) * 1{|z| < 1}`, and
    `db[c] = sum of dx over N, H, W`. The paper writes the threshold as `x - a`; `b = -a`.

    Shapes: x [N, C, H, W] -> y the same. Parameters: `bias` [1, C, 1, 1], initially 0.
    Paper: ReActNet, arXiv:2003.03488, section 4.2.

    Args:
        channels: C.
        zero: What sign(0) is: `"one"` or `"zero"`.

    Raises:
        InputRefused: When called with another number of channels, which broadcasting could hide.
    """

    def __init__(self, channels: int, zero: str = "one") -> None:
        super().__init__()
        check_whole(self.where(), "channels", channels)
        functional.check_choice(self.where(), "zero", zero, functional.ZERO_KINDS)
        self.channels, self.zero = channels, zero
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> the same shape, values -1 and +1."""
        check_feature_map(self.where(), x, self.channels)
        return functional.binarize(x + self.bias, ste="polynomial", zero=self.zero, layer=self.layer_name)

    def extra_repr(self) -> str:
        return f"{self.channels}, zero={self.zero!r}"


class RPReLU(nn.Module):
    """ReActNet's PReLU, shifted before and after, per channel.

    Forward, with `z = x + b[c]`: `y = max(z, 0) + slope[c] * min(z, 0) + d[c]`.
    Backward, with `h = 1` where z > 0 and `slope[c]` elsewhere: `dx = g * h`; summed over N, H, W,
    `db[c] = sum g * h`, `dslope[c] = sum g * min(z, 0)`, `dd[c] = sum g`.

    Shapes: x [N, C, H, W] -> y the same. Parameters: `shift_in` b and `shift_out` d [1, C, 1, 1], initially 0;
    `prelu.weight` slope [C], initially 0.25.
    Paper: ReActNet, arXiv:2003.03488, section 4.2 (its gamma is -b, its zeta d, its beta the slope).

    Args:
        channels: C.

    Raises:
        InputRefused: When called with another number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_whole(type(self).__name__, "channels", channels)
        self.channels = channels
        self.shift_in = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.prelu = nn.PReLU(channels)
        self.shift_out = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> the same shape."""
        check_feature_map(type(self).__name__, x, self.channels)
        shifted: Tensor = self.prelu(x + self.shift_in)
        return shifted + self.shift_out
