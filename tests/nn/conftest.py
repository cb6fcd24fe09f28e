"""Equations of the papers, written anew in plain float64, for the tests of the modules to compare with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor


class Reference:
    """No function here calls the library. Gradients come from formulas or from autograd over smooth stand-ins."""

    @staticmethod
    def sign(x: Tensor, zero: str = "one") -> Tensor:
        """+1, -1 (and 0 for zeros with `zero="zero"`), element by element."""
        at_zero = 1.0 if zero == "one" else 0.0
        levels = [1.0 if v > 0 else at_zero if v == 0 else -1.0 for v in x.detach().flatten().tolist()]
        return torch.tensor(levels, dtype=torch.float64).reshape(x.shape)

    @staticmethod
    def bireal_slope(x: np.ndarray) -> np.ndarray:
        """2 + 2x on [-1, 0), 2 - 2x on [0, 1), 0 elsewhere."""
        return np.piecewise(
            x, [(x >= -1) & (x < 0), (x >= 0) & (x < 1)], [lambda v: 2 + 2 * v, lambda v: 2 - 2 * v, 0.0]
        )

    def activation(self, x: Tensor) -> Tensor:
        """Sign forward; backward autograd through Bi-Real Net's polynomial (its antiderivative, so to say)."""
        inside = x.clamp(-1, 1)
        smooth = torch.where(x < 0, 2 * inside + inside**2, 2 * inside - inside**2)
        return self.sign(x) + (smooth - smooth.detach())

    def weight(self, w: Tensor) -> Tensor:
        """Bi-Real Net's: mean |clamp(w)| of each channel times the sign; backward autograd through the clamp."""
        clamped = w.clamp(-1, 1)
        scale = torch.stack([channel.abs().sum() / channel.numel() for channel in clamped.detach()])
        return scale.reshape(-1, *[1] * (w.dim() - 1)) * self.sign(w) + (clamped - clamped.detach())

    def conv(self, x: Tensor, w: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        """A Bi-Real Net convolution."""
        return F.conv2d(self.activation(x), self.weight(w), stride=stride, padding=padding)

    @staticmethod
    def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float = 1e-5) -> Tensor:
        """Over the batch's own statistics (training mode). x: [N, C, H, W]."""
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        return (x - mean) / (variance + epsilon).sqrt() * gamma.reshape(1, -1, 1, 1) + beta.reshape(1, -1, 1, 1)

    @staticmethod
    def pool(x: Tensor) -> Tensor:
        """The mean of disjoint 2x2 windows; a last odd row or column is dropped."""
        height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        corners = (x[:, :, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
        return sum(corners, torch.zeros((), dtype=x.dtype)) / 4

    @staticmethod
    def randomize_(model: torch.nn.Module) -> None:
        """Gives every parameter of `model` a value at which a missing or misplaced use of it shows.

        Weights become multiples of 1/64, a few of them beyond ±1: sums of their magnitudes are exact, so a scale is
        the same number however it is summed up, and an output of exactly 0 is 0 on both sides of a comparison.
        """
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                values = torch.randn(parameter.shape) * 0.6 + (parameter.dim() == 1 and name.endswith("weight"))
                parameter.copy_((values * 64).round() / 64)


@pytest.fixture
def reference() -> Reference:
    return Reference()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(20180801)
