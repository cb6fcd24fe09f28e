"""Affine ops are read off their nodes, with every constant on the side where it stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnn_deploy.passes.affine import Affine, per_channel, read_affine

CHANNELS = 5
PER_CHANNEL = np.array([1.5, -2, 0.3, 7, -0.1], np.float32)
X = np.array([0.0, -0.0, 1e-30, -3.7, 2.5e7], np.float32)


@pytest.fixture
def draft(toolbox: Any) -> Any:
    return toolbox.Draft(x=["batch", CHANNELS, 4, 4], y=["batch", CHANNELS, 4, 4])


def read(value: ir.Value) -> Affine:
    affine = read_affine(value.producer(), CHANNELS)
    assert affine is not None
    return affine


@pytest.mark.parametrize("shape", [(CHANNELS, 1, 1), (1, CHANNELS, 1, 1), (), (1,), (1, 1, 1, 1)])
@pytest.mark.parametrize("constant_first", [False, True])
@pytest.mark.parametrize("op", ["Mul", "Div", "Add", "Sub"])
def test_arithmetic_is_the_float32_result_itself(draft: Any, op: str, constant_first: bool, shape: Any) -> None:
    c = PER_CHANNEL.reshape(shape) if np.prod(shape) > 1 else np.full(shape, 0.3, np.float32)
    operands = (draft.constant("c", c), draft["x"]) if constant_first else (draft["x"], draft.constant("c", c))
    node = draft.op(op, *operands).producer()
    if op == "Div" and constant_first:
        assert read_affine(node, CHANNELS) is None
        return
    affine = read(node.outputs[0])
    assert affine.x is draft["x"]
    calculate = {"Mul": np.multiply, "Div": np.divide, "Add": np.add, "Sub": np.subtract}[op]
    flat = np.broadcast_to(c.reshape(-1), CHANNELS)
    expected = calculate(flat, X) if constant_first else calculate(X, flat)
    assert affine(X).dtype == np.float32
    np.testing.assert_array_equal(affine(X), expected)


@settings(max_examples=200)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(2.0**-100, 2.0**100, width=32))
def test_division_rounds_once(x: float, c: float) -> None:
    """It multiplies by a rounded reciprocal, in float64; a quotient is never that near to a tie between two float32."""
    affine = Affine(ir.val("x"), 1 / np.full(1, c, np.float64), np.zeros(1), np.zeros(1))
    with np.errstate(all="ignore"):
        quotient = np.float32(x) / np.float32(c)
        if abs(quotient) < np.finfo(np.float32).tiny and quotient != 0:
            return  # below the normal numbers there are ties
        assert affine(np.full(1, x, np.float32))[0] == quotient


def test_batch_norm(toolbox: Any, draft: Any) -> None:
    parameters = gamma, beta, mean, variance = toolbox.norm(CHANNELS)
    affine = read(draft.batch_norm(draft["x"], parameters, epsilon=0.1))
    wide = [np.asarray(array, np.longdouble) for array in (gamma, beta, mean, variance, X)]
    expected = wide[0] * (wide[4] - wide[2]) / np.sqrt(wide[3] + np.longdouble(np.float32(0.1))) + wide[1]
    np.testing.assert_array_equal(affine(X), expected.astype(np.float32))
    np.testing.assert_array_equal(affine(mean), beta)
    assert affine.factor[1] == 0


def test_the_default_epsilon(toolbox: Any, draft: Any) -> None:
    norm = draft.batch_norm(draft["x"], (np.ones(5, np.float32), *[np.zeros(5, np.float32)] * 3)).producer()
    del norm.attributes["epsilon"]
    np.testing.assert_allclose(read(norm.outputs[0]).factor, 1 / np.sqrt(1e-5), rtol=1e-12)


def test_a_fully_connected_layer_has_its_channels_last(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", CHANNELS])
    affine = read(draft.op("Add", draft["x"], draft.constant("c", PER_CHANNEL)))
    np.testing.assert_array_equal(affine.centre, -PER_CHANNEL.astype(np.float64))
    assert (
        read_affine(draft.op("Add", draft["x"], draft.constant("d", PER_CHANNEL[:, None])).producer(), CHANNELS) is None
    )


class TestIsNotRead:
    def refuses(self, value: ir.Value, channels: int = CHANNELS) -> bool:
        return read_affine(value.producer(), channels) is None

    def test_no_node_and_other_ops(self, draft: Any) -> None:
        assert read_affine(None, CHANNELS) is None
        assert self.refuses(draft.op("Relu", draft["x"]))
        assert self.refuses(draft.op("Add", draft["x"], draft.constant("c", [1.0]), domain="elsewhere"))

    def test_two_tensors_or_two_constants(self, draft: Any) -> None:
        assert self.refuses(draft.op("Add", draft["x"], draft["y"]))
        assert self.refuses(draft.op("Add", draft["x"], draft["x"]))
        assert self.refuses(draft.op("Add", draft.constant("c", [1.0]), draft.constant("d", [1.0])))

    @pytest.mark.parametrize("shape", [(4,), (CHANNELS, 4, 1), (2, CHANNELS, 1, 1), (1, 1, CHANNELS, 1, 1), (4, 4)])
    def test_constants_that_vary_over_something_else(self, draft: Any, shape: tuple[int, ...]) -> None:
        assert self.refuses(draft.op("Add", draft["x"], draft.constant("c", np.ones(shape, np.float32))))

    def test_x_is_what_is_broadcast(self, toolbox: Any) -> None:
        draft = toolbox.Draft(x=["batch", 1, 4, 4], y=["batch", None, 4, 4], z=["batch"])
        c = draft.constant("c", PER_CHANNEL.reshape(CHANNELS, 1, 1))
        assert self.refuses(draft.op("Add", draft["x"], c))
        assert self.refuses(draft.op("Add", draft["y"], c))
        assert self.refuses(draft.op("Add", draft["z"], c))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_constants_that_are_not_finite(self, draft: Any, bad: float) -> None:
        assert self.refuses(draft.op("Add", draft["x"], draft.constant("c", [bad])))
        assert self.refuses(draft.op("Mul", draft["x"], draft.constant("d", [bad])))

    def test_division_by_zero(self, draft: Any) -> None:
        assert self.refuses(draft.op("Div", draft["x"], draft.constant("c", [0.0])))

    @pytest.mark.parametrize("variance", [0.0, -1.0, np.nan])
    def test_a_deviation_that_cannot_be_divided_by(self, toolbox: Any, draft: Any, variance: float) -> None:
        gamma, beta, mean, _ = toolbox.norm(CHANNELS)
        parameters = (gamma, beta, mean, np.full(CHANNELS, variance, np.float32))
        assert self.refuses(draft.batch_norm(draft["x"], parameters, epsilon=0.0))

    def test_batch_norm_in_training_mode_or_with_computed_parameters(self, toolbox: Any, draft: Any) -> None:
        gamma, beta, mean, variance = toolbox.norm(CHANNELS)
        assert self.refuses(draft.batch_norm(draft["x"], (gamma, beta, mean, variance), training_mode=1))
        computed = draft.op("ReduceMax", draft["x"], draft.constant("axes", np.array([0, 2, 3])), keepdims=0)
        assert self.refuses(draft.batch_norm(draft["x"], (computed, beta, mean, variance), "other"))


def test_per_channel_widens_to_float64() -> None:
    found = per_channel(np.float32([[[0.1]], [[0.2]]]), 2, 4)
    assert found is not None
    assert (found.dtype, found.tolist()) == (np.float64, [float(np.float32(0.1)), float(np.float32(0.2))])
    assert per_channel(np.ones((1, 2, 1, 1)), 3, 4) is None
