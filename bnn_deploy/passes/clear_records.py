"""Takes out what the exporter noted down: stack traces and paths of the machine that it ran on, among other things.

It comes right behind `name_layers`, which is the last to read these notes: what later passes note down is for the file.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from bnn_deploy import opset
from bnn_deploy.passes.base import Pass, PassResult

_OURS = (opset.PACK_NAME, opset.LAYER_NAMES)


class ClearRecordsPass(Pass):
    """Clears metadata and documentation of the graph, its nodes and its tensors; a deployed file's notes stay."""

    def call(self, model: ir.Model) -> PassResult:
        kept = {
            node: {key: node.metadata_props[key] for key in _OURS if key in node.metadata_props} for node in model.graph
        }
        changes = int(ClearMetadataAndDocStringPass()(model).modified)
        for node, notes in kept.items():
            node.metadata_props.update(notes)
        graph = model.graph
        made = (value for node in graph for value in node.outputs)
        for value in (*graph.inputs, *graph.initializers.values(), *made):
            changes += bool(value.metadata_props)
            value.metadata_props.clear()
        return self.done(model, changes)
