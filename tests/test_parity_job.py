"""The parity job in this process: which cases there are for which file, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bnn_deploy import parity_job
from bnn_deploy.errors import InputRefused
from bnn_deploy.export.request import ExportRequest
from bnn_deploy.parity.request import ParityRequest
from bnn_deploy.parity.results import ParityReport
from bnn_deploy.pipeline import export_and_check

CODE = """
import torch
from torch import nn as tnn
from bnn_deploy import nn

class Net(tnn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.BinaryConv2d(3, 6, 3, padding=1)
        self.norm = tnn.BatchNorm2d(6)

    def forward(self, x):
        return self.norm(self.conv(x * 0.5)).mean(dim=(2, 3))

class Erf(Net):
    def forward(self, x):
        return super().forward(torch.special.entr(x.abs()))
"""

Check = Callable[..., ParityReport]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Exports a network of `CODE` and checks it on stock ONNX Runtime."""
    (tmp_path / "net.py").write_text(CODE)

    def check(name: str = "Net", *, dynamic: str = "batch", batch: int = 1, **fields: Any) -> ParityReport:
        shape = [batch, 3, 8, 6]
        request = ExportRequest(f"{tmp_path / 'net.py'}:{name}", str(tmp_path), inputs=[shape], dynamic=dynamic)
        report = export_and_check(request, tmp_path, lambda _: None)
        assert report["request"] == request.to_json()
        fields = {"runners": ["onnxruntime"], "adversarial": False, "batches": [2], **fields}
        asked = ParityRequest(
            str(tmp_path / "model.onnx"), report["request"], report["sha256"], str(tmp_path), **fields
        )
        return parity_job.check_file(asked, lambda _: None)

    return check


def sizes(report: ParityReport) -> dict[str, int]:
    assert report.passed, report.failures
    return {case.case: case.samples for case in report.cases}


def test_batches_and_hard_values(check: Check) -> None:
    others = {"batch 1": 1, "batch 2": 2, "hard values": 8, "not finite": 8, "binarisations": 0}
    assert sizes(check(adversarial=True, batches=[])) == {"random images": 32, "batch 7": 7} | others
    assert sizes(check(adversarial=True, batches=[], samples=3)) == {"random images": 3} | others


def test_a_fixed_batch_is_kept(check: Check) -> None:
    found = sizes(check(dynamic="none", batch=2, adversarial=True))
    assert set(found.values()) == {2, 0} and any(name.startswith("hard values: ") for name in found)


def test_open_sizes_are_tried(check: Check) -> None:
    report = check(dynamic="batch,spatial")
    assert {"size 9x11", "size 6x6", "size 8x4"} <= set(sizes(report))
    assert {"size 5x7"} <= set(sizes(check(dynamic="batch,spatial", sizes=[[5, 7]])))


def test_a_size_that_the_file_has_fixed_is_refused(check: Check) -> None:
    with pytest.raises(InputRefused, match="input 'x'"):
        check(sizes=[[5, 7]])


def test_a_folder_of_images(check: Check, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    with pytest.raises(InputRefused, match="no image in it"):
        check(images=str(folder))
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 255, (8, 6, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    found = sizes(check(images=str(folder), mean=[0.5], deviation=[0.25]))
    assert found == {"images": 3, "batch 2": 2}


def test_a_network_that_cannot_be_analysed_is_still_checked(check: Check) -> None:
    report = check("Erf")
    assert report.passed, report.failures
    reasons = report.cases[0].unproven
    assert reasons and "entr" in " ".join(reasons)
    (_, result) = report.cases[0].runners
    assert all(layer.bound is not None for layer in result.layers)


def test_what_is_written(check: Check, tmp_path: Path) -> None:
    report = check()
    assert json.loads((tmp_path / "parity.json").read_text()) == report.to_json()


def test_a_file_of_another_hash(check: Check, tmp_path: Path) -> None:
    check()
    network = {"model": "birealnet"}
    asked = ParityRequest(str(tmp_path / "model.onnx"), network, "0" * 64, str(tmp_path))
    with pytest.raises(InputRefused, match="its SHA-256 is"):
        parity_job.check_file(asked, lambda _: None)
