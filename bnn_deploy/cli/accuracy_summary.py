"""Accuracy in a few lines: every runner's, and the images on which they disagree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bnn_deploy.cli.output import table_lines

SHOWN_DISAGREEMENTS = 10


def accuracy_lines(accuracy: Mapping[str, Any], images: str) -> list[str]:
    """Top-1 of every runner, and how many images they classify differently.

    Args:
        accuracy: As `AccuracyResult.to_json` has it.
        images: What to call them: `images`, `held-out images`.
    """
    width = max(map(len, accuracy["top1"]))
    lines = [f"accuracy on {accuracy['samples']:,} {images} ({accuracy['dataset']})"]
    lines += [f"  {name:<{width}}  {share:.2%}" for name, share in accuracy["top1"].items()]
    count = accuracy["disagreements"]
    return [*lines, f"  {count:,} {'image is' if count == 1 else 'images are'} classified differently"]


def full_accuracy_lines(accuracy: Mapping[str, Any], images: str) -> list[str]:
    """The same with top-5 and the first of those images: every runner's class, and the margin of its top two scores."""
    lines = accuracy_lines(accuracy, images)
    if accuracy["top5"] is not None:
        for index, share in enumerate(accuracy["top5"].values(), 1):
            lines[index] += f", top-5 {share:.2%}"
    if accuracy["disagreements"]:
        lines += [f"  {line}" for line in _table(accuracy)]
        more = accuracy["disagreements"] - SHOWN_DISAGREEMENTS
        lines += [f"  ... and {more:,} more"] if more > 0 else []
    return lines


def _table(accuracy: Mapping[str, Any]) -> Iterator[str]:
    columns = ("image", "label", *accuracy["top1"])
    rows = []
    for entry in accuracy["disagreeing"][:SHOWN_DISAGREEMENTS]:
        answers = {
            name: f"{_class(accuracy, index)} (by {_margin(entry['margins'][name])})"
            for name, index in entry["predicted"].items()
        }
        rows.append({"image": entry["image"], "label": _class(accuracy, entry["label"]), **answers})
    return table_lines(columns, rows)


def _class(accuracy: Mapping[str, Any], index: int) -> str:
    return accuracy["classes"][index] if accuracy["classes"] else str(index)


def _margin(value: float | None) -> str:
    return "no number" if value is None else f"{value:.2g}"
