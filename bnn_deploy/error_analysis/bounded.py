"""A tensor that carries its exact value and a bound on its error through any module, as PyTorch calls its operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


@dataclass(frozen=True)
class Rounding:
    """The arithmetic whose error is bounded.

    Attributes:
        unit: The unit roundoff u: an operation's result is off by at most u times itself.
        smallest: Half the smallest subnormal number, the absolute error of a result that underflows.
        dtype: What constants are rounded to.
    """

    unit: float
    smallest: float
    dtype: torch.dtype

    def gamma(self, terms: int) -> float:
        """gamma_n = n u / (1 - n u): the relative error of a chain of n roundings. (Higham, Accuracy and Stability.)"""
        return terms * self.unit / (1 - terms * self.unit) if terms * self.unit < 1 else float("nan")


ROUNDINGS = {
    "fp32": Rounding(2.0**-24, 2.0**-150, torch.float32),
    "fp16": Rounding(2.0**-11, 2.0**-25, torch.float16),
}
"""By the precision of a file."""


@dataclass(frozen=True)
class Response:
    """What becomes of the accumulator of one 1-bit layer, channel by channel.

        z = scale * accumulator + bias, plus a shortcut unless `alone`;  y = z if z >= 0 else slope * z, plus shift

    A max-pool on the way is left out: it takes the largest y of a window.

    Attributes:
        layer: The index of the layer in call order.
        scale: [O] float64.
        bias: [O] float64.
        alone: Whether nothing else was added to z.
        slope: [O] float64; None where there is no PReLU, and no shift.
        shift: [O] float64.
        clipped: Whether y was cut off after all that, on both sides of 0.
    """

    layer: int
    scale: Tensor
    bias: Tensor
    alone: bool = True
    slope: Tensor | None = None
    shift: Tensor | None = None
    clipped: bool = False

    def scaled(self, factor: Tensor, offset: Tensor) -> Response | None:
        """Behind `factor * y + offset`, [O] or [1] float64 each; None for a form that this class does not have."""
        fits = all(len(each) in (1, len(self.scale)) for each in (factor, offset))
        if self.clipped or not fits:
            return None
        if self.slope is None or self.shift is None:
            return replace(self, scale=self.scale * factor, bias=self.bias * factor + offset)
        if bool((factor <= 0).any()):
            return None
        return replace(self, scale=self.scale * factor, bias=self.bias * factor, shift=self.shift * factor + offset)

    def bent(self, slope: Tensor) -> Response | None:
        """Behind a PReLU. slope: [O] or [1] float64."""
        if self.clipped or self.slope is not None or len(slope) not in (1, len(self.scale)):
            return None
        return replace(self, slope=slope.expand_as(self.scale), shift=torch.zeros_like(self.scale))

    def joined(self) -> Response | None:
        """Behind a sum with another tensor."""
        return None if self.clipped or self.slope is not None else replace(self, alone=False)


@dataclass
class Ledger:
    """What is shared by all tensors of one analysis.

    Attributes:
        rounding: The arithmetic that is bounded.
        responses: Every form that a layer's accumulator went through, in order.
        unknown: The operators whose error has no rule here, by name.
    """

    rounding: Rounding
    responses: list[Response] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)


class BoundedTensor(Tensor):
    """To PyTorch a tensor of `value`'s shape and of float32; every operator on it goes through a rule of `rules.py`.

    Attributes:
        value: float64, what exact arithmetic gives (or a comparison's outcome, bool).
        bound: float64, |computed - value| at most; NaN where nothing is known.
        response: Of the layer whose output it is, possibly changed and added to; None for everything else.
        ledger: Of the analysis.
    """

    value: Tensor
    bound: Tensor
    response: Response | None
    ledger: Ledger

    @staticmethod
    def __new__(
        cls: type[BoundedTensor], value: Tensor, bound: Tensor, ledger: Ledger, response: Response | None = None
    ) -> BoundedTensor:
        made: BoundedTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            value.shape,
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=torch.float32 if value.is_floating_point() else value.dtype,
            device=value.device,
        )
        # A tensor of its own: an in-place operator writes into it.
        made.bound = bound if bound.shape == value.shape else bound.expand(value.shape).clone()
        made.value, made.ledger, made.response = value, ledger, response
        if response is not None:
            ledger.responses.append(response)
        return made

    def __repr__(self, **_options: Any) -> str:  # type: ignore[override]
        return f"BoundedTensor({self.value}, bound={self.bound})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[Any, Any] | None = None
    ) -> Any:
        from bnn_deploy.error_analysis.rules import RULES

        packet = func.overloadpacket.__name__
        name = packet.removesuffix("_") if func._schema.is_mutable and not packet.startswith("__") else packet
        ledger = next(leaf.ledger for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, BoundedTensor))
        rule = RULES.get(name)
        if rule is None:
            return _without_rule(func, name, ledger, args, dict(kwargs or {}))
        found = rule(ledger, func if name == packet else _out_of_place(func, name), args, dict(kwargs or {}))
        if not func._schema.is_mutable:
            return found
        target = args[0]
        if not isinstance(target, BoundedTensor):
            raise TypeError(f"{packet} writes into a tensor that carries no bound")
        target.value.copy_(found.value)
        target.bound.copy_(found.bound)
        target.response = found.response
        return target


def _out_of_place(func: Any, name: str) -> Any:
    """`aten.add_.Tensor` -> `aten.add.Tensor`."""
    return getattr(getattr(torch.ops.aten, name), func._overloadname)


def bounded(ledger: Ledger, operand: Any) -> tuple[Tensor, Tensor]:
    """(value, bound) of an operand: a bounded tensor, a constant, or a number.

    A constant's bound is what rounding it to the file's type costs.
    """
    if isinstance(operand, BoundedTensor):
        return operand.value, operand.bound
    if not isinstance(operand, Tensor):
        operand = torch.tensor(float(operand), dtype=torch.float64)
    value = operand.to(torch.float64)
    return value, (value - value.to(ledger.rounding.dtype).to(torch.float64)).abs()


def _without_rule(func: Any, name: str, ledger: Ledger, arguments: Any, options: Any) -> Any:
    """Goes on with the value and says that nothing is known of its error."""
    if func._schema.is_mutable:
        raise TypeError(f"no rule for the in-place operator {name}")
    result = func(*tree_map(_exact, arguments), **tree_map(_exact, options))

    def unknown(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        return BoundedTensor(leaf.to(torch.float64), torch.full_like(leaf, float("nan"), dtype=torch.float64), ledger)

    if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
        ledger.unknown.add(name)
    return tree_map(unknown, result)


def _exact(leaf: Any) -> Any:
    if isinstance(leaf, BoundedTensor):
        return leaf.value
    return leaf.to(torch.float64) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


Rule = Callable[[Ledger, Any, tuple[Any, ...], dict[str, Any]], Any]
