"""`pycuda` as it is installed, on a GPU: for `benchmarks/gpu/try_pycuda.py`, which names this file to pytest.

Its name keeps it out of the tests that run everywhere.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def module() -> Any:
    """The module that is tested."""
    return importlib.import_module("bnn_deploy.gpu.pycuda")


def test_there_and_back(module: Any) -> None:
    stream = module.PyCudaGpu().new_stream()
    for x in (np.arange(6, dtype=np.float16).reshape(2, 3), np.array(7, np.int32), np.empty((0, 3), np.float32)):
        x.setflags(write=False)
        buffer, found = stream.allocate(x.nbytes), np.empty_like(x)
        stream.upload(x, buffer)
        stream.download(buffer, found)
        stream.synchronize()
        np.testing.assert_array_equal(found, x)
        assert buffer.nbytes == max(x.nbytes, 1)


def test_copies_and_work_are_in_order(module: Any) -> None:
    """The work is 64 MiB that are set to zero, again and again, and then copied to."""
    stream, x = module.PyCudaGpu().new_stream(), np.arange(2**24, dtype=np.int32)
    source, target, found = stream.allocate(x.nbytes), stream.allocate(x.nbytes), np.empty_like(x)
    for sign in (1, -1):
        stream.upload(sign * x, source)
        for _ in range(20):
            module.driver.memset_d32_async(target.address, 0, x.size, stream._stream)
        module.driver.memcpy_dtod_async(target.address, source.address, x.nbytes, stream._stream)
        stream.download(target, found)
        stream.synchronize()
        np.testing.assert_array_equal(found, sign * x)


def test_a_callers_stream_is_waited_for(module: Any) -> None:
    """One that does not wait for the default stream, nor that for it."""
    stream, caller, x = module.PyCudaGpu().new_stream(), module.driver.Stream(1), np.ones(2**24, np.int32)
    buffer, found = stream.allocate(x.nbytes), np.empty_like(x)
    for value in range(20):
        module.driver.memset_d32_async(buffer.address, value, x.size, caller)
    stream.wait_for_caller()
    stream.download(buffer, found)
    stream.synchronize()
    np.testing.assert_array_equal(found, 19 * x)
