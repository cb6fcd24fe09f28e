"""What an engine takes and gives, in ONNX's terms: what reads inputs for an ONNX file reads them for an engine too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bnn_deploy.tensorrt.metadata import EngineMetadata, read_engine


def describe_tensors(values: Iterable[onnx.ValueInfoProto]) -> dict[str, dict[str, Any]]:
    """Name -> `shape`, of sizes and of names of free axes, and `type`, as NumPy calls it."""
    return {
        value.name: {
            "shape": [axis.dim_value or axis.dim_param for axis in value.type.tensor_type.shape.dim],
            "type": helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
        }
        for value in values
    }


def load_interface(engine: Path) -> onnx.ModelProto:
    """A model without nodes that has an engine's inputs and outputs, and the properties of the file it was built of.

    Raises:
        InputRefused: A file of the two is missing or damaged.
    """
    return interface_of(read_engine(engine)[1])


def interface_of(metadata: EngineMetadata) -> onnx.ModelProto:
    """The same of its metadata."""
    graph = helper.make_graph([], "engine", _values(metadata.inputs), _values(metadata.outputs))
    model = helper.make_model(graph)
    helper.set_model_props(model, dict(metadata.properties))
    return model


def _values(tensors: Mapping[str, Mapping[str, Any]]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(np.dtype(tensor["type"])),
            [size or None for size in tensor["shape"]],
        )
        for name, tensor in tensors.items()
    ]
