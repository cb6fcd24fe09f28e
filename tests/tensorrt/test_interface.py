"""An engine's inputs and outputs as ONNX has them: from a file through the metadata and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bnn_deploy.contenders import Network
from bnn_deploy.feeds import Preprocessing, preprocessing_of
from bnn_deploy.tensorrt.interface import describe_tensors, interface_of, load_interface
from bnn_deploy.tensorrt.metadata import EngineMetadata, sha256_of, write_engine
from bnn_deploy.tensorrt.profiles import model_inputs


def metadata_of(model: onnx.ModelProto, plan: bytes) -> EngineMetadata:
    return EngineMetadata(
        sdk="tensorrt",
        sdk_version="11",
        cuda="13",
        plugin_version="1",
        compute_capability="",
        engine_sha256=sha256_of(plan),
        model_sha256="",
        precision="fp32",
        profiles=[],
        plugin_sha256="",
        plugin_embedded=False,
        version_compatible=False,
        layers=[],
        inputs=describe_tensors(model_inputs(model)),
        outputs=describe_tensors(model.graph.output),
        properties={entry.key: entry.value for entry in model.metadata_props},
    )


def test_inputs_outputs_and_properties_survive(deployed: Callable[..., Any], tmp_path: Path) -> None:
    model = deployed("TwoInputs").proto()
    images = Preprocessing((0.5,), (0.25,))
    onnx.helper.set_model_props(model, images.to_metadata())
    write_engine(tmp_path / "x.engine", b"plan", metadata_of(model, b"plan"))
    found = load_interface(tmp_path / "x.engine")
    assert not found.graph.node and preprocessing_of(found) == images
    for ours, theirs in ((found.graph.input, model.graph.input), (found.graph.output, model.graph.output)):
        assert [value.name for value in ours] == [value.name for value in theirs]
        assert [value.type.tensor_type.elem_type for value in ours] == [
            value.type.tensor_type.elem_type for value in theirs
        ]
    sizes = [[axis.dim_value or axis.dim_param for axis in v.type.tensor_type.shape.dim] for v in found.graph.input]
    assert sizes == [
        [axis.dim_value or axis.dim_param for axis in v.type.tensor_type.shape.dim] for v in model.graph.input
    ]


def test_an_engine_is_measured_on_inputs_of_its_own(deployed: Callable[..., Any], tmp_path: Path) -> None:
    given = deployed("TwoInputs")
    write_engine(tmp_path / "x.engine", b"plan", metadata_of(given.proto(), b"plan"))
    engine, file = Network(tmp_path / "x.engine"), Network(given.path)
    assert engine.outputs == file.outputs and engine.fixed_batch == file.fixed_batch
    assert engine.shapes(3) == file.shapes(3)


def test_types_and_free_axes() -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, ["batch", 3, None])
    described = describe_tensors([value])
    assert described == {"x": {"shape": ["batch", 3, ""], "type": "float16"}}
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [value], []))
    (found,) = interface_of(metadata_of(model, b"")).graph.input
    dimensions = found.type.tensor_type.shape.dim
    assert np.dtype(onnx.helper.tensor_dtype_to_np_dtype(found.type.tensor_type.elem_type)) == np.float16
    assert dimensions[0].dim_param == "batch" and dimensions[1].dim_value == 3 and not dimensions[2].ByteSize()
