"""What several families share: the binary convolution of the published checkpoints, a shift, stems."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bnn_deploy import nn as bnn
from bnn_deploy.errors import InputRefused

STEMS = ("imagenet", "small")


@dataclass(frozen=True)
class PublishedConfig(bnn.BinarizeConfig):
    """How the published Bi-Real Net and ReActNet code binarises weights: with the scale of the unclamped ones.

    `W(w) = mean|w| * sign(w)` per output channel, with gradient `g * 1{|w| <= 1}`. Activations have a layer of their
    own before the convolution, so here they pass as they are.
    """

    bi_act_method: int = -1

    def weight_spec(self) -> bnn.WeightBinarization:
        """As of `BinarizeConfig` with `bi_w_scale=3`, but not clamped."""
        return replace(bnn.WeightBinarization(zero=self.zero), clamp=False)


class HardBinaryConv2d(bnn.BinaryConv2d):
    """A binary convolution of inputs that are already binary, which reads published checkpoints.

    Forward: `y = conv2d(x, mean|w| * sign(w))`, zero padding of `kernel_size // 2`. Backward: see `PublishedConfig`.

    Some published checkpoints hold the weight flat, as `weights` [O * C * KH * KW, 1]; it is kept as `weight`
    [O, C, KH, KW] here, so that an exported graph has no reshape between a weight and its layer.

    Shapes: x [N, C, H, W] -> y [N, O, ceil(H / stride), ceil(W / stride)].
    Parameters: `weight` [O, C, KH, KW], latent, initially normal(0, 0.05).
    Paper: Bi-Real Net, arXiv:1808.00278.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: KH = KW, odd.
        stride: Pixels between outputs.
        zero: What sign(0) is for a weight: `"one"` or `"zero"`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, *, zero: str = "one"
    ) -> None:
        config = PublishedConfig(zero=zero)
        super().__init__(in_channels, out_channels, kernel_size, stride, kernel_size // 2, config=config)
        self.register_load_state_dict_pre_hook(_adopt_published_keys)

    def adopt_published_keys(self, state: dict[str, Tensor], prefix: str) -> None:
        """Replaces `weights` [N, 1] below `prefix` with `weight` [O, C, KH, KW]; leaves what does not fit."""
        flat = state.get(f"{prefix}weights")
        if flat is not None and flat.shape == (self.weight.numel(), 1):
            state[f"{prefix}weight"] = state.pop(f"{prefix}weights").reshape(self.weight.shape)


def _adopt_published_keys(module: nn.Module, state: dict[str, Tensor], prefix: str, *_rest: Any) -> None:
    assert isinstance(module, HardBinaryConv2d)
    module.adopt_published_keys(state, prefix)


class Shift(nn.Module):
    """A learned number added to each channel: `y = x + bias[c]`.

    Shapes: x [N, C, H, W] -> y the same. Parameters: `bias` [1, C, 1, 1], initially 0.
    Paper: ReActNet, arXiv:2003.03488, section 4.2.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> the same shape."""
        return x + self.bias


def check_stem(where: str, stem: str) -> None:
    """Raises `InputRefused` unless `stem` is one of `STEMS`."""
    if stem not in STEMS:
        raise InputRefused(where, f"stem={stem!r}", f"one of {', '.join(map(repr, STEMS))}")


def stem_convolution(stem: str, in_channels: int, channels: int) -> nn.Conv2d:
    """The float convolution at the image: 7x7 with stride 2 (`"imagenet"`) or 3x3 with stride 1 (`"small"`)."""
    if stem == "imagenet":
        return nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
    return nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)


def stem_pool(stem: str) -> nn.Module:
    """What follows it: max-pooling 3x3 with stride 2, or nothing."""
    return nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()


def scaled(channels: int, width: float, where: str) -> int:
    """`channels * width`, rounded, at least 1.

    Raises:
        InputRefused: The width is not a number greater than 0.
    """
    if not (isinstance(width, int | float) and 0 < width < math.inf):
        raise InputRefused(where, f"width={width!r}", "a number greater than 0")
    return max(1, round(channels * width))
