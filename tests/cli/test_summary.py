"""What `export` prints of a report."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bnn_deploy.cli.summary import summary

FREE = {"max_abs_error": 2.5e-6, "tolerance": 1e-5, "sign_flips": 0, "first_divergence": None}
REPORT: dict[str, Any] = {
    "weights_description": "shipped weights",
    "file_bytes": 12_345,
    "float_bytes": 246_900,
    "layers": [{"binary": True}, {"binary": True}, {"binary": False}],
    "binary_macs": 900,
    "total_macs": 1000,
    "passes": [
        {"name": "PackActivationsPass", "declined": [{"layer": "conv3", "reason": "nothing binarises its input"}]},
        {"name": "PackPoolPass", "declined": [{"layer": "pool", "reason": "nothing that concerns the user"}]},
    ],
    "sign_zero": {"asked": "auto", "layers_changed": 0},
    "parity_inputs": "random images",
    "parity": {
        "pytorch": {
            "samples": 16,
            "accumulators": 12_800,
            "accumulator_mismatches": 0,
            "sign_flips": 0,
            "ties": 0,
            "free_run": None,
        },
        "onnxruntime": {
            "samples": 16,
            "accumulators": 12_800,
            "accumulator_mismatches": 0,
            "sign_flips": 2,
            "ties": 2,
            "free_run": FREE,
        },
    },
    "accuracy": None,
}


def report(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(REPORT), **changes}


def test_lines() -> None:
    assert summary(report(), "out/x") == [
        "out/x/model.onnx",
        "  weights    shipped weights",
        "  size       12,345 bytes; with float weights it would be 246,900 (20.0x)",
        "  layers     2 of 3 are 1-bit, 90.0% of the multiply-accumulates",
        "  left float conv3: nothing binarises its input",
        "parity with the exact reference: passed on 16 samples (random images)",
        "  pytorch      0 of 12,800 accumulators differ",
        "  onnxruntime  0 of 12,800 accumulators differ, 2 signs flip (2 ties), outputs within 2.5e-06",
    ]


def test_a_free_run_that_parts_by_a_tie_says_where() -> None:
    changed = report()
    changed["parity"]["onnxruntime"]["free_run"] = {**FREE, "first_divergence": "conv2/Binarize"}
    line = summary(changed, "out")[-1]
    assert line.endswith("; running freely it parts at conv2/Binarize, by a tie")


@pytest.mark.parametrize("zero", ["one", "zero"])
def test_a_changed_sign_of_0_is_said(zero: str) -> None:
    lines = summary(report(sign_zero={"asked": zero, "layers_changed": 3}), "out")
    assert f"  sign(0)    taken for {zero} in 3 layers, as asked; PyTorch was run so too" in lines
    assert not [line for line in summary(report(), "out") if "sign(0)" in line]


@pytest.mark.parametrize(("count", "words"), [(0, "0 images are"), (1, "1 image is"), (12, "12 images are")])
def test_accuracy_side_by_side(count: int, words: str) -> None:
    accuracy = {
        "samples": 1000,
        "dataset": "digits",
        "top1": {"pytorch": 0.97, "onnxruntime": 0.9701},
        "disagreements": count,
    }
    assert summary(report(accuracy=accuracy), "out")[-4:] == [
        "accuracy on 1,000 held-out images (digits)",
        "  pytorch      97.00%",
        "  onnxruntime  97.01%",
        f"  {words} classified differently",
    ]


def test_work_that_is_not_known() -> None:
    (line,) = [line for line in summary(report(total_macs=0, binary_macs=0), "out") if line.startswith("  layers")]
    assert line == "  layers     2 of 3 are 1-bit"
