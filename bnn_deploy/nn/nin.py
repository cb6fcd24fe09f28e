"""The binary network-in-network for small images."""

from __future__ import annotations

from torch import Tensor, nn

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn.binarize import BIREAL, BinarizeConfig
from bnn_deploy.nn.blocks import BinaryConvBNReLU
from bnn_deploy.nn.checks import check_feature_map, check_whole


class NIN(nn.Module):
    """Network-in-network whose inner convolutions are binary.

    Forward, with w the width multiplier, `b(O, k)` a `BinaryConvBNReLU` in the order BatchNorm, sign, k x k binary
    convolution that keeps the size, ReLU, and pools of 3x3 windows with stride 2 and padding 1:

        float conv 192w 5x5, BatchNorm, ReLU; b(160w, 1); b(96w, 1); max-pool;
        b(192w, 5); b(192w, 1); b(192w, 1); average-pool;
        b(192w, 3); b(192w, 1); BatchNorm; float conv 1x1 to the classes; mean over H and W

    Backward: the gradients of these layers, see `BinarizeConfig` for those of the binary ones. First and last
    convolution stay float, as in XNOR-Net: the image is no sum of signs, and the logits want more than 1 bit.

    Shapes: x [N, in_channels, H, W], made for 3x32x32, any size from 1x1 up -> logits [N, num_classes], also at N = 1.
    Parameters: those of `features`.
    Papers: Network In Network, arXiv:1312.4400; XNOR-Net, arXiv:1603.05279.

    Args:
        num_classes: Logits per image.
        width: Multiplies every inner width; each is rounded and at least 1.
        in_channels: Channels of the image.
        config: How the inner convolutions binarise.

    Raises:
        InputRefused: A width that is not greater than 0, or an input of another shape.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        width: float = 1.0,
        in_channels: int = 3,
        config: BinarizeConfig = BIREAL,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        check_whole(where, "num_classes", num_classes)
        check_whole(where, "in_channels", in_channels)
        if not 0 < width < float("inf"):
            raise InputRefused(where, f"width={width!r}", "a number greater than 0")
        self.in_channels = in_channels
        wide, middle, narrow = (max(1, round(channels * width)) for channels in (192, 160, 96))

        def binary(before: int, after: int, kernel: int) -> BinaryConvBNReLU:
            return BinaryConvBNReLU(
                before, after, kernel, padding=kernel // 2, layer_order="bn_conv_relu", shortcut=False, config=config
            )

        self.features = nn.Sequential(
            nn.Conv2d(in_channels, wide, 5, padding=2, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            binary(wide, middle, 1),
            binary(middle, narrow, 1),
            nn.MaxPool2d(3, stride=2, padding=1),
            binary(narrow, wide, 5),
            binary(wide, wide, 1),
            binary(wide, wide, 1),
            nn.AvgPool2d(3, stride=2, padding=1),
            binary(wide, wide, 3),
            binary(wide, wide, 1),
            nn.BatchNorm2d(wide),
            nn.Conv2d(wide, num_classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, in_channels, H, W] -> [N, num_classes]."""
        check_feature_map(type(self).__name__, x, self.in_channels)
        scores: Tensor = self.features(x)
        return scores.mean(dim=(2, 3))
