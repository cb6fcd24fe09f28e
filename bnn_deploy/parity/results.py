"""What the harness finds, as plain data. `to_json` of each is what `report.json` and `parity.json` hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FLIP_BUCKETS = (0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0, 1e3, 1e6)
"""The lower edges of the buckets that flips are counted in, by |distance to the threshold| / rounding bound.

Bucket i holds `FLIP_BUCKETS[i] <= ratio < FLIP_BUCKETS[i + 1]`, except that a ratio of exactly 1 counts as below 1 (a
tie); the last bucket has no upper edge and also takes ratios that are no number.
"""


@dataclass(frozen=True)
class LayerResult:
    """One 1-bit layer, given the reference's own input.

    Attributes:
        layer: Its name.
        elements: How many accumulators were compared.
        accumulator_mismatches: How many differ from the integer reference.
        max_abs_error: Of the epilogue, against float64.
        tolerance: The error that counts as rounding, where the error uses most of it.
        passed: No mismatch, and the error is rounding.
        max_ulp_error: The largest error in units in the last place of the value that was expected, in the file's
            float type.
        bound: The largest rounding bound of any element; None where none is proven and `tolerance` is a stated one.
        bound_used: The largest error / what counts as rounding of any element: at most 1 where the error is rounding.
        inexact: How many values are not what the documented float32 operations give, nor anything more accurate.
    """

    layer: str
    elements: int
    accumulator_mismatches: int
    max_abs_error: float
    tolerance: float
    passed: bool
    max_ulp_error: float = 0.0
    bound: float | None = None
    bound_used: float = 0.0
    inexact: int = 0


@dataclass(frozen=True)
class BinarizationResult:
    """One binarisation, in a network whose layers are all given the reference's bits.

    Attributes:
        layer: Its name.
        elements: How many values were compared.
        packed_mismatches: Words that differ from packing the runner's own values by the bit contract.
        max_abs_error: Of the real values, against the reference network's; None where the file does not hold them,
            because what stood between them and the bits was absorbed.
        tolerance: The error that counts as rounding, where the error uses most of it.
        sign_flips: Values that fall on another level than in the reference network.
        ties: Those of them that lie within their rounding bound of the threshold.
        passed: The words keep the contract, the error is rounding and every flip a tie.
        max_ulp_error: As of a layer; None where `max_abs_error` is.
        bound: The largest rounding bound of any value; None where none is proven and `tolerance` is a stated one.
        bound_used: The largest error / bound of any value.
        flip_distances: How many flips lie in each bucket of `FLIP_BUCKETS`.
    """

    layer: str
    elements: int
    packed_mismatches: int
    max_abs_error: float | None
    tolerance: float
    sign_flips: int
    ties: int
    passed: bool
    max_ulp_error: float | None = None
    bound: float | None = None
    bound_used: float = 0.0
    flip_distances: tuple[int, ...] = (0,) * len(FLIP_BUCKETS)


@dataclass(frozen=True)
class ProbeResult:
    """One binarisation of the file, given values that are hard to binarise.

    Attributes:
        layer: The binarisation's name.
        probe: What it was given: `zeros`, `negative zeros`, `just above the threshold`...
        elements: How many values.
        packed_mismatches: Words that differ from packing these values by the bit contract.
        passed: None does.
    """

    layer: str
    probe: str
    elements: int
    packed_mismatches: int
    passed: bool


@dataclass(frozen=True)
class FreeRun:
    """The network running freely, end to end.

    Attributes:
        max_abs_error: Of the outputs.
        tolerance: The error that counts as rounding where no sign differs.
        argmax_agreement: The share of samples with the same largest output; None where the output is no class score.
        sign_flips: Over all binarisations.
        first_divergence: The first binarisation with a flip, or None.
    """

    max_abs_error: float
    tolerance: float
    argmax_agreement: float | None
    sign_flips: int
    first_divergence: str | None


@dataclass(frozen=True)
class Spread:
    """How far the PyTorch network is from itself, computed another way: what float rounding alone does to it.

    Attributes:
        runs: How it was computed (`without mkldnn`, `one thread`, `channels last`) -> a free run against the way in
            which the reference was.
    """

    runs: Mapping[str, FreeRun]

    def to_json(self) -> dict[str, Any]:
        """One entry a way."""
        return {name: _plain(run) for name, run in self.runs.items()}


@dataclass(frozen=True)
class RunnerResult:
    """One runner against the reference."""

    runner: str
    samples: int
    layers: tuple[LayerResult, ...]
    binarizations: tuple[BinarizationResult, ...]
    free_run: FreeRun | None
    failures: tuple[str, ...] = field(default_factory=tuple)
    probes: tuple[ProbeResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def accumulator_mismatches(self) -> int:
        """Over all layers."""
        return sum(layer.accumulator_mismatches for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Totals first, then every layer."""
        return {
            "runner": self.runner,
            "passed": self.passed,
            "samples": self.samples,
            "accumulators": sum(layer.elements for layer in self.layers),
            "accumulator_mismatches": self.accumulator_mismatches,
            "max_abs_error": finite(
                self.free_run.max_abs_error
                if self.free_run
                else max((x.max_abs_error for x in self.layers), default=0.0)
            ),
            "sign_flips": sum(result.sign_flips for result in self.binarizations),
            "ties": sum(result.ties for result in self.binarizations),
            "argmax_agreement": self.free_run.argmax_agreement if self.free_run else None,
            "free_run": _plain(self.free_run) if self.free_run else None,
            "failures": list(self.failures),
            "layers": [_plain(layer) for layer in self.layers],
            "binarizations": [_plain(result) for result in self.binarizations],
            "probes": [_plain(probe) for probe in self.probes],
        }


@dataclass(frozen=True)
class CaseResult:
    """One set of inputs, all runners.

    Attributes:
        case: Its name: `digits`, `batch 7`, `all zeros`.
        description: What the inputs are, in a line.
        samples: How many.
        runners: PyTorch itself against the integer reference first, then every runner that was asked for.
        spread: PyTorch against itself; None where it was not measured.
        unproven: Why some rounding bounds are missing; the stated tolerance stands in for these.
    """

    case: str
    description: str
    samples: int
    runners: tuple[RunnerResult, ...]
    spread: Spread | None = None
    unproven: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """Each with its runner."""
        return tuple(f"{result.runner}: {failure}" for result in self.runners for failure in result.failures)

    @property
    def passed(self) -> bool:
        """Whether every runner did."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """Every runner in full."""
        return {
            "case": self.case,
            "description": self.description,
            "passed": self.passed,
            "samples": self.samples,
            "runners": {result.runner: result.to_json() for result in self.runners},
            "spread": self.spread.to_json() if self.spread else None,
            "unproven": list(self.unproven),
        }


@dataclass(frozen=True)
class ParityReport:
    """The whole verdict on one file; its JSON is `parity.json`.

    Attributes:
        model: What the user calls the PyTorch model.
        file: The path of the deployed file.
        sha256: Of the file's bytes.
        precision: `fp32` or `fp16`: the type of everything in the file that is not 1-bit.
        cases: One a set of inputs.
        accuracy: Top-1 of every runner on labelled images; None where there are none.
        versions: Package -> version.
        file_failures: What is wrong with the file itself, whatever runs it: constants, names.
    """

    model: str
    file: str
    sha256: str
    precision: str
    cases: tuple[CaseResult, ...]
    accuracy: Mapping[str, Any] | None
    versions: Mapping[str, str]
    file_failures: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """Those of the file, then those of the cases, each with its case and its runner."""
        cases = [f"{case.case}: {failure}" for case in self.cases for failure in case.failures]
        return (*(f"the file: {failure}" for failure in self.file_failures), *cases)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """The verdict first, then everything."""
        return {
            "model": self.model,
            "file": self.file,
            "sha256": self.sha256,
            "precision": self.precision,
            "passed": self.passed,
            "failures": list(self.failures),
            "file_failures": list(self.file_failures),
            "flip_buckets": list(FLIP_BUCKETS),
            "cases": [case.to_json() for case in self.cases],
            "accuracy": None if self.accuracy is None else dict(self.accuracy),
            "versions": dict(self.versions),
        }


def _plain(result: LayerResult | BinarizationResult | ProbeResult | FreeRun) -> dict[str, Any]:
    return {name: finite(value) for name, value in asdict(result).items()}


def finite(value: Any) -> Any:
    """JSON has no infinity: an error that is infinite is null there; and no tuple but a list."""
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
