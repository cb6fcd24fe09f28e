from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bnn_deploy.contenders import Files, Network
from bnn_deploy.errors import InputRefused
from bnn_deploy.passes import float_twin
from bnn_deploy.runners.catalogue import Source


def files(network: Network, folder: Path, *, float_path: Path | None = None, model: str | None = None) -> Files:
    return Files(network, folder, float_path, model, lambda _stage: None)


def test_inputs_have_the_size_that_the_file_was_exported_with(deployed: Callable[..., Any]) -> None:
    network = Network(deployed("TwoInputs").path)
    shapes = network.shapes(7)
    assert [list(shape) for shape in shapes.values()] == [[7, 3, 5, 5], [7, 6]]
    first, again, other = network.feeds(7), network.feeds(7), network.feeds(7, seed=1)
    for name, array in first.items():
        assert array.dtype == np.float32 and list(array.shape) == shapes[name]
        np.testing.assert_array_equal(array, again[name])
        assert not np.array_equal(array, other[name])
    assert network.fixed_batch == 0


def test_given_samples_come_again_and_again(deployed: Callable[..., Any]) -> None:
    samples = np.arange(3, dtype=np.float32)[:, None, None, None] * np.ones((3, 3, 4, 4), np.float32)
    network = Network(deployed("Residual").path, {"x": samples})
    assert network.feeds(5)["x"][:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1]
    assert network.feeds(2, seed=2)["x"][:, 0, 0, 0].tolist() == [2, 0]


def test_samples_of_another_input(deployed: Callable[..., Any]) -> None:
    with pytest.raises(InputRefused, match=r"inputs: \['image'\]; wanted: \['x'\], the inputs of "):
        Network(deployed("Residual").path, {"image": np.zeros((1, 3, 4, 4), np.float32)})


def changed(given: Any, tmp_path: Path, change: Callable[[Any], None]) -> Path:
    """The file with its first input's type changed."""
    model = given.proto()
    change(model.graph.input[0].type.tensor_type)
    onnx.save(model, tmp_path / "changed.onnx")
    return tmp_path / "changed.onnx"


def test_a_fixed_batch(deployed: Callable[..., Any], tmp_path: Path) -> None:
    def fix(kind: Any) -> None:
        kind.shape.dim[0].dim_value = 2

    network = Network(changed(deployed("Residual"), tmp_path, fix))
    assert network.shapes(2) == {"x": [2, 3, 4, 4]} and network.fixed_batch == 2
    with pytest.raises(
        InputRefused,
        match="input 'x' has a fixed batch of 2; wanted: batch 8; fix: --batch 2, or export with --dynamic",
    ):
        network.feeds(8)


def test_an_input_of_integers_must_be_given(deployed: Callable[..., Any], tmp_path: Path) -> None:
    def make_integers(kind: Any) -> None:
        kind.elem_type = onnx.TensorProto.INT64

    path = changed(deployed("Residual"), tmp_path, make_integers)
    with pytest.raises(InputRefused, match="input 'x' is of type int64; wanted: samples of it"):
        Network(path).feeds(1)
    assert Network(path, {"x": np.zeros((1, 3, 4, 4), np.int64)}).feeds(1)["x"].dtype == np.int64


def test_files_are_made_once_and_only_those_that_are_asked_for(deployed: Callable[..., Any], tmp_path: Path) -> None:
    network, told = Network(deployed("Residual").path), list[str]()
    made = Files(network, tmp_path, None, None, told.append)
    assert made.path(Source.DEPLOYED) == network.path
    assert made.path(Source.MODULE) is None
    assert list(tmp_path.iterdir()) == []
    quantised = made.path(Source.INT8)
    assert quantised is not None and quantised == made.path(Source.INT8)
    assert made.path(Source.FLOAT) == tmp_path / "float.onnx"
    assert told == ["making the float32 twin", "quantising it to 8 bits"]
    types = {node.op_type for node in onnx.load(quantised).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} < types


def test_a_float_twin_that_is_given_is_taken(deployed: Callable[..., Any], tmp_path: Path) -> None:
    given = deployed("Residual").path
    made = files(Network(given), tmp_path, float_path=given)
    assert made.path(Source.FLOAT) == given
    with pytest.raises(InputRefused, match="none: no such file"):
        files(Network(given), tmp_path, float_path=tmp_path / "none").path(Source.FLOAT)


def test_the_twin_of_a_float16_file_is_float32_and_takes_the_same_inputs(
    deployed: Callable[..., Any], tmp_path: Path
) -> None:
    network = Network(deployed("Residual", precision="fp16").path)
    made = files(network, tmp_path)
    for source in (Source.FLOAT, Source.INT8):
        twin = onnx.load(str(made.path(source)))
        assert onnx.TensorProto.FLOAT16 not in {tensor.data_type for tensor in twin.graph.initializer}
        assert list(twin.graph.input) == list(network.proto.graph.input)
        feeds = network.feeds(2)
        assert made.feeds(source, feeds) == feeds


def test_a_given_twin_is_fed_and_calibrated_with_the_types_that_it_takes(
    deployed: Callable[..., Any], tmp_path: Path
) -> None:
    twin = float_twin(deployed("TwoInputs").proto())
    onnx.save(takes_float16(twin, "image"), tmp_path / "given.onnx")
    network = Network(deployed("TwoInputs").path)
    made, feeds = files(network, tmp_path, float_path=tmp_path / "given.onnx"), network.feeds(2)
    assert made.path(Source.INT8) == tmp_path / "int8.onnx"
    for source in (Source.FLOAT, Source.INT8):
        given = made.feeds(source, feeds)
        assert (given["image"].dtype, given["vector"].dtype) == (np.float16, np.float32)
        np.testing.assert_array_equal(given["image"], feeds["image"].astype(np.float16))
        assert given["vector"] is feeds["vector"]
    assert made.feeds(Source.DEPLOYED, feeds)["image"] is feeds["image"]


def takes_float16(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with one input of float16, in place."""
    (value,) = [value for value in model.graph.input if value.name == name]
    value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for node in model.graph.node:
        node.input[:] = [f"{name}.wide" if operand == name else operand for operand in node.input]
    cast = onnx.helper.make_node("Cast", [name], [f"{name}.wide"], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    return model


def test_the_pytorch_model_is_what_the_report_names(deployed: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(deployed("Residual").path.read_bytes())
    assert files(Network(path), tmp_path, model="net.py:make").module() == "net.py:make"
    with pytest.raises(InputRefused, match=r"runner pytorch: no report beside .* fix: --model birealnet"):
        files(Network(path), tmp_path).module()
    before = {"nodes": 1, "kernels": 1, "activation_bytes": 1, "ops": {}}
    report = {"model": "nin", "file_bytes": path.stat().st_size, "float_bytes": 9, "before": before, "passes": []}
    (tmp_path / "report.json").write_text(json.dumps(report), "utf-8")
    assert files(Network(path), tmp_path).module() == "nin"
