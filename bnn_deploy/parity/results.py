"""What the harness finds, as plain data. `to_json` of each is what `report.json` holds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class LayerResult:
    """One 1-bit layer, given the reference's own input.

    Attributes:
        layer: Its name.
        elements: How many accumulators were compared.
        accumulator_mismatches: How many differ from the integer reference.
        max_abs_error: Of the epilogue, against float64.
        passed: No mismatch, and the error is rounding.
    """

    layer: str
    elements: int
    accumulator_mismatches: int
    max_abs_error: float
    tolerance: float
    passed: bool


@dataclass(frozen=True)
class BinarizationResult:
    """One binarisation, in a network whose layers are all given the reference's bits.

    Attributes:
        layer: Its name.
        elements: How many values were compared.
        packed_mismatches: Words that differ from packing the runner's own values by the bit contract.
        max_abs_error: Of the real values, against the reference network's; None where the file does not hold them,
            because what stood between them and the bits was absorbed.
        sign_flips: Values that fall on another level than in the reference network.
        ties: Those of them that lie within the tolerance of the threshold.
    """

    layer: str
    elements: int
    packed_mismatches: int
    max_abs_error: float | None
    tolerance: float
    sign_flips: int
    ties: int
    passed: bool


@dataclass(frozen=True)
class FreeRun:
    """The network running freely, end to end.

    Attributes:
        max_abs_error: Of the outputs.
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
class RunnerResult:
    """One runner against the reference."""

    runner: str
    samples: int
    layers: tuple[LayerResult, ...]
    binarizations: tuple[BinarizationResult, ...]
    free_run: FreeRun | None
    failures: tuple[str, ...] = field(default_factory=tuple)

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
            "max_abs_error": _finite(
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
        }


def _plain(result: LayerResult | BinarizationResult | FreeRun) -> dict[str, Any]:
    return {name: _finite(value) for name, value in asdict(result).items()}


def _finite(value: Any) -> Any:
    """JSON has no infinity: an error that is infinite is null there."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
