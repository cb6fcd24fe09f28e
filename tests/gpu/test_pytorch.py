"""PyTorch's GPU; where there is none, with its streams stood in for and tensors on the CPU."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bnn_deploy.errors import InputRefused
from bnn_deploy.gpu import pytorch


class Stream:
    """A `torch.cuda.Stream`."""

    def __init__(self, log: list[Any], handle: int) -> None:
        self._log, self.cuda_stream = log, handle

    def wait_stream(self, other: Any) -> None:
        self._log.append((self.cuda_stream, "waits for", other.cuda_stream))

    def synchronize(self) -> None:
        self._log.append((self.cuda_stream, "synchronizes"))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is done, and on which stream: 1 is the caller's, 2 the one that is made."""
    done: list[Any] = []
    current = [Stream(done, 1)]

    @contextmanager
    def stream(chosen: Any) -> Any:
        current.append(chosen)
        yield
        current.pop()

    @contextmanager
    def graph(chosen: Any, *, stream: Any, capture_error_mode: str) -> Any:
        done.append((stream.cuda_stream, "captures", capture_error_mode))
        yield

    class Graph:
        def replay(self) -> None:
            done.append((current[-1].cuda_stream, "replays"))

    def empty(size: int, *, dtype: Any, device: str) -> Any:
        done.append((current[-1].cuda_stream, "allocates", size, device))
        return torch.zeros(size, dtype=dtype)

    cuda = SimpleNamespace(
        is_available=lambda: True,
        get_device_capability=lambda: (9, 0),
        Stream=lambda: Stream(done, 2),
        stream=stream,
        current_stream=lambda: current[-1],
        graph=graph,
        CUDAGraph=Graph,
    )
    names = ("uint8", "from_numpy", "Tensor")
    stand_in = SimpleNamespace(cuda=cuda, empty=empty, **{name: getattr(torch, name) for name in names})
    monkeypatch.setattr(pytorch, "torch", stand_in)
    return done


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputRefused, match="PyTorch: it finds no GPU"):
        pytorch.PyTorchGpu()


def test_there_and_back(log: list[Any], recwarn: pytest.WarningsRecorder) -> None:
    gpu = pytorch.PyTorchGpu()
    stream, x = gpu.new_stream(), np.arange(6, dtype=np.float16).reshape(2, 3)
    x.setflags(write=False)
    buffer, found = stream.allocate(x.nbytes + 4), np.empty_like(x)
    stream.upload(x, buffer)
    stream.download(buffer, found)
    stream.synchronize()
    np.testing.assert_array_equal(found, x)
    assert (gpu.compute_capability, stream.handle, buffer.nbytes) == ("9.0", 2, 16)
    assert log == [(2, "allocates", 16, "cuda"), (2, "synchronizes")]
    assert not recwarn.list, "PyTorch warns of arrays that cannot be written"


def test_the_caller_is_the_current_stream(log: list[Any]) -> None:
    stream = pytorch.PyTorchGpu().new_stream()
    stream.wait_for_caller()
    stream.let_caller_wait()
    assert log == [(2, "waits for", 1), (1, "waits for", 2)]


def test_a_graph(log: list[Any]) -> None:
    graph = pytorch.PyTorchGpu().new_stream().new_graph()
    graph.capture(lambda: log.append("work"))
    graph.launch()
    assert log == [(2, "captures", "thread_local"), "work", (2, "replays")]
