"""Making a network that nobody trained fit for export: no weight without a sign, no layer without a signal."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnn_deploy.nn import LatentWeightLayer

BATCHES: Final = 2
BATCH: Final = 4
PATCH: Final = 8  # Pixels over which the images are smooth.
NOISE: Final = 0.25
SMALLEST_WEIGHT: Final = 1e-3


@torch.no_grad()
def fill_zero_weights(model: nn.Module) -> int:
    """Gives every binary weight that is exactly 0 a small positive value, in place, and returns how many there were.

    A float32 normal draw is exactly 0 about once in 2^24; a large network has that many weights, and a weight that is
    exactly 0 is not 1-bit.
    """
    count = 0
    for part in model.modules():
        if isinstance(part, LatentWeightLayer):
            zeros = part.weight == 0
            count += int(zeros.sum())
            part.weight.masked_fill_(zeros, SMALLEST_WEIGHT)
    return count


@torch.no_grad()
def calibrate_batch_norms(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Sets each BatchNorm's running statistics to those of a few random images, in place; leaves eval mode behind.

    The statistics are plain averages over `BATCHES` batches. Without them the signals of a deep network shrink or grow
    from layer to layer until signs mean nothing. Draws from torch's global generator.

    Args:
        model: Any network with BatchNorm.
        input_shape: (C, H, W).
    """
    model.eval()
    norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # A cumulative average.
        norm.train()
    for _ in range(BATCHES):
        model(smooth_images(BATCH, input_shape))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def smooth_images(count: int, shape: tuple[int, ...]) -> Tensor:
    """Random images whose neighbouring pixels resemble each other. shape: (C, H, W) -> [count, C, H, W] float32."""
    channels, height, width = shape
    coarse = torch.randn(count, channels, -(-height // PATCH), -(-width // PATCH))
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")
    return smooth + NOISE * torch.randn(count, *shape)
