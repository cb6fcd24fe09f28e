"""Layers that keep latent (real) weights and compute with their binarisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bnn_deploy.nn.binarize import BinarizeConfig
from bnn_deploy.nn.layer import BinaryLayer

INITIAL_DEVIATION = 0.05


class LatentWeightLayer(BinaryLayer):
    """What `BinaryConv2d` and `BinaryLinear` share: a latent weight, an optional bias and a config.

    A subclass may store its weight under another name or shape; it then overrides `latent_weight`, which is all that
    the layers read.

    Parameters: `weight` `weight_shape`, initially normal(0, 0.05); `bias` [weight_shape[0]], initially 0, or None.

    Args:
        weight_shape: [O, ...].
        bias: Whether there is one.
        config: How activations and weights are binarised.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, weight_shape: tuple[int, ...], bias: bool, config: BinarizeConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(weight_shape))
        self.register_parameter("bias", nn.Parameter(torch.empty(weight_shape[0])) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weight anew and sets the bias to 0."""
        nn.init.normal_(self.weight, std=INITIAL_DEVIATION)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def latent_weight(self) -> Tensor:
        """The real weight in the shape that the layer computes with; a view of the parameter, not a copy."""
        return self.weight

    def binarize_input(self, x: Tensor) -> Tensor:
        """x: any shape -> the same shape, as the config says."""
        return self.config.activation(x, layer=self.layer_name)


@torch.no_grad()
def clamp_latent_weights_(model: nn.Module) -> None:
    """Clamps the latent weights of every binary layer of `model` to ±1, in place: call it after an optimizer step.

    `w <- clamp(w, -1, 1)`, BinaryConnect (arXiv:1511.00363, section 2.4): a latent weight far outside ±1 has no effect
    on the output and, since gradients are zeroed out there, stays where it is. Layers with float weights
    (`bi_w_scale=-1`) are left alone.

    Why forward does not do it: a forward that writes to its parameters makes evaluation change the model, invalidates
    what autograd has saved of the weight when a layer is used twice, and cannot be exported. Forward clamps the
    value that it computes with instead.
    """
    for module in model.modules():
        if isinstance(module, LatentWeightLayer) and module.config.weight_spec() is not None:
            module.latent_weight().clamp_(-1, 1)
