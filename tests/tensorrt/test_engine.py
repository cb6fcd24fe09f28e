"""Engines of the zoo, built without a GPU; nothing here runs one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from bnn_deploy import opset
from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.export import export_onnx
from bnn_deploy.models import catalogue
from bnn_deploy.models.birealnet import BiRealNet, birealnet, birealnet18
from bnn_deploy.models.nin import nin
from bnn_deploy.models.reactnet import ReActResNetBlock, reactnet
from bnn_deploy.models.vgg import vgg_small
from bnn_deploy.models.xnor_resnet import xnor_resnet18
from bnn_deploy.tensorrt.engine import build_serialized_engine, make_monitor
from bnn_deploy.tensorrt.profiles import SizeRange
from bnn_deploy.tensorrt.sdk import load_sdk

SMALL = {"birealnet": birealnet, "vgg_small": vgg_small, "nin": nin}
WIDTHS = (8, 16, 24, 40)  # one word and part of a second at the end
# As deep as they are published, and narrow: every kind of node, and as many of them, in a fraction of the time.
NARROW: dict[str, Callable[[], torch.nn.Module]] = {
    "birealnet18": lambda: BiRealNet((4, 4, 4, 4), WIDTHS, 10, stem="imagenet"),
    "birealnet34": lambda: BiRealNet((6, 8, 12, 6), WIDTHS, 10, stem="imagenet"),
    "reactnet_resnet18": lambda: BiRealNet((4, 4, 4, 4), WIDTHS, 10, stem="imagenet", block=ReActResNetBlock),
    "reactnet": lambda: reactnet(width=1 / 16),
    "xnor_resnet18": lambda: xnor_resnet18(width=1 / 8),
}
IMAGE = 32
BATCH = SizeRange(1, 4, 16)


def build(module: torch.nn.Module, path: Path, dynamic: str, precision: str = opset.FP32, image: int = IMAGE) -> bytes:
    export_onnx(module.eval(), torch.zeros(1, 3, image, image), path, dynamic=dynamic, precision=precision)
    profiles = [{"batch": BATCH}] if dynamic == "batch" else []
    return build_serialized_engine(onnx.load(str(path)), profiles=profiles)


def test_no_model_is_left_out() -> None:
    assert set(SMALL) | set(NARROW) == set(catalogue())


@pytest.mark.parametrize("precision", [opset.FP32, opset.FP16])
@pytest.mark.parametrize("dynamic", ["none", "batch"])
@pytest.mark.parametrize("name", SMALL)
def test_the_small_ones(name: str, dynamic: str, precision: str, tmp_path: Path) -> None:
    assert len(build(SMALL[name](), tmp_path / "model.onnx", dynamic, precision)) > 100_000


@pytest.mark.parametrize(
    ("name", "dynamic", "precision"),
    [
        *((name, "batch", opset.FP16) for name in NARROW),
        # The other way around too, where it is not but more of the same blocks.
        *((name, "none", opset.FP32) for name in NARROW if name != "birealnet34"),
    ],
)
def test_those_for_photographs(name: str, dynamic: str, precision: str, tmp_path: Path) -> None:
    assert len(build(NARROW[name](), tmp_path / "model.onnx", dynamic, precision)) > 100_000


def test_one_as_it_is_at_224_pixels(tmp_path: Path) -> None:
    assert len(build(birealnet18(), tmp_path / "model.onnx", "batch", image=224)) > 1_000_000


@pytest.fixture(scope="module")
def spatial(networks: Any, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """Images of any size, at least 2 pixels high and wide."""
    path = tmp_path_factory.mktemp("spatial") / "model.onnx"
    export_onnx(networks.make("Spatial"), torch.zeros(1, 3, 8, 10), path, dynamic="batch,spatial")
    return onnx.load(str(path))


def profile(**sizes: tuple[int, int, int]) -> dict[str, SizeRange]:
    return {axis: SizeRange(*sizes.get(axis, (8, 16, 32))) for axis in ("batch", "height", "width")}


def test_free_image_sizes_and_two_profiles(spatial: onnx.ModelProto) -> None:
    one = build_serialized_engine(spatial, profiles=[profile()])
    two = build_serialized_engine(spatial, profiles=[profile(), profile(batch=(1, 1, 1))])
    assert len(two) > len(one) > 0


def test_a_profile_that_the_model_cannot_take(spatial: onnx.ModelProto) -> None:
    """One row is none after pooling; TensorRT's message has the name of the layer that this leaves nothing to."""
    with pytest.raises(CheckFailed, match=r"TensorRT-RTX \S+ could not build the engine: .*conv/"):
        build_serialized_engine(spatial, profiles=[profile(height=(1, 1, 1))])


def test_a_workspace_that_is_too_small(spatial: onnx.ModelProto) -> None:
    with pytest.raises(CheckFailed, match=r"could not build the engine: .*workspace"):
        build_serialized_engine(spatial, profiles=[profile()], workspace_bytes=1)
    assert build_serialized_engine(spatial, profiles=[profile()], workspace_bytes=1 << 28)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"axis `batch` of input x: its size is free"),
        ({"profiles": [{}]}, r"axis `batch` of input x: its size is free"),
        ({"profiles": [profile() | {"depth": BATCH}]}, r"a profile for `depth`"),
        ({"profiles": [profile()], "workspace_bytes": 0}, r"the workspace: 0 bytes"),
    ],
)
def test_what_is_refused_before_the_build(options: dict[str, Any], message: str, spatial: onnx.ModelProto) -> None:
    with pytest.raises(InputRefused, match=message):
        build_serialized_engine(spatial, **options)


def test_progress_is_told_from_start_to_end(spatial: onnx.ModelProto) -> None:
    told: list[tuple[str, int, int]] = []
    build_serialized_engine(spatial, profiles=[profile()], progress=lambda *step: told.append(step))
    assert len(told) > 10
    assert all(0 <= done <= steps for _, done, steps in told)
    ended = {phase for phase, done, steps in told if done == steps}
    assert ended == {phase for phase, _, _ in told}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_progress_raises_ends_the_build(error: type[BaseException], spatial: onnx.ModelProto) -> None:
    calls = 0

    def interrupt(phase: str, done: int, steps: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        build_serialized_engine(spatial, profiles=[profile()], progress=interrupt)
    assert calls < 50, "or it went on to the end"


def test_a_monitor_lets_nothing_escape_into_tensorrt() -> None:
    def fail(phase: str, done: int, steps: int) -> None:
        raise ValueError(phase)

    monitor = make_monitor(load_sdk(), fail)
    monitor.phase_start("first", None, 3)
    assert monitor.step_complete("first", 0) is False
    monitor.phase_finish("first")
    assert repr(monitor.error) == "ValueError('first')"
