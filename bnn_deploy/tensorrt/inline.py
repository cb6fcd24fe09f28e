"""The file as TensorRT's parser is given it: our ops replaced by their function bodies, or left to a plugin.

The parser knows ONNX functions, but inside one it does not see the attributes of a convolution or a pooling that refer
to attributes of the function: every stride is 1 to it, and there is no message. So bodies are put in place of the nodes
here, with the values in place of the references, and each node is named after the layer that it came from.

An op for which a plugin is registered stays a node, without its function. With the function beside it, some versions
would take the body, and none would say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused

_LAYER = "bnn_deploy.layer"  # the inliner copies what is noted on a node to all that it puts in its place


def inline_functions(model: onnx.ModelProto, *, plugin_ops: Collection[str] = ()) -> onnx.ModelProto:
    """Another model that computes the same, of standard ops and `plugin_ops` alone.

    Args:
        model: With a function body for each of our ops that is not in `plugin_ops`.
        plugin_ops: Op types that TensorRT has a plugin for.

    Returns:
        A model whose nodes all have names: those of a layer's body are `layer/op`, `layer/op_2`...

    Raises:
        InputRefused: An op of ours has neither a function body nor a plugin.
    """
    inlined = ir.from_proto(model)
    for identifier in list(inlined.functions):
        if identifier[0] == opset.DOMAIN and identifier[1] in plugin_ops:
            del inlined.functions[identifier]
    for node in inlined.graph:
        node.metadata_props[_LAYER] = node.name or node.op_type
        if node.domain == opset.DOMAIN and node.op_type not in plugin_ops:
            _check_has_body(node, inlined)
    InlinePass()(inlined)
    _name_nodes(inlined)
    return ir.to_proto(inlined)


def _check_has_body(node: ir.Node, model: ir.Model) -> None:
    if node.op_identifier() not in model.functions:
        raise InputRefused(
            f"{node.name or node.op_type} ({node.op_type})",
            "the file has no function body for it, and no plugin for it is loaded",
            "one of the two",
            "export the model again",
        )


def _name_nodes(model: ir.Model) -> None:
    layers = [node.metadata_props.pop(_LAYER, node.op_type) for node in model.graph]
    whole = Counter(layers)
    count: Counter[str] = Counter()
    for node, layer in zip(model.graph, layers, strict=True):
        name = layer if whole[layer] == 1 else f"{layer}/{node.op_type}"
        count[name] += 1
        node.name = name if count[name] == 1 else f"{name}_{count[name]}"
