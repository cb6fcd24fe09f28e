"""What TensorRT made of a network, layer by layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bnn_deploy.tensorrt.network import ParsedNetwork

if TYPE_CHECKING:
    from bnn_deploy.tensorrt.execution import LoadedEngine

# Kinds of layer that hold weights: the interface that shows them, and where.
_WEIGHTS = {
    "CONSTANT": ("IConstantLayer", ("weights",)),
    "CONVOLUTION": ("IConvolutionLayer", ("kernel", "bias")),
    "SCALE": ("IScaleLayer", ("shift", "scale", "power")),
}
_CONSTANT = "CONSTANT"


def describe_layers(sdk: Any, parsed: ParsedNetwork, formats: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """One row a layer, constants aside.

    Args:
        sdk: TensorRT.
        parsed: The network, not yet an engine: in that, layers are fused.
        formats: Tensor name -> format, of those tensors that are left in the engine (`tensor_formats`).

    Returns:
        For each layer `name`, `kind`, `bytes` and `outputs`, each with `shape`, `type` and, where it is known,
        `format`. Bytes are its weights and the constants that it reads; what several layers read counts for the first.
    """
    layers = [parsed.network.get_layer(index) for index in range(parsed.network.num_layers)]
    constants = {layer.get_output(0).name: layer for layer in layers if layer.type.name == _CONSTANT}
    rows = []
    for layer in layers:
        if layer.type.name == _CONSTANT:
            continue
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        read = [constants.pop(tensor.name) for tensor in inputs if tensor is not None and tensor.name in constants]
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        rows.append(
            {
                "name": layer.name,
                "kind": layer.type.name,
                "outputs": [_describe_tensor(out, formats or {}) for out in outputs if out is not None],
                "bytes": sum(_weight_bytes(sdk, source) for source in (layer, *read)),
            }
        )
    return rows


def _describe_tensor(tensor: Any, formats: Mapping[str, str]) -> dict[str, Any]:
    described = {"shape": list(tensor.shape), "type": tensor.dtype.name}
    return described | ({"format": formats[tensor.name]} if tensor.name in formats else {})


def _weight_bytes(sdk: Any, layer: Any) -> int:
    interface, names = _WEIGHTS.get(layer.type.name, ("", ()))
    if not interface:
        return 0
    own = layer.__class__
    layer.__class__ = getattr(sdk, interface)  # how the bindings cast
    try:
        return sum(int(getattr(layer, name).nbytes) for name in names)
    finally:
        layer.__class__ = own


def tensor_formats(loaded: LoadedEngine) -> dict[str, str]:
    """Tensor name -> how it lies in memory, in TensorRT's words, of the tensors in an engine.

    The engine's inspector knows formats only where all sizes are known, so sizes are those that the first profile is
    fastest at. TensorRT 10 says format and type in one, 11 apart.
    """
    inspector = loaded.engine.create_engine_inspector()
    context = loaded.engine.create_execution_context()
    for name, shapes in loaded.profile_shapes(0).items():
        context.set_input_shape(name, shapes[1])
    inspector.execution_context = context
    text = inspector.get_engine_information(loaded.sdk.LayerInformationFormat.JSON)
    layers = json.loads(text).get("Layers", [])
    tensors = [tensor for layer in layers if isinstance(layer, dict) for tensor in layer.get("Outputs", [])]
    found = {tensor["Name"]: tensor.get("Format/Datatype") or tensor.get("Format") for tensor in tensors}
    return {name: text for name, text in found.items() if text}
