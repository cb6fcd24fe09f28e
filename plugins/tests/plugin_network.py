"""A whole exported network with every 1-bit node on the plugin, and the float rest on ONNX Runtime, node by node.

What TensorRT would do, without it: the end-to-end test of the plugin wherever TensorRT does not run. Tensors are copied
to the device and back around every call, so this measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from plugin_host import Plugin, PluginLibrary

from bnn_deploy import opset
from bnn_deploy.runners.base import Arrays, RunnerBase, check_feeds
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner

Array = NDArray[Any]
Observer = Callable[[onnx.NodeProto, list[Array], list[Array]], None]


class PluginNetwork(RunnerBase):
    """Runs an exported model, node by node.

    Args:
        model: A file of deploy-level ops; those that the library has no plugin for run on ONNX Runtime, too.
        plugins: The plugin library.
        device: A `Library` of `plugins/cuda/driver.py`, for memory that the plugins can work on.
        channels_last: Whether real tensors pass to and from the plugins channels last, where they take that.
        observer: Called behind every node of ours with the node, its inputs and its outputs.
    """

    name = "plugin"

    def __init__(
        self,
        model: onnx.ModelProto,
        plugins: PluginLibrary,
        device: Any,
        *,
        channels_last: bool = False,
        observer: Observer | None = None,
    ) -> None:
        self._model, self._device = model, device
        self._channels_last, self._observer = channels_last, observer
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.inputs = {
            value.name: tuple(axis.dim_value or axis.dim_param for axis in value.type.tensor_type.shape.dim)
            for value in model.graph.input
            if value.name not in self._constants
        }
        self.outputs = [value.name for value in model.graph.output]
        served = set(plugins.ops())
        self._plugins = {
            index: restored_plugin(plugins, node)
            for index, node in enumerate(model.graph.node)
            if node.domain == opset.DOMAIN and node.op_type in served
        }
        self._others: dict[int, OnnxRuntimeRunner] = {}

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        check_feeds(self.name, feeds, self.inputs)
        values: dict[str, Array] = {**self._constants, **feeds}
        for index, node in enumerate(self._model.graph.node):
            inputs = {name: values[name] for name in node.input if name}
            made = self._call(index, node, inputs)
            values.update((name, array) for name, array in zip(node.output, made, strict=True) if name)
        return {name: values[name] for name in self.outputs}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Frees the plugins."""
        for plugin in self._plugins.values():
            plugin.close()
        self._plugins.clear()

    def _call(self, index: int, node: onnx.NodeProto, inputs: dict[str, Array]) -> list[Array]:
        """The outputs of a node."""
        if index not in self._plugins:
            if index not in self._others:
                self._others[index] = OnnxRuntimeRunner(self.alone(node, inputs), optimise=False)
            fed = {name: array for name, array in inputs.items() if name not in self._constants}
            found = self._others[index].infer(fed)
            return [found[name] if name else np.empty(0) for name in node.output]
        arrays = [inputs[name] for name in node.input]
        with self._device.memory() as memory:
            made = self._plugins[index].infer(memory, arrays, channels_last=self._channels_last)
        if self._observer:
            self._observer(node, arrays, made)
        return made

    def alone(self, node: onnx.NodeProto, inputs: Mapping[str, Array]) -> onnx.ModelProto:
        """A model of one node; see `one_node_model`."""
        return one_node_model(self._model, node, inputs, self._constants)


def one_node_model(
    model: onnx.ModelProto, node: onnx.NodeProto, inputs: Mapping[str, Array], constants: Mapping[str, Array]
) -> onnx.ModelProto:
    """A node of a network as a network.

    Args:
        model: What it is of.
        node: One of its nodes.
        inputs: All of the node's inputs by name; those among `constants` are constants of the result, too.
        constants: Those of the network.
    """
    fed = {name: array for name, array in inputs.items() if name not in constants}
    graph = helper.make_graph(
        [node],
        "one node",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
            for name, array in fed.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
        [numpy_helper.from_array(constants[name], name) for name in inputs.keys() - fed.keys()],
    )
    return helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        functions=[function for function in model.functions if function.name == node.op_type],
    )


def attribute_fields(attributes: Iterable[onnx.AttributeProto], wanted: Iterable[str]) -> dict[str, Array]:
    """The attributes of a node as TensorRT's parser hands them to a plugin: those that its creator asks for."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in attributes}
    arrays = {name: np.atleast_1d(np.asarray(values[name])) for name in wanted if name in values}
    return {name: array.astype(np.float32 if array.dtype.kind == "f" else np.int64) for name, array in arrays.items()}


def restored_plugin(plugins: PluginLibrary, node: onnx.NodeProto) -> Plugin:
    """Its plugin as an engine that was stored has it."""
    fields = attribute_fields(node.attribute, plugins.fields(node.op_type))
    with plugins.create(node.op_type, fields, node.name) as built:
        return built.restored()
