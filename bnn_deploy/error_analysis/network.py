"""A whole network: exact values and bounds at every binarisation and output, given the signs that it was recorded with.

The signs are those that the network found in float32, so that this run and that one take the same bits everywhere, and
what differs between them is rounding alone. A 1-bit layer is taken as a deployed file computes it: an exact
accumulator, then scale and bias.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bnn_deploy.error_analysis.bounded import BoundedTensor, Ledger, Response, Rounding, bounded
from bnn_deploy.error_analysis.rules import dot
from bnn_deploy.nn.functional import ConvGeometry, float_conv2d, sign
from bnn_deploy.nn.taps import BinarizeTap, LayerTap, Tap, substitute_outputs

_EPILOGUE_ROUNDINGS = 4  # of the scale, of the product with it, of the bias, of the sum

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Analysis:
    """What was found; every pair is (value, bound), float64, the bound NaN where nothing is proven.

    Attributes:
        outputs: One a tensor that the network returns.
        binarizations: One a binarisation, in call order: what is binarised.
        activations: One a 1-bit layer, in call order: what it reads, where that is real; None where it is bits.
        responses: Every form that the accumulator of some 1-bit layer went through.
        binarized: One a binarisation: the form of what is binarised, where it is a layer's output.
        unknown: Operators whose error has no rule.
    """

    outputs: tuple[Pair, ...]
    binarizations: tuple[Pair, ...]
    activations: tuple[Pair | None, ...]
    responses: tuple[Response, ...]
    binarized: tuple[Response | None, ...]
    unknown: tuple[str, ...]


def analyse(
    model: nn.Module,
    inputs: Sequence[Tensor],
    taps: Sequence[Tap],
    rounding: Rounding,
    given: Collection[int] = (),
) -> Analysis:
    """Runs `model` on `inputs` with the signs of an earlier run.

    Args:
        model: In evaluation mode.
        inputs: float32.
        taps: What that run recorded.
        rounding: The arithmetic to bound.
        given: The binarisations, by their place in call order, behind which the binarised tensor goes on rounded and
            without error: whoever is compared with this is given it.

    Raises:
        Exception: Whatever the module raises that cannot handle a tensor subclass.
    """
    ledger = Ledger(rounding)
    run = _Run(ledger, taps, given)
    with torch.no_grad(), substitute_outputs(run.substitute):
        result = model(*(BoundedTensor(*bounded(ledger, x), ledger) for x in inputs))
    leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    return Analysis(
        outputs=tuple(bounded(ledger, leaf) for leaf in leaves),
        binarizations=tuple(run.binarizations),
        activations=tuple(run.activations),
        responses=tuple(ledger.responses),
        binarized=tuple(run.responses),
        unknown=tuple(sorted(ledger.unknown)),
    )


class _Run:
    """What the network goes on with behind each of its binary operations."""

    def __init__(self, ledger: Ledger, taps: Sequence[Tap], given: Collection[int]) -> None:
        self._ledger, self._taps, self._given = ledger, iter(taps), frozenset(given)
        self.binarizations: list[Pair] = []
        self.activations: list[Pair | None] = []
        self.responses: list[Response | None] = []

    def substitute(self, tap: Tap) -> Tensor:
        recorded = next(self._taps)
        if isinstance(tap, BinarizeTap):
            if not isinstance(recorded, BinarizeTap):
                raise ValueError(f"{tap.layer}: the network takes another path than when it was recorded")
            value, bound = bounded(self._ledger, tap.x)
            self.binarizations.append((value.clone(), bound.clone()))
            self.responses.append(tap.x.response if isinstance(tap.x, BoundedTensor) else None)
            if len(self.binarizations) - 1 in self._given and isinstance(tap.x, BoundedTensor):
                tap.x.value.copy_(tap.x.value.to(self._ledger.rounding.dtype))
                tap.x.bound.zero_()
            levels = sign(recorded.x, "one" if recorded.levels == "bipolar" else "zero").double()
            return BoundedTensor(levels, torch.zeros_like(levels), self._ledger)
        return self._layer(tap)

    def _layer(self, tap: LayerTap) -> BoundedTensor:
        index = len(self.activations)
        value, bound = bounded(self._ledger, tap.x)
        real = bool(bound.any()) or not bool((value == value.sign()).all())  # -1, 0 and +1 alone equal their sign
        self.activations.append((value.clone(), bound.clone()) if real else None)
        scale, bias = layer_constants(tap)
        accumulator, error = _accumulate(self._ledger, tap, real)
        channel_axis = 1 if tap.geometry is not None else -1
        shape = [1] * accumulator.dim()
        shape[channel_axis] = -1
        product, shift = scale.reshape(shape) * accumulator, bias.reshape(shape)
        error = scale.reshape(shape) * error
        rounding = self._ledger.rounding
        magnitude = product.abs() + error + shift.abs()
        error = error + rounding.gamma(_EPILOGUE_ROUNDINGS) * magnitude + _EPILOGUE_ROUNDINGS * rounding.smallest
        on_axis_1 = channel_axis == 1 or accumulator.dim() == 2
        response = Response(index, scale, bias) if on_axis_1 else None
        return BoundedTensor(product + shift, error, self._ledger, response)


def _accumulate(ledger: Ledger, tap: LayerTap, real: bool) -> Pair:
    """The sums of ±x, and a bound on them: 0 for bits, whose sums are integers."""
    x, terms = tap.x, tap.weight[0].numel()
    signs = sign(tap.weight.detach())
    geometry = tap.geometry
    if geometry is not None and geometry.pad_value != 0:
        vertical, horizontal = geometry.padding
        x = nn.functional.pad(x, (horizontal, horizontal, vertical, vertical), value=geometry.pad_value)
        geometry = ConvGeometry(geometry.stride, (0, 0), geometry.dilation, geometry.groups)

    def operate(a: Tensor, b: Tensor) -> Tensor:
        return a @ b.T if geometry is None else float_conv2d(a, b, None, geometry)

    if real:
        return dot(ledger, operate, x, signs, terms)
    accumulator = operate(bounded(ledger, x)[0], signs.double())
    return accumulator, torch.zeros_like(accumulator)


def layer_constants(tap: LayerTap) -> Pair:
    """(alpha, bias) of a 1-bit layer, [O] float64 each, taken from its latent weights in float64."""
    latent = tap.weight.detach().double()
    magnitude = latent.clamp(-1, 1).abs() if tap.spec.clamp else latent.abs()
    outputs = latent.shape[0]
    alpha = {
        "none": torch.ones(outputs, dtype=torch.float64),
        "tensor": magnitude.mean().expand(outputs),
        "channel": magnitude.reshape(outputs, -1).mean(dim=1),
    }[tap.spec.scale]
    bias = torch.zeros(outputs) if tap.bias is None else tap.bias.detach()
    return alpha, bias.double()
