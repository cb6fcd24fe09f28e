"""From a PyTorch module to the deployed ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from torch import Tensor, nn

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.export.capture import capture
from bnn_deploy.files import write_atomically
from bnn_deploy.inspection import EXAMPLE_SHAPES, GraphTotals, graph_totals
from bnn_deploy.passes import PassRecord, run_float_passes, run_passes


@dataclass(frozen=True)
class ExportedFile:
    """What `export_onnx` wrote.

    Attributes:
        path: The ONNX file.
        file_bytes: Its size.
        float_bytes: The size of the same network with its ±alpha weights as plain float convolutions.
        records: What each pass did and declined, in order.
        before: The graph of that network with float weights: its nodes, kernels and bytes of activations.
    """

    path: Path
    file_bytes: int
    float_bytes: int
    records: tuple[PassRecord, ...]
    before: GraphTotals


def export_onnx(
    model: nn.Module,
    example_inputs: Tensor | Sequence[Tensor],
    path: str | Path,
    *,
    dynamic: str = "batch",
    exporter: str = "dynamo",
    precision: str = opset.FP32,
    float_path: str | Path | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ExportedFile:
    """Writes `model` as one ONNX file whose binary layers hold 1-bit weights.

    Args:
        model: A module built of `bnn_deploy.nn`; float layers are exported as they are.
        example_inputs: A tensor, or one for each input; float32 [N, C, *spatial] or [N, C].
        path: Where the file goes. It appears whole or not at all.
        dynamic: Which sizes stay free: `"batch"`, `"batch,spatial"` or `"none"`.
        exporter: `"dynamo"`, or `"legacy"` for `torch.onnx.export(dynamo=False)`.
        precision: `"fp32"`, or `"fp16"`: whatever is not 1-bit is float16, the inputs and outputs excepted.
        float_path: Where to write the float twin too, the network as stock tools would export it.
        metadata: Written into the file beside ours.

    Returns:
        Sizes, and what each pass did.

    Raises:
        InputRefused: The model cannot be captured, or a layer cannot be made 1-bit; the message names it.
    """
    inputs = [example_inputs] if isinstance(example_inputs, Tensor) else list(example_inputs)
    captured = capture(model, inputs, dynamic=dynamic, exporter=exporter)
    if not any(node.domain == opset.DOMAIN for node in captured.graph):
        raise InputRefused(
            type(model).__name__,
            "the exported graph has no binary layer",
            "a model built of bnn_deploy.nn (BinaryConv2d, BinaryLinear, or nn.functional)",
            "replace the layers that you binarise yourself by those of bnn_deploy.nn; weights can be copied over",
        )
    twin = ir.from_proto(ir.to_proto(captured))
    records = run_passes(captured, precision)
    run_float_passes(twin)
    captured.producer_name, captured.producer_version = "bnn_deploy", str(opset.VERSION)
    captured.ir_version = twin.ir_version = opset.ONNX_IR_VERSION
    twin.metadata_props.update(_metadata(inputs))
    captured.metadata_props.update({**_metadata(inputs), **(metadata or {})})
    twin_proto = ir.to_proto(twin)
    twin_bytes = twin_proto.SerializeToString()
    if float_path is not None:
        write_atomically(Path(float_path), twin_bytes)
    content = ir.to_proto(captured).SerializeToString(deterministic=True)
    write_atomically(Path(path), content)
    return ExportedFile(Path(path), len(content), len(twin_bytes), tuple(records), graph_totals(twin_proto))


def _metadata(inputs: Sequence[Tensor]) -> dict[str, str]:
    shapes = ";".join("x".join(str(size) for size in (1, *tensor.shape[1:])) for tensor in inputs)
    return {"bnn_deploy.opset": str(opset.VERSION), EXAMPLE_SHAPES: shapes}
