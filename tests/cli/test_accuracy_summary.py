"""Accuracy in lines."""

from __future__ import annotations

from typing import Any

from bnn_deploy.cli.accuracy_summary import SHOWN_DISAGREEMENTS, accuracy_lines, full_accuracy_lines


def result(
    disagreements: int, *, classes: list[str], top5: bool = True, margin: float | None = 0.125
) -> dict[str, Any]:
    return {
        "dataset": "cats and dogs",
        "samples": 1200,
        "classes": classes,
        "top1": {"pytorch": 0.975, "native-cpu": 1.0},
        "top5": {"pytorch": 0.99, "native-cpu": 1.0} if top5 else None,
        "disagreements": disagreements,
        "disagreeing": [
            {
                "image": f"cat/{index}.png",
                "label": 0,
                "predicted": {"pytorch": 1, "native-cpu": 0},
                "margins": {"pytorch": margin, "native-cpu": 2.5},
            }
            for index in range(disagreements)
        ],
    }


def test_in_short() -> None:
    assert accuracy_lines(result(0, classes=[]), "held-out images") == [
        "accuracy on 1,200 held-out images (cats and dogs)",
        "  pytorch     97.50%",
        "  native-cpu  100.00%",
        "  0 images are classified differently",
    ]
    assert accuracy_lines(result(1, classes=[]), "images")[-1] == "  1 image is classified differently"


def test_in_full() -> None:
    lines = full_accuracy_lines(result(1, classes=["cat", "dog"]), "images")
    assert lines[1:3] == ["  pytorch     97.50%, top-5 99.00%", "  native-cpu  100.00%, top-5 100.00%"]
    assert [line.split() for line in lines[4:]] == [
        ["image", "label", "pytorch", "native-cpu"],
        ["---------", "-----", "-------------", "------------"],
        ["cat/0.png", "cat", "dog", "(by", "0.12)", "cat", "(by", "2.5)"],
    ]
    lines = full_accuracy_lines(result(1, classes=[], top5=False, margin=None), "images")
    assert lines[1] == "  pytorch     97.50%"
    assert lines[-1].split("  ")[-2:] == ["1 (by no number)", "0 (by 2.5)"]


def test_a_long_list_is_cut() -> None:
    lines = full_accuracy_lines(result(SHOWN_DISAGREEMENTS, classes=[]), "images")
    assert lines[-1].startswith(f"  cat/{SHOWN_DISAGREEMENTS - 1}.png")
    lines = full_accuracy_lines(result(SHOWN_DISAGREEMENTS + 3, classes=[]), "images")
    assert lines[-1] == "  ... and 3 more"
