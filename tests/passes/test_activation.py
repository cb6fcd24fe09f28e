"""Bounds and slopes are read off their nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bnn_deploy.passes.activation import read_clip, read_slope

CHANNELS = 3


@pytest.fixture
def draft(toolbox: Any) -> Any:
    return toolbox.Draft(x=["batch", CHANNELS, 4, 4], low=[], row=["batch", CHANNELS])


class TestClip:
    def test_relu(self, draft: Any) -> None:
        assert read_clip(draft.op("Relu", draft["x"]).producer()) == (0, np.inf)

    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [(-1.5, 2.0, (-1.5, 2.0)), (None, 2.0, (-np.inf, 2.0)), (0.0, None, (0.0, np.inf)), (3.0, 2.0, (3.0, 2.0))],
    )
    def test_clip(self, draft: Any, low: float | None, high: float | None, expected: tuple[float, float]) -> None:
        bounds = [
            None if bound is None else draft.constant(name, np.float32(bound))
            for name, bound in (("a", low), ("b", high))
        ]
        while bounds and bounds[-1] is None:
            bounds.pop()
        assert read_clip(draft.op("Clip", draft["x"], *bounds).producer()) == expected

    def test_bounds_that_are_computed_or_no_numbers(self, draft: Any) -> None:
        assert read_clip(draft.op("Clip", draft["x"], draft["low"]).producer()) is None
        nan = draft.constant("nan", np.float32(np.nan))
        assert read_clip(draft.op("Clip", draft["x"], None, nan).producer()) is None


class TestSlope:
    def test_leaky_relu(self, draft: Any) -> None:
        assert read_slope(draft.op("LeakyRelu", draft["x"], alpha=0.25).producer(), CHANNELS).tolist() == [0.25] * 3
        default = read_slope(draft.op("LeakyRelu", draft["x"]).producer(), CHANNELS)
        np.testing.assert_allclose(default, 0.01, rtol=1e-6)

    @pytest.mark.parametrize("shape", [(CHANNELS, 1, 1), (1, CHANNELS, 1, 1)])
    def test_one_for_each_channel(self, draft: Any, shape: tuple[int, ...]) -> None:
        slope = draft.constant("slope", np.float32([0.5, -1, 0]).reshape(shape))
        assert read_slope(draft.op("PRelu", draft["x"], slope).producer(), CHANNELS).tolist() == [0.5, -1, 0]

    def test_one_for_all(self, draft: Any) -> None:
        assert read_slope(draft.op("PRelu", draft["x"], draft.constant("s", [0.5])).producer(), 3).tolist() == [0.5] * 3

    def test_of_a_fully_connected_layer(self, draft: Any) -> None:
        slope = draft.constant("slope", [0.5, 1, 2])
        assert read_slope(draft.op("PRelu", draft["row"], slope).producer(), CHANNELS).tolist() == [0.5, 1, 2]

    @pytest.mark.parametrize("slope", [np.ones((CHANNELS, 4, 4)), np.ones(4), np.full(1, np.nan), np.full(1, np.inf)])
    def test_is_not_one_finite_number_a_channel(self, draft: Any, slope: Any) -> None:
        node = draft.op("PRelu", draft["x"], draft.constant("slope", slope.astype(np.float32))).producer()
        assert read_slope(node, CHANNELS) is None
