"""The TensorRT runner, on a GPU that is none; the engine is built by TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bnn_deploy.errors import InputRefused
from bnn_deploy.runners import tensorrt
from bnn_deploy.runners.base import Runner
from bnn_deploy.runners.tensorrt import TensorRTRunner, profile_for
from bnn_deploy.tensorrt.profiles import SizeRange


class Execution:
    """One that gives what it gets."""

    made: list[Execution]

    def __init__(self, loaded: Any, *, graph: bool) -> None:
        self.loaded, self.graph, self.closed = loaded, graph, False
        Execution.made.append(self)

    def infer(self, feeds: Any) -> Any:
        return dict(feeds)

    def infer_device(self, feeds: Any) -> Any:
        return dict(feeds)

    def close(self) -> None:
        self.closed = True


class LoadedEngine:
    """Knows where it is from."""

    def __init__(self, plan: bytes, gpu: Any, plugin: Path) -> None:
        self.plan, self.gpu, self.plugin = plan, gpu, plugin

    @classmethod
    def from_file(cls, path: Path, gpu: Any) -> LoadedEngine:
        return cls(path.read_bytes(), gpu, Path("none"))


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The profiles of every build."""
    profiles: list[Any] = []

    def build(model: onnx.ModelProto, **options: Any) -> Any:
        profiles.append(options["profiles"])
        return SimpleNamespace(plan=b"built")

    Execution.made = []
    monkeypatch.setattr(tensorrt, "open_gpu", lambda: "gpu")
    monkeypatch.setattr(tensorrt, "TENSORRT_PLUGIN", SimpleNamespace(path=lambda: Path("plugin.so")))
    monkeypatch.setattr(tensorrt, "Execution", Execution)
    monkeypatch.setattr(tensorrt, "LoadedEngine", LoadedEngine)
    monkeypatch.setattr(tensorrt, "build_serialized_engine", build)
    return profiles


def test_it_says_in_a_line_why_it_cannot_run(deployed: Callable[..., Any]) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputRefused, match=r"an engine runs on a GPU, and there is none to be had") as refused:
        TensorRTRunner(deployed("Residual").path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_model_is_built_for_the_shapes_that_come(
    as_file: bool, builds: list[Any], deployed: Callable[..., Any]
) -> None:
    given = deployed("Residual")
    with TensorRTRunner(given.path if as_file else given.proto(), graph=True) as runner:
        assert isinstance(runner, Runner) and runner.name == "tensorrt" and builds == []
        for batch in (2, 2, 5):
            x = np.zeros((batch, 3, 4, 4), np.float32)
            assert runner.infer({"x": x})["x"] is x
    assert builds == [[{"batch": SizeRange(2, 2, 2)}], [{"batch": SizeRange(5, 5, 5)}]]
    first, second = Execution.made
    assert first.closed and second.closed and first.graph
    assert (first.loaded.plan, first.loaded.gpu, first.loaded.plugin) == (b"built", "gpu", Path("plugin.so"))


def test_an_engine_is_loaded_and_not_built(builds: list[Any], tmp_path: Path) -> None:
    (tmp_path / "x.engine").write_bytes(b"plan")
    with TensorRTRunner(tmp_path / "x.engine") as runner:
        for batch in (1, 3):
            runner.infer({"x": np.zeros(batch)})
    assert builds == [] and [each.loaded.plan for each in Execution.made] == [b"plan"]
    with pytest.raises(InputRefused, match="it is closed"):
        runner.infer({"x": np.zeros(1)})


def test_arrays_on_the_gpu_go_through_as_they_are(builds: list[Any], deployed: Callable[..., Any]) -> None:
    interface = {"shape": (2, 3, 4, 4), "typestr": "<f4", "data": (256, False), "version": 3}
    feed = SimpleNamespace(__cuda_array_interface__=interface)
    with TensorRTRunner(deployed("Residual").proto()) as runner:
        assert runner.infer_device({"x": feed})["x"] is feed
        with pytest.raises(InputRefused, match=r"input 'x': numpy.ndarray, not on the GPU"):
            runner.infer_device({"x": np.zeros((2, 3, 4, 4))})
    assert builds == [[{"batch": SizeRange(2, 2, 2)}]]


def test_feeds_that_do_not_fit_are_refused_before_a_build(builds: list[Any], deployed: Callable[..., Any]) -> None:
    with TensorRTRunner(deployed("Residual").proto()) as runner:
        for feeds in ({}, {"x": np.zeros((1, 4, 4, 4))}, {"y": np.zeros((1, 3, 4, 4))}):
            with pytest.raises(InputRefused, match=r"^tensorrt"):
                runner.infer(feeds)
    assert builds == []


def two_inputs() -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "ab"]
    return helper.make_model(helper.make_graph([], "two", values, []))


def test_an_axis_that_two_inputs_share() -> None:
    assert profile_for(two_inputs(), {"a": (2, 3), "b": (2, 3)}) == {"batch": SizeRange(2, 2, 2)}
    with pytest.raises(InputRefused, match=r"axis `batch`: sizes \[1, 2\]; wanted: one size in a and b"):
        profile_for(two_inputs(), {"a": (1, 3), "b": (2, 3)})
