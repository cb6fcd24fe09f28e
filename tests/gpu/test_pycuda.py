"""`pycuda`, on a driver that is none. `device_pycuda.py` is for a GPU."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bnn_deploy.errors import InputRefused


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, with what it called in `calls`."""
    calls: list[str] = []

    class Allocation:
        def __init__(self, nbytes: int) -> None:
            self._memory = (ctypes.c_uint8 * nbytes)()

        def __int__(self) -> int:
            return ctypes.addressof(self._memory)

    package, driver, context = ModuleType("pycuda"), ModuleType("pycuda.driver"), ModuleType("pycuda.autoprimaryctx")
    vars(driver).update(
        mem_alloc=Allocation,
        memcpy_htod=lambda address, array: ctypes.memmove(address, array.ctypes.data, array.nbytes),
        memcpy_dtoh=lambda array, address: ctypes.memmove(array.ctypes.data, address, array.nbytes),
        Stream=lambda: SimpleNamespace(handle=5, synchronize=lambda: calls.append("stream")),
        Context=SimpleNamespace(synchronize=lambda: calls.append("context")),
    )
    vars(context).update(device=SimpleNamespace(compute_capability=lambda: (8, 6)))
    vars(package).update(driver=driver, autoprimaryctx=context)
    for name, value in (("pycuda", package), ("pycuda.driver", driver), ("pycuda.autoprimaryctx", context)):
        monkeypatch.setitem(sys.modules, name, value)
    monkeypatch.delitem(sys.modules, "bnn_deploy.gpu.pycuda", raising=False)
    module = importlib.import_module("bnn_deploy.gpu.pycuda")
    monkeypatch.setattr(module, "calls", calls, raising=False)
    yield module
    del sys.modules["bnn_deploy.gpu.pycuda"]


def test_there_and_back(module: Any) -> None:
    gpu = module.PyCudaGpu()
    stream, x = gpu.new_stream(), np.arange(6, dtype=np.float16)
    buffer, found = stream.allocate(x.nbytes), np.empty_like(x)
    stream.upload(x, buffer)
    stream.download(buffer, found)
    np.testing.assert_array_equal(found, x)
    assert (gpu.compute_capability, stream.handle, buffer.nbytes) == ("8.6", 5, 12)


def test_the_caller_may_have_any_stream(module: Any) -> None:
    stream = module.PyCudaGpu().new_stream()
    stream.wait_for_caller()
    stream.let_caller_wait()
    assert module.calls == ["context", "stream"]


def test_it_has_no_graphs(module: Any) -> None:
    with pytest.raises(InputRefused, match=r"a CUDA graph: pycuda has none; wanted: PyTorch or cuda-python"):
        module.PyCudaGpu().new_stream().new_graph()
