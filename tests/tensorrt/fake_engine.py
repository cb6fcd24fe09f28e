"""A GPU, and an engine on it, that do in host memory what they are told, and note it down."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np


class FakeBuffer:
    """Host memory, 256 bytes aligned."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = max(nbytes, 1)
        self._memory = np.zeros(self.nbytes + 256, np.uint8)
        self.address = -(-self._memory.ctypes.data // 256) * 256


class FakeGraph:
    """Work that is recorded is done again at every launch."""

    def __init__(self, log: list[str]) -> None:
        self._log = log
        self._work: Callable[[], None] | None = None

    def capture(self, work: Callable[[], None]) -> None:
        self._log.append("capture")
        self._work = work

    def launch(self) -> None:
        assert self._work is not None
        self._log.append("launch")
        self._work()


class FakeStream:
    """Does at once what is put on it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.log: list[str] = []

    def allocate(self, nbytes: int) -> FakeBuffer:
        self.log.append(f"allocate {nbytes}")
        return FakeBuffer(nbytes)

    def upload(self, array: np.ndarray, buffer: FakeBuffer) -> None:
        assert array.flags.c_contiguous and array.nbytes <= buffer.nbytes
        ctypes.memmove(buffer.address, array.ctypes.data, array.nbytes)

    def download(self, buffer: FakeBuffer, array: np.ndarray) -> None:
        assert array.nbytes <= buffer.nbytes
        ctypes.memmove(array.ctypes.data, buffer.address, array.nbytes)

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def wait_for_caller(self) -> None:
        self.log.append("wait for caller")

    def let_caller_wait(self) -> None:
        self.log.append("let caller wait")

    def new_graph(self) -> FakeGraph:
        return FakeGraph(self.log)


class FakeGpu:
    """Makes streams, and keeps them for the test to look at."""

    compute_capability = "8.6"

    def __init__(self) -> None:
        self.streams: list[FakeStream] = []

    def new_stream(self) -> FakeStream:
        self.streams.append(FakeStream(len(self.streams) + 1))
        return self.streams[-1]


@dataclass
class FakeEngine:
    """y = 2 x of x [batch, 3], in float16, for the batches of each profile."""

    profiles: tuple[tuple[int, int, int], ...] = ((1, 2, 4),)
    fails: set[str] = field(default_factory=set)
    capturable: bool = True
    contexts: list[FakeContext] = field(default_factory=list)

    num_io_tensors = 2

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return "xy"[index]

    def get_tensor_mode(self, name: str) -> str:
        return {"x": "input", "y": "output"}[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="HALF")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert name == "x", "an output has none"
        return [[batch, 3] for batch in self.profiles[profile]]

    def create_execution_context(self) -> FakeContext | None:
        if "create" in self.fails:
            return None
        self.contexts.append(FakeContext(self))
        return self.contexts[-1]


class FakeContext:
    """Takes only what TensorRT would."""

    nvtx_verbosity = "detailed"

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._batch = -1
        self.active_optimization_profile = 0
        self.calls: list[str] = []

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.calls.append(f"profile {profile} on {stream}")
        self.active_optimization_profile, self._batch, self._addresses = profile, -1, {}
        return "profile" not in self._engine.fails

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.calls.append(f"shape {shape}")
        smallest, _, largest = self._engine.profiles[self.active_optimization_profile]
        if not smallest <= shape[0] <= largest or "shape" in self._engine.fails:
            return False
        self._batch = shape[0]
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self._batch, 3)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.calls.append(f"address of {name}")
        self._addresses[name] = address
        return address % 256 == 0 and "address" not in self._engine.fails

    def is_stream_capturable(self, stream: int) -> bool:
        return self._engine.capturable

    def execute_async_v3(self, stream: int) -> bool:
        if "execute" in self._engine.fails:
            return False
        self.calls.append(f"execute on {stream}")
        x, y = (
            np.ctypeslib.as_array((ctypes.c_uint16 * (self._batch * 3)).from_address(self._addresses[name]))
            for name in "xy"
        )
        y.view(np.float16)[:] = 2 * x.view(np.float16)
        return True


class FakeSdk:
    """The module, as far as a run needs it."""

    __name__ = "tensorrt"
    __version__ = "10.15"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    ProfilingVerbosity = SimpleNamespace(NONE="none")
    LayerInformationFormat = SimpleNamespace(JSON="json")

    class ILogger:
        """As TensorRT's."""

        Severity = SimpleNamespace(INTERNAL_ERROR="internal", ERROR="error")

    def __init__(self, engine: FakeEngine | None) -> None:
        self.engine = engine
        self.runtimes: list[Any] = []

    def Runtime(self, log: Any) -> Any:
        """One that has a single engine."""

        def deserialize(plan: bytes) -> FakeEngine | None:
            if self.engine is None:
                log.log("error", "not of this version")
            return self.engine

        self.runtimes.append(SimpleNamespace(deserialize_cuda_engine=deserialize, engine_host_code_allowed=False))
        return self.runtimes[-1]
