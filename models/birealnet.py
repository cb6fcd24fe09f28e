"""Bi-Real Net: a ResNet whose 3x3 convolutions are binary and have a shortcut each, which carries the real values.

A block is `y = bn1(conv(sign(x))) + s(x)`; s is the identity or, where the size halves, average pooling, a float 1x1
convolution and BatchNorm. No ReLU anywhere. The first and the last layer stay float.

Keys and shapes are those of the published PyTorch checkpoints.

Paper: Bi-Real Net, arXiv:1808.00278.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from bnn_deploy import nn as bnn
from bnn_deploy.errors import InputRefused

from . import IMAGENET, SMALL_IMAGE, Shape
from .layers import HardBinaryConv2d, check_stem, stem_convolution, stem_pool

# (in_channels, out_channels, stride, downsample or None for the identity, zero) -> the block.
BlockFactory = Callable[[int, int, int, "nn.Module | None", str], nn.Module]


class BiRealBlock(nn.Module):
    """One binary convolution and its shortcut: `y = bn1(conv(sign(x))) + s(x)`.

    Shapes: x [N, C, H, W] -> y [N, O, H / stride, W / stride].
    Paper: Bi-Real Net, arXiv:1808.00278, section 3.1.

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
        self.binary_activation = bnn.BirealBinaryActivation(zero)
        self.binary_conv = HardBinaryConv2d(in_channels, out_channels, stride=stride, zero=zero)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, O, H', W']."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.bn1(self.binary_conv(self.binary_activation(x)))
        return y + shortcut


class BiRealNet(nn.Module):
    """The whole network: stem, stages of blocks, global average, fully connected.

    Shapes: x [N, in_channels, H, W] -> logits [N, num_classes]. H and W are multiples of 32 with the ImageNet stem and
    four stages; each stage after the first halves them.
    Paper: Bi-Real Net, arXiv:1808.00278.

    Args:
        layers: Blocks of each stage.
        widths: Channels of each stage; the stem has those of the first.
        num_classes: Logits.
        stem: `"imagenet"` (7x7 with stride 2, max-pooling) or `"small"` (3x3).
        in_channels: Channels of the image.
        zero: What sign(0) is: `"one"`, or `"zero"` as the published code's `torch.sign` has it.
        block: Makes a block; ReActNet's is another.

    Raises:
        InputRefused: `layers` and `widths` do not go together, or an unknown stem.
    """

    def __init__(
        self,
        layers: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        *,
        stem: str = "imagenet",
        in_channels: int = 3,
        zero: str = "one",
        block: BlockFactory = BiRealBlock,
    ) -> None:
        super().__init__()
        check_stem("BiRealNet", stem)
        if not layers or len(layers) != len(widths) or min([*layers, *widths]) < 1:
            found = f"layers={list(layers)}, widths={list(widths)}"
            raise InputRefused("BiRealNet", found, "as many widths as layers, each at least 1")
        self.input_shape: Shape = (in_channels, *(IMAGENET if stem == "imagenet" else SMALL_IMAGE)[1:])
        self.conv1 = stem_convolution(stem, in_channels, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = stem_pool(stem)
        before = widths[0]
        self.stages = len(layers)
        for index, (blocks, width) in enumerate(zip(layers, widths, strict=True)):
            stage = _stage(block, before, width, blocks, 1 if index == 0 else 2, zero)
            self.add_module(f"layer{index + 1}", stage)
            before = width
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, in_channels, H, W] -> [N, num_classes]."""
        x = self.maxpool(self.bn1(self.conv1(x)))
        for index in range(self.stages):
            x = getattr(self, f"layer{index + 1}")(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(block: BlockFactory, before: int, width: int, blocks: int, stride: int, zero: str) -> nn.Sequential:
    downsample = None
    if stride != 1:
        downsample = nn.Sequential(
            nn.AvgPool2d(2, stride), nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        )
    rest = (block(width, width, 1, None, zero) for _ in range(blocks - 1))
    return nn.Sequential(block(before, width, stride, downsample, zero), *rest)


def birealnet18(
    *, num_classes: int = 1000, stem: str = "imagenet", in_channels: int = 3, zero: str = "one"
) -> BiRealNet:
    """Bi-Real Net with 18 layers; the arguments are those of `BiRealNet`."""
    return BiRealNet((4, 4, 4, 4), (64, 128, 256, 512), num_classes, stem=stem, in_channels=in_channels, zero=zero)


def birealnet34(
    *, num_classes: int = 1000, stem: str = "imagenet", in_channels: int = 3, zero: str = "one"
) -> BiRealNet:
    """Bi-Real Net with 34 layers; the arguments are those of `BiRealNet`."""
    return BiRealNet((6, 8, 12, 6), (64, 128, 256, 512), num_classes, stem=stem, in_channels=in_channels, zero=zero)


def birealnet(
    *,
    layers: Sequence[int] = (2, 2, 2, 2),
    widths: Sequence[int] = (32, 64, 96, 96),
    num_classes: int = 10,
    stem: str = "small",
    in_channels: int = 3,
    zero: str = "one",
) -> BiRealNet:
    """Any Bi-Real Net; the default is the small one that ships trained. The arguments are those of `BiRealNet`."""
    return BiRealNet(layers, widths, num_classes, stem=stem, in_channels=in_channels, zero=zero)


def configuration_of(state: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """The keyword arguments of `birealnet` that make the network a checkpoint belongs to.

    Args:
        state: Keys and tensors, without wrappers' prefixes.
        where: The file, for the message.

    Raises:
        InputRefused: The keys are not those of a Bi-Real Net.
    """
    blocks = [match for key in state if (match := re.fullmatch(r"layer([1-9]\d*)\.(\d+)\.bn1\.weight", key))]
    layers = [0] * max((int(match[1]) for match in blocks), default=0)
    for match in blocks:
        layers[int(match[1]) - 1] += 1
    needed = ["conv1.weight", "fc.weight", *(f"layer{index + 1}.0.bn1.weight" for index in range(len(layers) or 1))]
    missing = next((key for key in needed if key not in state), None)
    foreign = next((key for key in state if ".move" in key), None)
    if missing or foreign:
        found = f"it has {foreign}, a ReActNet's" if foreign else f"it has no {missing}"
        raise InputRefused(
            where,
            f"the keys are not those of a Bi-Real Net: {found}",
            "conv1.weight, layer1.0.binary_conv.weights, layer1.0.bn1.weight, ..., fc.weight",
            "choose the model that the file was made with; `bnn-deploy models` lists them",
        )
    if state["conv1.weight"].dim() != 4:
        raise InputRefused(where, f"conv1.weight has the shape {list(state['conv1.weight'].shape)}", "[O, C, KH, KW]")
    stem = state["conv1.weight"]
    return {
        "layers": layers,
        "widths": [state[f"layer{index + 1}.0.bn1.weight"].shape[0] for index in range(len(layers))],
        "num_classes": state["fc.weight"].shape[0],
        "stem": "imagenet" if stem.shape[-1] == 7 else "small",
        "in_channels": stem.shape[1],
    }
