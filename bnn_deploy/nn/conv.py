"""The binary convolution."""

from __future__ import annotations

from torch import Tensor

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import functional
from bnn_deploy.nn.binarize import BIREAL, BinarizeConfig
from bnn_deploy.nn.checks import IntOrPair, as_pair, check_feature_map, check_whole
from bnn_deploy.nn.functional import ConvGeometry
from bnn_deploy.nn.latent import LatentWeightLayer

PADDING_VALUES = (0, -1, 1)


class BinaryConv2d(LatentWeightLayer):
    """A convolution that binarises its input and its weights.

    Forward: `y = conv2d(pad(A(x), padding_value), W(w)) + bias`, A and W the binarisations of `BinarizeConfig`.
    Padding comes after binarisation: a padded pixel is `padding_value` itself, and with the usual 0 it adds nothing.
    Backward: `dA` and `dW` are those of the float convolution at the binarised operands (`dbias[o]` the sum of g over
    N, H, W); `dx` and `dw` follow from them by the backward equations of `BinarizeConfig`.

    Shapes: x [N, C, H, W] -> y [N, O, H', W'], `H' = floor((H + 2 padding - dilation (KH - 1) - 1) / stride) + 1`.
    Parameters: `weight` [O, C / groups, KH, KW], latent, initially normal(0, 0.05); `bias` [O], initially 0, or None.
    Papers: see `BinarizeConfig`.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: An int, or a pair (vertical, horizontal); so are the next three.
        stride: Pixels between outputs.
        padding: Pixels added on each side.
        dilation: Pixels between taps.
        groups: Divides C and O.
        bias: Whether there is one.
        padding_value: 0, -1 or +1.
        config: How activations and weights are binarised. With `bi_w_scale=-1` this is a float convolution.

    Raises:
        InputRefused: An argument outside the above, or an input that is not [N, C, H, W].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        padding_value: float = 0.0,
        config: BinarizeConfig = BIREAL,
    ) -> None:
        where = type(self).__name__
        check_whole(where, "groups", groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            check_whole(where, name, channels)
            if channels % groups:
                raise InputRefused(where, f"{name}={channels} with groups={groups}", f"{name} a multiple of groups")
        functional.check_choice(where, "padding_value", padding_value, PADDING_VALUES)
        kernel = as_pair(where, "kernel_size", kernel_size, minimum=1)
        super().__init__((out_channels, in_channels // groups, *kernel), bias, config)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel
        self.geometry = ConvGeometry(
            stride=as_pair(where, "stride", stride, minimum=1),
            padding=as_pair(where, "padding", padding, minimum=0),
            dilation=as_pair(where, "dilation", dilation, minimum=1),
            groups=groups,
            pad_value=float(padding_value),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, O, H', W']."""
        check_feature_map(self.where(), x, self.in_channels)
        x, weight, spec = self.binarize_input(x), self.latent_weight(), self.config.weight_spec()
        if spec is None:
            return functional.float_conv2d(x, weight, self.bias, self.geometry)
        return functional.binary_conv2d(x, weight, self.bias, geometry=self.geometry, spec=spec, layer=self.layer_name)

    def extra_repr(self) -> str:
        geometry = self.geometry
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={geometry.stride}, "
            f"padding={geometry.padding}, dilation={geometry.dilation}, groups={geometry.groups}, "
            f"bias={self.bias is not None}, padding_value={geometry.pad_value:g}, {self.config}"
        )
