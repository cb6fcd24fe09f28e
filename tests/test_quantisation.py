"""The 8-bit file holds 8-bit weights and computes about the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from bnn_deploy.errors import InputRefused
from bnn_deploy.passes import float_twin
from bnn_deploy.quantisation import quantise


@pytest.fixture
def twin(deployed: Callable[..., Any], tmp_path: Path) -> Path:
    path = tmp_path / "float.onnx"
    onnx.save(float_twin(deployed("Residual").proto()), path)
    return path


def samples(count: int) -> Iterator[dict[str, Any]]:
    generator = np.random.default_rng(0)
    return ({"x": generator.standard_normal((1, 3, 4, 4)).astype(np.float32)} for _ in range(count))


def test_weights_are_int8_with_a_scale_each(twin: Path, tmp_path: Path) -> None:
    quantise(twin, tmp_path / "int8.onnx", samples(4))
    graph = onnx.load(tmp_path / "int8.onnx").graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 3
    for node in convolutions:
        weight, activation = made_by[node.input[1]], made_by[node.input[0]]
        assert weight.op_type == activation.op_type == "DequantizeLinear"
        assert arrays[weight.input[0]].data_type == TensorProto.INT8
        assert list(arrays[weight.input[1]].dims) == [arrays[weight.input[0]].dims[0]]
        assert arrays[activation.input[2]].data_type == TensorProto.UINT8
    large = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 4]
    assert large == []


def test_symmetric_has_int8_without_zero_points_and_float_biases(twin: Path, tmp_path: Path) -> None:
    quantise(twin, tmp_path / "int8.onnx", samples(4), symmetric=True)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    points = [arrays[node.input[2]] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(points) > 6 and all(point.dtype == np.int8 and not point.any() for point in points)
    biases = [arrays[node.input[2]] for node in graph.node if node.op_type == "Conv" and len(node.input) > 2]
    assert biases and all(bias.dtype == np.float32 for bias in biases)


def test_calibration_sees_the_samples(twin: Path, tmp_path: Path) -> None:
    """The scale of the input is its range in 255 steps."""
    feeds = [
        {"x": np.linspace(low, high, 48, dtype=np.float32).reshape(1, 3, 4, 4)} for low, high in ((-1, 2), (0, 4.1))
    ]
    quantise(twin, tmp_path / "int8.onnx", feeds)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    (first,) = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "x"]
    (scale,) = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == first.input[1]]
    assert scale == pytest.approx(5.1 / 255, rel=1e-6)


def test_it_says_nothing_of_its_own(twin: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    level = logging.getLogger().level
    quantise(twin, tmp_path / "int8.onnx", samples(1))
    assert caplog.records == []
    assert logging.getLogger().level == level


def test_what_cannot_be_quantised(tmp_path: Path, twin: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x0a no model")
    with pytest.raises(InputRefused, match=r"broken.onnx: ONNX Runtime's quantiser fails: "):
        quantise(tmp_path / "broken.onnx", tmp_path / "int8.onnx", samples(1))
    with pytest.raises(InputRefused, match=r"float.onnx: ONNX Runtime's quantiser fails: "):
        quantise(twin, tmp_path / "int8.onnx", samples(0))
    assert not (tmp_path / "int8.onnx").exists()
