"""The blocks that binary networks are stacked from.

Every one of them takes a `BinarizeConfig`. One thing to know before choosing `layer_order` and `relu`: a ReLU's output
is never negative, and the sign of what is never negative is +1 (with `zero="one"`) everywhere. So a ReLU may be
followed by a BatchNorm and then a binary convolution (`bn_conv_relu`), but not by a binary convolution directly.
"""

from __future__ import annotations

import warnings

from torch import Tensor, nn

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn.binarize import BIREAL, BinarizeConfig
from bnn_deploy.nn.checks import IntOrPair, as_pair, is_recording
from bnn_deploy.nn.conv import BinaryConv2d
from bnn_deploy.nn.factorized import FactorizedBinaryConv2d, pad_to_even
from bnn_deploy.nn.functional import check_choice
from bnn_deploy.nn.skip import SkipConnectV2

LAYER_ORDERS = ("conv_bn_relu", "bn_conv_relu")
REDUCTIONS = ("conv", "factorized")
RESNET_DOWNSAMPLES = ("avgpool", "conv", "binary_conv")
VGG_DOWNSAMPLES = ("avgpool",)


class BinaryConvBNReLU(nn.Module):
    """A binary convolution with its BatchNorm, ReLU and shortcut, in either order.

    Forward, C the convolution, S the shortcut (nothing where there is none), relu the identity where `relu=False`:

    - `conv_bn_relu`: `y = relu(bn(C(x) + S(x)))`
    - `bn_conv_relu`: `y = relu(C(z) + S(z))`, `z = bn(x)`

    C is a `BinaryConv2d`, or with `reduction_op_type="factorized"` and stride 2 a `FactorizedBinaryConv2d`. Then a
    height or width that is odd is first padded with one row above or one column to the left of zeros (of x, or of z),
    which C and S both see. These zeros lie before the binarisation: with `zero="one"` they become +1.

    Backward: with g the gradient of y, `relu` passes g where y > 0, BatchNorm its usual gradient, and the sum gives g
    to C and S alike.

    Shapes: x [N, C, H, W] -> y [N, O, H', W'], the size that the convolution has.
    Parameters: those of `conv`, of `bn` (O channels, or C with `bn_conv_relu`) and of `shortcut`.
    Papers: XNOR-Net, arXiv:1603.05279 (the order bn_conv_relu); Bi-Real Net, arXiv:1808.00278 (a shortcut for every
    convolution).

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: As of `BinaryConv2d`, and so are the next four.
        stride: Factorized takes 1 (then it is a plain convolution) and 2.
        padding: See there.
        dilation: See there.
        groups: See there.
        layer_order: `"conv_bn_relu"` or `"bn_conv_relu"`.
        relu: Whether there is one.
        shortcut: True for `SkipConnectV2`, False for none, or a module that maps x to the shape of y.
        reduction_op_type: `"conv"` or `"factorized"`.
        config: How the layer binarises.

    Raises:
        InputRefused: An unknown option; a stride or width that the shortcut or the reduction does not support; when
            called, a shortcut whose size is not the convolution's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair = 3,
        stride: IntOrPair = 1,
        padding: IntOrPair = 1,
        dilation: IntOrPair = 1,
        groups: int = 1,
        *,
        layer_order: str = "conv_bn_relu",
        relu: bool = True,
        shortcut: bool | nn.Module = True,
        reduction_op_type: str = "conv",
        config: BinarizeConfig = BIREAL,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        check_choice(where, "layer_order", layer_order, LAYER_ORDERS)
        check_choice(where, "reduction_op_type", reduction_op_type, REDUCTIONS)
        strides = as_pair(where, "stride", stride, minimum=1)
        self.layer_order = layer_order
        self.conv: BinaryConv2d | FactorizedBinaryConv2d
        if reduction_op_type == "conv" or strides == (1, 1):
            self.conv = BinaryConv2d(
                in_channels, out_channels, kernel_size, strides, padding, dilation, groups, config=config
            )
        elif strides == (2, 2):
            self.conv = FactorizedBinaryConv2d(
                in_channels, out_channels, kernel_size, padding, dilation, groups, config=config
            )
        else:
            raise InputRefused(
                where,
                f'stride={stride} with reduction_op_type="factorized"',
                "stride 1 or 2",
                'use reduction_op_type="conv"',
            )
        self.bn = nn.BatchNorm2d(out_channels if layer_order == "conv_bn_relu" else in_channels)
        self.shortcut: nn.Module | None = shortcut if isinstance(shortcut, nn.Module) else None
        if shortcut is True:
            self.shortcut = SkipConnectV2(in_channels, out_channels, strides, config=config)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, O, H', W']."""
        if self.layer_order == "bn_conv_relu":
            x = self.bn(x)
        if isinstance(self.conv, FactorizedBinaryConv2d):
            x = pad_to_even(x)
        y: Tensor = self.conv(x)
        if self.shortcut is not None:
            skip = self.shortcut(x)
            self._check_same_shape(x, y, skip)
            y = y + skip
        if self.layer_order == "conv_bn_relu":
            y = self.bn(y)
        activated: Tensor = self.relu(y)
        return activated

    def _check_same_shape(self, x: Tensor, y: Tensor, skip: Tensor) -> None:
        # While sizes are symbolic a comparison would become a constraint on them; the addition has its own.
        if is_recording() or skip.shape == y.shape:
            return
        raise InputRefused(
            self.conv.where(),
            f"from an input of {list(x.shape)} the convolution makes {list(y.shape)}, the shortcut {list(skip.shape)}",
            "the same shape from both; average pooling rounds an odd size down, a convolution with stride 2 up",
            'use an even size, reduction_op_type="factorized", padding that keeps the size, or no shortcut',
        )


class BinaryResNetBlock(nn.Module):
    """Two binary convolutions, each with its own shortcut; the first one takes the stride and the change of width.

    Forward: `y = U2(U1(x))`, U1 and U2 two `BinaryConvBNReLU` with 3x3 kernels. Backward: theirs. The shortcut of U1:

    - identity, where stride is 1 and O = C
    - `downsample="avgpool"`: `SkipConnectV2`, that is average pooling, concatenated with itself where O = 2C
    - `downsample="binary_conv"`: `SkipConnectV2(conv_ds=True)`, average pooling and a binary 3x3 convolution
    - `downsample="conv"`: a float 1x1 convolution with the block's stride, then BatchNorm

    Shapes: x [N, C, H, W] -> y [N, O, ceil(H / stride), ceil(W / stride)]; with stride 2 only `"conv"` takes odd sizes.
    Parameters: those of `unit1` and `unit2`.
    Paper: Bi-Real Net, arXiv:1808.00278.

    Args:
        in_channels: C.
        out_channels: O.
        stride: 1 or 2.
        downsample: `"avgpool"`, `"conv"` or `"binary_conv"`.
        layer_order: As of `BinaryConvBNReLU`. The default puts a BatchNorm between a ReLU and the next sign.
        relu: As of `BinaryConvBNReLU`.
        config: How both convolutions, and that of `"binary_conv"`, binarise.

    Raises:
        InputRefused: An unknown `downsample`, another stride, or widths that the shortcut cannot join.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        downsample: str = "avgpool",
        layer_order: str = "bn_conv_relu",
        relu: bool = True,
        config: BinarizeConfig = BIREAL,
    ) -> None:
        super().__init__()
        where = type(self).__name__
        check_choice(where, "downsample", downsample, RESNET_DOWNSAMPLES)
        check_choice(where, "stride", stride, (1, 2))
        _warn_of_constant_sign(where, layer_order, relu, config)
        shortcut: nn.Module
        if downsample == "conv" and (stride != 1 or in_channels != out_channels):
            shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        else:
            conv_ds = downsample == "binary_conv"
            shortcut = SkipConnectV2(in_channels, out_channels, stride, conv_ds=conv_ds, config=config)
        self.unit1 = BinaryConvBNReLU(
            in_channels, out_channels, 3, stride, shortcut=shortcut, layer_order=layer_order, relu=relu, config=config
        )
        self.unit2 = BinaryConvBNReLU(out_channels, out_channels, 3, layer_order=layer_order, relu=relu, config=config)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, O, H', W']."""
        y: Tensor = self.unit2(self.unit1(x))
        return y


class BinaryVggBlock(nn.Module):
    """A binary 3x3 convolution without a shortcut; stride 2 is average pooling after it.

    Forward: `y = U(x)`, U a `BinaryConvBNReLU` with stride 1 and no shortcut; with stride 2, `y = p(U(x))` with p the
    mean over disjoint 2x2 windows. Backward: p gives each pixel of a window a quarter of g, then that of U.

    Shapes: x [N, C, H, W] -> y [N, O, floor(H / stride), floor(W / stride)]; an odd last row or column is dropped.
    Parameters: those of `unit`.
    Paper: the VGG-like network of BinaryConnect, arXiv:1511.00363, here pooling by the mean.

    Args:
        in_channels: C.
        out_channels: O.
        stride: 1 or 2.
        downsample: Only `"avgpool"`: without a shortcut there is nothing that another one could act on.
        layer_order: As of `BinaryConvBNReLU`. The default puts a BatchNorm between a ReLU and the next sign.
        relu: As of `BinaryConvBNReLU`.
        config: How the convolution binarises.

    Raises:
        InputRefused: Another `downsample` or stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        downsample: str = "avgpool",
        layer_order: str = "bn_conv_relu",
        relu: bool = True,
        config: BinarizeConfig = BIREAL,
    ) -> None:
        super().__init__()
        check_choice(type(self).__name__, "downsample", downsample, VGG_DOWNSAMPLES)
        check_choice(type(self).__name__, "stride", stride, (1, 2))
        self.unit = BinaryConvBNReLU(
            in_channels, out_channels, 3, shortcut=False, layer_order=layer_order, relu=relu, config=config
        )
        self.pool = nn.AvgPool2d(2) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] -> [N, O, H', W']."""
        y: Tensor = self.pool(self.unit(x))
        return y


def _warn_of_constant_sign(where: str, layer_order: str, relu: bool, config: BinarizeConfig) -> None:
    binarises = config.bi_act_method != -1
    if layer_order == "conv_bn_relu" and relu and binarises and config.zero == "one":
        warnings.warn(
            f'{where}: the second convolution reads a ReLU output, whose sign is +1 everywhere with zero="one"; '
            'use layer_order="bn_conv_relu", relu=False or zero="zero"',
            stacklevel=3,
        )
