"""Which package has a GPU, and why none has."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.gpu import find, open_gpu

GPU = SimpleNamespace(compute_capability="9.0")


def fails(error: Exception) -> Callable[[], Any]:
    def make() -> Any:
        raise error

    return make


def test_the_first_that_finds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {"PyTorch": fails(InputRefused("PyTorch", "it finds no GPU")), "cuda-python": lambda: GPU}
    monkeypatch.setattr(find, "PACKAGES", packages)
    assert open_gpu() is GPU  # type: ignore[comparison-overlap]


def test_none_is_one_line_with_the_reason_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {
        "PyTorch": fails(ModuleNotFoundError("torch")),
        "cuda-python": fails(InputRefused("cuda-python", "cudaGetDevice: no driver")),
        "pycuda": fails(ImportError("libcuda.so.1: cannot open")),
    }
    monkeypatch.setattr(find, "PACKAGES", packages)
    with pytest.raises(InputRefused) as refused:
        open_gpu()
    assert str(refused.value) == (
        "TensorRT: an engine runs on a GPU, and there is none to be had (PyTorch is not installed; "
        "cuda-python: cudaGetDevice: no driver; pycuda: libcuda.so.1: cannot open); "
        "wanted: a GPU, its driver, and one of the three"
    )


def test_on_a_machine_without_one() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputRefused, match=r"an engine runs on a GPU, and there is none to be had \(PyTorch: it finds"):
        open_gpu()
