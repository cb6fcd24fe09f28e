"""Running an engine, on a GPU that is none: what TensorRT is told, and when."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine, FakeGpu, FakeSdk

from bnn_deploy.errors import CheckFailed, InputRefused
from bnn_deploy.gpu import DeviceArray
from bnn_deploy.tensorrt import execution, loaded
from bnn_deploy.tensorrt.execution import Execution
from bnn_deploy.tensorrt.layers import tensor_formats
from bnn_deploy.tensorrt.loaded import LoadedEngine


@pytest.fixture
def gpu() -> FakeGpu:
    return FakeGpu()


@pytest.fixture
def load(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(engine: FakeEngine | None = None, **options: Any) -> LoadedEngine:
        sdk = FakeSdk(engine or FakeEngine())
        monkeypatch.setattr(loaded, "load_sdk", lambda: sdk)
        return LoadedEngine(b"plan", gpu, **options)

    return make


def x(batch: int, first: float = 1) -> np.ndarray:
    return np.arange(first, first + 3 * batch, dtype=np.float16).reshape(batch, 3)


class OnDevice:
    """An array of another library."""

    def __init__(self, array: np.ndarray, offset: int = 0, **changes: Any) -> None:
        self._buffer = FakeGpu().new_stream().allocate(array.nbytes + offset)
        FakeGpu().new_stream().upload(array, self._buffer)
        view = DeviceArray(self._buffer.address + offset, array.shape, array.dtype)
        self.__cuda_array_interface__ = view.__cuda_array_interface__ | changes


def read(array: DeviceArray) -> np.ndarray:
    found = np.empty(array.shape, array.dtype)
    FakeGpu().new_stream().download(array.owner, found)  # type: ignore[arg-type]
    return found


def test_what_an_engine_is(load: Any) -> None:
    engine = load()
    assert engine.inputs == {"x": (None, 3)} and engine.outputs == ["y"] and engine.dtype("x") == np.float16
    assert engine.profile_shapes(0) == {"x": ((1, 3), (2, 3), (4, 3))}


def test_a_run_and_another(load: Any, gpu: FakeGpu) -> None:
    engine = FakeEngine()
    with Execution(load(engine)) as run:
        for feed in (x(2), x(2, 5)):
            np.testing.assert_array_equal(run.infer({"x": feed})["y"], 2 * feed)
    assert engine.contexts[0].nvtx_verbosity == "none"
    calls = ["shape (2, 3)", "address of x", "address of y", "execute on 1", "execute on 1"]
    assert engine.contexts[0].calls == calls, "what has not changed is not said again"
    assert gpu.streams[0].log == ["allocate 12", "allocate 12", *["synchronize"] * 3]


def test_what_it_returns_stays(load: Any) -> None:
    run = Execution(load())
    first = run.infer({"x": x(2)})["y"]
    run.infer({"x": x(2, 9)})
    np.testing.assert_array_equal(first, 2 * x(2))


def test_buffers_grow_and_do_not_shrink(load: Any, gpu: FakeGpu) -> None:
    run = Execution(load())
    for batch in (2, 1, 4, 3):
        np.testing.assert_array_equal(run.infer({"x": x(batch)})["y"], 2 * x(batch))
    allocated = [entry for entry in gpu.streams[0].log if entry.startswith("allocate")]
    assert allocated == ["allocate 12", "allocate 12", "allocate 24", "allocate 24"]


def test_arrays_of_other_precision_or_order(load: Any) -> None:
    run = Execution(load())
    for feed in (x(2).astype(np.float64), np.asfortranarray(x(2)), x(4)[::2], np.ones((1, 3), np.int8)):
        np.testing.assert_array_equal(run.infer({"x": feed})["y"], 2 * feed)
    with pytest.raises(InputRefused, match=r"input 'x': type complex64; wanted: float16"):
        run.infer({"x": x(2).astype(np.complex64)})


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"the engine: inputs \[\]; wanted: inputs \['x'\]"),
        ({"x": x(1), "z": x(1)}, r"inputs \['x', 'z'\]; wanted: inputs \['x'\]"),
        ({"x": np.ones((1, 4), np.float16)}, r"input 'x': shape 1x4; wanted: shape anyx3"),
        ({"x": x(5)}, r"input 'x': shape 5x3; wanted: 1x3 to 4x3, the engine's profile; fix: build an engine"),
    ],
)
def test_feeds_that_do_not_fit(feeds: dict[str, Any], message: str, load: Any) -> None:
    run = Execution(load())
    with pytest.raises(InputRefused, match=message):
        run.infer(feeds)
    np.testing.assert_array_equal(run.infer({"x": x(4)})["y"], 2 * x(4))


def test_the_first_profile_that_fits_is_taken(load: Any) -> None:
    engine = FakeEngine(profiles=((1, 1, 1), (8, 8, 16), (1, 4, 16)))
    run = Execution(load(engine))
    for batch in (1, 9, 16, 2, 1):
        np.testing.assert_array_equal(run.infer({"x": x(batch)})["y"], 2 * x(batch))
    switches = [call for call in engine.contexts[0].calls if call.startswith("profile")]
    assert switches == ["profile 1 on 1", "profile 2 on 1", "profile 0 on 1"]
    with pytest.raises(InputRefused, match="shape 17x3; wanted: 1x3 to 1x3 or 8x3 to 16x3 or 1x3 to 16x3"):
        run.infer({"x": x(17)})


def test_a_graph_is_captured_anew_only_where_something_changed(load: Any, gpu: FakeGpu) -> None:
    run = Execution(load(), graph=True)
    for batch in (2, 2, 2, 1, 1, 4, 4):
        np.testing.assert_array_equal(run.infer({"x": x(batch)})["y"], 2 * x(batch))
    graph = [entry for entry in gpu.streams[0].log if entry in ("capture", "launch")]
    assert graph == ["capture", "launch", "launch", "capture", "launch", "capture", "launch"]


def test_a_graph_knows_where_arrays_lie(load: Any, gpu: FakeGpu) -> None:
    run, one, other = Execution(load(), graph=True), OnDevice(x(2)), OnDevice(x(2, 7))
    for feed, expected in ((one, x(2)), (one, x(2)), (other, x(2, 7)), (other, x(2, 7))):
        np.testing.assert_array_equal(read(run.infer_device({"x": feed})["y"]), 2 * expected)
    graph = [entry for entry in gpu.streams[0].log if entry in ("capture", "launch")]
    assert graph == ["capture", "launch", "capture", "launch"]


def test_an_engine_that_cannot_become_a_graph(load: Any) -> None:
    with pytest.raises(InputRefused, match=r"a CUDA graph: TensorRT 10.15 cannot make one .*fix: run without"):
        Execution(load(FakeEngine(capturable=False)), graph=True).infer({"x": x(1)})


def test_arrays_on_the_gpu_are_not_copied(load: Any, gpu: FakeGpu) -> None:
    feed = OnDevice(x(2))
    found = Execution(load()).infer_device({"x": feed})["y"]
    np.testing.assert_array_equal(read(found), 2 * x(2))
    interface = found.__cuda_array_interface__
    assert (interface["shape"], interface["typestr"], interface["version"]) == ((2, 3), "<f2", 3)
    assert gpu.streams[0].log == ["allocate 12", "wait for caller", "let caller wait"], "one buffer, for the output"


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        (x(2), r"input 'x': numpy.ndarray, not on the GPU; wanted: an array with __cuda_array_interface__"),
        (OnDevice(x(2).astype(np.float32)), r"input 'x': type float32; wanted: float16"),
        (OnDevice(x(2), offset=2), r"input 'x': it begins 2 bytes behind a multiple of 256"),
        (OnDevice(x(2), strides=(12, 2)), r"input 'x': strides of \(12, 2\) bytes; wanted: a C-contiguous array"),
        (OnDevice(x(5)), r"input 'x': shape 5x3; wanted: 1x3 to 4x3"),
    ],
)
def test_arrays_that_cannot_be_used_as_they_are(feed: Any, message: str, load: Any) -> None:
    with pytest.raises(InputRefused, match=message):
        Execution(load()).infer_device({"x": feed})


def test_contiguous_strides_may_be_said() -> None:
    assert DeviceArray.of("x", OnDevice(x(2), strides=(6, 2))).shape == (2, 3)


def test_two_executions_share_an_engine_and_nothing_else(load: Any, gpu: FakeGpu) -> None:
    shared = load()
    one, other = Execution(shared, graph=True), Execution(shared, graph=True)
    for batch in (1, 2, 2):
        np.testing.assert_array_equal(one.infer({"x": x(batch)})["y"], 2 * x(batch))
        np.testing.assert_array_equal(other.infer({"x": x(batch, 5)})["y"], 2 * x(batch, 5))
    assert [stream.handle for stream in gpu.streams] == [1, 2]
    assert {call for call in shared.engine.contexts[1].calls if call.startswith("execute")} == {"execute on 2"}
    one.close()
    np.testing.assert_array_equal(other.infer({"x": x(3)})["y"], 2 * x(3))


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("create", "makes no execution context"),
        ("shape", r"does not take the shape \(2, 3\) of input 'x'"),
        ("address", "does not take the address of 'x'"),
        ("execute", "failed to run the engine"),
    ],
)
def test_what_tensorrt_refuses_is_a_failure(failure: str, message: str, load: Any) -> None:
    with pytest.raises(CheckFailed, match=f"TensorRT 10.15 {message}: no message"):
        Execution(load(FakeEngine(fails={failure}))).infer({"x": x(2)})


def test_after_a_failure_shapes_are_said_again(load: Any) -> None:
    engine = FakeEngine()
    run = Execution(load(engine))
    run.infer({"x": x(2)})
    engine.fails.add("shape")
    with pytest.raises(CheckFailed):
        run.infer({"x": x(3)})
    engine.fails.clear()
    run.infer({"x": x(2)})
    shapes = [call for call in engine.contexts[0].calls if call.startswith("shape")]
    assert shapes == ["shape (2, 3)", "shape (3, 3)", "shape (2, 3)"]


def test_a_profile_that_cannot_be_switched_to(load: Any) -> None:
    engine = FakeEngine(profiles=((1, 1, 1), (2, 2, 2)), fails={"profile"})
    with pytest.raises(CheckFailed, match="does not switch to profile 1"):
        Execution(load(engine)).infer({"x": x(2)})


def test_formats_of_both_versions_of_the_inspector(load: Any) -> None:
    layers = [
        "a name alone",
        {"Name": "conv", "Outputs": [{"Name": "a", "Format/Datatype": "Channel major FP16"}]},
        {"Name": "pool", "Outputs": [{"Name": "b", "Format": "kHWC8", "DataType": "Half"}, {"Name": "c"}]},
    ]
    engine = load()

    class Inspector:
        execution_context: Any = None

        def get_engine_information(self, layout: str) -> str:
            assert layout == "json" and self.execution_context.calls == ["shape (2, 3)"], "what it is fastest at"
            return json.dumps({"Layers": layers})

    engine.engine.create_engine_inspector = Inspector
    assert tensor_formats(engine) == {"a": "Channel major FP16", "b": "kHWC8"}


def test_alignment_is_that_of_buffers() -> None:
    assert FakeGpu().new_stream().allocate(3).address % execution.ALIGNMENT == 0


def test_host_code_is_allowed_only_where_asked(load: Any) -> None:
    assert load()._runtime.engine_host_code_allowed is False
    assert load(host_code=True)._runtime.engine_host_code_allowed is True
