"""Building an engine: profiles, progress, and what goes wrong. The zoo is in `test_zoo.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.export import export_onnx
from bnn_deploy.tensorrt import engine as building
from bnn_deploy.tensorrt.engine import build_serialized_engine
from bnn_deploy.tensorrt.options import BuildOptions
from bnn_deploy.tensorrt.profiles import SizeRange


@pytest.fixture(scope="module")
def spatial(networks: Any, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """Images of any size, at least 2 pixels high and wide."""
    path = tmp_path_factory.mktemp("spatial") / "model.onnx"
    export_onnx(networks.make("Spatial"), torch.zeros(1, 3, 8, 10), path, dynamic="batch,spatial")
    return onnx.load(str(path))


def profile(**sizes: tuple[int, int, int]) -> dict[str, SizeRange]:
    return {axis: SizeRange(*sizes.get(axis, (8, 16, 32))) for axis in ("batch", "height", "width")}


@pytest.mark.parametrize("with_plugin", [True, False])
def test_free_image_sizes_and_two_profiles(
    with_plugin: bool, spatial: onnx.ModelProto, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[Any] = []
    real = building._add_profile
    monkeypatch.setattr(building, "_add_profile", lambda *given: (added.append(given[2:]), real(*given)))
    library = plugin if with_plugin else None
    assert build_serialized_engine(spatial, profiles=[profile()], plugin=library).plan
    two = build_serialized_engine(spatial, profiles=[profile(), profile(batch=(1, 1, 1))], plugin=library)
    assert two.plan and list(two.network.network.get_input(0).shape) == [-1, 3, -1, -1]
    assert [number for number, _ in added] == [0, 0, 1]
    assert added[2][1]["x"].maximum == (1, 3, 32, 32)


@pytest.mark.parametrize("with_plugin", [True, False])
def test_a_profile_that_the_model_cannot_take(with_plugin: bool, spatial: onnx.ModelProto, plugin: Path) -> None:
    """One row is none after pooling; the message has the profile, its sizes, and a layer that gets nothing of them."""
    library = plugin if with_plugin else None
    profiles = [profile(height=(2, 2, 2)), profile(height=(1, 2, 4))]
    assert build_serialized_engine(spatial, profiles=profiles[:1], plugin=library).plan
    with pytest.raises(InputRefused, match=r"^profile 1: .*smallest sizes \(x 8x3x1x8\) .*(pool|conv)"):
        build_serialized_engine(spatial, profiles=profiles, plugin=library)


def test_a_workspace_that_is_too_small(spatial: onnx.ModelProto) -> None:
    with pytest.raises(CheckFailed, match=r"could not build the engine: .*workspace"):
        build_serialized_engine(spatial, profiles=[profile()], options=BuildOptions(workspace_bytes=1))
    assert build_serialized_engine(spatial, profiles=[profile()], options=BuildOptions(workspace_bytes=1 << 28)).plan


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ([], r"axis `batch` of input x: its size is free"),
        ([{}], r"axis `batch` of input x: its size is free"),
        ([profile(), {}], r"axis `batch` of input x: its size is free"),
        ([profile() | {"depth": SizeRange(1, 2, 3)}], r"a profile for `depth`"),
    ],
)
def test_profiles_are_refused_before_the_build(profiles: list[Any], message: str, spatial: onnx.ModelProto) -> None:
    with pytest.raises(InputRefused, match=message):
        build_serialized_engine(spatial, profiles=profiles)


def test_the_plugin_in_the_engine(spatial: onnx.ModelProto, plugin: Path) -> None:
    without = build_serialized_engine(spatial, profiles=[profile()], plugin=plugin)
    options = BuildOptions(embed_plugin=True)
    embedded = build_serialized_engine(spatial, profiles=[profile()], plugin=plugin, options=options)
    assert plugin.read_bytes()[:4096] in embedded.plan and plugin.read_bytes()[:4096] not in without.plan


def test_weights_of_the_wrong_number_of_words(deployed: Callable[..., Any], plugin: Path) -> None:
    """34 channels are two words. The message has the node, what was found and what is wanted."""
    model = deployed("Residual").proto()
    node = next(node for node in model.graph.node if node.name == "first")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name in node.input)
    words = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.concatenate([words, words[..., :1]], axis=-1), weight.name))
    with pytest.raises(InputRefused) as refused:
        build_serialized_engine(model, profiles=[{"batch": SizeRange(1, 1, 1)}], plugin=plugin)
    assert refused.value.where == f"first ({node.op_type})"
    assert refused.value.found.startswith("the plugin does not take it: ")
    assert "3 words, wanted 2" in refused.value.found


def test_an_attribute_that_the_plugin_cannot_take(deployed: Callable[..., Any], plugin: Path) -> None:
    model = deployed("Residual").proto()
    node = next(node for node in model.graph.node if node.name == "first")
    next(attribute for attribute in node.attribute if attribute.name == "group").i = 3
    with pytest.raises(InputRefused, match=r"^first \(\w+\): the plugin does not take it: .*34 channels .* 3 groups"):
        build_serialized_engine(model, profiles=[{"batch": SizeRange(1, 1, 1)}], plugin=plugin)


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
