"""Whole networks, every 1-bit node on the plugin: the same numbers as on the CPU, end to end."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from driver import Library
from plugin_host import PluginLibrary
from plugin_network import PluginNetwork

from bnn_deploy import opset
from bnn_deploy.evaluator import reference_evaluator
from bnn_deploy.export.capture import capture
from bnn_deploy.loading import load
from bnn_deploy.passes import run_passes
from bnn_deploy.passes.split_float import SplitFloatPass
from bnn_deploy.runners.native_cpu import NativeCpuRunner
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's older exporter is quick, and says that it is old
NETWORKS = ("Ternary", "Assorted", "Fused", "UnipolarChain", "TwoInputs")
LAYOUTS = pytest.mark.parametrize("channels_last", [False, True], ids=["linear", "channels last"])


@cache
def captured(name: str) -> onnx.ModelProto:
    """A network of the zoo for any number of images, with training-level ops."""
    return ir.to_proto(capture(load(name).module, [torch.zeros(1, 3, 32, 32)], dynamic="batch", exporter="legacy"))


def deployed_zoo(name: str, precision: str) -> onnx.ModelProto:
    """The file that it is exported to, with standard nodes for what has no plugin, as TensorRT is given it."""
    model = ir.from_proto(captured(name))
    run_passes(model, precision)
    SplitFloatPass()(model)
    model.ir_version = opset.ONNX_IR_VERSION
    return ir.to_proto(model)


ZOO = [
    ("birealnet", opset.FP32, False),
    ("birealnet", opset.FP32, True),
    ("birealnet", opset.FP16, False),
    ("birealnet", opset.FP16, True),
    ("reactnet", opset.FP32, True),
]


@pytest.mark.parametrize(("name", "precision", "channels_last"), ZOO)
def test_zoo_equals_the_cpu(
    plugins: PluginLibrary, device: Library, name: str, precision: str, channels_last: bool
) -> None:
    """Each node of ours equals the native CPU kernel on the same inputs, and at float32 the whole network the CPU's.

    At float16 ONNX Runtime rounds between two float layers or does not, as it likes, so that is said of nodes alone.
    """
    model = deployed_zoo(name, precision)
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    feeds, seen = {model.graph.input[0].name: x}, []

    def observer(node: onnx.NodeProto, inputs: list[Any], made: list[Any]) -> None:
        seen.append(node.name)
        given = dict(zip(node.input, inputs, strict=True))
        native = NativeCpuRunner(network.alone(node, given))
        expected = native.infer({fed: given[fed] for fed in native.inputs})
        for output, array in zip(node.output, made, strict=True):
            np.testing.assert_array_equal(array, expected[output], err_msg=node.name)

    with PluginNetwork(model, plugins, device, channels_last=channels_last, observer=observer) as network:
        found = network.infer(feeds)
    assert seen == [node.name for node in model.graph.node if node.domain == opset.DOMAIN] and len(seen) > 5
    if precision == opset.FP32:
        for output, array in NativeCpuRunner(model, optimise=False).infer(feeds).items():
            np.testing.assert_array_equal(found[output], array)


def test_batches_in_turn(plugins: PluginLibrary, device: Library) -> None:
    """One network, its plugins kept: other numbers of images do not disturb each other."""
    model = deployed_zoo("birealnet", opset.FP32)
    name = model.graph.input[0].name
    images = np.random.default_rng(1).standard_normal((3, 3, 32, 32)).astype(np.float32)
    with PluginNetwork(model, plugins, device) as network, PluginNetwork(model, plugins, device) as other:
        one, three, again = (network.infer({name: images[:count]}) for count in (1, 3, 1))
        fresh = other.infer({name: images})
    for output in one:
        np.testing.assert_array_equal(again[output], one[output])
        np.testing.assert_array_equal(three[output], fresh[output])


@LAYOUTS
@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_equal_stock_onnx_runtime(
    plugins: PluginLibrary, device: Library, deployed: Callable[..., Any], name: str, channels_last: bool
) -> None:
    """Groups, dilation, padding of -1 and +1, ternary and unipolar bits, PReLUs, pools, several inputs and outputs."""
    given = deployed(name, exporter="legacy")
    with PluginNetwork(given.proto(), plugins, device, channels_last=channels_last) as network:
        found = network.infer(given.feeds)
    expected = OnnxRuntimeRunner(given.path, optimise=False).infer(given.feeds)
    assert found.keys() == expected.keys()
    for output, array in expected.items():
        np.testing.assert_array_equal(found[output], array)


def test_nodes_equal_the_reference(plugins: PluginLibrary, device: Library, deployed: Callable[..., Any]) -> None:
    """Of a network: each node of ours against the evaluator, given what it was given; bits and integers are equal."""
    given = deployed("Fused", exporter="legacy")
    model, kinds = given.proto(), set()

    def observer(node: onnx.NodeProto, inputs: list[Any], made: list[Any]) -> None:
        kinds.add(node.op_type)
        expected = _alone(model, node, inputs)
        for array, wanted in zip(made, expected, strict=True):
            if array.dtype == np.int32:
                np.testing.assert_array_equal(array, wanted)
            else:
                np.testing.assert_allclose(array, wanted, rtol=1e-6, atol=1e-6)

    with PluginNetwork(model, plugins, device, observer=observer) as network:
        network.infer(given.feeds)
    assert kinds == {node.op_type for node in model.graph.node if node.domain == opset.DOMAIN} and len(kinds) > 3


def _alone(model: onnx.ModelProto, node: onnx.NodeProto, inputs: list[Any]) -> list[Any]:
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(node.input, inputs, strict=True)
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = onnx.helper.make_graph([node], "one node", values, outputs)
    alone = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    found: list[Any] = reference_evaluator(alone).run(list(node.output), dict(zip(node.input, inputs, strict=True)))
    return found
