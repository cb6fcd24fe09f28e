"""Recording what every binary layer saw and made during a forward pass, for the parity harness.

Hooks on modules would miss layers that call `functional` directly; this listens there, where all of them pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from bnn_deploy.nn.functional import ConvGeometry, WeightBinarization


@dataclass(frozen=True)
class BinarizeTap:
    """One binarisation. x: real values as they were then, any shape; levels: `bipolar` or `ternary`."""

    layer: str
    x: Tensor
    levels: str


@dataclass(frozen=True)
class LayerTap:
    """One 1-bit layer. x: [N, C, H, W] or [..., C] as the layer saw it; geometry is None for a fully connected one."""

    layer: str
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    y: Tensor
    spec: WeightBinarization
    geometry: ConvGeometry | None


Tap = BinarizeTap | LayerTap
Substitute = Callable[[Tap], Tensor]

_TAPS: ContextVar[list[Tap] | None] = ContextVar("bnn_deploy_taps", default=None)
_SUBSTITUTE: ContextVar[Substitute | None] = ContextVar("bnn_deploy_substitute", default=None)


@contextmanager
def record_taps() -> Iterator[list[Tap]]:
    """Every binary layer that runs inside is appended to the list, in call order."""
    taps: list[Tap] = []
    token = _TAPS.set(taps)
    try:
        yield taps
    finally:
        _TAPS.reset(token)


@contextmanager
def substitute_outputs(substitute: Substitute) -> Iterator[None]:
    """The network goes on with what `substitute` makes of each binary operation that runs inside, in call order."""
    token = _SUBSTITUTE.set(substitute)
    try:
        yield
    finally:
        _SUBSTITUTE.reset(token)


def passed_on(compute: Callable[[], Tensor], tap: Callable[[Tensor], Tap]) -> Tensor:
    """Runs a binary operation of `functional`; returns what the network goes on with.

    Args:
        compute: The operation. It does not run where its output is substituted.
        tap: Makes the tap of the output; of a substituted one the output is empty, for nobody computed it.
    """
    substitute = _SUBSTITUTE.get()
    if substitute is not None:
        return substitute(tap(torch.empty(0)))
    output = compute()
    taps = _TAPS.get()
    if taps is not None:
        taps.append(_snapshot(tap(output)))
    return output


def _snapshot(tap: Tap) -> Tap:
    """The tap with copies of its activations: an in-place op behind the layer (`relu_`, `+=`) would write over them."""
    if isinstance(tap, BinarizeTap):
        return replace(tap, x=tap.x.detach().clone())
    return replace(tap, x=tap.x.detach().clone(), y=tap.y.detach().clone())
