"""Binarisation and 1-bit layers as functions: their forward, their gradients and what they export.

The modules of this package are thin: each keeps parameters and calls one of the functions here.

Source of the gradients: BinaryConnect (arXiv:1511.00363), XNOR-Net (arXiv:1603.05279), Bi-Real Net (arXiv:1808.00278).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.nn import taps
from bnn_deploy.nn.export_mode import emits_symbolic_ops, traces_for_legacy_exporter

STE_KINDS = ("identity", "polynomial")
ZERO_KINDS = ("one", "zero")
WEIGHT_GRADIENTS = ("straight_through", "xnor", "bireal")

Pair = tuple[int, int]


def check_choice(where: str, name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raises `InputRefused` unless `value` is one of `choices`."""
    if value not in choices:
        wanted = ", ".join(repr(choice) for choice in choices)
        raise InputRefused(where, f"{name}={value!r}", f"one of {wanted}", f"pass {name}={choices[0]!r} for example")


def sign(x: Tensor, zero: str = "one") -> Tensor:
    """The forward of every binarisation here, without a gradient.

    `zero="one"`: +1 where x >= 0, else -1; both zeros are +1. `zero="zero"`: what `torch.sign` gives, 0 at 0.
    NaN is -1 in both, so that a NaN cannot leave the set of levels.

    Args:
        x: Any shape and float dtype.
        zero: `"one"` or `"zero"`.
    """
    one = torch.ones((), dtype=x.dtype, device=x.device)
    not_negative = torch.where(x >= 0, one, -one)
    return not_negative if zero == "one" else torch.where(x == 0, torch.zeros_like(one), not_negative)


class _Binarize(torch.autograd.Function):
    """sign(x) forward, a surrogate's derivative backward; the ONNX op `Binarize` when exported."""

    @staticmethod
    def symbolic(g: Any, x: Any, ste: str, clip: float, zero: str, layer: str) -> Any:
        attributes = {
            f"{name}_{_attribute_suffix(value)}": value
            for name, value in _binarize_attributes(ste, clip, zero, layer).items()
        }
        return g.op(f"{opset.DOMAIN}::{opset.BINARIZE}", x, **attributes).setType(x.type())

    @staticmethod
    def forward(ctx: Any, x: Tensor, ste: str, clip: float, zero: str, layer: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.ste, ctx.clip = ste, clip
        if emits_symbolic_ops():
            return torch.onnx.ops.symbolic(
                f"{opset.DOMAIN}::{opset.BINARIZE}",
                [x],
                _binarize_attributes(ste, clip, zero, layer),
                dtype=x.dtype,
                shape=x.shape,
                version=opset.VERSION,
            )
        return sign(x, zero)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        gradient = grad_outputs[0]
        magnitude = x.abs()
        if ctx.ste == "polynomial":
            gradient = torch.where(magnitude < 1, gradient * (2 - 2 * magnitude), torch.zeros_like(gradient))
        if ctx.clip != math.inf:
            gradient = torch.where(magnitude <= ctx.clip, gradient, torch.zeros_like(gradient))
        return gradient, None, None, None, None


def binarize(
    x: Tensor, *, ste: str = "polynomial", clip: float = math.inf, zero: str = "one", layer: str = ""
) -> Tensor:
    r"""Binarises activations with a straight-through gradient.

    Forward: `sign(x)`, see `sign`. Backward, with g the gradient of the output:

    - `ste="identity"`: `g * 1{|x| <= clip}`
    - `ste="polynomial"`: `g * (2 - 2|x|) * 1{|x| < 1} * 1{|x| <= clip}`, the derivative of Bi-Real Net's
      piecewise polynomial (arXiv:1808.00278, eq. 5). It is computed from `|x|` and selected, never by subtracting a
      surrogate from itself, so it is finite for every finite x (and 0 for infinities and NaN).

    Args:
        x: Any shape, floating point.
        ste: `"identity"` or `"polynomial"`.
        clip: Gradients are zeroed where `|x| > clip`; infinity keeps all.
        zero: `"one"` (sign(0) = +1) or `"zero"` (sign(0) = 0, as `torch.sign`).
        layer: A name for messages and reports, carried into the ONNX file; without one, the name of the op.

    Returns:
        The shape and dtype of `x`.
    """
    check_choice(layer or "binarize", "ste", ste, STE_KINDS)
    check_choice(layer or "binarize", "zero", zero, ZERO_KINDS)
    layer = layer or opset.BINARIZE
    return taps.passed_on(
        lambda: _Binarize.apply(x, ste, float(clip), zero, layer),
        lambda _: taps.BinarizeTap(layer, x, _levels(zero)),
    )


@dataclass(frozen=True)
class WeightBinarization:
    """How latent (real) weights become 1-bit weights times a scale.

    Forward, with n the weights that share a scale and `w' = clamp(w, -1, 1)` if `clamp` else `w`:
    `alpha * sign(w')`, alpha = 1 (`scale="none"`), or mean |w'| over the tensor (`"tensor"`), or over each output
    channel (`"channel"`).

    Backward, with g the gradient of the output:

    - `gradient="straight_through"`: `g * 1{|w| <= threshold * s}`, s = alpha where there is a scale and it is not 0,
      else 1. The levels of the binarised weight are ±alpha, so the band in which a latent weight still counts as near
      its level is a multiple of alpha, not of 1. Where alpha = 0 the product is a band of no width: it holds weights
      that are exactly 0, but not those so small that their mean has rounded to 0, which would then never move again.
      There the threshold stands alone.
    - `gradient="xnor"`: `g * (alpha * 1{|w| <= 1} + 1/n)`, XNOR-Net, section 3.1 (arXiv:1603.05279).
    - `gradient="bireal"`: `g * 1{|w| <= 1}`; alpha is a constant (Bi-Real Net, arXiv:1808.00278).

    Args:
        scale: `"none"`, `"tensor"` or `"channel"`.
        gradient: `"straight_through"`, `"xnor"` or `"bireal"`.
        threshold: The band of `straight_through`.
        clamp: Whether weights are clamped to ±1 before the scale is taken. The parameter itself is never written.
        zero: What sign(0) is, as for activations. `"zero"` makes a weight that is exactly 0 a third level, which the
            exporter refuses.
    """

    scale: str = "channel"
    gradient: str = "bireal"
    threshold: float = 1.3
    clamp: bool = True
    zero: str = "one"

    def __post_init__(self) -> None:
        check_choice("weight binarization", "scale", self.scale, opset.WEIGHT_SCALES)
        check_choice("weight binarization", "gradient", self.gradient, WEIGHT_GRADIENTS)
        check_choice("weight binarization", "zero", self.zero, ZERO_KINDS)

    def attributes(self) -> dict[str, Any]:
        """The ONNX attributes that say the same."""
        return {"weight_scale": self.scale, "weight_clamp": int(self.clamp), "weight_zero": self.zero}


def weight_scale(weight: Tensor, spec: WeightBinarization) -> Tensor:
    """alpha. weight: [O, ...] -> [O, 1, ...] (`channel`) or [1, 1, ...]; same dtype, rank of `weight`, no gradient."""
    magnitude = weight.detach().clamp(-1, 1).abs() if spec.clamp else weight.detach().abs()
    if spec.scale == "none":
        return torch.ones([1] * weight.dim(), dtype=weight.dtype, device=weight.device)
    axes = list(range(1 if spec.scale == "channel" else 0, weight.dim()))
    return magnitude.mean(dim=axes, keepdim=True)


class _BinarizeWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, spec: WeightBinarization) -> Tensor:
        alpha = weight_scale(weight, spec)
        ctx.save_for_backward(weight, alpha)
        ctx.spec = spec
        return alpha * sign(weight, spec.zero)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        weight, alpha = ctx.saved_tensors
        gradient, spec, magnitude = grad_outputs[0], ctx.spec, weight.abs()
        if spec.gradient == "xnor":
            shared = weight.numel() / alpha.numel()
            return gradient * (alpha * (magnitude <= 1) + 1 / shared), None
        if spec.gradient == "bireal":
            return gradient * (magnitude <= 1), None
        # `scale="none"` has alpha = 1, so one expression serves all.
        band = spec.threshold * torch.where(alpha == 0, torch.ones_like(alpha), alpha)
        return gradient * (magnitude <= band), None


def binarize_weight(weight: Tensor, spec: WeightBinarization) -> Tensor:
    """Latent weights to `alpha * sign(w)`. weight: [O, ...] -> the same shape and dtype; see `WeightBinarization`."""
    return _BinarizeWeight.apply(weight, spec)


@dataclass(frozen=True)
class ConvGeometry:
    """Where a convolution's taps lie. All pairs are (vertical, horizontal), in pixels."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    pad_value: float = 0.0

    def attributes(self) -> dict[str, Any]:
        """The ONNX attributes that say the same."""
        return {
            "strides": list(self.stride),
            "pads": list(self.padding) * 2,
            "dilations": list(self.dilation),
            "group": self.groups,
            "pad_value": float(self.pad_value),
        }

    def output_size(self, size: Pair, kernel: Pair) -> Pair:
        """(H, W) of the output; works on symbolic sizes."""
        height, width = (
            (size[i] + 2 * self.padding[i] - self.dilation[i] * (kernel[i] - 1) - 1) // self.stride[i] + 1
            for i in (0, 1)
        )
        return height, width


def binary_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    geometry: ConvGeometry,
    spec: WeightBinarization,
    layer: str = "",
) -> Tensor:
    """A convolution whose weights are binarised on the way in.

    `y = conv2d(pad(x, pad_value), alpha * sign(w)) + bias`.

    Args:
        x: [N, C, H, W], already binarised (or real, for 1-bit weights with float activations).
        weight: [O, C / groups, KH, KW], latent real weights.
        bias: [O] or None.
        geometry: Stride, padding, dilation, groups and the value of padded pixels: 0, -1 or +1.
        spec: How the weights are binarised.
        layer: A name for messages and reports; without one, the name of the op.

    Returns:
        [N, O, H', W'], the dtype of `x`.
    """
    layer = layer or opset.BINARY_CONV2D
    if emits_symbolic_ops():
        height, width = geometry.output_size((x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3]))
        return torch.onnx.ops.symbolic(
            f"{opset.DOMAIN}::{opset.BINARY_CONV2D}",
            [x, weight] if bias is None else [x, weight, bias],
            {**geometry.attributes(), **spec.attributes(), "layer": layer},
            dtype=x.dtype,
            shape=(x.shape[0], weight.shape[0], height, width),
            version=opset.VERSION,
        )
    if traces_for_legacy_exporter():
        return _LegacyBinaryConv2d.apply(x, weight, bias, geometry, spec, layer)
    return taps.passed_on(
        lambda: _eager_conv2d(x, weight, bias, geometry, spec),
        lambda y: taps.LayerTap(layer, x, weight, bias, y, spec, geometry),
    )


def binary_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, spec: WeightBinarization, layer: str = ""
) -> Tensor:
    """A fully connected layer whose weights are binarised on the way in: `y = x (alpha * sign(w))^T + bias`.

    Args:
        x: [..., C], already binarised (or real).
        weight: [O, C], latent real weights.
        bias: [O] or None.
        spec: How the weights are binarised.
        layer: A name for messages and reports; without one, the name of the op.

    Returns:
        [..., O], the dtype of `x`.
    """
    layer = layer or opset.BINARY_LINEAR
    if emits_symbolic_ops():
        return torch.onnx.ops.symbolic(
            f"{opset.DOMAIN}::{opset.BINARY_LINEAR}",
            [x, weight] if bias is None else [x, weight, bias],
            {**spec.attributes(), "layer": layer},
            dtype=x.dtype,
            shape=(*x.shape[:-1], weight.shape[0]),
            version=opset.VERSION,
        )
    if traces_for_legacy_exporter():
        return _LegacyBinaryLinear.apply(x, weight, bias, spec, layer)
    return taps.passed_on(
        lambda: F.linear(x, binarize_weight(weight, spec), bias),
        lambda y: taps.LayerTap(layer, x, weight, bias, y, spec, None),
    )


def _eager_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry, spec: WeightBinarization
) -> Tensor:
    return float_conv2d(x, binarize_weight(weight, spec), bias, geometry)


def float_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """`F.conv2d` with a geometry, whose padded pixels may be other than 0. Shapes as of `binary_conv2d`."""
    padding = geometry.padding
    if geometry.pad_value != 0 and padding != (0, 0):
        x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]), value=geometry.pad_value)
        padding = (0, 0)
    return F.conv2d(x, weight, bias, geometry.stride, padding, geometry.dilation, geometry.groups)


class _LegacyBinaryConv2d(torch.autograd.Function):
    """What the older exporter needs to emit `BinaryConv2d`: only `symbolic` matters, forward serves the trace."""

    @staticmethod
    def symbolic(
        g: Any, x: Any, weight: Any, bias: Any, geometry: ConvGeometry, spec: WeightBinarization, layer: str
    ) -> Any:
        sizes, weight_sizes = x.type().varyingSizes(), weight.type().sizes()
        output = None
        if sizes is not None and None not in sizes[2:]:
            output = [sizes[0], weight_sizes[0], *geometry.output_size(sizes[2:], weight_sizes[2:])]
        return _legacy_op(
            g,
            opset.BINARY_CONV2D,
            x,
            weight,
            bias,
            output,
            {**geometry.attributes(), **spec.attributes(), "layer": layer},
        )

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: ConvGeometry,
        spec: WeightBinarization,
        layer: str,
    ) -> Tensor:
        return _eager_conv2d(x, weight, bias, geometry, spec)


class _LegacyBinaryLinear(torch.autograd.Function):
    """What the older exporter needs to emit `BinaryLinear`."""

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, bias: Any, spec: WeightBinarization, layer: str) -> Any:
        sizes = x.type().varyingSizes()
        output = None if sizes is None else [*sizes[:-1], weight.type().sizes()[0]]
        return _legacy_op(g, opset.BINARY_LINEAR, x, weight, bias, output, {**spec.attributes(), "layer": layer})

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, spec: WeightBinarization, layer: str
    ) -> Tensor:
        return F.linear(x, binarize_weight(weight, spec), bias)


def _levels(zero: str) -> str:
    return "bipolar" if zero == "one" else "ternary"


def _binarize_attributes(ste: str, clip: float, zero: str, layer: str) -> dict[str, Any]:
    # An ONNX attribute cannot hold infinity portably; -1 stands for "no clip". Only training reads it.
    return {"levels": _levels(zero), "ste": ste, "clip": -1.0 if clip == math.inf else clip, "layer": layer}


def _legacy_op(
    g: Any, name: str, x: Any, weight: Any, bias: Any, sizes: list[int] | None, attributes: dict[str, Any]
) -> Any:
    inputs = [x, weight]
    if bias is not None and not bias.node().mustBeNone():
        inputs.append(bias)
    suffixed = {f"{key}_{_attribute_suffix(value)}": value for key, value in attributes.items()}
    out = g.op(f"{opset.DOMAIN}::{name}", *inputs, **suffixed)
    return out if sizes is None else out.setType(x.type().with_sizes(sizes))


def _attribute_suffix(value: Any) -> str:
    """The type letter by which the older exporter wants attributes named."""
    first = value[0] if isinstance(value, list) else value
    return "f" if isinstance(first, float) else "s" if isinstance(first, str) else "i"
