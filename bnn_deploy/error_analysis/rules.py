"""How each of PyTorch's operators carries a bound on, and what it adds: one rule an operator.

With x' the computed operand, |x' - x| <= e, every rule gives f(x) and a bound on |computed f(x') - f(x)|: how far f
carries e, plus its own roundings. `M` stands for the sum of the magnitudes that an operation adds up; a rounding of any
partial result is at most u M. Where a runtime may fold constants, the roundings of the folded form are counted too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bnn_deploy.error_analysis import winograd
from bnn_deploy.error_analysis.bounded import BoundedTensor, Ledger, Response, Rule, bounded

_CONV_EXTRA = 4  # a bias, and a scale folded into the weights: rounded weight, rounded product, one to spare
_NORM_ROUNDINGS = 10  # of (x - mean) / sqrt(variance + eps) * weight + bias in any form; constants rounded to the type
_ADD_ROUNDINGS = 2  # one, and one for a constant that was folded with another
_MUL_ROUNDINGS = 3
_NOTHING = torch.zeros(1, dtype=torch.float64)


def _made(ledger: Ledger, value: Tensor, bound: Tensor, response: Response | None = None) -> BoundedTensor:
    return BoundedTensor(value, bound, ledger, response)


def _rounded(ledger: Ledger, bound: Tensor, magnitude: Tensor, roundings: int) -> Tensor:
    """Adds `roundings` of results as large as `magnitude`, each of which may underflow."""
    rounding = ledger.rounding
    return bound + rounding.gamma(roundings) * magnitude + roundings * rounding.smallest


def _shape(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Moves values about: the bounds move with them."""
    x, *rest = arguments
    values, bounds = func(x.value, *rest, **options), func(x.bound, *rest, **options)
    if isinstance(values, Tensor):
        same = x.response if values.shape == x.shape and func.overloadpacket.__name__ in _KEEP_PLACE else None
        return _made(ledger, values, bounds, same)
    return [_made(ledger, value, bound) for value, bound in zip(values, bounds, strict=True)]


def _to_copy(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    x = arguments[0]
    if options.get("dtype") not in (None, torch.float32):
        return x.value.to(options["dtype"])
    return _made(ledger, x.value.clone(), x.bound.clone(), x.response)


def _cat(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    pairs = [bounded(ledger, part) for part in arguments[0]]
    joined = (func([pair[index] for pair in pairs], *arguments[1:], **options) for index in (0, 1))
    return _made(ledger, *joined)


def _pad(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    x, sizes, *rest = arguments
    return _made(ledger, func(x.value, sizes, *rest, **options), func(x.bound, sizes, 0.0))


def _add(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    (a, b), factor = arguments[:2], float(options.get("alpha", 1))
    if func.overloadpacket.__name__ == "rsub":
        a, b = b, a
    if func.overloadpacket.__name__ in ("sub", "rsub"):
        factor = -factor
    (av, ae), (bv, be) = bounded(ledger, a), bounded(ledger, b)
    value, bound = av + factor * bv, ae + abs(factor) * be
    bound = _rounded(ledger, bound, av.abs() + (factor * bv).abs() + bound, _ADD_ROUNDINGS)
    return _made(ledger, value, bound, _sum(a, b, factor))


def _sum(a: Any, b: Any, factor: float) -> Response | None:
    """The response of `a + factor * b`: of the later layer, where both come from one; the other is its shortcut."""
    operands = [(a, 1.0, b, factor), (b, factor, a, 1.0)]
    known = [entry for entry in operands if isinstance(entry[0], BoundedTensor) and entry[0].response is not None]
    if not known:
        return None
    x, of_x, other, of_other = max(known, key=lambda entry: entry[0].response.layer)
    per_channel = _per_channel(other, x)
    if per_channel is not None:
        return _scaled(x, torch.full_like(per_channel, of_x), of_other * per_channel)
    joined = x.response.joined() if other.shape == x.shape else None
    return None if joined is None else joined.scaled(torch.full((1,), of_x, dtype=torch.float64), _NOTHING)


def _scaled(x: Any, factor: Tensor | None, offset: Tensor | None = None) -> Response | None:
    """The response of `factor * x + offset`; a factor of None is not one a channel."""
    if factor is None or not isinstance(x, BoundedTensor) or x.response is None:
        return None
    return x.response.scaled(factor, _NOTHING if offset is None else offset)


def _per_channel(constant: Any, x: Tensor) -> Tensor | None:
    """A constant as [O] or [1] float64, if it varies along axis 1 of `x` alone."""
    if isinstance(constant, BoundedTensor):
        return None
    if not isinstance(constant, Tensor):
        return torch.tensor([float(constant)], dtype=torch.float64)
    padded = (1,) * (x.dim() - constant.dim()) + tuple(constant.shape)
    if constant.dim() > x.dim() or constant.numel() not in (1, x.shape[1]) or padded[1] != constant.numel():
        return constant.reshape(1).to(torch.float64) if constant.numel() == 1 else None
    return constant.reshape(-1).to(torch.float64)


def _mul(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    a, b = arguments[:2]
    (av, ae), (bv, be) = bounded(ledger, a), bounded(ledger, b)
    value = av * bv
    bound = av.abs() * be + bv.abs() * ae + ae * be
    response = _scaled(a, _per_channel(b, a)) or _scaled(b, _per_channel(a, b))
    return _made(ledger, value, _rounded(ledger, bound, value.abs() + bound, _MUL_ROUNDINGS), response)


def _div(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if options.get("rounding_mode"):
        raise TypeError("no rule for a division that rounds")
    a, b = arguments[:2]
    (av, ae), (bv, be) = bounded(ledger, a), bounded(ledger, b)
    value = av / bv
    room = bv.abs() - be  # |b'| is at least this
    bound = torch.where(room > 0, (ae + value.abs() * be) / room, torch.full_like(value, math.nan))
    divisor = _per_channel(b, a)
    response = _scaled(a, None if divisor is None else 1 / divisor)
    return _made(ledger, value, _rounded(ledger, bound, value.abs() + bound, _MUL_ROUNDINGS), response)


def _neg(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    x = arguments[0]
    return _made(ledger, -x.value, x.bound, _scaled(x, torch.tensor([-1.0], dtype=torch.float64)))


def _monotone(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """relu, clamp: exact, and what they cut off by more than its bound has none."""
    x, *rest = arguments
    value = func(x.value, *rest, **options)
    low, high = func(x.value - x.bound, *rest, **options), func(x.value + x.bound, *rest, **options)
    limits = [limit for limit in (*rest, *options.values()) if isinstance(limit, int | float)]
    error = sum(float(bounded(ledger, limit)[1]) for limit in limits)
    # NaN - NaN where nothing is known; rounding `x - bound` to float64 may leave a little.
    response = x.response
    if response is not None and func.overloadpacket.__name__ == "relu":
        response = response.bent(_NOTHING)
    elif response is not None:
        ends = func(torch.tensor([-math.inf, math.inf], dtype=torch.float64), *rest, **options)
        response = replace(response, clipped=True) if bool(ends[0] < 0 < ends[1]) else None
    return _made(ledger, value, torch.maximum(high - value, value - low) + error, response)


def _abs(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return _made(ledger, arguments[0].value.abs(), arguments[0].bound)


def _leaky(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """x where x >= 0, else slope x. slope: a number, or one a channel (`prelu`)."""
    x = arguments[0]
    slope, error = bounded(ledger, arguments[1] if len(arguments) > 1 else options.get("negative_slope", 0.01))
    value = torch.where(x.value >= 0, x.value, slope * x.value)
    bound = x.bound * (slope.abs() + error).clamp(min=1) + error * x.value.abs()
    per_channel = slope.reshape(-1) if slope.numel() in (1, x.shape[1]) else None
    response = None if x.response is None or per_channel is None else x.response.bent(per_channel)
    return _made(ledger, value, _rounded(ledger, bound, value.abs() + bound, _MUL_ROUNDINGS), response)


def dot(
    ledger: Ledger, operate: Any, x: Any, w: Any, terms: int, otherwise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A bilinear operation of `terms` products each, added in any order: (value, bound).

    |sum' - sum| <= |x| . e_w + e_x . |w| + e_x . e_w + gamma_n (|x| + e_x) . (|w| + e_w), n = terms and what folds in.
    The last of these is what rounds; `otherwise` is what does so in another algorithm, and the larger counts.
    """
    (xv, xe), (wv, we) = bounded(ledger, x), bounded(ledger, w)
    larger_x, larger_w = xv.abs() + xe, wv.abs() + we
    magnitude = operate(larger_x, larger_w)
    rounded = ledger.rounding.gamma(terms + _CONV_EXTRA) * magnitude + terms * ledger.rounding.smallest
    if otherwise is not None:
        rounded = torch.maximum(rounded, otherwise)
    bound = operate(xe, larger_w) + rounded
    if bool(we.any()):
        bound = bound + operate(xv.abs(), we)
    return operate(xv, wv), bound


def _with_bias(ledger: Ledger, value: Tensor, bound: Tensor, bias: Any, shape: tuple[int, ...]) -> BoundedTensor:
    if bias is None:
        return _made(ledger, value, bound)
    bv, be = bounded(ledger, bias)
    bv, be = bv.reshape(shape), be.reshape(shape)
    return _made(ledger, value + bv, _rounded(ledger, bound + be, value.abs() + bound + bv.abs(), _ADD_ROUNDINGS))


def _convolution(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    x, weight, bias, *geometry = arguments
    terms = weight[0].numel() if not geometry[3] else weight.shape[0] * weight[0, 0].numel()
    otherwise = None if geometry[3] else _winograd(ledger, x, weight, geometry)
    value, bound = dot(ledger, lambda a, b: func(a, b, None, *geometry), x, weight, terms, otherwise)
    return _with_bias(ledger, value, bound, bias, (1, -1, *[1] * (value.dim() - 2)))


def _winograd(ledger: Ledger, x: Any, weight: Any, geometry: Sequence[Any]) -> Tensor | None:
    """What a stem rounds by where it is computed by the Winograd algorithm; None where it never is."""
    stride, padding, dilation, _, _, groups = geometry
    float32 = ledger.rounding.dtype is torch.float32
    if not float32 or not winograd.serves(weight.shape, stride, dilation, groups):
        return None
    (xv, xe), (wv, we) = bounded(ledger, x), bounded(ledger, weight)
    return winograd.rounding_bound(ledger.rounding, xv.abs() + xe, wv, we, padding, _CONV_EXTRA)


def _addmm(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if options:
        raise TypeError("no rule for addmm with factors")
    bias, x, weight = arguments
    value, bound = dot(ledger, torch.mm, x, weight, x.shape[-1])
    return _with_bias(ledger, value, bound, bias, tuple(bias.shape))


def _mm(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return _made(ledger, *dot(ledger, func, arguments[0], arguments[1], arguments[0].shape[-1]))


def _batch_norm(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """a (x - mean) + bias with a = weight / sqrt(variance + eps), or the same multiplied out."""
    name = func.overloadpacket.__name__
    x, weight, bias, mean, variance = arguments[:5]
    training = name == "native_batch_norm" and bool(arguments[5])
    if training:
        raise TypeError("no rule for a BatchNorm that takes its statistics from the batch")
    # The file holds eps as float32.
    eps = float(torch.tensor(arguments[-1], dtype=torch.float32))
    factor = 1 / torch.sqrt(variance.double() + eps)
    factor = factor if weight is None else weight.double() * factor
    shift = torch.zeros_like(factor) if bias is None else bias.double()
    shape = (1, -1, *[1] * (x.dim() - 2))
    a, m, b = (each.reshape(shape) for each in (factor, mean.double(), shift))
    value = (x.value - m) * a + b
    magnitude = a.abs() * (x.value.abs() + x.bound + m.abs()) + b.abs()
    bound = _rounded(ledger, a.abs() * x.bound, magnitude, _NORM_ROUNDINGS)
    made = _made(ledger, value, bound, _scaled(x, factor, shift - mean.double() * factor))
    return made, torch.empty(0), torch.empty(0)


def _max_pool(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """|max(x') - max(x)| <= max |x' - x| over the window."""
    x, *rest = arguments
    value, indices = func(x.value, *rest, **options)
    return _made(ledger, value, func(x.bound, *rest, **options)[0], x.response), indices


def _average(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Means and sums over windows or axes, added in any order."""
    x, *rest = arguments
    value = func(x.value, *rest, **options)
    # A window has no more than this: adaptive windows overlap by a pixel.
    terms = math.prod(-(-a // max(b, 1)) + 1 for a, b in zip(x.shape, _aligned(x, value, rest), strict=True) if a != b)
    if func.overloadpacket.__name__ == "avg_pool2d":
        terms = math.prod(rest[0]) if len(rest[0]) == 2 else rest[0][0] ** 2
    magnitude = func(x.value.abs() + x.bound, *rest, **options)
    bound = func(x.bound, *rest, **options)
    return _made(ledger, value, _rounded(ledger, bound, magnitude, terms + 2))


def _aligned(x: Tensor, result: Tensor, rest: list[Any]) -> tuple[int, ...]:
    """The sizes of a reduction's result on the axes of its operand; what is reduced away has size 1."""
    if result.dim() == x.dim():
        return tuple(result.shape)
    axes = rest[0] if rest and rest[0] is not None else range(x.dim())
    gone = {axis % x.dim() for axis in axes}
    return tuple(1 if axis in gone else size for axis, size in enumerate(x.shape))


def _compare(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The outcome, of which nothing is known where the operands are closer than their bounds."""
    (av, ae), (bv, be) = (bounded(ledger, operand) for operand in arguments[:2])
    close = (av - bv).abs() <= ae + be
    exact = (ae == 0) & (be == 0)
    outcome = getattr(torch, func.overloadpacket.__name__)(av, bv)
    return _made(ledger, outcome, torch.where(close & ~exact, math.nan, 0.0).to(torch.float64))


def _where(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    condition, a, b = arguments
    doubt = condition.bound if isinstance(condition, BoundedTensor) else torch.zeros(())
    chosen = condition.value if isinstance(condition, BoundedTensor) else condition
    (av, ae), (bv, be) = bounded(ledger, a), bounded(ledger, b)
    return _made(ledger, torch.where(chosen, av, bv), torch.where(chosen, ae, be) + doubt)


def _step(ledger: Ledger, func: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """round, floor, sign...: exact, unless the bound reaches over a step."""
    x, *rest = arguments
    value = func(x.value, *rest, **options)
    low, high = func(x.value - x.bound, *rest, **options), func(x.value + x.bound, *rest, **options)
    return _made(ledger, value, torch.where(low == high, 0.0, math.nan).to(torch.float64))


_KEEP_PLACE = ("detach", "alias", "clone", "contiguous", "view", "_unsafe_view", "expand")
_SHAPES = (
    *_KEEP_PLACE,
    *("reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "slice", "select", "split", "split_with_sizes"),
    *("unbind", "repeat", "flip", "roll", "narrow", "pixel_shuffle", "pixel_unshuffle", "upsample_nearest2d", "lift"),
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(_SHAPES, _shape),
    **dict.fromkeys(("cat", "stack"), _cat),
    **dict.fromkeys(("add", "sub", "rsub"), _add),
    **dict.fromkeys(("relu", "clamp", "clamp_min", "clamp_max", "hardtanh", "relu6"), _monotone),
    **dict.fromkeys(("_prelu_kernel", "leaky_relu"), _leaky),
    **dict.fromkeys(("mm", "bmm"), _mm),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
    **dict.fromkeys(("avg_pool2d", "_adaptive_avg_pool2d", "mean", "sum"), _average),
    **dict.fromkeys(("ge", "gt", "le", "lt", "eq", "ne"), _compare),
    **dict.fromkeys(("round", "floor", "ceil", "trunc", "sign"), _step),
    "_to_copy": _to_copy,
    "abs": _abs,
    "addmm": _addmm,
    "constant_pad_nd": _pad,
    "convolution": _convolution,
    "div": _div,
    "max_pool2d_with_indices": _max_pool,
    "mul": _mul,
    "neg": _neg,
    "where": _where,
}
