"""How a difference is put into words and into JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bnn_deploy.parity.golden.results import (
    ACCUMULATORS,
    LEVELS,
    SHOWN_PLACES,
    CaseVerification,
    LayerDifference,
    Place,
    report_json,
)


def case(*differences: LayerDifference, failures: tuple[str, ...] = (), error: float = 0.0) -> CaseVerification:
    return CaseVerification("tested", "digits", 3, 100, 200, 1, differences, error, None, failures)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (Place((3, 5), 12, 14), "n 3, channel 5: 14 instead of 12"),
        (Place((0, 1, 2, 3), -1, 1), "n 0, channel 1, row 2, column 3: 1 instead of -1"),
        (Place((0, 1, 2), 7, float("nan")), "(0, 1, 2): nan instead of 7"),
    ],
)
def test_a_place_in_words(place: Place, text: str) -> None:
    assert str(place) == text


def test_where() -> None:
    expected = np.arange(2400).reshape(2, 3, 20, 20)
    found = expected.copy()
    found[1, 2] += 1
    found[0, 0, 0, 1] = -5
    difference = LayerDifference.where("conv", ACCUMULATORS, expected, found, found != expected)
    assert (difference.count, difference.elements, len(difference.places)) == (401, 2400, SHOWN_PLACES)
    assert difference.places[:2] == (Place((0, 0, 0, 1), 1, -5), Place((1, 2, 0, 0), 2000, 2001))
    text = "conv: 401 of 2,400 accumulators differ, the first at n 0, channel 0, row 0, column 1: -5 instead of 1"
    assert str(difference) == text
    assert str(LayerDifference("conv", LEVELS, 2, 9)) == "conv: 2 of 9 binarised values differ"


def test_json_has_totals_and_no_numbers_that_it_lacks() -> None:
    spoiled = LayerDifference("a", ACCUMULATORS, 2, 9, (Place((0, 1), 3, float("nan")),))
    failed = case(spoiled, LayerDifference("b", LEVELS, 4, 9), failures=("a: bad",), error=float("inf"))
    report = json.loads(json.dumps(report_json({"x": (case(), failed), "y": (case(),)}), allow_nan=False))
    assert report["passed"] is False and report["failures"] == ["tested, digits: a: bad"]
    assert [entry["passed"] for entry in report["runners"]["x"]] == [True, False]
    entry = report["runners"]["x"][1]
    assert (entry["accumulator_mismatches"], entry["level_mismatches"], entry["max_abs_error"]) == (2, 4, None)
    assert entry["first_difference"] == entry["differences"][0]
    assert entry["first_difference"]["places"] == [{"index": [0, 1], "expected": 3, "found": None}]
    assert report["runners"]["y"][0]["first_difference"] is None
    assert report_json({"y": (case(),)})["passed"]
