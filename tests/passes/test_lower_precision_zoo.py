"""Every network of the zoo at float16: the same accumulators as at float32, given the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from bnn_deploy import opset
from bnn_deploy.export.capture import capture
from bnn_deploy.loading import load
from bnn_deploy.models import catalogue
from bnn_deploy.parity.instrument import observed, teacher_forced
from bnn_deploy.parity.points import Instrumented
from bnn_deploy.passes import run_passes
from bnn_deploy.passes.lower_precision import LowerPrecisionPass
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's older exporter is quick, and says that it is old
SIZE = 32


def deployed(name: str) -> dict[str, onnx.ModelProto]:
    """Precision -> the file, from one capture."""
    module = load(name).module
    captured = capture(module, [torch.zeros(1, 3, SIZE, SIZE)], dynamic="batch", exporter="legacy")
    files = {}
    for precision in (opset.FP32, opset.FP16):
        model = ir.from_proto(ir.to_proto(captured))
        run_passes(model, precision)
        model.ir_version = opset.ONNX_IR_VERSION
        files[precision] = ir.to_proto(model)
    return files


def accumulators(variant: Instrumented, feeds: dict[str, Any], bits: dict[str, Any]) -> dict[str, Any]:
    """Layer -> its accumulators, all layers fed with `bits`, by the names of the binarisations."""
    given = {point.forced: bits[point.name] for point in variant.packs}
    outputs = OnnxRuntimeRunner(variant.model).infer({**feeds, **given})
    return {"+".join(layer.names): outputs[layer.accumulator] for layer in variant.layers}


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_accumulators_and_what_is_float16(name: str) -> None:
    files = deployed(name)
    onnx.checker.check_model(files[opset.FP16], full_check=True)
    x = np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    feeds = {files[opset.FP32].graph.input[0].name: x}
    free = observed(files[opset.FP32])
    outputs = OnnxRuntimeRunner(free.model).infer(feeds)
    bits = {point.name: outputs[point.read] for point in free.packs}
    expected = accumulators(teacher_forced(files[opset.FP32]), feeds, bits)
    found = accumulators(teacher_forced(files[opset.FP16]), feeds, bits)
    assert expected.keys() == found.keys() and len(found) > 0
    for layer, array in expected.items():
        np.testing.assert_array_equal(found[layer], array, err_msg=layer)

    again = ir.from_proto(files[opset.FP16])
    assert LowerPrecisionPass()(again).changes == 0  # type: ignore[attr-defined]
    graph = files[opset.FP16].graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    made = {tensor for node in graph.node for tensor in node.output}
    assert not {tensor for tensor in made if types.get(tensor) == onnx.TensorProto.FLOAT}, "but for the output"
    assert sum(node.op_type == "Cast" for node in graph.node) <= 2


def test_own_bits_are_those_of_the_values_before_rounding() -> None:
    """A layer's bits are decided on float32, also where its y, beside them, is float16."""
    model = deployed("birealnet")[opset.FP16]
    variant = teacher_forced(model)
    x = np.random.default_rng(1).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    feeds = {model.graph.input[0].name: x}
    free = observed(model)
    outputs = OnnxRuntimeRunner(free.model).infer(feeds)
    given = {point.forced: outputs[point.read] for point in variant.packs}
    outputs = OnnxRuntimeRunner(variant.model).infer({**feeds, **given})
    rounded = 0
    for point in variant.packs:
        condition = outputs[point.condition]
        np.testing.assert_array_equal(point.own_bits(condition, point.levels), outputs[point.written])
        if point.condition != point.stream:
            assert condition.dtype == np.float32
            np.testing.assert_array_equal(condition.astype(np.float16), outputs[point.stream])
            rounded += int((condition != outputs[point.stream]).sum())
    assert rounded > 0
