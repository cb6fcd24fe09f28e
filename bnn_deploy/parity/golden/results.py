"""What verifying a golden bundle finds, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.parity.results import finite

ACCUMULATORS, LEVELS, WORDS = "accumulators", "binarised values", "packed words"
SHOWN_PLACES = 16


@dataclass(frozen=True)
class Place:
    """One element that differs. index: (n, channel, row, column) behind a convolution, (n, channel) else."""

    index: tuple[int, ...]
    expected: float
    found: float

    def __str__(self) -> str:
        names = {2: ("n", "channel"), 4: ("n", "channel", "row", "column")}.get(len(self.index), ())
        index = [f"{name} {at}" for name, at in zip(names, self.index, strict=True)] if names else [str(self.index)]
        return f"{', '.join(index)}: {self.found:g} instead of {self.expected:g}"


@dataclass(frozen=True)
class LayerDifference:
    """A layer or a binarisation that is not as recorded, given the recorded bits of all layers.

    Attributes:
        layer: Its name.
        what: `accumulators`, `binarised values` or `packed words`.
        count: How many differ, ties not among them.
        elements: Of how many.
        places: The first `SHOWN_PLACES` of them.
    """

    layer: str
    what: str
    count: int
    elements: int
    places: tuple[Place, ...] = ()

    @classmethod
    def where(
        cls, layer: str, what: str, expected: NDArray[Any], found: NDArray[Any], differs: NDArray[np.bool_]
    ) -> LayerDifference:
        """Counts and locates. All arrays have one shape."""
        first = np.argwhere(differs)[:SHOWN_PLACES]
        places = tuple(
            Place(tuple(map(int, index)), float(expected[tuple(index)]), float(found[tuple(index)])) for index in first
        )
        return cls(layer, what, int(differs.sum()), differs.size, places)

    def __str__(self) -> str:
        text = f"{self.layer}: {self.count:,} of {self.elements:,} {self.what} differ"
        return f"{text}, the first at {self.places[0]}" if self.places else text

    def to_json(self) -> dict[str, Any]:
        """Numbers that JSON lacks (NaN, infinity) are null."""
        places = [
            {"index": list(place.index), "expected": finite(place.expected), "found": finite(place.found)}
            for place in self.places
        ]
        return {
            "layer": self.layer,
            "what": self.what,
            "count": self.count,
            "elements": self.elements,
            "places": places,
        }


@dataclass(frozen=True)
class CaseVerification:
    """One runner on one set of inputs.

    Attributes:
        runner: Its name.
        case: The inputs' name.
        samples: How many.
        accumulators: How many were compared.
        levels: How many binarised values were compared.
        ties: How many of those fell on the other side of a threshold that rounding cannot tell apart.
        differences: In the order of the network: the first is the one to look at.
        max_abs_error: Of the outputs, given the recorded bits of all layers.
        first_divergence: The first binarisation with any other value when the network runs freely, or None.
        failures: Each in a line; none if the runner is right.
    """

    runner: str
    case: str
    samples: int
    accumulators: int
    levels: int
    ties: int
    differences: tuple[LayerDifference, ...]
    max_abs_error: float
    first_divergence: str | None
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def accumulator_mismatches(self) -> int:
        """Over all layers."""
        return self._count(ACCUMULATORS)

    @property
    def level_mismatches(self) -> int:
        """Over all binarisations, ties not among them."""
        return self._count(LEVELS)

    def _count(self, what: str) -> int:
        return sum(entry.count for entry in self.differences if entry.what == what)

    def to_json(self) -> dict[str, Any]:
        """Totals first."""
        return {
            "runner": self.runner,
            "case": self.case,
            "passed": self.passed,
            "samples": self.samples,
            "accumulators": self.accumulators,
            "accumulator_mismatches": self.accumulator_mismatches,
            "levels": self.levels,
            "level_mismatches": self.level_mismatches,
            "ties": self.ties,
            "max_abs_error": finite(self.max_abs_error),
            "first_difference": self.differences[0].to_json() if self.differences else None,
            "differences": [entry.to_json() for entry in self.differences],
            "first_divergence": self.first_divergence,
            "failures": list(self.failures),
        }


def report_json(results: Mapping[str, tuple[CaseVerification, ...]]) -> dict[str, Any]:
    """Runner name -> results, one a case -> the verdict, then everything."""
    every = [result for cases in results.values() for result in cases]
    return {
        "passed": all(result.passed for result in every),
        "failures": [f"{result.runner}, {result.case}: {failure}" for result in every for failure in result.failures],
        "runners": {name: [result.to_json() for result in cases] for name, cases in results.items()},
    }
