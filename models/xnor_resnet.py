"""XNOR-Net's ResNet-18: every inner convolution binary, in the order BatchNorm, sign, convolution, ReLU.

Unlike the paper's, each convolution has a shortcut of its own, and a shortcut that changes shape is average pooling
(twice over, concatenated, where the channels double) rather than a float 1x1 convolution: nothing but the stem and the
last layer is float.

Papers: XNOR-Net, arXiv:1603.05279; the shortcuts, Bi-Real Net, arXiv:1808.00278.
"""

from __future__ import annotations

from torch import Tensor, nn

from bnn_deploy import nn as bnn

from . import IMAGENET, SMALL_IMAGE, Shape
from .layers import check_stem, scaled, stem_convolution, stem_pool

BLOCKS_OF_STAGE = 2
WIDTHS = (64, 128, 256, 512)


class XnorResNet(nn.Module):
    """The whole network: stem, four stages of two `BinaryResNetBlock`, global average, fully connected.

    Weights have XNOR-Net's scale and gradient (`bi_w_scale=2`), activations its gradient `g * 1{|x| <= 1}`.

    Shapes: x [N, in_channels, H, W] -> logits [N, num_classes]. H and W are multiples of 32 with the ImageNet stem, of
    8 with the small one.
    Paper: XNOR-Net, arXiv:1603.05279.

    Args:
        num_classes: Logits.
        width: Multiplies the channels of every layer.
        stem: `"imagenet"` (7x7 with stride 2, max-pooling) or `"small"` (3x3).
        in_channels: Channels of the image.
        downsample: As of `BinaryResNetBlock`.
        zero: What sign(0) is: `"one"` or `"zero"`.

    Raises:
        InputRefused: An unknown option, or a width that is not greater than 0.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        width: float = 1.0,
        stem: str = "imagenet",
        in_channels: int = 3,
        downsample: str = "avgpool",
        zero: str = "one",
    ) -> None:
        super().__init__()
        where = type(self).__name__
        check_stem(where, stem)
        config = bnn.BinarizeConfig(bi_act_method=0, bi_w_scale=2, act_threshold=1.0, zero=zero)
        first = scaled(WIDTHS[0], width, where)
        # Each stage doubles the one before, also where rounding would not: the pooled shortcut joins no other widths.
        widths = [first * channels // WIDTHS[0] for channels in WIDTHS]
        self.input_shape: Shape = (in_channels, *(IMAGENET if stem == "imagenet" else SMALL_IMAGE)[1:])
        self.stem = nn.Sequential(
            stem_convolution(stem, in_channels, first), nn.BatchNorm2d(first), nn.ReLU(), stem_pool(stem)
        )
        blocks, before = [], first
        for stage, channels in enumerate(widths):
            for index in range(BLOCKS_OF_STAGE):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(bnn.BinaryResNetBlock(before, channels, stride, downsample=downsample, config=config))
                before = channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, in_channels, H, W] -> [N, num_classes]."""
        features: Tensor = self.blocks(self.stem(x))
        logits: Tensor = self.fc(self.pool(features).flatten(1))
        return logits


def xnor_resnet18(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    stem: str = "imagenet",
    in_channels: int = 3,
    downsample: str = "avgpool",
    zero: str = "one",
) -> XnorResNet:
    """XNOR-Net's ResNet-18; the arguments are those of `XnorResNet`."""
    return XnorResNet(num_classes, width=width, stem=stem, in_channels=in_channels, downsample=downsample, zero=zero)
