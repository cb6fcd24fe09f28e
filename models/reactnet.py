"""ReActNet: binary networks whose signs and PReLUs have learned shifts.

Two bodies: ReActNet-A, made from MobileNet (each depthwise-separable pair a binary 3x3 and a binary 1x1 convolution),
and the one made from Bi-Real Net. Keys and shapes are those of the published PyTorch checkpoints.

Paper: ReActNet, arXiv:2003.03488.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnn_deploy import nn as bnn

from . import IMAGENET, SMALL_IMAGE, Shape
from .birealnet import BiRealNet
from .layers import HardBinaryConv2d, Shift, check_stem, scaled

# (channels, stride) of each block of ReActNet-A; the stem has 32 channels.
STEM_CHANNELS = 32
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


class FloatStem(nn.Module):
    """The float convolution at the image: `y = bn1(conv1(x))`, 3x3.

    Shapes: x [N, C, H, W] -> y [N, O, ceil(H / stride), ceil(W / stride)].

    Args:
        in_channels: C.
        out_channels: O.
        stride: 2 for ImageNet, 1 for small images.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, O, H', W']."""
        y: Tensor = self.bn1(self.conv1(x))
        return y


class ReActMobileBlock(nn.Module):
    """ReActNet-A's block: a binary 3x3 convolution, then one or two binary 1x1, all with a shortcut.

    Forward, with sign(x + b) an `RSign`, p average pooling where the stride is 2, and R a PReLU between two shifts:

    - `u = R1(bn1(conv3x3(sign(x + b1))) + p(x))`
    - O = C: `y = R2(bn2(conv1x1(sign(u + b2))) + u)`
    - O = 2C: `y = R2(concat(bn2_1(conv1x1(s)) + u, bn2_2(conv1x1'(s)) + u))`, `s = sign(u + b2)`

    Shapes: x [N, C, H, W] -> y [N, O, H / stride, W / stride].
    Paper: ReActNet, arXiv:2003.03488, section 4.1, figure 5.

    Args:
        in_channels: C.
        out_channels: O, either C or 2C.
        stride: 1 or 2.
        zero: What sign(0) is: `"one"` or `"zero"`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, zero: str = "one") -> None:
        super().__init__()
        self.doubles = out_channels != in_channels
        self.move11 = bnn.RSign(in_channels, zero)
        self.binary_3x3 = HardBinaryConv2d(in_channels, in_channels, 3, stride, zero=zero)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.pooling = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
        self.move12, self.prelu1, self.move13 = Shift(in_channels), nn.PReLU(in_channels), Shift(in_channels)
        self.move21 = bnn.RSign(in_channels, zero)
        if self.doubles:
            self.binary_pw_down1 = HardBinaryConv2d(in_channels, in_channels, 1, zero=zero)
            self.binary_pw_down2 = HardBinaryConv2d(in_channels, in_channels, 1, zero=zero)
            self.bn2_1, self.bn2_2 = nn.BatchNorm2d(in_channels), nn.BatchNorm2d(in_channels)
        else:
            self.binary_pw = HardBinaryConv2d(in_channels, in_channels, 1, zero=zero)
            self.bn2 = nn.BatchNorm2d(in_channels)
        self.move22, self.prelu2, self.move23 = Shift(out_channels), nn.PReLU(out_channels), Shift(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, O, H', W']."""
        u = self.bn1(self.binary_3x3(self.move11(x))) + self.pooling(x)
        u = self.move13(self.prelu1(self.move12(u)))
        signs = self.move21(u)
        if self.doubles:
            halves = self.bn2_1(self.binary_pw_down1(signs)) + u, self.bn2_2(self.binary_pw_down2(signs)) + u
            y = torch.cat(halves, dim=1)
        else:
            y = self.bn2(self.binary_pw(signs)) + u
        y = self.move23(self.prelu2(self.move22(y)))
        return y


class ReActNetA(nn.Module):
    """ReActNet-A: float stem, 13 blocks, global average, fully connected.

    Shapes: x [N, in_channels, H, W] -> logits [N, num_classes]. H and W are multiples of 32 with the ImageNet stem, of
    16 with the small one.
    Paper: ReActNet, arXiv:2003.03488.

    Args:
        num_classes: Logits.
        width: Multiplies the channels of every layer; 1 is the published network.
        stem: `"imagenet"` (stride 2) or `"small"` (stride 1).
        in_channels: Channels of the image.
        zero: What sign(0) is: `"one"`, or `"zero"` as the published code's `torch.sign` has it.

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
        zero: str = "one",
    ) -> None:
        super().__init__()
        where = type(self).__name__
        check_stem(where, stem)
        self.input_shape: Shape = (in_channels, *(IMAGENET if stem == "imagenet" else SMALL_IMAGE)[1:])
        first = before = scaled(STEM_CHANNELS, width, where)
        self.feature = nn.ModuleList([FloatStem(in_channels, first, 2 if stem == "imagenet" else 1)])
        for channels, stride in BLOCKS:
            # A multiple of the stem's channels, so that a block always keeps or doubles them.
            after = first * channels // STEM_CHANNELS
            self.feature.append(ReActMobileBlock(before, after, stride, zero))
            before = after
        self.pool1 = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, in_channels, H, W] -> [N, num_classes]."""
        for part in self.feature:
            x = part(x)
        logits: Tensor = self.fc(self.pool1(x).flatten(1))
        return logits


class ReActResNetBlock(nn.Module):
    """Bi-Real Net's block with shifts: `y = R(bn1(conv(sign(x + b))) + s(x))`, R a PReLU between two shifts.

    Shapes: x [N, C, H, W] -> y [N, O, H / stride, W / stride].
    Paper: ReActNet, arXiv:2003.03488, section 4.2.

    Args:
        in_channels: C.
        out_channels: O.
        stride: 1 or 2.
        downsample: s, or None for the identity.
        zero: What sign(0) is: `"one"` or `"zero"`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, downsample: nn.Module | None, zero: str = "one"
    ) -> None:
        super().__init__()
        self.move0 = bnn.RSign(in_channels, zero)
        self.binary_conv = HardBinaryConv2d(in_channels, out_channels, stride=stride, zero=zero)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.move1, self.prelu, self.move2 = Shift(out_channels), nn.PReLU(out_channels), Shift(out_channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, O, H', W']."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn1(self.binary_conv(self.move0(x))) + shortcut
        activated: Tensor = self.move2(self.prelu(self.move1(y)))
        return activated


def reactnet(
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    stem: str = "imagenet",
    in_channels: int = 3,
    zero: str = "one",
) -> ReActNetA:
    """ReActNet-A; the arguments are those of `ReActNetA`."""
    return ReActNetA(num_classes, width=width, stem=stem, in_channels=in_channels, zero=zero)


def reactnet_resnet18(
    *, num_classes: int = 1000, stem: str = "imagenet", in_channels: int = 3, zero: str = "one"
) -> BiRealNet:
    """ReActNet made from Bi-Real Net with 18 layers; the arguments are those of `BiRealNet`."""
    return BiRealNet(
        (4, 4, 4, 4),
        (64, 128, 256, 512),
        num_classes,
        stem=stem,
        in_channels=in_channels,
        zero=zero,
        block=ReActResNetBlock,
    )
