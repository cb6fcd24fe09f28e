"""Has TensorRT-RTX parse a node that a plugin serves, in a process that this may end. `by us` or `as shipped`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import onnx
from onnx import helper

from bnn_deploy.tensorrt.sdk import load_sdk

trt: Any = load_sdk() if sys.argv[1] == "by us" else import_module("tensorrt_rtx")


class Plugin(trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild):
    """Computes nothing; all that a parser asks of a plugin is here."""

    def __init__(self) -> None:
        for base in Plugin.__bases__:
            base.__init__(self)
        self.plugin_name, self.plugin_version, self.plugin_namespace, self.num_outputs = "PackBipolar", "1", "", 1

    def get_capability_interface(self, kind: Any) -> Any:
        return self

    def clone(self) -> Plugin:
        return Plugin()

    def get_output_data_types(self, types: Any) -> Any:
        return [trt.int32]

    def get_output_shapes(self, inputs: Any, shape_inputs: Any, builder: Any) -> Any:
        return [inputs[0]]


class Creator(trt.IPluginCreatorV3One):
    """Makes one, whatever the node says."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.plugin_version, self.plugin_namespace = "PackBipolar", "1", ""
        self.field_names = trt.PluginFieldCollection([])

    def create_plugin(self, name: str, fields: Any, phase: Any) -> Plugin:
        return Plugin()


def one_node() -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 32, 4, 4])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.INT32, [1, 32, 4, 4])
    node = helper.make_node("PackBipolar", ["x"], ["y"], domain="bnn_deploy", name="pack")
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("bnn_deploy", 1)]
    return helper.make_model(helper.make_graph([node], "one", [x], [y]), opset_imports=imports)


def parsed() -> Any:
    log = trt.Logger(trt.Logger.INTERNAL_ERROR)
    network = trt.Builder(log).create_network(0)
    trt.OnnxParser(network, log).parse(one_node().SerializeToString())
    return network


creator = Creator()
trt.get_plugin_registry().register_creator(creator, "")
network = parsed()
for index in range(network.num_layers):
    print(network.get_layer(index).type.name, network.get_layer(index).name)
