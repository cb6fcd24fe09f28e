"""What the modules leave in an ONNX file, through both of torch's exporters."""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from bnn_deploy import nn, opset
from bnn_deploy.nn import export_mode

# Ops that a binarisation written out in standard ones would leave behind.
TRACES_OF_SIGN = {"Sign", "Where", "Greater", "GreaterOrEqual", "Less", "Equal", "Clip", "Abs"}
EXPORTERS = pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "legacy"])


def export(model: torch.nn.Module, x: Tensor, *, dynamo: bool) -> onnx.ModelProto:
    """The model with a symbolic batch."""
    nn.name_layers(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            program = torch.onnx.export(model.eval(), (x,), dynamo=True, dynamic_shapes=shapes, verbose=False)
            assert program is not None
            return program.model_proto
        file = io.BytesIO()
        options: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}, "opset_version": 18}
        options["custom_opsets"] = {opset.DOMAIN: opset.VERSION}
        torch.onnx.export(model.eval(), (x,), file, dynamo=False, **options)
        return onnx.load_from_string(file.getvalue())


def ours(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.domain == opset.DOMAIN]


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def dims(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


class ColumnConv2d(nn.BinaryConv2d):
    """Keeps its weight as one column under another name."""

    def __init__(self) -> None:
        super().__init__(4, 6, 3)
        self.weights = torch.nn.Parameter(self.weight.detach().reshape(-1, 1))
        del self.weight

    def latent_weight(self) -> Tensor:
        return self.weights.view(6, 4, 3, 3)


BINARIZE, CONV, LINEAR = opset.BINARIZE, opset.BINARY_CONV2D, opset.BINARY_LINEAR
IMAGE = (2, 4, 8, 6)
CASES: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...], dict[str, int]]] = {
    "bireal": (nn.BirealBinaryActivation, IMAGE, {BINARIZE: 1}),
    "rsign": (lambda: nn.RSign(4), IMAGE, {BINARIZE: 1}),
    "identity": (lambda: nn.StraightThroughBinaryActivation(-1), IMAGE, {}),
    "column_conv": (ColumnConv2d, IMAGE, {BINARIZE: 1, CONV: 1}),
    "linear": (lambda: nn.BinaryLinear(6, 3, True), (2, 5, 6), {BINARIZE: 1, LINEAR: 1}),
    "float_weights": (
        lambda: nn.BinaryConv2d(4, 6, 3, config=nn.BinarizeConfig(bi_w_scale=-1)), IMAGE, {BINARIZE: 1},
    ),
    "float_activations": (
        lambda: nn.BinaryConv2d(4, 6, 3, config=nn.BinarizeConfig(bi_act_method=-1)), IMAGE, {CONV: 1},
    ),
    "factorized": (
        lambda: nn.BinaryConvBNReLU(4, 8, stride=2, reduction_op_type="factorized"), IMAGE, {BINARIZE: 2, CONV: 2},
    ),
    "resnet_block": (
        lambda: nn.BinaryResNetBlock(4, 8, 2, downsample="binary_conv"), IMAGE, {BINARIZE: 3, CONV: 3},
    ),
    "vgg_block": (lambda: nn.BinaryVggBlock(4, 8, 2), IMAGE, {BINARIZE: 1, CONV: 1}),
    "nin": (lambda: nn.NIN(width=0.05, in_channels=4), IMAGE, {BINARIZE: 7, CONV: 7}),
}  # fmt: skip


@EXPORTERS
@pytest.mark.parametrize("case", list(CASES))
def test_modules_become_our_ops_and_the_batch_stays_symbolic(case: str, dynamo: bool) -> None:
    make, shape, expected = CASES[case]
    module, x = make(), torch.randn(shape)
    model = export(module, x, dynamo=dynamo)
    assert Counter(node.op_type for node in ours(model)) == expected
    assert not {node.op_type for node in model.graph.node} & TRACES_OF_SIGN
    versions = {entry.domain: entry.version for entry in model.opset_import}
    assert versions.get(opset.DOMAIN, opset.VERSION) == opset.VERSION
    batch, *sizes = dims(model.graph.output[0])
    assert isinstance(batch, str) and batch
    if dynamo or case not in ("nin", "factorized"):  # the older exporter loses shapes at a reduction and a slice
        assert sizes == list(module(x).shape[1:])
    assert isinstance(dims(model.graph.input[0])[0], str)


@EXPORTERS
@pytest.mark.parametrize("bias", [True, False])
def test_every_attribute_of_a_convolution(dynamo: bool, bias: bool) -> None:
    config = nn.BinarizeConfig(bi_act_method=0, bi_w_scale=1, act_threshold=0.5, zero="zero")
    conv = nn.BinaryConv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2, bias, padding_value=-1, config=config)
    model = export(torch.nn.Sequential(conv), torch.randn(IMAGE), dynamo=dynamo)
    binarize, convolution = ours(model)
    assert attributes(binarize) == {"levels": "ternary", "ste": "identity", "clip": 0.5, "layer": "0"}
    assert attributes(convolution) == {
        "strides": [2, 1],
        "pads": [1, 0, 1, 0],
        "dilations": [1, 2],
        "group": 2,
        "pad_value": -1.0,
        "weight_scale": "tensor",
        "weight_clamp": 1,
        "weight_zero": "zero",
        "layer": "0",
    }
    assert convolution.input[0] == binarize.output[0]
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    parameters = [conv.weight] if conv.bias is None else [conv.weight, conv.bias]
    assert len(convolution.input) == 1 + len(parameters)
    for name, parameter in zip(convolution.input[1:], parameters, strict=True):
        np.testing.assert_array_equal(initializers[name], parameter.detach().numpy())


@EXPORTERS
@pytest.mark.parametrize(("mode", "scale"), [(0, "none"), (1, "tensor"), (2, "channel"), (3, "channel")])
def test_every_attribute_of_a_linear_layer(dynamo: bool, mode: int, scale: str) -> None:
    layer = nn.BinaryLinear(6, 3, config=nn.BinarizeConfig(bi_w_scale=mode, act_threshold=math.inf))
    model = export(layer, torch.randn(2, 6), dynamo=dynamo)
    binarize, linear = ours(model)
    # -1 says that there is no clip: ONNX has no portable infinity.
    assert attributes(binarize) == {"levels": "bipolar", "ste": "polynomial", "clip": -1.0, "layer": "BinaryLinear"}
    expected = {"weight_scale": scale, "weight_clamp": 1, "weight_zero": "one", "layer": "BinaryLinear"}
    assert attributes(linear) == expected
    assert dims(model.graph.output[0])[1:] == [3]


def test_the_older_exporter_traces_a_block_without_freezing_a_size() -> None:
    block = nn.BinaryResNetBlock(4, 8, 2).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", torch.jit.TracerWarning)
        options: dict[str, Any] = {"dynamo": False, "custom_opsets": {opset.DOMAIN: opset.VERSION}}
        torch.onnx.export(block, (torch.randn(IMAGE),), io.BytesIO(), **options)


def test_height_and_width_may_stay_symbolic_too() -> None:
    block, free = nn.BinaryResNetBlock(4, 8, 2), torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            block.eval(),
            (torch.randn(IMAGE),),
            dynamo=True,
            dynamic_shapes=({0: free, 2: free, 3: free},),
            verbose=False,
        )
    assert program is not None
    batch, channels, height, width = dims(program.model_proto.graph.output[0])
    assert channels == 8
    assert all(isinstance(size, str) and size for size in (batch, height, width))


def targets(program: torch.export.ExportedProgram) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


def test_symbolic_capture_alone_makes_a_program_for_onnx() -> None:
    layer, x = nn.BinaryConv2d(4, 6, 3), torch.randn(IMAGE)
    with export_mode.symbolic_capture():
        assert export_mode.emits_symbolic_ops()
        program = torch.export.export(layer, (x,), strict=False)
    assert not export_mode.emits_symbolic_ops()
    assert any("onnx_symbolic" in target for target in targets(program))


def test_a_plain_program_runs_and_has_no_symbolic_ops() -> None:
    layer, x = nn.BinaryConv2d(4, 6, 3), torch.randn(IMAGE)
    program = torch.export.export(layer, (x,), strict=False)
    assert not any("onnx_symbolic" in target for target in targets(program))
    assert torch.equal(program.module()(x), layer(x))


def test_symbolic_capture_ends_with_an_error_and_nests() -> None:
    with pytest.raises(ZeroDivisionError), export_mode.symbolic_capture():
        with export_mode.symbolic_capture():
            pass
        assert export_mode.emits_symbolic_ops()
        raise ZeroDivisionError
    assert not export_mode.emits_symbolic_ops()


def test_outside_an_export_nothing_is_recorded() -> None:
    assert not export_mode.emits_symbolic_ops()
    assert not export_mode.traces_for_legacy_exporter()


@EXPORTERS
def test_exporting_leaves_the_layer_as_it_was(dynamo: bool) -> None:
    layer, x = nn.BinaryConv2d(4, 6, 3), torch.randn(IMAGE)
    before, versions = layer(x), [parameter._version for parameter in layer.parameters()]
    export(layer, x, dynamo=dynamo)
    assert torch.equal(layer(x), before)
    assert [parameter._version for parameter in layer.parameters()] == versions
