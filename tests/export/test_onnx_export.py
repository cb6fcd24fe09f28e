"""The deployed file: 1-bit weights, its size, and that it is whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from bnn_deploy import bits
from bnn_deploy.errors import InputRefused
from bnn_deploy.export import export_onnx
from bnn_deploy.models.birealnet import birealnet18
from bnn_deploy.nn import BinaryConv2d, LatentWeightLayer

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
# Two graphs of the same network, each with its own order of folding: relative to the largest output.
FLOAT_TOLERANCE = 1e-5


def float_values(model: onnx.ModelProto) -> int:
    """How many floating-point numbers the file holds, initializers and constants."""
    tensors = [*model.graph.initializer]
    for node in model.graph.node:
        tensors += [entry.t for entry in node.attribute if entry.HasField("t")]
    return sum(int(np.prod(tensor.dims)) for tensor in tensors if tensor.data_type in FLOATS)


def weight_words(model: onnx.ModelProto) -> dict[str, Any]:
    """Layer name -> packed weights."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        node.name: arrays[node.input[1]]
        for node in model.graph.node
        if node.domain == "bnn_deploy" and len(node.input) > 1 and arrays.get(node.input[1], np.zeros(0)).dtype == "i4"
    }


@pytest.fixture(scope="module")
def birealnet_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path, Any]:
    """Bi-Real-Net-18 for ImageNet, seeded weights."""
    torch.manual_seed(0)
    model, path = birealnet18().eval(), tmp_path_factory.mktemp("birealnet") / "model.onnx"
    return model, path, export_onnx(model, torch.randn(1, 3, 224, 224), path, dynamic="none")


def test_precision_is_noted_in_the_file(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), BinaryConv2d(8, 4, 1), torch.nn.ReLU()).eval()
    for precision in ("fp32", "fp16"):
        path = tmp_path / f"{precision}.onnx"
        export_onnx(model, torch.randn(1, 3, 4, 4), path, exporter="legacy", precision=precision)
        file = onnx.load(str(path))
        noted = {entry.key: entry.value for entry in file.metadata_props}.get("bnn_deploy.precision", "fp32")
        half = {tensor.name for tensor in file.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
        assert noted == precision and bool(half) is (precision == "fp16")
        assert {value.type.tensor_type.elem_type for value in (*file.graph.input, *file.graph.output)} == {
            TensorProto.FLOAT
        }


def test_birealnet_is_a_tenth_of_the_float_file(birealnet_file: tuple[torch.nn.Module, Path, Any]) -> None:
    model, path, exported = birealnet_file
    assert exported.file_bytes == path.stat().st_size
    assert exported.file_bytes * 10 <= exported.float_bytes
    # The float file is what it is said to be: 4 bytes for each weight, and little else.
    weights = 4 * sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1)
    assert weights <= exported.float_bytes <= weights * 1.01


def test_no_binary_weight_is_left_in_float(birealnet_file: tuple[torch.nn.Module, Path, Any]) -> None:
    model, path, _ = birealnet_file
    binary = {name: module for name, module in model.named_modules() if isinstance(module, LatentWeightLayer)}
    latent = sum(module.latent_weight().numel() for module in binary.values())
    deployed = onnx.load(str(path))
    others = sum(parameter.numel() for parameter in model.parameters()) - latent
    # Beside the parameters of the float layers (BatchNorms among them) a scale and a bias for each output channel.
    epilogues = sum(2 * module.latent_weight().shape[0] for module in binary.values())
    assert float_values(deployed) <= others + epilogues + len(binary)
    assert float_values(deployed) < latent / 10
    words = weight_words(deployed)
    assert set(words) == set(binary) and len(binary) == 16
    for name, module in binary.items():
        outputs, channels, *kernel = module.latent_weight().shape
        assert words[name].shape == (outputs, *kernel, -(-channels // 32))


def test_a_bit_is_the_sign_of_a_weight(deployed: Callable[..., Any]) -> None:
    given = deployed("Assorted")
    words = weight_words(given.proto())
    assert set(words) == {"grouped", "tall", "weights_only", "fc"}
    for name, packed in words.items():
        weight = getattr(given.module, name).weight.detach().numpy()
        found = bits.unpack_bits(packed, weight.shape[1])
        np.testing.assert_array_equal(found, np.moveaxis(weight >= 0, 1, -1))


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
def test_the_file_stands_alone_and_says_nothing_of_the_machine(exporter: str, deployed: Callable[..., Any]) -> None:
    given = deployed("Assorted", exporter=exporter)
    model, content = given.proto(), given.path.read_bytes()
    onnx.checker.check_model(model, full_check=True)
    used = {node.op_type for node in model.graph.node if node.domain == "bnn_deploy"}
    assert used == {function.name for function in model.functions if function.domain == "bnn_deploy"}
    for trace in (os.getcwd(), str(Path.home()), "site-packages", ".py", "torch", "forward", os.uname().nodename):
        assert trace.encode() not in content, trace
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer)
    for part in (model, model.graph, *model.graph.node, *model.functions, *values):
        assert not part.doc_string
        assert all(entry.key.startswith("bnn_deploy.") for entry in part.metadata_props)
    assert (model.producer_name, model.producer_version) == ("bnn_deploy", "1")
    assert model.ir_version == 9  # ONNX Runtime 1.17 reads no later one
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "bnn_deploy.opset": "1",
        "bnn_deploy.example_shapes": "1x4x9x8",
    }


def test_exporting_twice_gives_the_same_bytes(networks: ModuleType, tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        export_onnx(networks.make("Repeated"), torch.randn(1, 4, 5, 5), tmp_path / name, metadata={"b": "1", "a": "2"})
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_float_twin_and_metadata(networks: ModuleType, tmp_path: Path) -> None:
    model, path, twin = networks.make("Assorted"), tmp_path / "deep" / "model.onnx", tmp_path / "twin" / "float.onnx"
    shape = model.shapes[0]
    exported = export_onnx(model, torch.randn(shape), str(path), float_path=twin, metadata={"trained": "no"})
    assert (exported.path, exported.file_bytes) == (path, path.stat().st_size)
    assert exported.float_bytes == twin.stat().st_size
    assert {"bnn_deploy.opset", "trained"} <= {entry.key for entry in onnx.load(str(path)).metadata_props}
    assert "weights_only" in [entry.layer for record in exported.records for entry in record.declined]

    assert {node.domain for node in onnx.load(str(twin)).graph.node} == {""}
    x = np.random.default_rng(0).standard_normal((3, *shape[1:])).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    for file in (path, twin):
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"x": x})
        np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT_TOLERANCE * float(np.abs(expected).max()))


def test_a_network_without_a_binary_layer_is_refused(networks: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"NoBinaryLayer: the exported graph has no binary layer.*bnn_deploy.nn"):
        export_onnx(networks.make("NoBinaryLayer"), torch.randn(1, 3, 4, 4), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_weight_of_exactly_0_is_refused_by_name_and_count(networks: ModuleType, tmp_path: Path) -> None:
    model = networks.make("Ternary")
    with torch.no_grad():
        model.conv.weight[:2, 0, 0, 0] = 0
    with pytest.raises(InputRefused, match=r"conv: weight has 2 exact zeros of 216.*--sign-zero one"):
        export_onnx(model, torch.randn(model.shapes[0]), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
