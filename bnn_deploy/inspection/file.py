"""Reads an ONNX file and looks at all that is in it."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.inspection.layers import layer_rows
from bnn_deploy.inspection.nodes import node_rows
from bnn_deploy.inspection.results import FloatWeight, Inspection
from bnn_deploy.inspection.sizes import tensor_sizes

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)


def load_model(path: str | Path) -> onnx.ModelProto:
    """Reads an ONNX file.

    Raises:
        InputRefused: No such file, or not an ONNX file.
    """
    if not Path(path).is_file():
        raise InputRefused(str(path), "no such file", "an ONNX file, or a folder that `bnn-deploy export` wrote")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises its own unrelated types
        raise InputRefused(str(path), f"cannot be read as ONNX: {error}", "an ONNX file") from error
    if not model.graph.node:
        raise InputRefused(str(path), "no node in it", "an ONNX file")
    return model


def inspect_file(path: str | Path) -> Inspection:
    """Reads an ONNX file and looks at every layer and node in it.

    Raises:
        InputRefused: No such file, or not an ONNX file.
    """
    return inspect_model(load_model(path), file_bytes=Path(path).stat().st_size)


def inspect_model(model: onnx.ModelProto, *, file_bytes: int) -> Inspection:
    """Looks at every layer and node; `model` stays as it is."""
    sizes = tensor_sizes(model)
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    constants = {tensor.name for tensor in model.graph.initializer}
    return Inspection(
        layers=layer_rows(model, sizes),
        float_weights=_float_weights(model),
        file_bytes=file_bytes,
        opset=version,
        nodes=node_rows(model, sizes),
        inputs={value.name: sizes.get(value.name) for value in model.graph.input if value.name not in constants},
        outputs=tuple(value.name for value in model.graph.output),
        precision=next((entry.value for entry in model.metadata_props if entry.key == opset.PRECISION), opset.FP32),
    )


def _float_weights(model: onnx.ModelProto) -> tuple[FloatWeight, ...]:
    found = []
    for tensor in model.graph.initializer:
        if tensor.data_type in _FLOATS:
            readers = tuple(node.name for node in model.graph.node if tensor.name in node.input)
            size = numpy_helper.to_array(tensor).nbytes
            found.append(FloatWeight(tensor.name, tuple(tensor.dims), size, readers))
    return tuple(sorted(found, key=lambda weight: -weight.bytes))
