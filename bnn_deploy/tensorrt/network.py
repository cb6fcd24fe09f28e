"""From an ONNX file to TensorRT's network, and what it makes of the file where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from bnn_deploy import opset
from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.tensorrt.inline import inline_functions
from bnn_deploy.tensorrt.plugin import NAMESPACE, VERSION, load_plugin, plugin_ops, take_plugin_error
from bnn_deploy.tensorrt.sdk import load_sdk, logger, make_builder, said, title


@dataclass(frozen=True)
class ParsedNetwork:
    """A network and what has to live as long as it does: the parser holds the weights.

    Attributes:
        model: What was parsed: standard ops, and those that a plugin serves.
        builder: An `IBuilder`.
        network: An `INetworkDefinition`, strongly typed: its precision is that of the ONNX graph.
        parser: An `OnnxParser`.
    """

    model: onnx.ModelProto
    builder: Any
    network: Any
    parser: Any


def parse(model: onnx.ModelProto, plugin: Path | None = None) -> ParsedNetwork:
    """Has TensorRT read a model.

    Args:
        model: An exported file.
        plugin: The library of our plugins. With it, each of our ops that it serves becomes a plugin layer; without it,
            all become what their function bodies say, with float weights.

    Raises:
        InputRefused: TensorRT or the plugin cannot take a node; the message names it, its op, and what they say.
        CheckFailed: TensorRT reads a shape otherwise than ONNX does, takes a function body where there is a plugin, or
            does not start.
    """
    sdk = load_sdk()
    builder = make_builder(sdk)
    if plugin is not None:
        load_plugin(plugin)
        take_plugin_error(plugin)
    standard = inline_functions(model, plugin_ops=plugin_ops(sdk) if plugin is not None else ())
    for node in plugin_nodes(standard):
        node.attribute.append(helper.make_attribute("plugin_version", VERSION))
        node.attribute.append(helper.make_attribute("plugin_namespace", NAMESPACE))
    network = builder.create_network(_network_flags(sdk))
    parser = sdk.OnnxParser(network, logger(sdk))
    if not parser.parse(standard.SerializeToString()):
        raise _refusal(sdk, parser, take_plugin_error(plugin) if plugin is not None else "")
    if plugin is not None:
        _check_plugin_layers(sdk, network, standard)
    misread = next(_misread_shapes(network, standard), None)
    if misread is not None:
        raise CheckFailed(f"{title(sdk)} misreads the model: {misread}")
    return ParsedNetwork(standard, builder, network, parser)


def plugin_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that are left to plugins."""
    return [node for node in model.graph.node if node.domain == opset.DOMAIN]


def _check_plugin_layers(sdk: Any, network: Any, model: onnx.ModelProto) -> None:
    """A fallback is silent, and slow."""
    kinds = {network.get_layer(index).name: network.get_layer(index).type for index in range(network.num_layers)}
    for node in plugin_nodes(model):
        if kinds.get(node.name) != sdk.LayerType.PLUGIN_V3:
            found = kinds[node.name].name if node.name in kinds else "no layer of that name"
            raise CheckFailed(f"{node.name} ({node.op_type}): {title(sdk)} made {found} of it, and no plugin layer")


def _network_flags(sdk: Any) -> int:
    """Strongly typed. TensorRT 11 has no other networks, and may no longer have the flag."""
    flag = getattr(sdk.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _refusal(sdk: Any, parser: Any, plugin_error: str) -> InputRefused:
    """The first node that the parser could not take, what our plugin says to it, and how many more there are."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        return InputRefused("the model", f"{title(sdk)} cannot parse it: {said(logger(sdk).take_errors())}")
    first = errors[0]
    reason = f"{first.code().name}: {' '.join(first.desc().split())} [{first.func()}]"
    if plugin_error:
        return InputRefused(_where(first), f"the plugin does not take it: {plugin_error}")
    others = {error.node() for error in errors} - {first.node()}
    more = f", and {len(others)} more" if others else ""
    return InputRefused(_where(first), f"{title(sdk)} cannot take it: {reason}{more}")


def _where(error: Any) -> str:
    """The node by its name and op as far as this version tells them, or the model where it is no node's fault."""
    if error.node() < 0:
        return "the model"
    name = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    return f"{name or f'node {error.node()}'}{f' ({operator})' if operator else ''}"


def _misread_shapes(network: Any, model: onnx.ModelProto) -> Iterator[str]:
    """Tensors of which TensorRT and the file both know a size, and not the same."""
    stated = {
        value.name: [axis.dim_value if axis.HasField("dim_value") else -1 for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    for tensor in _tensors(network):
        wanted = stated.get(tensor.name)
        if wanted is None:
            continue
        found = list(tensor.shape)
        sizes_differ = any(-1 not in pair and len(set(pair)) > 1 for pair in zip(found, wanted, strict=False))
        if len(found) != len(wanted) or sizes_differ:
            yield f"{tensor.name} has the shape {found} to it, and {wanted} in the file"


def _tensors(network: Any) -> Iterator[Any]:
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        yield from (layer.get_output(output) for output in range(layer.num_outputs) if layer.get_output(output))
