"""PyTorch against itself: what is counted, and that the ways differ in nothing but rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bnn_deploy.parity.spread import spread
from bnn_deploy.runners.pytorch import PyTorchRunner


def test_each_way_is_the_same_network(deployed: Callable[..., Any]) -> None:
    given = deployed("Residual")
    runner = PyTorchRunner(given.module, ["x"], ["output"])
    threads = torch.get_num_threads()
    found = spread(runner.record(given.feeds), runner.variants(given.feeds))
    assert torch.get_num_threads() == threads and torch.backends.mkldnn.enabled
    assert {"without oneDNN", "channels last"} < set(found.runs) and len(found.runs) == 3
    for run in found.runs.values():
        assert run.sign_flips or run.max_abs_error <= run.tolerance
        assert run.argmax_agreement is not None and (run.first_divergence is None) == (run.sign_flips == 0)


def test_flips_and_errors_are_counted(deployed: Callable[..., Any]) -> None:
    given = deployed("Residual")
    recording = PyTorchRunner(given.module, ["x"], ["output"]).record(given.feeds)
    first, second = recording.binarizations
    x = second.x.copy()
    x.flat[:3] = -x.flat[:3]
    y = recording.outputs["output"].copy()
    y[0] = y[0, ::-1]
    y[1, 0] += 10
    other = replace(recording, binarizations=(first, replace(second, x=x)), outputs={"output": y})
    run = spread(recording, {"other": other}).runs["other"]
    assert (run.sign_flips, run.first_divergence) == (int((x.flat[:3] != 0).sum()), second.name)
    assert run.max_abs_error >= 10 - 1e-3
    assert run.argmax_agreement == np.mean(y.argmax(axis=1) == recording.outputs["output"].argmax(axis=1))
