"""Shapes of the inputs under a profile."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from bnn_deploy.errors import InputRefused
from bnn_deploy.tensorrt.profiles import InputShapes, SizeRange, free_axes, input_shapes

BATCH, SIZE = SizeRange(1, 8, 64), SizeRange(32, 224, 512)


def model(**shapes: list[int | str | None]) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1], [1.0])
    listed = helper.make_tensor_value_info("weight", TensorProto.FLOAT, ["n"])
    return helper.make_model(helper.make_graph([], "inputs", [*inputs, listed], [], [weight]))


def test_free_axes_by_name_or_place() -> None:
    given = model(x=["batch", 3, "side", "side"], y=["batch", None])
    assert free_axes(given) == {"batch": ["x", "y"], "side": ["x", "x"], "y[1]": ["y"]}
    assert free_axes(model(x=[1, 3])) == {}


def test_every_input_with_a_free_axis_gets_three_shapes() -> None:
    given = model(x=["batch", 3, "side", "side"], y=["batch", None], z=[4, 5])
    assert input_shapes(given, {"batch": BATCH, "side": SIZE, "y[1]": SizeRange(7, 7, 7)}) == {
        "x": InputShapes((1, 3, 32, 32), (8, 3, 224, 224), (64, 3, 512, 512)),
        "y": InputShapes((1, 7), (8, 7), (64, 7)),
    }


def test_an_axis_without_sizes_is_named() -> None:
    with pytest.raises(InputRefused, match=r"axis `side` of input x"):
        input_shapes(model(x=["batch", 3, "side", "side"]), {"batch": BATCH})


def test_sizes_for_no_axis_are_named() -> None:
    with pytest.raises(InputRefused, match=r"a profile for `bacth`.*free are: batch"):
        input_shapes(model(x=["batch", 3]), {"batch": BATCH, "bacth": BATCH})


@pytest.mark.parametrize("sizes", [(0, 1, 1), (-1, 1, 1), (2, 1, 3), (1, 4, 3)])
def test_sizes_out_of_order(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(InputRefused, match="minimum <= optimum <= maximum"):
        SizeRange(*sizes)
