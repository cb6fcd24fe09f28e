"""Top-1 and top-5 of several runners on the same labelled images, and the images on which they disagree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.errors import InputRefused
from bnn_deploy.labelled import LabelledImages
from bnn_deploy.runners.base import Runner

BATCH = 100
TOP = 5
"""Top-k is told for this k as well, where there are more classes than that."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Disagreement:
    """An image that the runners classify differently.

    Attributes:
        image: Its name.
        label: The index of its class.
        predicted: Runner name -> index of the class.
        margins: Runner name -> how far the largest score is above the second; a small one is a close call.
    """

    image: str
    label: int
    predicted: Mapping[str, int]
    margins: Mapping[str, float]


@dataclass(frozen=True)
class AccuracyResult:
    """Several runners side by side.

    Attributes:
        dataset: What the images are.
        samples: How many.
        classes: Their names in the order of the network's outputs; empty where labels are mere indices.
        top1: Runner name -> the share of images whose largest score is that of their label.
        top5: Runner name -> the share whose label is among the five largest; None for five classes or fewer.
        disagreements: The images that not all runners put into the same class.
    """

    dataset: str
    samples: int
    classes: tuple[str, ...]
    top1: dict[str, float]
    top5: dict[str, float] | None
    disagreements: tuple[Disagreement, ...]

    def to_json(self) -> dict[str, Any]:
        """Totals first; `disagreements` is their number, `disagreeing` lists them."""
        return {
            "dataset": self.dataset,
            "samples": self.samples,
            "classes": list(self.classes),
            "top1": dict(self.top1),
            "top5": None if self.top5 is None else dict(self.top5),
            "disagreements": len(self.disagreements),
            "disagreeing": [
                {
                    "image": entry.image,
                    "label": entry.label,
                    "predicted": dict(entry.predicted),
                    # JSON has no NaN or infinity.
                    "margins": {name: gap if math.isfinite(gap) else None for name, gap in entry.margins.items()},
                }
                for entry in self.disagreements
            ],
        }


@dataclass(frozen=True)
class _Answers:
    """What one runner says. predicted: [N] int64; ranks: [N] int64, 0 where the label has the largest score;
    margins: [N] float64.
    """

    predicted: NDArray[np.int64]
    ranks: NDArray[np.int64]
    margins: NDArray[np.float64]
    classes: int


def accuracy(
    runners: Mapping[str, Runner], dataset: LabelledImages, batch: int = BATCH, progress: Progress | None = None
) -> AccuracyResult:
    """Runs every runner on every image.

    Args:
        runners: Name -> runner, open; the first output of each is taken for the class scores, [N, classes].
        dataset: The images; read a batch at a time, once for all runners.
        batch: How many images at a time; a dataset for a network of fixed batch size overrides it.
        progress: Called with (images done, images in all) after each batch.

    Raises:
        InputRefused: The outputs are no class scores, or the labels are not of that many classes.
    """
    total, size = len(dataset.labels), dataset.batch or batch
    parts: dict[str, list[_Answers]] = {name: [] for name in runners}
    for first in range(0, total, size):
        last = min(first + size, total)
        images = _read(dataset, first, last)
        for name, runner in runners.items():
            output, scores = next(iter(runner.infer({dataset.input: images}).items()))
            _check_scores(name, output, scores, dataset)
            parts[name].append(_judge(scores[: last - first], dataset.labels[first:last]))
        if progress is not None:
            progress(last, total)
    return _result(dataset, {name: _join(answers) for name, answers in parts.items()})


def check_classes(runner: Runner, dataset: LabelledImages) -> None:
    """Runs the first image, and raises `InputRefused` as `accuracy` does: before anything takes time."""
    output, scores = next(iter(runner.infer({dataset.input: _read(dataset, 0, 1)}).items()))
    _check_scores(runner.name, output, scores, dataset)


def _read(dataset: LabelledImages, first: int, last: int) -> NDArray[np.float32]:
    """Of a dataset for a fixed batch as many: the first image stands for those that are missing."""
    images = dataset.read(first, last)
    missing = dataset.batch - len(images) if dataset.batch else 0
    return np.concatenate([images, np.repeat(images[:1], missing, axis=0)]) if missing else images


def _judge(scores: NDArray[Any], labels: NDArray[np.int64]) -> _Answers:
    """scores: [N, classes]. Of equal scores the first counts as the larger; NaN is below everything and never right."""
    rows = np.arange(len(labels))
    ordered = np.where(np.isnan(scores), -np.inf, scores.astype(np.float64))
    own = ordered[rows, labels][:, None]
    before = np.arange(scores.shape[1]) < labels[:, None]
    ranks = ((ordered > own) | ((ordered == own) & before)).sum(axis=1)
    largest = np.sort(ordered, axis=1)[:, -2:]
    with np.errstate(invalid="ignore"):  # infinity - infinity
        margins = largest[:, 1] - largest[:, 0]
    ranks = np.where(np.isnan(scores[rows, labels]), scores.shape[1], ranks)
    return _Answers(ordered.argmax(axis=1), ranks, margins, scores.shape[1])


def _join(answers: list[_Answers]) -> _Answers:
    return _Answers(
        np.concatenate([part.predicted for part in answers]),
        np.concatenate([part.ranks for part in answers]),
        np.concatenate([part.margins for part in answers]),
        answers[0].classes,
    )


def _result(dataset: LabelledImages, answers: Mapping[str, _Answers]) -> AccuracyResult:
    predicted = np.stack([answer.predicted for answer in answers.values()])  # [runners, N]
    apart = np.flatnonzero((predicted != predicted[0]).any(axis=0))
    more_classes = all(answer.classes > TOP for answer in answers.values())
    return AccuracyResult(
        dataset=dataset.source,
        samples=len(dataset.labels),
        classes=dataset.classes,
        top1={name: float((answer.ranks == 0).mean()) for name, answer in answers.items()},
        top5={name: float((answer.ranks < TOP).mean()) for name, answer in answers.items()} if more_classes else None,
        disagreements=tuple(
            Disagreement(
                image=dataset.names[index],
                label=int(dataset.labels[index]),
                predicted={name: int(answer.predicted[index]) for name, answer in answers.items()},
                margins={name: float(answer.margins[index]) for name, answer in answers.items()},
            )
            for index in apart
        ),
    )


def _check_scores(runner: str, output: str, scores: NDArray[Any], dataset: LabelledImages) -> None:
    where = f"accuracy, {runner}: output {output!r}"
    if scores.ndim != 2 or scores.shape[1] < 2:
        shape = "x".join(map(str, scores.shape))
        raise InputRefused(where, f"shape {shape}", "class scores: a row for each image, a column for each class")
    classes = scores.shape[1]
    if dataset.classes and len(dataset.classes) != classes:
        found = f"{classes} class scores, and {len(dataset.classes)} classes in {dataset.source}"
        raise InputRefused(where, found, "as many", "--classes FILE with the name of each class, in the scores' order")
    if dataset.labels.max() >= classes:
        raise InputRefused(where, f"{classes} class scores, and a label is {dataset.labels.max()}", "labels below that")
