"""What stands on the shortcut of a residual block when its two ends differ in shape."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn.binarize import BIREAL, BinarizeConfig
from bnn_deploy.nn.checks import IntOrPair, as_pair, check_feature_map, check_whole
from bnn_deploy.nn.conv import BinaryConv2d

SUPPORTED_SKIPS = (
    "stride 1 with out_channels = in_channels (identity)",
    "stride 2 with out_channels = in_channels (average pool)",
    "stride 2 with out_channels = 2 * in_channels (average pool, concatenated with itself)",
    "stride 2 with conv_ds=True and any out_channels (average pool, then a binary 3x3 convolution)",
)


class SkipConnectV2(nn.Module):
    """The shortcut of a binary residual block, free of float convolutions.

    Forward, with `p(x)` the mean over disjoint 2x2 windows (`AvgPool2d(2)`):

    - stride 1: `y = x`
    - stride 2, O = C: `y = p(x)`
    - stride 2, O = 2C: `y = concat(p(x), p(x))` along the channels
    - stride 2, `conv_ds`: `y = BinaryConv2d(p(x))`, 3x3, stride 1, padding 1

    Backward: `dx = g`; each pixel of a window gets a quarter of its output's g; the same with the g of both halves
    added; the gradients of `BinaryConv2d`, then a quarter each.

    Shapes: x [N, C, H, W] -> y [N, O, H, W] or [N, O, floor(H / 2), floor(W / 2)]. The floor matters: at an odd size
    the last row or column is dropped, while a padded 3x3 convolution with stride 2 gives ceil(H / 2).
    Parameters: those of `conv` with `conv_ds`, else none.
    Paper: Bi-Real Net, arXiv:1808.00278, has the pooled shortcut (there followed by a float convolution).

    Args:
        in_channels: C.
        out_channels: O.
        stride: 1 or 2.
        conv_ds: Whether a stride of 2 takes a binary convolution to reach `out_channels`.
        config: How that convolution binarises.

    Raises:
        InputRefused: Another combination; the message lists those above.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: IntOrPair,
        *,
        conv_ds: bool = False,
        config: BinarizeConfig = BIREAL,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        check_whole(where, "in_channels", in_channels)
        check_whole(where, "out_channels", out_channels)
        strides = as_pair(where, "stride", stride, minimum=1)
        self.in_channels, self.repeats = in_channels, 1
        self.pool: nn.Module = nn.Identity() if strides == (1, 1) else nn.AvgPool2d(2)
        self.conv: BinaryConv2d | None = None
        if strides == (2, 2) and conv_ds:
            self.conv = BinaryConv2d(in_channels, out_channels, 3, padding=1, config=config)
        elif strides == (2, 2) and out_channels == 2 * in_channels:
            self.repeats = 2
        elif strides not in ((1, 1), (2, 2)) or out_channels != in_channels:
            found = f"in_channels={in_channels}, out_channels={out_channels}, stride={stride}, conv_ds={conv_ds}"
            raise InputRefused(
                where,
                found,
                "one of: " + "; ".join(SUPPORTED_SKIPS),
                "change the channels or the stride, or leave the shortcut out",
            )

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, O, H / stride, W / stride], rounded down."""
        check_feature_map(type(self).__name__, x, self.in_channels)
        pooled: Tensor = self.pool(x)
        if self.conv is not None:
            pooled = self.conv(pooled)
        return torch.cat([pooled, pooled], dim=1) if self.repeats == 2 else pooled


class ResNetDownSample(nn.Module):
    """The parameter-free shortcut of the first ResNets for CIFAR: drop pixels, add empty channels.

    Forward: `y[:, c] = x[:, c, ::stride, ::stride]` for c < C, and 0 for C <= c < 2C.
    Backward: `dx` is g of the first C channels at the kept pixels, 0 at the others.

    Shapes: x [N, C, H, W] -> y [N, 2C, ceil(H / stride), ceil(W / stride)], the size that a padded 3x3 convolution
    with that stride has. No parameters.
    Paper: Deep Residual Learning, arXiv:1512.03385, section 4.2, shortcut option A.

    Args:
        stride: Pixels from one kept pixel to the next.

    Raises:
        InputRefused: A stride below 1.
    """

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        check_whole(type(self).__name__, "stride", stride)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, 2C, H', W']."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, 0, x.shape[1]))

    def extra_repr(self) -> str:
        return f"stride={self.stride}"
