"""The factorized reduction: halving a feature map with two half-width convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn.binarize import BinarizeConfig
from bnn_deploy.nn.checks import IntOrPair, as_pair, check_whole
from bnn_deploy.nn.conv import BinaryConv2d


class FactorizedBinaryConv2d(nn.Module):
    """A stride-2 convolution as two half-width ones on inputs one pixel apart, so that together they see every pixel.

    Forward: `y = concat(first(x), second(x[:, :, 1:, 1:]))` along the channels, each `BinaryConv2d` with stride 2 and
    O / 2 outputs. Backward: the gradients of both, added where they read the same pixel.

    Shapes: x [N, C, H, W], H and W even -> y [N, O, H', W'], `H' = (H + 2 padding - dilation (KH - 1)) / 2`.
    Parameters: those of `first` and `second`.
    Paper: the factorized reduction of cell-based networks, arXiv:1707.07012 and arXiv:1806.09055.

    Args:
        in_channels: C.
        out_channels: O, even.
        kernel_size: `dilation * (kernel_size - 1)` must be even, or the halves would differ in size by one.
        padding: As of `BinaryConv2d`, and so are the rest.
        dilation: See there.
        groups: See there; divides O / 2.
        config: How both halves binarise.

    Raises:
        InputRefused: An odd O, or a kernel that gives the halves two sizes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        padding: IntOrPair,
        dilation: IntOrPair,
        groups: int,
        *,
        config: BinarizeConfig,
    ) -> None:
        super().__init__()
        where = 'BinaryConvBNReLU(reduction_op_type="factorized")'
        check_whole(where, "out_channels", out_channels)
        if out_channels % 2:
            raise InputRefused(where, f"out_channels={out_channels}", "an even number: each half computes one half")
        kernel = as_pair(where, "kernel_size", kernel_size, minimum=1)
        spacing = as_pair(where, "dilation", dilation, minimum=1)
        # Even H: floor((H + 2p - d(k-1) - 1) / 2) and the same of H - 1 agree exactly where d(k-1) is even.
        if any(spacing[axis] * (kernel[axis] - 1) % 2 for axis in (0, 1)):
            raise InputRefused(
                where,
                f"kernel_size={kernel_size}, dilation={dilation}",
                "dilation * (kernel_size - 1) even, or the halves differ in size by one pixel",
                "use an odd kernel",
            )
        first, second = (
            BinaryConv2d(in_channels, out_channels // 2, kernel, 2, padding, spacing, groups, config=config)
            for _ in range(2)
        )
        self.first, self.second = first, second

    def where(self) -> str:
        """The layer for an error message: the name of its first half."""
        return self.first.where()

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W], H and W even -> [N, O, H', W']."""
        return torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], dim=1)


def pad_to_even(x: Tensor) -> Tensor:
    """x: [N, C, H, W] -> [N, C, H + H % 2, W + W % 2]: zeros above and to the left of an odd size."""
    above, left = x.shape[2] % 2, x.shape[3] % 2
    return F.pad(x, (left, 0, above, 0)) if above or left else x
