"""VGG-Small: six 3x3 convolutions for 32x32 images, all but the first binary, and one fully connected layer.

Papers: BinaryConnect, arXiv:1511.00363, for the shape of the network; Bi-Real Net, arXiv:1808.00278, for the gradients.
"""

from __future__ import annotations

from torch import Tensor, nn

from bnn_deploy import nn as bnn

from . import SMALL_IMAGE, Shape
from .layers import scaled

# (channels, stride) of each convolution after the first one.
BINARY_LAYERS = ((128, 2), (256, 1), (256, 2), (512, 1), (512, 2))
FIRST_CHANNELS = 128
POOLED_SIDE = SMALL_IMAGE[1] // 8


class VggSmall(nn.Module):
    """The whole network, with w the width multiplier and `b(O)` a `BinaryVggBlock`, `/2` with average pooling after:

        float conv 128w 3x3; b(128w)/2; b(256w); b(256w)/2; b(512w); b(512w)/2; BatchNorm; fully connected

    Shapes: x [N, in_channels, 32, 32] -> logits [N, num_classes]; no other size, for the last layer reads every pixel.
    Paper: BinaryConnect, arXiv:1511.00363, section 3.3.

    Args:
        num_classes: Logits.
        width: Multiplies the channels of every layer.
        in_channels: Channels of the image.
        zero: What sign(0) is: `"one"` or `"zero"`.

    Raises:
        InputRefused: A width that is not greater than 0.
    """

    def __init__(self, num_classes: int = 10, *, width: float = 1.0, in_channels: int = 3, zero: str = "one") -> None:
        super().__init__()
        where = type(self).__name__
        self.input_shape: Shape = (in_channels, *SMALL_IMAGE[1:])
        before = scaled(FIRST_CHANNELS, width, where)
        self.conv1 = nn.Conv2d(in_channels, before, 3, padding=1, bias=False)
        blocks = []
        for channels, stride in BINARY_LAYERS:
            after = scaled(channels, width, where)
            blocks.append(bnn.BinaryVggBlock(before, after, stride, config=bnn.BinarizeConfig(zero=zero)))
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before * POOLED_SIDE**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, in_channels, 32, 32] -> [N, num_classes]."""
        features: Tensor = self.bn(self.blocks(self.conv1(x)))
        logits: Tensor = self.fc(features.flatten(1))
        return logits


def vgg_small(*, num_classes: int = 10, width: float = 0.25, in_channels: int = 3, zero: str = "one") -> VggSmall:
    """VGG-Small, by default as narrow as it ships trained; the arguments are those of `VggSmall`."""
    return VggSmall(num_classes, width=width, in_channels=in_channels, zero=zero)
