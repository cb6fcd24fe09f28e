"""How a layer binarises, as a config, and the module that does it to activations and weights together."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import functional
from bnn_deploy.nn.functional import WeightBinarization
from bnn_deploy.nn.layer import BinaryLayer

# bi_act_method -> the gradient that stands in for the sign's; None: activations stay float.
ACTIVATION_METHODS: dict[int, str | None] = {-1: None, 0: "identity", 1: "polynomial"}
# bi_w_scale -> (scale, gradient) of `WeightBinarization`; None: weights stay float.
WEIGHT_SCALES: dict[int, tuple[str, str] | None] = {
    -1: None,
    0: ("none", "straight_through"),
    1: ("tensor", "straight_through"),
    2: ("channel", "xnor"),
    3: ("channel", "bireal"),
}


@dataclass(frozen=True)
class BinarizeConfig:
    """How activations and weights of a layer are binarised.

    `bi_act_method`, with g the gradient of the output and T = `act_threshold`:

    | value | forward | backward |
    |---|---|---|
    | -1 | `x` | `g` |
    | 0, straight-through | `sign(x)` | `g * 1{|x| <= T}` |
    | 1, Bi-Real | `sign(x)` | `g * (2 - 2|x|) * 1{|x| < 1} * 1{|x| <= T}` |

    `bi_w_scale`, with `w' = clamp(w, -1, 1)`, T = `weight_threshold` and n the weights that share a scale:

    | value | forward | backward |
    |---|---|---|
    | -1 | `w` | `g` |
    | 0, BinaryConnect | `sign(w')` | `g * 1{|w| <= T}` |
    | 1, one scale | `a * sign(w')`, a = mean of all |w'| | `g * 1{|w| <= T * a}`, `g * 1{|w| <= T}` if a = 0 |
    | 2, XNOR-Net | `a[o] * sign(w')`, a[o] = mean |w'| of channel o | `g * (a[o] * 1{|w| <= 1} + 1 / n)` |
    | 3, Bi-Real Net | the same | `g * 1{|w| <= 1}` |

    Why the weights' threshold is multiplied by the scale: binarised weights are ±a, not ±1, so how far a latent weight
    has run past its level is measured in multiples of a. With a typical a of 0.05 a fixed threshold of 1.3 would never
    stop any weight. Where a = 0 the product is a band of no width: it holds weights that are exactly 0, but not those
    so small that their mean has rounded to 0, which would then never move again. There the threshold stands alone.
    Scales 2 and 3 have their papers' own clip at 1.

    The clamp to ±1 is a value inside forward; the parameter is not written (see `clamp_latent_weights_`).

    Papers: BinaryConnect arXiv:1511.00363, XNOR-Net arXiv:1603.05279, Bi-Real Net arXiv:1808.00278.

    Args:
        bi_act_method: -1, 0 or 1.
        bi_w_scale: -1, 0, 1, 2 or 3.
        act_threshold: Greater than 0; infinity for none.
        weight_threshold: Greater than 0; infinity for none. Read by scales 0 and 1.
        zero: What sign(0) is, for activations and weights: `"one"` or `"zero"` (as `torch.sign`).

    Raises:
        InputRefused: An unknown mode, or a threshold that is not greater than 0.
    """

    bi_act_method: int = 1
    bi_w_scale: int = 3
    act_threshold: float = 1.3
    weight_threshold: float = 1.3
    zero: str = "one"

    def __post_init__(self) -> None:
        where = type(self).__name__
        functional.check_choice(where, "bi_act_method", self.bi_act_method, tuple(ACTIVATION_METHODS))
        functional.check_choice(where, "bi_w_scale", self.bi_w_scale, tuple(WEIGHT_SCALES))
        functional.check_choice(where, "zero", self.zero, functional.ZERO_KINDS)
        for name, value in (("act_threshold", self.act_threshold), ("weight_threshold", self.weight_threshold)):
            if not value > 0:
                raise InputRefused(where, f"{name}={value!r}", "a number greater than 0", "math.inf zeroes no gradient")

    def weight_spec(self) -> WeightBinarization | None:
        """How weights are binarised; None where they stay float (`bi_w_scale=-1`)."""
        mode = WEIGHT_SCALES[self.bi_w_scale]
        if mode is None:
            return None
        scale, gradient = mode
        return WeightBinarization(scale=scale, gradient=gradient, threshold=self.weight_threshold, zero=self.zero)

    def activation(self, x: Tensor, *, layer: str = "") -> Tensor:
        """x: any shape -> the same shape, binarised by `bi_act_method`."""
        ste = ACTIVATION_METHODS[self.bi_act_method]
        if ste is None:
            return x
        return functional.binarize(x, ste=ste, clip=self.act_threshold, zero=self.zero, layer=layer)

    def weight(self, weight: Tensor) -> Tensor:
        """weight: [O, ...] -> the same shape, binarised and scaled by `bi_w_scale`."""
        spec = self.weight_spec()
        return weight if spec is None else functional.binarize_weight(weight, spec)


# The default of every layer: Bi-Real Net's gradients and one scale per output channel.
BIREAL = BinarizeConfig()


class Binarize(BinaryLayer):
    """Binarises activations and weights together.

    Forward and backward equations: `BinarizeConfig`. For a convolution or a fully connected layer use `BinaryConv2d`
    or `BinaryLinear` instead of this and a float layer: only they export 1-bit weights.

    Shapes: x any; weight [O, ...] -> the same two shapes. No parameters.
    Papers: see `BinarizeConfig`.

    Args:
        config: The modes.
    """

    def __init__(self, config: BinarizeConfig = BIREAL) -> None:
        super().__init__()
        self.config = config

    def activation(self, x: Tensor) -> Tensor:
        """x: any shape -> the same shape."""
        return self.config.activation(x, layer=self.layer_name)

    def weight(self, weight: Tensor) -> Tensor:
        """weight: [O, ...] -> the same shape."""
        return self.config.weight(weight)

    def forward(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(x, weight) -> (binarised x, binarised weight)."""
        return self.activation(x), self.weight(weight)

    def extra_repr(self) -> str:
        return repr(self.config)
