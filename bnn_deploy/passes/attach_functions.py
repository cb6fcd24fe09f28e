"""Gives the model the function bodies of the deploy ops it uses. Always the last pass.

Exporters, version converters and optimizers inline function bodies: once a body is attached, anything that runs
afterwards may take the ops apart, and with them the 1-bit weights.
"""

from __future__ import annotations

import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.functions import function_body
from bnn_deploy.passes.base import Pass, PassResult


class AttachFunctionsPass(Pass):
    """Attaches one body for each op type of ours in the graph."""

    def call(self, model: ir.Model) -> PassResult:
        used = {node.op_type for node in model.graph if node.domain == opset.DOMAIN}
        changes = 0
        for op_type in sorted(used):
            function = ir.serde.deserialize_function(function_body(op_type))
            # ONNX wants a body and its model to agree on the version of every op in the body.
            function.opset_imports[""] = model.graph.opset_imports.get("", opset.ONNX_OPSET)
            changes += function.identifier() not in model.functions
            # Also where there is one: the general passes that ran before have rewritten it.
            model.functions[function.identifier()] = function
        if used:
            model.graph.opset_imports[opset.DOMAIN] = opset.VERSION
        return self.done(model, changes)
