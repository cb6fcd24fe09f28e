from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from bnn_deploy.parity.report.totals import (
    flip_counts,
    free_runs,
    largest,
    places,
    results_of,
    runners_of,
    totals,
    worst_used,
    wrong_places,
)
from bnn_deploy.parity.results import ParityReport


def test_a_runner_over_all_cases(report: ParityReport) -> None:
    assert runners_of(report) == ["pytorch", "onnxruntime", "native-cpu"]
    found = totals(report, "native-cpu")
    assert (found.cases, found.failed, found.accumulators, found.mismatches) == (2, 1, 6000, 7)
    assert (found.packed_mismatches, found.sign_flips, found.ties, found.free_flips) == (3 + 5, 11, 9, 9)
    assert (found.bound_used, found.output_error, found.argmax_agreement) == (math.inf, 0.5, 0.75)
    assert totals(report, "onnxruntime").bound_used == 0.2


def test_pytorch_has_no_free_run(report: ParityReport) -> None:
    found = totals(report, "pytorch")
    assert found.output_error is None and found.argmax_agreement is None and found.accumulators == 2000


def test_places_are_in_the_order_of_the_network(report: ParityReport) -> None:
    assert places(report) == ["stem.conv", "layer1/Binarize", "layer1", "layer1.b/Binarize", "layer1.b"]


def test_binarisations_stand_in_front_of_the_layers_of_their_module(report: ParityReport) -> None:
    def entry(kind: Any, name: str) -> Any:
        return replace(kind, layer=name)

    result = report.cases[0].runners[1]
    layers = tuple(entry(result.layers[0], name) for name in ("b.0.conv", "b.1.conv", "x+y", "conv", "conv#2"))
    names = ("b.0.sign/Binarize", "b.1.sign/Binarize", "x/Binarize", "conv/Binarize", "conv/Binarize#2")
    binarizations = tuple(entry(result.binarizations[0], name) for name in names)
    whole = replace(result, layers=layers, binarizations=binarizations)
    case = replace(report.cases[0], runners=(whole,))
    assert places(replace(report, cases=(case,))) == [
        *("b.0.sign/Binarize", "b.0.conv", "b.1.sign/Binarize", "b.1.conv", "x/Binarize", "x+y"),
        *("conv/Binarize", "conv", "conv/Binarize#2", "conv#2"),
    ]


def test_without_a_proven_bound_the_tolerance_counts(report: ParityReport) -> None:
    assert worst_used(report, "pytorch") == {"layer1": pytest.approx(0.1)}


def test_the_worst_of_each_place(report: ParityReport) -> None:
    worst = worst_used(report, "native-cpu")
    assert worst["layer1"] == math.inf and worst["layer1.b/Binarize"] == 40.0 and worst["stem.conv"] == 0.06
    assert wrong_places(report) == {"layer1", "layer1.b/Binarize"}


def test_flips(report: ParityReport) -> None:
    assert flip_counts(results_of(report, "onnxruntime")) == [4, 0, 0, 4, 0, 0, 0, 0]
    assert flip_counts(results_of(report, "native-cpu")) == [3, 0, 1, 5, 0, 2, 0, 0]


def test_free_runs_begin_with_pytorch_itself(report: ParityReport) -> None:
    runs = [(case, who) for case, who, _ in free_runs(report)]
    one = ["pytorch, without mkldnn", "onnxruntime", "native-cpu"]
    assert runs == [("digits", who) for who in one] + [("batch 7", who) for who in one]


def test_largest() -> None:
    assert largest([]) == 0.0 and largest([1.0, math.nan, 2.0]) == math.inf and largest([1.0, 2.0]) == 2.0
