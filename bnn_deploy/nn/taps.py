"""Recording what every binary layer saw and made during a forward pass, for the parity harness.

Hooks on modules would miss layers that call `functional` directly; this listens there, where all of them pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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

_TAPS: ContextVar[list[Tap] | None] = ContextVar("bnn_deploy_taps", default=None)


@contextmanager
def record_taps() -> Iterator[list[Tap]]:
    """Every binary layer that runs inside is appended to the list, in call order."""
    taps: list[Tap] = []
    token = _TAPS.set(taps)
    try:
        yield taps
    finally:
        _TAPS.reset(token)


def record(tap: Tap) -> None:
    """Called by `functional` after each binary operation; does nothing unless someone is recording."""
    taps = _TAPS.get()
    if taps is not None:
        taps.append(_snapshot(tap))


def _snapshot(tap: Tap) -> Tap:
    """The tap with copies of its activations: an in-place op behind the layer (`relu_`, `+=`) would write over them."""
    if isinstance(tap, BinarizeTap):
        return replace(tap, x=tap.x.detach().clone())
    return replace(tap, x=tap.x.detach().clone(), y=tap.y.detach().clone())
