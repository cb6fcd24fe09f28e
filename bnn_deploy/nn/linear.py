"""The binary fully connected layer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bnn_deploy.nn import functional
from bnn_deploy.nn.binarize import BIREAL, BinarizeConfig
from bnn_deploy.nn.checks import check_features, check_whole
from bnn_deploy.nn.latent import LatentWeightLayer


class BinaryLinear(LatentWeightLayer):
    """A fully connected layer that binarises its input and its weights.

    Forward: `y = A(x) W(w)^T + bias`, A and W the binarisations of `BinarizeConfig`.
    Backward: `dA = g W(w)`, `dW = g^T A(x)`, `dbias` the sum of g over all axes but the last; `dx` and `dw` follow
    from dA and dW by the backward equations of `BinarizeConfig`.

    Shapes: x [..., C] -> y [..., O].
    Parameters: `weight` [O, C], latent, initially normal(0, 0.05); `bias` [O], initially 0, or None.
    Papers: see `BinarizeConfig`.

    Args:
        in_features: C.
        out_features: O.
        bias: Whether there is one.
        config: How activations and weights are binarised. With `bi_w_scale=-1` the weights stay float.

    Raises:
        InputRefused: A size below 1, or an input whose last axis is not C.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = False, *, config: BinarizeConfig = BIREAL
    ) -> None:
        check_whole(type(self).__name__, "in_features", in_features)
        check_whole(type(self).__name__, "out_features", out_features)
        super().__init__((out_features, in_features), bias, config)
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., C] -> [..., O]."""
        check_features(self.where(), x, self.in_features)
        x, weight, spec = self.binarize_input(x), self.latent_weight(), self.config.weight_spec()
        if spec is None:
            return F.linear(x, weight, self.bias)
        return functional.binary_linear(x, weight, self.bias, spec=spec, layer=self.layer_name)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, {self.config}"
