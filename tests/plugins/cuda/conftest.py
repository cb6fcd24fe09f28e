"""The GPU's kernels, through `plugins/cuda/driver.py`: in the host executor, or on a GPU.

BNN_CUDA_LIBRARY names another library than that of the executor: the one for GPUs, with which the same cases run on a
device. The products and the orders that only the executor has are left out there, and the data is new each time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parent
# Neither the driver, nor `cuda_builds.py` and `conv_cases.py` beside this file, are in a package.
sys.path[:0] = [str(FOLDER.parents[2] / "plugins" / "cuda"), str(FOLDER)]

from cuda_builds import BUILT, built  # noqa: E402
from driver import ORDERS, PRODUCTS, Library  # noqa: E402


@pytest.fixture(scope="session")
def library() -> Library:
    """The kernels."""
    default = BUILT / "host" / "libbnn_deploy_cuda_host.so"
    return Library(built(Path(os.environ.get("BNN_CUDA_LIBRARY", default)), "the library of GPU kernels"))


@pytest.fixture(scope="session")
def on_gpu(library: Library) -> bool:
    """Whether the kernels run on a device."""
    return library.device().compute_capability != 0


@pytest.fixture(scope="session")
def products(on_gpu: bool) -> tuple[str, ...]:
    """The ways to multiply that the library has."""
    return ("native",) if on_gpu else tuple(PRODUCTS)


@pytest.fixture(scope="session")
def in_every_order(library: Library, on_gpu: bool) -> Callable[..., Iterator[Any]]:
    """What a function returns, once for each order in which the executor can run threads; on a GPU, once."""

    def results(run: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
        if on_gpu:
            yield run(*arguments, **options)
            return
        try:
            for order in ORDERS:
                library.order(order, seed=1)
                yield run(*arguments, **options)
        finally:
            library.order("ascending")

    return results


@pytest.fixture
def generator(on_gpu: bool) -> np.random.Generator:
    """Of random data. A test that fails shows the seed."""
    seed = int.from_bytes(os.urandom(4)) if on_gpu else 0
    print(f"seed {seed}")
    return np.random.default_rng(seed)
