"""Engines of the whole zoo, built without a GPU; nothing here runs one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest
import torch

from bnn_deploy import opset
from bnn_deploy.export import export_onnx
from bnn_deploy.models import catalogue
from bnn_deploy.models.birealnet import BiRealNet, birealnet, birealnet18
from bnn_deploy.models.nin import nin
from bnn_deploy.models.reactnet import ReActResNetBlock, reactnet
from bnn_deploy.models.vgg import vgg_small
from bnn_deploy.models.xnor_resnet import xnor_resnet18
from bnn_deploy.tensorrt.engine import BuiltEngine, build_serialized_engine
from bnn_deploy.tensorrt.network import plugin_nodes
from bnn_deploy.tensorrt.profiles import SizeRange
from bnn_deploy.tensorrt.sdk import load_sdk

WIDTHS = (8, 16, 24, 40)  # one word and part of a second at the end
SMALL = {"birealnet": birealnet, "vgg_small": vgg_small, "nin": nin}
# As deep as they are published, and narrow: every kind of node, and as many of them, in a fraction of the time.
NARROW: dict[str, Callable[[], torch.nn.Module]] = {
    "birealnet18": lambda: BiRealNet((4, 4, 4, 4), WIDTHS, 10, stem="imagenet"),
    "birealnet34": lambda: BiRealNet((6, 8, 12, 6), WIDTHS, 10, stem="imagenet"),
    "reactnet_resnet18": lambda: BiRealNet((4, 4, 4, 4), WIDTHS, 10, stem="imagenet", block=ReActResNetBlock),
    "reactnet": lambda: reactnet(width=1 / 16),
    "xnor_resnet18": lambda: xnor_resnet18(width=1 / 8),
}
ZOO = {**SMALL, **NARROW}
IMAGE = 32
PROFILE = {"batch": SizeRange(1, 4, 16)}


def exported(
    module: torch.nn.Module, folder: Path, *, dynamic: str = "batch", precision: str = opset.FP32, image: int = IMAGE
) -> onnx.ModelProto:
    path = folder / "model.onnx"
    export_onnx(module.eval(), torch.zeros(1, 3, image, image), path, dynamic=dynamic, precision=precision)
    return onnx.load(str(path))


def with_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The same with a batch that is not free."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param == "batch":
                axis.dim_value = batch
    return fixed


def check_plugin_layers(built: BuiltEngine, model: onnx.ModelProto) -> None:
    """Every op on bits is a plugin layer of the network, by its name; those on floats are TensorRT's own."""
    ours = [
        node.name for node in model.graph.node if node.domain == opset.DOMAIN and node.op_type not in opset.FLOAT_OPS
    ]
    layers = [built.network.network.get_layer(index) for index in range(built.network.network.num_layers)]
    plugins = [layer.name for layer in layers if layer.type == load_sdk().LayerType.PLUGIN_V3]
    assert ours and sorted(plugins) == sorted(ours) == sorted(node.name for node in plugin_nodes(built.network.model))


def test_no_model_is_left_out() -> None:
    assert set(ZOO) == set(catalogue())


@pytest.mark.parametrize("precision", [opset.FP32, opset.FP16])
@pytest.mark.parametrize("name", ZOO)
def test_with_the_plugin(name: str, precision: str, plugin: Path, tmp_path: Path) -> None:
    """For free and for fixed batches, every layer of ours a plugin layer."""
    model = exported(ZOO[name](), tmp_path, precision=precision)
    free: list[tuple[onnx.ModelProto, Sequence[dict[str, SizeRange]]]] = [
        (model, [PROFILE]),
        (with_batch(model, 2), []),
    ]
    for given, profiles in free:
        built = build_serialized_engine(given, profiles=profiles, plugin=plugin)
        check_plugin_layers(built, given)
        assert len(built.plan) > 50_000
        shape = built.network.network.get_output(0).shape
        assert list(shape) == [-1 if profiles else 2, 10 if name not in ("reactnet", "xnor_resnet18") else 1000]


@pytest.mark.parametrize(
    ("name", "dynamic", "precision"),
    [("birealnet", "none", opset.FP32), ("vgg_small", "none", opset.FP16), ("nin", "batch", opset.FP32)],
)
def test_with_function_bodies(name: str, dynamic: str, precision: str, tmp_path: Path) -> None:
    model = exported(SMALL[name](), tmp_path, dynamic=dynamic, precision=precision)
    built = build_serialized_engine(model, profiles=[PROFILE] if dynamic == "batch" else [])
    assert len(built.plan) > 100_000 and not plugin_nodes(built.network.model)


def test_one_as_it_is_at_224_pixels(plugin: Path, tmp_path: Path) -> None:
    model = exported(birealnet18(), tmp_path, image=224)
    built = build_serialized_engine(model, profiles=[PROFILE], plugin=plugin)
    check_plugin_layers(built, model)
    file_bytes = (tmp_path / "model.onnx").stat().st_size
    assert len(built.plan) < file_bytes + 4_000_000, "a weight that TensorRT widens or keeps twice would show"
