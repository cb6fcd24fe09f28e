"""`cuda-python`, on a CUDA runtime that is none."""

from __future__ import annotations

import ctypes
import gc
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bnn_deploy.errors import InputRefused


class Runtime(ModuleType):
    """`cuda.bindings.runtime`: notes what is called, and copies in host memory."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down")
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=9, cudaDevAttrComputeCapabilityMinor=0)

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.calls: list[Any] = []
        self.fails = ""
        self._memory: dict[int, Any] = {}

    def __getattr__(self, function: str) -> Any:
        if not function.startswith("cuda"):
            raise AttributeError(function)

        def call(*arguments: Any) -> tuple[Any, ...]:
            if function == self.fails:
                return (2, None)
            self.calls.append((function, *arguments))
            return (0, *getattr(self, f"_{function[4:]}", lambda *_: ())(*arguments))

        return call

    def cudaGetErrorString(self, status: int) -> tuple[int, bytes]:
        return 0, b"out of memory"

    def _Malloc(self, nbytes: int) -> tuple[int]:
        memory = (ctypes.c_uint8 * nbytes)()
        self._memory[ctypes.addressof(memory)] = memory
        return (ctypes.addressof(memory),)

    def _Free(self, address: int) -> tuple[()]:
        del self._memory[address]
        return ()

    def _MemcpyAsync(self, target: int, source: int, nbytes: int, kind: str, stream: int) -> tuple[()]:
        ctypes.memmove(target, source, nbytes)
        return ()

    def _StreamCreate(self) -> tuple[int]:
        return (7,)

    def _StreamEndCapture(self, stream: int) -> tuple[str]:
        return ("graph",)

    def _GraphInstantiate(self, graph: str, flags: int) -> tuple[str]:
        return (f"executable {sum(call[0] == 'cudaGraphInstantiate' for call in self.calls)}",)

    def _GetDevice(self) -> tuple[int]:
        return (0,)

    def _DeviceGetAttribute(self, attribute: int, device: int) -> tuple[int]:
        return (attribute,)

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    bindings, found = ModuleType("cuda.bindings"), Runtime()
    bindings.runtime = found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", found)
    monkeypatch.delitem(sys.modules, "bnn_deploy.gpu.cuda_python", raising=False)
    return found


@pytest.fixture
def module(runtime: Runtime) -> Iterator[Any]:
    yield importlib.import_module("bnn_deploy.gpu.cuda_python")
    del sys.modules["bnn_deploy.gpu.cuda_python"]


def test_there_and_back(runtime: Runtime, module: Any) -> None:
    gpu = module.CudaPythonGpu()
    assert gpu.compute_capability == "9.0"
    stream, x = gpu.new_stream(), np.arange(6, dtype=np.float32).reshape(2, 3)
    buffer, found = stream.allocate(x.nbytes), np.empty_like(x)
    stream.upload(x, buffer)
    stream.download(buffer, found)
    stream.synchronize()
    np.testing.assert_array_equal(found, x)
    assert (stream.handle, buffer.nbytes, stream.allocate(0).nbytes) == (7, 24, 1)
    copies = [call[3:] for call in runtime.calls if call[0] == "cudaMemcpyAsync"]
    assert copies == [(24, "up", 7), (24, "down", 7)]
    assert runtime.names().index("cudaStreamSynchronize") > runtime.names().index("cudaMemcpyAsync")


def test_what_is_dropped_is_freed(runtime: Runtime, module: Any) -> None:
    stream = module.CudaPythonGpu().new_stream()
    buffer = stream.allocate(8)
    address = buffer.address
    del buffer, stream
    gc.collect()
    assert ("cudaFree", address) in runtime.calls and ("cudaStreamDestroy", 7) in runtime.calls


def test_a_graph_replaces_the_one_before(runtime: Runtime, module: Any) -> None:
    graph = module.CudaPythonGpu().new_stream().new_graph()
    for _ in range(2):
        graph.capture(lambda: runtime.calls.append(("work",)))
        graph.launch()
    del graph
    gc.collect()
    assert [call for call in runtime.calls if "raph" in call[0] or call[0] == "work" or "Capture" in call[0]] == [
        ("cudaStreamBeginCapture", 7, "thread"),
        ("work",),
        ("cudaStreamEndCapture", 7),
        ("cudaGraphInstantiate", "graph", 0),
        ("cudaGraphDestroy", "graph"),
        ("cudaGraphLaunch", "executable 1", 7),
        ("cudaStreamBeginCapture", 7, "thread"),
        ("work",),
        ("cudaStreamEndCapture", 7),
        ("cudaGraphExecDestroy", "executable 1"),
        ("cudaGraphInstantiate", "graph", 0),
        ("cudaGraphDestroy", "graph"),
        ("cudaGraphLaunch", "executable 2", 7),
        ("cudaGraphExecDestroy", "executable 2"),
    ]


def test_work_that_fails_ends_the_capture_and_says_why(runtime: Runtime, module: Any) -> None:
    def work() -> None:
        raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        module.CudaPythonGpu().new_stream().new_graph().capture(work)
    assert "cudaStreamEndCapture" in runtime.names() and "cudaGraphInstantiate" not in runtime.names()


def test_the_caller_may_have_any_stream(runtime: Runtime, module: Any) -> None:
    stream = module.CudaPythonGpu().new_stream()
    stream.wait_for_caller()
    assert runtime.names()[-1] == "cudaDeviceSynchronize"
    stream.let_caller_wait()
    assert runtime.names()[-1] == "cudaStreamSynchronize"


def test_a_failure_is_one_line(runtime: Runtime, module: Any) -> None:
    runtime.fails = "cudaMalloc"
    with pytest.raises(InputRefused, match=r"cuda-python: cudaMalloc: out of memory; wanted: a GPU and its driver"):
        module.CudaPythonGpu().new_stream().allocate(1 << 40)
