"""The blocks, against the same network written out in plain float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import BinarizeConfig, BinaryConv2d, BinaryConvBNReLU, BinaryResNetBlock, BinaryVggBlock, name_layers


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def same(module: torch.nn.Module, x: Tensor, expected: Tensor) -> None:
    """Values, and the gradients of x and of every parameter."""
    y = module(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    g = torch.randn_like(y)
    inputs = (x, *module.parameters())
    for ours, theirs in zip(torch.autograd.grad(y, inputs, g), torch.autograd.grad(expected, inputs, g), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def unit_reference(reference: Any, unit: BinaryConvBNReLU, x: Tensor, conv: Callable, skip: Callable | None) -> Tensor:
    if unit.layer_order == "bn_conv_relu":
        x = reference.batch_norm(x, unit.bn.weight, unit.bn.bias)
    y = conv(x) if skip is None else conv(x) + skip(x)
    if unit.layer_order == "conv_bn_relu":
        y = reference.batch_norm(y, unit.bn.weight, unit.bn.bias)
    return y.relu() if isinstance(unit.relu, torch.nn.ReLU) else y


@pytest.mark.parametrize("order", ["conv_bn_relu", "bn_conv_relu"])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize(("outputs", "stride"), [(4, 1), (4, 2), (8, 2)])
def test_unit(reference: Any, order: str, relu: bool, shortcut: bool, outputs: int, stride: int) -> None:
    unit = BinaryConvBNReLU(4, outputs, stride=stride, layer_order=order, relu=relu, shortcut=shortcut).double()
    reference.randomize_(unit)
    x = image(3, 4, 6, 8)

    def skip(z: Tensor) -> Tensor:
        pooled = z if stride == 1 else reference.pool(z)
        return pooled if outputs == 4 else torch.cat([pooled, pooled], 1)

    expected = unit_reference(
        reference, unit, x, lambda z: reference.conv(z, unit.conv.weight, stride, 1), skip if shortcut else None
    )
    same(unit, x, expected)


@pytest.mark.parametrize("order", ["conv_bn_relu", "bn_conv_relu"])
@pytest.mark.parametrize("size", [(6, 8), (5, 8), (6, 7), (5, 7)])
@pytest.mark.parametrize("shortcut", [True, False])
def test_factorized_unit_pads_odd_sizes_top_left(
    reference: Any, order: str, size: tuple[int, int], shortcut: bool
) -> None:
    unit = BinaryConvBNReLU(
        4, 8, stride=2, layer_order=order, shortcut=shortcut, reduction_op_type="factorized"
    ).double()
    reference.randomize_(unit)
    x = image(2, 4, *size)

    def padded(z: Tensor) -> Tensor:
        even = torch.zeros(2, 4, size[0] + size[0] % 2, size[1] + size[1] % 2, dtype=z.dtype)
        even[:, :, size[0] % 2 :, size[1] % 2 :] = z
        return even

    def conv(z: Tensor) -> Tensor:
        z = padded(z)
        first = reference.conv(z, unit.conv.first.weight, 2, 1)
        return torch.cat([first, reference.conv(z[:, :, 1:, 1:], unit.conv.second.weight, 2, 1)], 1)

    def skip(z: Tensor) -> Tensor:
        pooled = reference.pool(padded(z))
        return torch.cat([pooled, pooled], 1)

    same(unit, x, unit_reference(reference, unit, x, conv, skip if shortcut else None))


def test_factorized_with_stride_one_is_a_plain_convolution() -> None:
    unit = BinaryConvBNReLU(3, 3, reduction_op_type="factorized")
    assert {name for name, _ in unit.named_parameters()} == {"conv.weight", "bn.weight", "bn.bias"}


def test_a_module_may_be_the_shortcut() -> None:
    own = torch.nn.Sequential()  # the identity; empty, and so false in a boolean context
    unit = BinaryConvBNReLU(3, 3, shortcut=own, relu=False).double()
    plain = BinaryConvBNReLU(3, 3, shortcut=True, relu=False).double()
    plain.load_state_dict(unit.state_dict())
    x = image(2, 3, 4, 4)
    assert torch.equal(unit(x), plain(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_order": "relu_bn_conv"}, "layer_order='relu_bn_conv'.*'conv_bn_relu', 'bn_conv_relu'"),
        ({"reduction_op_type": "pool"}, "reduction_op_type='pool'.*'conv', 'factorized'"),
        ({"stride": 3, "reduction_op_type": "factorized", "shortcut": False}, "stride=3.*stride 1 or 2"),
        ({"stride": (2, 1), "reduction_op_type": "factorized", "shortcut": False}, r"stride=\(2, 1\)"),
        ({"stride": "2"}, "stride='2'"),
    ],
)
def test_unit_names_what_it_cannot_do(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputRefused, match=f"BinaryConvBNReLU: {message}"):
        BinaryConvBNReLU(4, 4, **options)


def test_unit_takes_kernel_dilation_and_groups() -> None:
    unit = BinaryConvBNReLU(4, 8, (3, 1), (2, 1), (2, 0), (2, 1), 2, shortcut=False)
    assert unit.conv.weight.shape == (8, 2, 3, 1)
    assert unit(torch.randn(1, 4, 8, 5)).shape == (1, 8, 4, 5)


def test_a_shortcut_of_another_size_is_explained() -> None:
    model = torch.nn.Sequential(BinaryConvBNReLU(4, 8, stride=2))
    name_layers(model)
    with pytest.raises(InputRefused) as refusal:
        model(torch.zeros(2, 4, 7, 8))
    for part in ("0.conv: ", "[2, 8, 4, 4]", "[2, 8, 3, 4]", "rounds an odd size down", "factorized"):
        assert part in str(refusal.value)


def test_a_kernel_that_shrinks_does_not_broadcast_against_its_shortcut() -> None:
    with pytest.raises(InputRefused, match="the shortcut"):
        BinaryConvBNReLU(4, 4, padding=0)(torch.zeros(1, 4, 3, 3))  # [1, 4, 1, 1] + [1, 4, 3, 3] would pass


@pytest.mark.parametrize("order", ["conv_bn_relu", "bn_conv_relu"])
@pytest.mark.parametrize("downsample", ["avgpool", "conv", "binary_conv"])
@pytest.mark.parametrize(("outputs", "stride"), [(4, 1), (8, 2)])
def test_resnet_block(reference: Any, order: str, downsample: str, outputs: int, stride: int) -> None:
    block = BinaryResNetBlock(4, outputs, stride, downsample=downsample, layer_order=order, relu=False).double()
    reference.randomize_(block)
    x = image(3, 4, 6, 8)
    unit1, unit2 = block.unit1, block.unit2

    def skip(z: Tensor) -> Tensor:
        if stride == 1:
            return z
        if downsample == "conv":
            conv, bn = unit1.shortcut
            return reference.batch_norm(F.conv2d(z, conv.weight, stride=2), bn.weight, bn.bias)
        pooled = reference.pool(z)
        if downsample == "binary_conv":
            return reference.conv(pooled, unit1.shortcut.conv.weight, 1, 1)
        return torch.cat([pooled, pooled], 1)

    middle = unit_reference(reference, unit1, x, lambda z: reference.conv(z, unit1.conv.weight, stride, 1), skip)
    expected = unit_reference(
        reference, unit2, middle, lambda z: reference.conv(z, unit2.conv.weight, 1, 1), lambda z: z
    )
    same(block, x, expected)


def test_resnet_block_reaches_other_widths_by_convolution() -> None:
    x = torch.randn(2, 4, 6, 6)
    assert BinaryResNetBlock(4, 6, 1, downsample="conv")(x).shape == (2, 6, 6, 6)
    assert BinaryResNetBlock(4, 6, 2, downsample="conv")(x[:, :, :5, :5]).shape == (2, 6, 3, 3)
    assert BinaryResNetBlock(4, 6, 2, downsample="binary_conv")(x).shape == (2, 6, 3, 3)
    with pytest.raises(InputRefused, match="SkipConnectV2: in_channels=4, out_channels=6"):
        BinaryResNetBlock(4, 6, 2)


def test_only_the_conv_downsample_has_float_convolutions() -> None:
    for downsample, count in (("avgpool", 0), ("conv", 1), ("binary_conv", 0)):
        modules = BinaryResNetBlock(4, 8, 2, downsample=downsample).modules()
        assert sum(isinstance(module, torch.nn.Conv2d) for module in modules) == count


@pytest.mark.parametrize(
    ("cls", "choices"),
    [(BinaryResNetBlock, "'avgpool', 'conv', 'binary_conv'"), (BinaryVggBlock, "'avgpool'")],
)
@pytest.mark.parametrize("downsample", ["maxpool", None])
def test_blocks_name_an_unknown_downsample(cls: Callable, choices: str, downsample: object) -> None:
    with pytest.raises(InputRefused, match=f"{cls.__name__}: downsample={downsample!r}; wanted: one of {choices}"):
        cls(4, 4, downsample=downsample)


@pytest.mark.parametrize("cls", [BinaryResNetBlock, BinaryVggBlock])
@pytest.mark.parametrize("stride", [0, 3, (2, 2)])
def test_blocks_take_strides_one_and_two(cls: Callable, stride: object) -> None:
    with pytest.raises(InputRefused, match=f"{cls.__name__}: stride=.*one of 1, 2"):
        cls(4, 4, stride)


@pytest.mark.parametrize("downsample", ["conv", "binary_conv"])
def test_vgg_block_has_no_other_downsample(downsample: str) -> None:
    with pytest.raises(InputRefused, match=f"BinaryVggBlock: downsample='{downsample}'"):
        BinaryVggBlock(4, 4, 2, downsample=downsample)


@pytest.mark.parametrize("order", ["conv_bn_relu", "bn_conv_relu"])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(("stride", "size"), [(1, (5, 6)), (2, (6, 8)), (2, (7, 5))])
def test_vgg_block(reference: Any, order: str, relu: bool, stride: int, size: tuple[int, int]) -> None:
    block = BinaryVggBlock(4, 5, stride, layer_order=order, relu=relu).double()
    reference.randomize_(block)
    x = image(2, 4, *size)
    y = unit_reference(reference, block.unit, x, lambda z: reference.conv(z, block.unit.conv.weight, 1, 1), None)
    same(block, x, y if stride == 1 else reference.pool(y))


def test_resnet_block_warns_where_every_sign_would_be_plus_one() -> None:
    with pytest.warns(UserWarning, match=r"sign is \+1 everywhere"):
        BinaryResNetBlock(4, 4, layer_order="conv_bn_relu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BinaryResNetBlock(4, 4)
        BinaryResNetBlock(4, 4, layer_order="conv_bn_relu", relu=False)
        for config in (BinarizeConfig(zero="zero"), BinarizeConfig(bi_act_method=-1)):
            BinaryResNetBlock(4, 4, layer_order="conv_bn_relu", config=config)


@pytest.mark.parametrize(
    "make",
    [
        lambda config: BinaryConvBNReLU(4, 8, stride=2, config=config),
        lambda config: BinaryConvBNReLU(4, 8, stride=2, reduction_op_type="factorized", config=config),
        lambda config: BinaryResNetBlock(4, 8, 2, downsample="binary_conv", config=config),
        lambda config: BinaryVggBlock(4, 8, config=config),
    ],
)
def test_the_config_reaches_every_convolution(make: Callable[[BinarizeConfig], torch.nn.Module]) -> None:
    config = BinarizeConfig(bi_act_method=0, bi_w_scale=2)
    convolutions = [module for module in make(config).modules() if isinstance(module, BinaryConv2d)]
    assert convolutions
    assert all(module.config is config for module in convolutions)


@pytest.mark.parametrize(
    "module",
    [
        BinaryConvBNReLU(4, 8, stride=2, reduction_op_type="factorized"),
        BinaryResNetBlock(4, 8, 2, downsample="binary_conv"),
        BinaryResNetBlock(4, 8, 2, downsample="conv"),
        BinaryVggBlock(4, 8, 2),
    ],
    ids=lambda module: type(module).__name__,
)
def test_forward_writes_to_no_parameter(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(30)
    before = [(parameter.clone(), parameter._version) for parameter in module.parameters()]
    for mode in (True, False):
        module.train(mode)(torch.randn(2, 4, 6, 6))
    for parameter, (value, version) in zip(module.parameters(), before, strict=True):
        assert parameter._version == version
        assert torch.equal(parameter, value)
