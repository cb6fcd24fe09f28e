from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnn_deploy.errors import InputRefused
from bnn_deploy.passes import float_twin
from bnn_deploy.runners.onnxruntime_float import OnnxRuntimeFloatRunner

# Float32 sums in another order, relative to the largest output. Nothing in these networks is that close to a threshold.
TOLERANCE = 1e-5


@pytest.mark.parametrize("network", ["Residual", "Spatial", "Assorted", "Fused", "InPlace", "Stemmed"])
def test_the_twin_is_the_pytorch_network(network: str, deployed: Callable[..., Any]) -> None:
    given = deployed(network)
    twin = float_twin(given.proto())
    generator = np.random.default_rng(1)
    feeds = {name: generator.standard_normal(x.shape).astype(np.float32) for name, x in given.feeds.items()}
    with torch.no_grad():
        expected = given.module(*(torch.from_numpy(x) for x in feeds.values())).numpy()
    runner = OnnxRuntimeFloatRunner(twin, threads=1)
    (found,) = runner.infer(feeds).values()
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * float(np.abs(expected).max()))
    assert runner.name == "onnxruntime-float"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"none\.onnx: no such file"):
        OnnxRuntimeFloatRunner(tmp_path / "none.onnx")
