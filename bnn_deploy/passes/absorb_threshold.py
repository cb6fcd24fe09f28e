r"""What stands between a tensor and its binarisation disappears into the binarisation's thresholds.

    PackBipolar(BatchNormalization(x), 0)   becomes   PackInterval(x, lower, upper)

likewise for a shift (RSign), constant factors, ReLU, a clamp and a PReLU that does not fall. With BatchNorm in front,

    gamma / s * (x - mean) + beta >= 0   is   x >= mean - beta * s / gamma      for gamma > 0,    s = sqrt(var + eps)
                                              x <= mean - beta * s / gamma      for gamma < 0
                                              beta >= 0, for every x            for gamma = 0

`interval` has the general case, and finds the bounds such that no float32 changes sides. PyTorch rounds a BatchNorm
more than once, so the two may differ where its output is within rounding of the threshold: a tie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnn_deploy import opset
from bnn_deploy.passes.activation import CLIPS, PRELUS, read_clip, read_slope
from bnn_deploy.passes.affine import read_affine
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.graph import attribute, is_op, nodes_of, only_consumer, remove_unread, replace
from bnn_deploy.passes.interval import PACKS, Floats, add_bounds, read_interval


class AbsorbThresholdPass(Pass):
    """`Pack(k * x + d)`, `Pack(Relu(x))`... become `PackInterval(x)` where only packs read what is absorbed."""

    def call(self, model: ir.Model) -> PassResult:
        changes, declined = 0, []
        for pack in nodes_of(model, *PACKS, opset.PACK_TERNARY):
            if pack.op_type != opset.PACK_TERNARY:
                pack, absorbed = absorb_into(model, pack)
                changes += absorbed
            reason = _why_norm_stays(pack)
            if reason:
                declined.append(Declined(pack.name or pack.op_type, reason))
        return self.done(model, changes, declined)


def absorb_into(model: ir.Model, pack: ir.Node) -> tuple[ir.Node, int]:
    """Absorbs what can be into one pack of `PACKS`. Returns the pack that now stands there and how many it absorbed."""
    interval, value, absorbed = read_interval(pack), pack.inputs[0], 0
    channels = len(interval.lower)
    while value is not None and (step := _step(value.producer(), channels)) and _only_packs_read(value, channels):
        interval, value, absorbed = interval.before(step.function, step.falls), step.x, absorbed + 1
    if not absorbed:
        return pack, 0
    operands, unread = [value, *add_bounds(model, pack, interval)], list(pack.inputs)
    wider = ir.node(opset.PACK_INTERVAL, operands, {"channels": channels}, domain=opset.DOMAIN, name=pack.name)
    replace(pack, [wider], wider.outputs[0])
    remove_unread(*unread)
    return wider, absorbed


@dataclass(frozen=True)
class _Step:
    """A node that computes `function(x)`, which in each channel only rises or, where `falls`, only falls."""

    x: ir.Value
    function: Callable[[Floats], Floats]
    falls: NDArray[np.bool_]


def _step(node: ir.Node | None, channels: int) -> _Step | None:
    """What `node` does, if it can be absorbed."""
    rises = np.zeros(channels, bool)
    x = node.inputs[0] if node is not None and node.inputs else None
    if node is None or x is None:
        return None
    if is_op(node, *CLIPS, domain=""):
        bounds = read_clip(node)
        return None if bounds is None else _Step(x, lambda values: np.clip(values, *bounds), rises)
    if is_op(node, *PRELUS, domain=""):
        slope = read_slope(node, channels)
        if slope is None or not (slope >= 0).all():
            return None
        return _Step(x, lambda values: np.where(values >= 0, values, slope.astype(np.float32) * values), rises)
    affine = read_affine(node, channels)
    return None if affine is None else _Step(affine.x, affine, affine.factor < 0)


def _only_packs_read(value: ir.Value, channels: int) -> bool:
    """Whether everything that is made of `value` ends in binarisations that can absorb what is between."""

    def ends_in_packs(reader: ir.Node) -> bool:
        step = _step(reader, channels)
        return step is not None and step.x is value and _only_packs_read(reader.outputs[0], channels)

    if value.is_graph_output():
        return False
    return all(is_op(reader, *PACKS) or ends_in_packs(reader) for reader in value.consumers())


def _why_norm_stays(pack: ir.Node) -> str:
    """Why a BatchNorm that serves this pack alone is still there, or an empty string."""
    value = pack.inputs[0]
    norm = value.producer() if value is not None else None
    if norm is None or not is_op(norm, "BatchNormalization", domain="") or only_consumer(norm.outputs[0]) is not pack:
        return ""
    if pack.op_type == opset.PACK_TERNARY:
        return f"BatchNorm {norm.name} stays: sign(0) = 0 has no threshold to move; --sign-zero one gives it one"
    if attribute(norm, "training_mode", 0):
        return f"BatchNorm {norm.name} stays: it is in training mode; call model.eval() before exporting"
    return f"BatchNorm {norm.name} stays: its parameters are not constant, or lead to infinite thresholds"
