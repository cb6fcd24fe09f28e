"""A report's figures over all cases: what a page or a terminal says of each runner in a line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bnn_deploy.parity.results import (
    FLIP_BUCKETS,
    BinarizationResult,
    FreeRun,
    LayerResult,
    ParityReport,
    RunnerResult,
)


@dataclass(frozen=True)
class RunnerTotals:
    """One runner over all cases.

    Attributes:
        runner: Its name.
        cases: In how many it ran, and in how many of them it `failed`.
        accumulators: Compared, and `mismatches` among them.
        packed_mismatches: Words that break the bit contract, of binarisations and probes.
        bound_used: The largest error / bound, or / tolerance where none is proven.
        sign_flips: Given the reference's bits, and `ties` among them.
        free_flips: Of the free runs.
        output_error: The largest of the free runs; None where none was made.
        argmax_agreement: The smallest; None where the outputs are no class scores.
    """

    runner: str
    cases: int
    failed: int
    accumulators: int
    mismatches: int
    packed_mismatches: int
    bound_used: float
    sign_flips: int
    ties: int
    free_flips: int
    output_error: float | None
    argmax_agreement: float | None


def runners_of(report: ParityReport) -> list[str]:
    """Every runner, in the order in which they first come."""
    return list(dict.fromkeys(result.runner for case in report.cases for result in case.runners))


def results_of(report: ParityReport, runner: str) -> list[RunnerResult]:
    """One result a case."""
    return [result for case in report.cases for result in case.runners if result.runner == runner]


def totals(report: ParityReport, runner: str) -> RunnerTotals:
    """Adds up what a runner did."""
    results = results_of(report, runner)
    layers = [layer for result in results for layer in result.layers]
    binarizations = [entry for result in results for entry in result.binarizations]
    probes = [probe for result in results for probe in result.probes]
    free = [result.free_run for result in results if result.free_run is not None]
    agreements = [run.argmax_agreement for run in free if run.argmax_agreement is not None]
    return RunnerTotals(
        runner=runner,
        cases=len(results),
        failed=sum(not result.passed for result in results),
        accumulators=sum(layer.elements for layer in layers),
        mismatches=sum(layer.accumulator_mismatches for layer in layers),
        packed_mismatches=sum(entry.packed_mismatches for entry in binarizations)
        + sum(probe.packed_mismatches for probe in probes),
        bound_used=largest(used for result in results for _, used, _ in _entries(result)),
        sign_flips=sum(entry.sign_flips for entry in binarizations),
        ties=sum(entry.ties for entry in binarizations),
        free_flips=sum(run.sign_flips for run in free),
        output_error=largest(run.max_abs_error for run in free) if free else None,
        argmax_agreement=min(agreements, default=None),
    )


def flip_counts(results: Iterable[RunnerResult]) -> list[int]:
    """How many flips lie in each bucket of `FLIP_BUCKETS`, over all binarisations."""
    rows = [entry.flip_distances for result in results for entry in result.binarizations]
    return [sum(row[bucket] for row in rows) for bucket in range(len(FLIP_BUCKETS))]


def places(report: ParityReport) -> list[str]:
    """Every layer and binarisation, in the order of the network; the run that compared most of them says which."""
    compared = [[name for name, _, _ in _entries(result)] for case in report.cases for result in case.runners]
    names: dict[str, None] = {}
    for run in sorted(compared, key=len, reverse=True):
        names |= dict.fromkeys(run)
    return _interleaved(list(names))


def worst_used(report: ParityReport, runner: str) -> dict[str, float]:
    """Layer or binarisation -> the largest error / bound of any case."""
    worst: dict[str, float] = {}
    for result in results_of(report, runner):
        for name, used, _ in _entries(result):
            worst[name] = largest((worst.get(name, 0.0), used))
    return worst


def wrong_places(report: ParityReport) -> set[str]:
    """The layers and binarisations that did not pass everywhere."""
    entries = (entry for case in report.cases for result in case.runners for entry in _entries(result))
    return {name for name, _, passed in entries if not passed}


def free_runs(report: ParityReport) -> Iterator[tuple[str, str, FreeRun]]:
    """(case, who, free run): PyTorch computed in other ways first, then the runners."""
    for case in report.cases:
        if case.spread is not None:
            yield from ((case.case, f"pytorch, {way}", run) for way, run in case.spread.runs.items())
        for result in case.runners:
            if result.free_run is not None:
                yield case.case, result.runner, result.free_run


def largest(values: Iterable[float]) -> float:
    """The largest; NaN counts as infinite, no value as 0."""
    return max((math.inf if math.isnan(value) else value for value in values), default=0.0)


def _entries(result: RunnerResult) -> Iterator[tuple[str, float, bool]]:
    """(name, error / bound, whether it passed) of layers, then of binarisations."""
    compared: list[LayerResult | BinarizationResult] = [*result.layers, *result.binarizations]
    yield from ((entry.layer, _used(entry), entry.passed) for entry in compared)


def _used(entry: LayerResult | BinarizationResult) -> float:
    """Error / bound; where none is proven, error / tolerance."""
    if entry.bound_used or entry.bound is not None or not entry.max_abs_error or not entry.tolerance:
        return entry.bound_used
    return entry.max_abs_error / entry.tolerance


def _interleaved(names: list[str]) -> list[str]:
    """Each binarisation in front of the next layer of the same module, by the names; both are in order already."""
    layers = [name for name in names if "/" not in name]
    waiting = [name for name in names if "/" in name]
    ordered: list[str] = []
    for layer in layers:
        first = layer.split("+")[0]
        own = next((at for at, name in enumerate(waiting) if _belong(name.split("/")[0], first)), -1)
        ordered += [*waiting[: own + 1], layer]
        del waiting[: own + 1]
    return ordered + waiting


def _belong(one: str, other: str) -> bool:
    """Whether two names are the same, but for the call, or stand in the same module, not the outermost."""
    one, other = one.split("#")[0], other.split("#")[0]
    parent = other.rpartition(".")[0]
    return one == other or (parent != "" and one.rpartition(".")[0] == parent)
