"""A parity report as one self-contained HTML page: the verdict, then what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from bnn_deploy.html.markup import Markup, element, join
from bnn_deploy.html.numbers import short
from bnn_deploy.html.page import document, section
from bnn_deploy.html.plots import Series, histogram, key, log_plot, reach_chart
from bnn_deploy.html.tables import row, table, tiles
from bnn_deploy.parity.report.totals import (
    RunnerTotals,
    flip_counts,
    free_runs,
    places,
    results_of,
    runners_of,
    totals,
    worst_used,
    wrong_places,
)
from bnn_deploy.parity.results import FLIP_BUCKETS, ParityReport

SHOWN_FAILURES, SHOWN_DISAGREEMENTS = 12, 40
DECADES = (-4, 1)
ERRORS = (
    "The largest error of each layer's epilogue and of each value that is binarised, over all cases, divided by what "
    "rounding may make of it there. At the red line the bound is used up; right of it is a bug."
)
FLIPS = (
    "Given the reference's own bits, how far from its threshold each value was whose sign differs, divided by the "
    "rounding bound there. Up to 1 it is a tie, and green; from 1 on no rounding explains it. Heights are logarithmic."
)
DIVERGENCE = (
    "Running freely, one flipped sign changes everything behind it. PyTorch computed in another way differs from "
    "itself, too: that spread is what float rounding alone does to this network. A full bar: no sign differs."
)


def render_report(report: ParityReport) -> str:
    """The page, as HTML with its style and drawings in it; it opens without a network and runs no script."""
    found = [totals(report, runner) for runner in runners_of(report)]
    sections = [
        section("Runners", _runner_table(found)),
        section("Cases", _case_table(report)),
        section("Error of each layer", element("p", ERRORS), _error_plot(report)),
        section("Flipped signs", element("p", FLIPS), *_flip_plots(report)),
        section("First divergence", element("p", DIVERGENCE), *_divergence(report)),
    ]
    if report.accuracy is not None:
        sections.append(section("Accuracy", *_accuracy(report.accuracy)))
    sections.append(section("Versions", _versions(report)))
    header = element("header", element("h1", report.model), element("p", f"{report.file}, {report.precision}"))
    return document(
        f"{report.model}: bnn-deploy parity", header, _verdict(report), tiles(_headlines(report, found)), *sections
    )


def _verdict(report: ParityReport) -> Markup:
    if report.passed:
        told = element("p", element("span", "Parity holds.", class_="good"))
        return element("div", told, class_="verdict")
    count = len(report.failures)
    shown = [element("li", failure) for failure in report.failures[:SHOWN_FAILURES]]
    rest = [element("li", failure) for failure in report.failures[SHOWN_FAILURES:]]
    more = [element("details", element("summary", f"{len(rest)} more"), element("ul", *rest))] if rest else []
    told = element("p", element("span", f"Parity fails: {count} finding{'s' if count > 1 else ''}.", class_="bad"))
    return element("div", told, element("ul", *shown), *more, class_="verdict wrong")


def _headlines(report: ParityReport, found: Sequence[RunnerTotals]) -> list[tuple[str, str]]:
    deployed = [one for one in found if one.output_error is not None]
    compared, mismatches = sum(one.accumulators for one in found), sum(one.mismatches for one in found)
    flips, ties = sum(one.sign_flips for one in found), sum(one.ties for one in found)
    facts = [
        (f"{mismatches:,}", f"of {short(compared)} accumulators differ"),
        (f"{flips - ties:,}", f"signs flip that no rounding explains, and {ties:,} by a tie"),
        (_number(max((one.bound_used for one in found), default=0.0)), "of its rounding bound, the largest error"),
    ]
    agreements = [one.argmax_agreement for one in deployed if one.argmax_agreement is not None]
    if agreements:
        facts.append((f"{min(agreements):.1%}", "of the samples classified alike, in the worst case"))
    samples = sum(case.samples for case in report.cases)
    facts.append((f"{len(report.cases)}", f"cases, {samples:,} samples"))
    return facts


def _runner_table(found: Sequence[RunnerTotals]) -> Markup:
    headings = (
        *("runner", "verdict", "accumulators differ", "error / bound", "words differ", "flips", "ties"),
        *("free flips", "output error", "argmax alike"),
    )
    right = tuple(range(2, len(headings)))
    rows = [
        row(
            (
                element("code", one.runner),
                _passed(not one.failed, f"fails in {one.failed} of {one.cases}"),
                join(_counted(one.mismatches), f" of {one.accumulators:,}"),
                _number(one.bound_used),
                _counted(one.packed_mismatches),
                f"{one.sign_flips:,}",
                f"{one.ties:,}",
                f"{one.free_flips:,}" if one.output_error is not None else "",
                _number(one.output_error) if one.output_error is not None else "",
                f"{one.argmax_agreement:.1%}" if one.argmax_agreement is not None else "",
            ),
            right,
        )
        for one in found
    ]
    return table(headings, rows, right=right, class_="layers")


def _case_table(report: ParityReport) -> Markup:
    runners = runners_of(report)
    rows = []
    for case in report.cases:
        passed = {result.runner: result.passed for result in case.runners}
        verdicts = [_passed(passed[name]) if name in passed else "" for name in runners]
        rows.append(row((_whole(case.case), case.description, f"{case.samples or ''}", *verdicts), (2,)))
    return table(("case", "inputs", "samples", *runners), rows, right=(2,))


def _error_plot(report: ParityReport) -> Markup:
    names, runners = places(report), runners_of(report)
    worst = [worst_used(report, runner) for runner in runners]
    series = [Series(name, [of.get(place) for place in names]) for name, of in zip(runners, worst, strict=True)]
    plot = log_plot("error / bound", names, series, decades=DECADES, limit=1.0, wrong=wrong_places(report))
    return join(key(runners), plot)


def _flip_plots(report: ParityReport) -> list[Markup]:
    bounds = [*FLIP_BUCKETS, float("inf")]
    names = [
        f"below {_edge(high)}" if low == 0 else f"from {_edge(low)}" if high == float("inf") else f"to {_edge(high)}"
        for low, high in pairwise(bounds)
    ]
    counted = {runner: flip_counts(results_of(report, runner)) for runner in runners_of(report)}
    none = [runner for runner, counts in counted.items() if not any(counts) and _binarizes(report, runner)]
    plots = [
        histogram(f"{runner}: distance to the threshold / bound", names, counts, bad=FLIP_BUCKETS.index(1.0))
        for runner, counts in counted.items()
        if any(counts)
    ]
    return plots + ([element("p", f"No sign differs on {', '.join(none)}.")] if none else [])


def _binarizes(report: ParityReport, runner: str) -> bool:
    return any(result.binarizations for result in results_of(report, runner))


def _divergence(report: ParityReport) -> list[Markup]:
    """The earliest divergence of each way to compute the network as a bar; every case in a table."""
    order = [name for name in places(report) if "/" in name]
    earliest: dict[str, tuple[float, str]] = {}
    rows = []
    for case, who, run in free_runs(report):
        at = run.first_divergence
        share = order.index(at) / len(order) if at in order else 1.0
        told = f"{at}: {run.sign_flips:,} flips" if at is not None else "no sign differs"
        if who not in earliest or share < earliest[who][0]:
            earliest[who] = (share, told)
        alike = f"{run.argmax_agreement:.1%}" if run.argmax_agreement is not None else ""
        cells = (_whole(case), who, at or "none", f"{run.sign_flips:,}", _number(run.max_abs_error), alike)
        rows.append(row(cells, (3, 4, 5)))
    if not rows:
        return [element("p", "No free run was made.")]
    bars = [(who, share, told) for who, (share, told) in earliest.items()]
    headings = ("case", "run", "first divergence", "flips", "output error", "argmax alike")
    every = table(headings, rows, right=(3, 4, 5))
    chart = reach_chart("how far through the network all signs are equal", bars)
    return [chart, element("details", element("summary", "Every case"), every)]


def _accuracy(accuracy: Any) -> list[Markup]:
    """`AccuracyResult.to_json`: top-1 of every runner, and the images that they disagree on."""
    top5 = accuracy.get("top5") or {}
    rows = [
        row((element("code", name), f"{share:.2%}", f"{top5[name]:.2%}" if name in top5 else ""), (1, 2))
        for name, share in accuracy["top1"].items()
    ]
    parts = [
        element("p", f"{accuracy['samples']:,} labelled images: {accuracy['dataset']}."),
        table(("runner", "top-1", "top-5"), rows, right=(1, 2), class_="narrow"),
    ]
    disagreeing = accuracy.get("disagreeing") or []
    if not accuracy.get("disagreements"):
        return [*parts, element("p", "All classify every image alike.")]
    runners = list(accuracy["top1"])
    classes = dict(enumerate(accuracy.get("classes") or []))
    listed = [
        row(
            (
                entry["image"],
                _class(classes, entry["label"]),
                *(_class(classes, entry["predicted"][n]) for n in runners),
            ),
            (),
        )
        for entry in disagreeing[:SHOWN_DISAGREEMENTS]
    ]
    count = accuracy["disagreements"]
    parts.append(element("p", f"{count:,} image{'s are' if count > 1 else ' is'} not classified alike by all."))
    return [*parts, table(("image", "label", *runners), listed)] if listed else parts


def _class(classes: dict[int, str], index: int) -> str:
    return classes.get(index, str(index))


def _versions(report: ParityReport) -> Markup:
    rows = [row((name, element("code", version)), ()) for name, version in report.versions.items()]
    return table(("", ""), [*rows, row(("sha256 of the file", element("code", report.sha256)), ())], class_="narrow")


def _passed(passed: bool, otherwise: str = "fails") -> Markup:
    return element("span", "passes" if passed else otherwise, class_="good" if passed else "bad")


def _whole(name: str) -> Markup:
    """A name that is never cut in two."""
    return element("code", name, class_="whole")


def _counted(wrong: int) -> Markup:
    return element("span", f"{wrong:,}", class_="bad" if wrong else None)


def _number(value: float) -> str:
    return f"{value:.3g}"


def _edge(value: float) -> str:
    return short(value).replace(" ", "").replace(".00", "") if value >= 1 else f"{value:g}"
