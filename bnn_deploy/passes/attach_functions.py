"""Gives the model the function bodies of the deploy ops it uses. Always the last pass.

Exporters, version converters and optimizers inline function bodies: once a body is attached, anything that runs
afterwards may take the ops apart, and with them the 1-bit weights.
"""

from __future__ import annotations

import onnx_ir as ir

from bnn_deploy import opset
from bnn_deploy.passes.base import Pass, PassResult
from bnn_deploy.passes.function_bodies import function_body


class AttachFunctionsPass(Pass):
    """Attaches one body for each op type of ours in the graph."""

    def call(self, model: ir.Model) -> PassResult:
        used = {node.op_type for node in model.graph if node.domain == opset.DOMAIN}
        changes = 0
        for op_type in sorted(used):
            function = ir.serde.deserialize_function(function_body(op_type))
            if function.identifier() not in model.functions:
                model.functions[function.identifier()] = function
                changes += 1
        if used:
            model.graph.opset_imports[opset.DOMAIN] = opset.VERSION
        return self.done(model, changes)
