"""The passes in the order in which they run, from what the exporter wrote to the file that is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    IdentityEliminationPass,
    RemoveUnusedNodesPass,
)

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.passes.absorb_threshold import AbsorbThresholdPass
from bnn_deploy.passes.attach_functions import AttachFunctionsPass
from bnn_deploy.passes.base import Declined, PassResult
from bnn_deploy.passes.chain_bits import ChainBitsPass
from bnn_deploy.passes.clear_records import ClearRecordsPass
from bnn_deploy.passes.expand_float import ExpandFloatPass
from bnn_deploy.passes.fold_affine import FoldAffinePass
from bnn_deploy.passes.fuse_epilogue import FuseEpiloguePass
from bnn_deploy.passes.fuse_float import FuseFloatPass
from bnn_deploy.passes.fuse_pack import FusePackPass
from bnn_deploy.passes.hoist_reshapes import HoistReshapesPass
from bnn_deploy.passes.infer_shapes import InferShapesPass
from bnn_deploy.passes.lower_binarize import LowerBinarizePass
from bnn_deploy.passes.lower_precision import LowerPrecisionPass
from bnn_deploy.passes.merge_twins import MergeTwinsPass
from bnn_deploy.passes.name_layers import NameLayersPass
from bnn_deploy.passes.narrow_levels import NarrowLevelsPass
from bnn_deploy.passes.pack_activations import PackActivationsPass
from bnn_deploy.passes.pack_pool import PackPoolPass
from bnn_deploy.passes.pack_weights import PackWeightsPass
from bnn_deploy.passes.split_float import SplitFloatPass
from bnn_deploy.passes.unpack_float import UnpackFloatPass
from bnn_deploy.passes.widen_precision import WidenPrecisionPass


def deploy_passes(precision: str = opset.FP32) -> tuple[ir.passes.PassBase, ...]:
    """The pipeline. Each line is one transformation; `docs/passes.md` has them in a table.

    Passes decide by who reads a tensor, so what a pass leaves dead is taken away before the next that asks.
    """
    return (
        IdentityEliminationPass(),
        NameLayersPass(),
        ClearRecordsPass(),
        InferShapesPass(),  # PyTorch's older exporter leaves most of them out
        # 1-bit layers
        PackWeightsPass(),
        HoistReshapesPass(),  # also above the reshapes to rows that packing the weights of a linear layer brings
        PackActivationsPass(),
        RemoveUnusedNodesPass(),
        DeduplicateInitializersPass(size_limit=1),  # thresholds of 0; then
        CommonSubexpressionEliminationPass(),  # one pack serves all who binarise a tensor in the same way
        NarrowLevelsPass(),
        # constants
        FoldAffinePass(),  # BatchNorm and arithmetic, in any order and number
        AbsorbThresholdPass(),
        # kernels
        FuseEpiloguePass(),  # also the shortcuts of what is merged next
        MergeTwinsPass(),
        FuseEpiloguePass(),  # what follows them when they are one
        PackPoolPass(),
        FusePackPass(),
        ChainBitsPass(),
        *([FuseFloatPass()] if precision == opset.FP32 else []),  # the kernels are for float32
        # the rest
        LowerBinarizePass(),
        *([LowerPrecisionPass()] if precision == opset.FP16 else []),  # when all that folds has been folded
        DeduplicateInitializersPass(),
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
        AttachFunctionsPass(),
    )


def float_passes() -> tuple[ir.passes.PassBase, ...]:
    """The passes that make the float twin of the same network, the baseline of size and speed."""
    return (
        IdentityEliminationPass(),
        NameLayersPass(),
        ExpandFloatPass(),
        ClearRecordsPass(),
        LowerBinarizePass(),
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
    )


@dataclass(frozen=True)
class PassRecord:
    """What one pass did to one model."""

    name: str
    changes: int
    declined: tuple[Declined, ...]


def run_passes(model: ir.Model, precision: str = opset.FP32) -> list[PassRecord]:
    """Runs the pipeline on `model`, in place.

    Args:
        model: What the exporter wrote, with training-level ops.
        precision: `fp32`, or `fp16` for a float rest of float16.

    Returns:
        One record a pass, in order.

    Raises:
        InputRefused: A layer cannot be made 1-bit and cannot be left as it is either; the message names it.
    """
    if model.graph.opset_imports.get("", 0) < opset.ONNX_OPSET:
        raise InputRefused(
            "the exported graph",
            f"ONNX opset {model.graph.opset_imports.get('', 0)}",
            f"opset {opset.ONNX_OPSET} or later",
            f"export with opset_version={opset.ONNX_OPSET}",
        )
    return _run(model, deploy_passes(precision))


def run_float_passes(model: ir.Model) -> list[PassRecord]:
    """Runs `float_passes` on `model`, in place: the network as stock tools would export it."""
    return _run(model, float_passes())


def float_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float32 network of a deployed file, made of the file itself; `model` stays as it is.

    Of a float16 file too: its inputs and outputs keep their types, all between them is float32.

    Raises:
        InputRefused: An op of ours reads weights or thresholds that are not constants.
    """
    twin = ir.from_proto(model)
    for step in (
        WidenPrecisionPass(),
        IdentityEliminationPass(),
        SplitFloatPass(),
        UnpackFloatPass(),
        DeduplicateInitializersPass(),
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
    ):
        step(twin)
    return ir.to_proto(twin)


def _run(model: ir.Model, steps: Sequence[ir.passes.PassBase]) -> list[PassRecord]:
    records = []
    for step in steps:
        result = step(model)
        ours = result if isinstance(result, PassResult) else None
        changes = ours.changes if ours is not None else int(result.modified)
        records.append(PassRecord(type(step).__name__, changes, ours.declined if ours is not None else ()))
    return records
