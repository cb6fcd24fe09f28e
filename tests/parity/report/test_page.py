"""The page of a report: well-formed, self-contained, with the verdict and every figure in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bnn_deploy.parity.report.page import SHOWN_FAILURES, render_report
from bnn_deploy.parity.results import ParityReport

Read = Callable[[ParityReport], Any]
EVIL = '"><script>alert(1)</script>&amp;'


@pytest.fixture
def read(html_reader: Any) -> Read:
    """Renders a report and reads it."""
    return lambda report: html_reader(render_report(report))


def test_the_verdict_stands_on_top(report: ParityReport, read: Read) -> None:
    page = read(report)
    assert "Parity fails: 5 findings." in page.text
    assert page.text.index("Parity fails") < page.text.index("Runners")
    assert all(failure in page.text for failure in report.failures)
    good = read(replace(report, cases=report.cases[:1], file_failures=()))
    assert "Parity holds." in good.text and "Parity fails" not in good.text


def test_many_findings_are_folded_away_and_none_is_lost(report: ParityReport, read: Read) -> None:
    many = tuple(f"finding {number}" for number in range(3 * SHOWN_FAILURES))
    page = read(replace(report, file_failures=many))
    assert all(failure in page.text for failure in many)
    assert f"{len(many) + 4 - SHOWN_FAILURES} more" in page.text


def test_everything_is_in_it(report: ParityReport, read: Read) -> None:
    text = read(report).text
    for wanted in ("birealnet", "out/model.onnx", "native-cpu", "batch 7", "seven random images", "2.13.0", "ab" * 32):
        assert wanted in text
    assert "fails in 1 of 2" in text and "layer1.b/Binarize: 9 flips" in text and "33,000" in text
    assert "pytorch, without mkldnn" in text and "no sign differs" in text
    assert "97.40%" in text and "99.80%" in text and "digit 17" in text and "1 image is not" in text


def test_a_point_for_each_layer_and_runner_and_a_bar_for_each_bucket(report: ParityReport) -> None:
    page = render_report(report)
    points = re.findall(r'<path d="[^"]*" class="series-(\d)"><title>([^<]*)</title>', page)
    assert len(points) == 1 + 5 + 5
    assert ("2", "layer1, native-cpu: inf") in points and ("1", "layer1/Binarize, onnxruntime: 0.2") in points
    assert len(re.findall('class="bar bad"', page)) == 1 and len(re.findall('class="bar good"', page)) == 2 + 3
    assert len(re.findall('class="label wrong"', page)) == 2


def test_without_accuracy_free_runs_or_flips(report: ParityReport, read: Read) -> None:
    runners = tuple(replace(result, free_run=None, binarizations=()) for result in report.cases[0].runners)
    case = replace(report.cases[0], runners=runners, spread=None)
    page = read(replace(report, cases=(case,), accuracy=None, file_failures=()))
    assert "Accuracy" not in page.text and "No free run was made." in page.text
    assert "Parity holds." in page.text


def test_no_flip_is_said_in_words(report: ParityReport, read: Read) -> None:
    def quiet(result: object) -> object:
        entries = tuple(replace(entry, sign_flips=0, flip_distances=(0,) * 8) for entry in result.binarizations)  # type: ignore[attr-defined]
        return replace(result, binarizations=entries)  # type: ignore[type-var]

    case = replace(report.cases[0], runners=tuple(map(quiet, report.cases[0].runners)))
    assert "No sign differs on onnxruntime, native-cpu." in read(replace(report, cases=(case,))).text


def test_an_empty_report(report: ParityReport, read: Read) -> None:
    assert "Parity holds." in read(replace(report, cases=(), accuracy=None, file_failures=())).text


def test_opens_without_a_network_and_runs_nothing(report: ParityReport, html_reader: Any) -> None:
    text = render_report(report)
    page = html_reader(text)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form", "use", "image"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "@media (prefers-color-scheme: dark)" in text


@pytest.mark.parametrize("field", ["model", "file"])
def test_names_cannot_break_out(field: str, report: ParityReport, read: Read) -> None:
    cases = tuple(replace(case, case=EVIL, description=EVIL) for case in report.cases)
    page = read(replace(report, cases=cases, file_failures=(EVIL,), versions={EVIL: EVIL}, **{field: EVIL}))
    assert "script" not in page.tags and EVIL in page.text
