"""Conditions move in front of monotone functions without a single float32 changing sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnn_deploy.passes.affine import Affine
from bnn_deploy.passes.interval import LARGEST, Interval, add_bounds, read_interval

Floats = NDArray[np.float32]
EDGES = np.array([0.0, -0.0, 1e-45, -1e-45, 1.2e-38, -1.2e-38, 1, -1, LARGEST, -LARGEST, np.inf, -np.inf], np.float32)
EVERY_RISE, EVERY_FALL = np.zeros(1, bool), np.ones(1, bool)

numbers = st.one_of(
    st.sampled_from(EDGES.tolist()), st.floats(width=32, allow_nan=False), st.integers(-9, 9).map(float)
)
finite = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.1]), st.floats(-(2.0**60), 2.0**60, width=32))


def interval(lower: float, upper: float) -> Interval:
    return Interval(np.full(1, lower, np.float32), np.full(1, upper, np.float32))


def probes(*found: Interval, seed: int = 0) -> Floats:
    """Edges, any bit patterns, and each bound with its neighbours."""
    patterns = np.random.default_rng(seed).integers(-(2**31), 2**31, 500, np.int64).astype(np.int32).view(np.float32)
    near = [np.float32([one.lower[0], one.upper[0]]) for one in found]
    with np.errstate(over="ignore"):
        near += [np.nextafter(ends, np.float32(toward)) for ends in near for toward in (np.inf, -np.inf)]
    return np.concatenate([EDGES, np.float32([np.nan]), patterns, *near])


def agrees(condition: Interval, function: Callable[[Floats], Floats], falls: NDArray[np.bool_]) -> None:
    before = condition.before(function, falls)
    assert before.lower.dtype == before.upper.dtype == np.float32
    x = probes(condition, before)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(before.holds(x), condition.holds(function(x)))


@settings(max_examples=150)
@given(numbers, numbers, finite, finite, finite)
def test_affine(lower: float, upper: float, factor: float, centre: float, term: float) -> None:
    affine = Affine(ir.val("x"), *(np.full(1, value, np.float64) for value in (factor, centre, term)))
    agrees(interval(lower, upper), affine, np.full(1, factor < 0))


@settings(max_examples=60)
@given(numbers, numbers, numbers, numbers)
def test_clip(lower: float, upper: float, low: float, high: float) -> None:
    bounds = np.float32(min(low, high)), np.float32(max(low, high))
    agrees(interval(lower, upper), lambda x: np.clip(x, *bounds), EVERY_RISE)


@settings(max_examples=40)
@given(numbers, numbers, st.sampled_from([0.0, 1e-45, 0.01, 0.25, 1.0, 3.0]))
def test_prelu(lower: float, upper: float, slope: float) -> None:
    agrees(interval(lower, upper), lambda x: np.where(x >= 0, x, np.float32(slope) * x), EVERY_RISE)


@settings(max_examples=20)
@given(numbers, numbers)
def test_what_falls(lower: float, upper: float) -> None:
    agrees(interval(lower, upper), lambda x: -x, EVERY_FALL)
    agrees(interval(lower, upper), lambda x: np.float32(1) - x, EVERY_FALL)


def test_the_sign_of_batch_norm() -> None:
    """gamma > 0: from the threshold on; gamma < 0: up to it; gamma = 0: what beta says. Only numbers are 1."""
    gamma, beta = np.array([2.0, -2, 0, 0, 0, 1]), np.array([-1.0, -1, 0.5, 0, -0.5, 0])
    mean = np.array([3.0, 3, 3, 3, 3, 0.1])
    before = Interval(np.zeros(6, np.float32), np.full(6, np.inf, np.float32)).before(
        Affine(ir.val("x"), gamma, mean, beta), gamma < 0
    )
    assert before.lower[:5].tolist() == [3.5, -np.inf, -LARGEST, -LARGEST, np.inf]
    assert before.upper[:4].tolist() == [np.inf, 2.5, LARGEST, LARGEST]
    assert before.lower[4] > before.upper[4]
    assert float(before.lower[5]) >= 0.1 > float(np.nextafter(before.lower[5], np.float32(0)))


def test_a_tie_of_a_unipolar_pack_is_zero() -> None:
    """x - 1 > 0 is false at x = 1, and true at the next number."""
    above_zero = Interval(np.nextafter(np.zeros(1, np.float32), np.float32(1)), np.full(1, np.inf, np.float32))
    before = above_zero.before(Affine(ir.val("x"), np.ones(1), np.ones(1), np.zeros(1)), EVERY_RISE)
    assert before.lower[0] == np.nextafter(np.float32(1), np.float32(2))


def test_relu() -> None:
    def before(lower: float, upper: float) -> tuple[float, float]:
        found = interval(lower, upper).before(lambda x: np.maximum(x, np.float32(0)), EVERY_RISE)
        return float(found.lower[0]), float(found.upper[0])

    assert before(0, np.inf) == (-np.inf, np.inf)
    assert before(1, np.inf) == (1, np.inf)
    assert before(-2, 3) == (-np.inf, 3)
    never = before(-2, -1)
    assert never[0] > never[1]


def test_one_after_another(toolbox: Any) -> None:
    """sign(relu(2 * (x + 1)) - 3): each float32 result is the next one's operand."""
    steps: list[tuple[Callable[[Floats], Floats], NDArray[np.bool_]]] = [
        (lambda x: x + np.float32(1), EVERY_RISE),
        (lambda x: np.float32(-2) * x, EVERY_FALL),
        (lambda x: np.maximum(x, np.float32(0)), EVERY_RISE),
        (lambda x: x - np.float32(0.3), EVERY_RISE),
    ]
    condition = found = interval(0, np.inf)
    for function, falls in reversed(steps):
        found = found.before(function, falls)
    y = x = probes(found)
    with np.errstate(all="ignore"):
        for function, _ in steps:
            y = function(y)
    np.testing.assert_array_equal(found.holds(x), condition.holds(y))
    assert found.holds(x).any()


class TestRead:
    @pytest.fixture
    def draft(self, toolbox: Any) -> Any:
        return toolbox.Draft(x=["batch", 3, 4, 4], t=[1])

    def read(self, draft: Any, op: str, *operands: Any) -> tuple[list[float], list[float]]:
        constants = [draft.constant(f"c{index}", operand) for index, operand in enumerate(operands)]
        found = read_interval(draft.op(op, draft["x"], *constants, domain="bnn_deploy", channels=3).producer())
        assert found.lower.dtype == found.upper.dtype == np.float32
        return found.lower.tolist(), found.upper.tolist()

    def test_one_threshold_for_all(self, draft: Any) -> None:
        assert self.read(draft, "PackBipolar", [0.5]) == ([0.5] * 3, [np.inf] * 3)

    def test_one_for_each(self, draft: Any) -> None:
        assert self.read(draft, "PackBipolar", [0.5, -1, 0]) == ([0.5, -1, 0], [np.inf] * 3)

    def test_unipolar_excludes_the_threshold(self, draft: Any) -> None:
        smallest = float(np.float32(1e-45))
        assert self.read(draft, "PackUnipolar", [0.0]) == ([smallest] * 3, [np.inf] * 3)

    def test_interval(self, draft: Any) -> None:
        assert self.read(draft, "PackInterval", [-np.inf, 0, 1], [2.0]) == ([-np.inf, 0, 1], [2.0] * 3)

    def test_a_threshold_that_is_computed(self, draft: Any) -> None:
        pack = draft.op("PackBipolar", draft["x"], draft["t"], domain="bnn_deploy", channels=3, node="conv/Binarize")
        with pytest.raises(ValueError, match=r"conv/Binarize.*not constant"):
            read_interval(pack.producer())

    def test_bounds_are_named_after_their_pack(self, draft: Any) -> None:
        pack = draft.op("PackBipolar", draft["x"], draft.constant("t0", [0.0]), domain="bnn_deploy", channels=3)
        model = draft.model(pack)
        lower, upper = add_bounds(model, pack.producer(), interval(-1, 1))
        assert (lower.name, upper.name) == (f"{pack.producer().name}.lower", f"{pack.producer().name}.upper")
        assert model.graph.initializers[str(lower.name)] is lower
