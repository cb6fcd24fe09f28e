"""Names every node by the module it comes from, as reports, messages and the parity harness know it.

The modules of ours put their dotted path into the attribute `layer`. For the rest, and where a model was exported
without it (someone called `torch.onnx.export` themselves), the exporters' own records serve: metadata (dynamo) or the
node's name `/layer1/layer1.0/Conv` (legacy). Failing all that, a node keeps its name, a layer of ours gets its op's.
"""

from __future__ import annotations

import ast

import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.base import Pass, PassResult
from bnn_deploy.passes.graph import attribute, nodes_of

_SCOPES = "pkg.torch.onnx.name_scopes"
_LAYERS = ("Conv", "Gemm", "MatMul")


class NameLayersPass(Pass):
    """`BinaryConv2d(layer="layer1.0.conv")` becomes the node `layer1.0.conv`; a second call of it `layer1.0.conv#2`.

    Running it again changes nothing: what has a name from here has no record left that says another.
    """

    def call(self, model: ir.Model) -> PassResult:
        unique, changes = opset.OccurrenceNames(), 0
        for node in nodes_of(model, *opset.TRAINING_OPS):
            layer = attribute(node, "layer") or _module_path(node) or node.op_type
            name = unique(opset.binarize_node_name(layer) if node.op_type == opset.BINARIZE else layer)
            changes += node.name != name
            node.name = name
        for node in model.graph:
            path = _weight_owner(node) or _module_path(node)
            if path and node.domain == "":
                # A convolution is what its module is; what else a module does is named by the op as well.
                node.name = unique(path if node.op_type in _LAYERS else f"{path}/{node.op_type}")
            node.metadata_props.pop(_SCOPES, None)
        return self.done(model, changes)


def _weight_owner(node: ir.Node) -> str:
    """The module whose weight a float layer reads.

    The exporter fuses a BatchNorm into the layer before it, and the node's metadata then speaks of the BatchNorm.
    """
    weight = node.inputs[1] if node.op_type in _LAYERS and len(node.inputs) > 1 else None
    name = weight.name if weight is not None and weight.is_initializer() else None
    return name.removesuffix(".weight") if name is not None and name.endswith(".weight") else ""


def _module_path(node: ir.Node) -> str:
    """The dotted module path that the exporter recorded, or an empty string."""
    try:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return ""
    if not isinstance(scopes, list):
        return ""
    if not scopes and node.name and node.name.startswith("/"):
        scopes = node.name.split("/")
    # The last entry is the operation itself; the ones before it are nested module paths, innermost last.
    return scopes[-2] if len(scopes) >= 2 else ""
