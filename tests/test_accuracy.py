"""Accuracy of several runners: top-1 and top-5 against a plain count, and the images on which they disagree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.accuracy import AccuracyResult, accuracy
from bnn_deploy.errors import InputRefused
from bnn_deploy.labelled import LabelledImages
from bnn_deploy.runners.base import RunnerBase


class Table(RunnerBase):
    """Takes the numbers of images and looks their class scores up."""

    name = "table"

    def __init__(self, scores: Any) -> None:
        self.scores, self.batches = np.asarray(scores), []

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        (index,) = feeds.values()
        self.batches.append(index.tolist())
        return {"scores": self.scores[index.astype(int)], "more": np.zeros(3)}


def numbered(labels: Any, *, classes: tuple[str, ...] = (), batch: int | None = None) -> LabelledImages:
    """Image i is the number i."""
    names = tuple(f"image {index}" for index in range(len(labels)))
    return LabelledImages(
        "numbers",
        "x",
        batch,
        names,
        np.asarray(labels, np.int64),
        classes,
        lambda first, last: np.arange(first, last, dtype=np.float32),
    )


@settings(deadline=None, max_examples=40)
@given(
    samples=st.integers(1, 9),
    classes=st.integers(2, 8),
    batch=st.integers(1, 10),
    fixed=st.sampled_from([None, 1, 4]),
    seed=st.integers(0, 99),
)
def test_against_a_plain_count(samples: int, classes: int, batch: int, fixed: int | None, seed: int) -> None:
    """Scores out of a few values, so that equal ones are common."""
    generator = np.random.default_rng(seed)
    scores = {name: generator.integers(0, 4, (samples, classes)).astype(np.float32) for name in ("a", "b", "c")}
    labels = generator.integers(0, classes, samples)
    runners = {name: Table(table) for name, table in scores.items()}
    result = accuracy(runners, numbered(labels, batch=fixed), batch)
    ranked = {name: [sorted(range(classes), key=lambda c: (-row[c], c)) for row in scores[name]] for name in scores}
    for name, order in ranked.items():
        assert result.top1[name] == np.mean([row[0] == label for row, label in zip(order, labels, strict=True)])
        if classes > 5:
            assert result.top5 is not None
            assert result.top5[name] == np.mean([label in row[:5] for row, label in zip(order, labels, strict=True)])
        sizes = {len(indices) for indices in runners[name].batches}
        assert sizes == {fixed} if fixed else max(sizes) == min(batch, samples)
    assert (result.top5 is None) == (classes <= 5)
    assert result.samples == samples
    apart = [i for i in range(samples) if len({ranked[name][i][0] for name in scores}) > 1]
    assert [entry.image for entry in result.disagreements] == [f"image {i}" for i in apart]
    for entry, i in zip(result.disagreements, apart, strict=True):
        assert entry.label == labels[i]
        for name, order in ranked.items():
            assert entry.predicted[name] == order[i][0]
            assert entry.margins[name] == scores[name][i][order[i][0]] - scores[name][i][order[i][1]]


def test_scores_that_are_no_numbers() -> None:
    """NaN is never right and never chosen over a number."""
    nan, inf = np.nan, np.inf
    table = Table([[nan, 1.0, 0.0], [nan, nan, nan], [inf, inf, 0.0], [-inf, -inf, -inf]])
    result = accuracy({"a": table, "b": Table(np.eye(4, 3))}, numbered([0, 0, 0, 0]))
    assert result.top1["a"] == 0.5  # images 2 and 3
    chosen = {entry.image: entry.predicted["a"] for entry in result.disagreements}
    assert chosen["image 0"] == 1
    margins = [
        entry["margins"]["a"] for entry in json.loads(json.dumps(result.to_json(), allow_nan=False))["disagreeing"]
    ]
    assert margins[0] == 1.0 and margins[-1] is None


def test_the_last_of_fixed_batches_is_filled_up() -> None:
    table = Table(np.eye(7))
    result = accuracy({"a": table}, numbered(range(7), batch=3), 100)
    assert table.batches == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]
    assert (result.top1, result.samples) == ({"a": 1.0}, 7)


def test_progress_and_json() -> None:
    seen: list[tuple[int, int]] = []
    good, bad = np.eye(6), np.roll(np.eye(6), 1, axis=1)
    bad[1:] = np.eye(6)[1:]
    dataset = numbered(range(6), classes=tuple("abcdef"))
    result = accuracy({"good": Table(good), "bad": Table(bad)}, dataset, 4, lambda *done: seen.append(done))
    assert seen == [(4, 6), (6, 6)]
    assert isinstance(result, AccuracyResult)
    assert result.to_json() == {
        "dataset": "numbers",
        "samples": 6,
        "classes": ["a", "b", "c", "d", "e", "f"],
        "top1": {"good": 1.0, "bad": 5 / 6},
        "top5": {"good": 1.0, "bad": 1.0},
        "disagreements": 1,
        "disagreeing": [
            {
                "image": "image 0",
                "label": 0,
                "predicted": {"good": 0, "bad": 1},
                "margins": {"good": 1.0, "bad": 1.0},
            }
        ],
    }


@pytest.mark.parametrize(
    ("scores", "dataset", "message"),
    [
        (np.zeros((2, 3)), numbered([0, 3]), "output 'scores': 3 class scores, and a label is 3"),
        (
            np.zeros((2, 3)),
            numbered([0, 1], classes=("a", "b")),
            "3 class scores, and 2 classes in numbers; wanted: as many; fix: --classes FILE",
        ),
        (np.zeros((2, 3, 1)), numbered([0, 0]), "shape 2x3x1; wanted: class scores"),
        (np.zeros((2, 1)), numbered([0, 0]), "shape 2x1; wanted: class scores"),
        (np.zeros(2), numbered([0, 0]), "shape 2; wanted: class scores"),
    ],
)
def test_what_is_no_classifier_of_these_images(scores: Any, dataset: LabelledImages, message: str) -> None:
    with pytest.raises(InputRefused, match=f"accuracy, table: .*{message}"):
        accuracy({"table": Table(scores)}, dataset)
