"""Bodies of the ops on floats: the very bits of the standard nodes in ONNX Runtime, and the sums of the definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bnn_deploy import opset
from bnn_deploy.evaluator import reference_evaluator
from bnn_deploy.functions import function_body

Array = NDArray[Any]
WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1]}
STEM_POOL = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
FLOAT_SUM_TOLERANCE = 1e-5  # of up to 3 * 7 * 8 products of float32, of the largest output

# Op -> its attributes, the shape of its weight, and the standard nodes that it stands for.
CASES: dict[str, tuple[dict[str, Any], tuple[int, ...], list[tuple[str, dict[str, Any]]]]] = {
    opset.STEM_CONV2D_MAX_POOL: (
        {"pads": [3, 2, 1, 0]},
        (5, 3, 7, 8),
        [("Conv", {"strides": [2, 2], "pads": [3, 2, 1, 0]}), ("MaxPool", STEM_POOL)],
    ),
    opset.AVERAGE_POOL2D: (WINDOW, (), [("AveragePool", WINDOW)]),
    opset.AVERAGE_POOL_CONV2D: (WINDOW, (5, 3, 1, 1), [("AveragePool", WINDOW), ("Conv", {})]),
}


def parameters(shape: tuple[int, ...]) -> dict[str, Array]:
    generator = np.random.default_rng(1)
    arrays = {"weight": generator.standard_normal(shape), "bias": generator.standard_normal(shape[:1])} if shape else {}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def model_of(nodes: list[onnx.NodeProto], constants: Mapping[str, Array]) -> onnx.ModelProto:
    """x: [N, 3, H, W] -> y: four axes of any size, of ours or of standard ops."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in "xy")
    arrays = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    imports = [helper.make_opsetid("", opset.ONNX_OPSET), helper.make_opsetid(opset.DOMAIN, opset.VERSION)]
    functions = [function_body(node.op_type) for node in nodes if node.domain == opset.DOMAIN]
    graph = helper.make_graph(nodes, "net", [x], [y], arrays)
    return helper.make_model(graph, opset_imports=imports, ir_version=opset.ONNX_IR_VERSION, functions=functions)


def ours(op_type: str) -> onnx.ModelProto:
    attributes, shape, _ = CASES[op_type]
    constants = parameters(shape)
    return model_of([helper.make_node(op_type, ["x", *constants], ["y"], domain=opset.DOMAIN, **attributes)], constants)


def standard(op_type: str) -> onnx.ModelProto:
    _, shape, steps = CASES[op_type]
    constants = parameters(shape)
    names = ["x", *(f"t{index}" for index in range(1, len(steps))), "y"]
    nodes = [
        helper.make_node(kind, [source, *(constants if kind == "Conv" else ())], [target], **attributes)
        for (kind, attributes), source, target in zip(steps, names[:-1], names[1:], strict=True)
    ]
    return model_of(nodes, constants)


@pytest.mark.parametrize("op_type", opset.FLOAT_OPS)
class TestEveryBody:
    @pytest.mark.parametrize("optimise", [True, False], ids=["optimised", "as written"])
    @pytest.mark.parametrize("image", [(1, 3, 21, 18), (7, 3, 8, 9)])
    def test_is_the_standard_nodes(self, toolbox: Any, op_type: str, image: tuple[int, ...], optimise: bool) -> None:
        x = toolbox.adversarial(image)
        (found,) = toolbox.run_in_onnxruntime(ours(op_type), {"x": x}, optimise=optimise)
        (expected,) = toolbox.run_in_onnxruntime(standard(op_type), {"x": x}, optimise=optimise)
        np.testing.assert_array_equal(found, expected)

    def test_is_the_definition(self, toolbox: Any, op_type: str) -> None:
        x = toolbox.adversarial((2, 3, 19, 12), finite=True)
        (found,) = toolbox.run_in_onnxruntime(ours(op_type), {"x": x})
        (expected,) = toolbox.evaluate(ours(op_type), x=x.astype(np.float64))
        assert toolbox.close(found, expected, tolerance=FLOAT_SUM_TOLERANCE)

    def test_so_is_the_operator_of_the_reference(self, toolbox: Any, op_type: str) -> None:
        """Rounded to float32 once; another order of the sums in float64 may turn that by a unit in the last place."""
        x = toolbox.adversarial((2, 3, 19, 12), finite=True)
        found = np.asarray(reference_evaluator(ours(op_type)).run(None, {"x": x})[0])
        (expected,) = toolbox.evaluate(ours(op_type), x=x.astype(np.float64))
        assert found.dtype == np.float32 and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=2.0**-23, atol=1e-12)

    def test_passes_the_full_check(self, op_type: str) -> None:
        onnx.checker.check_model(ours(op_type), full_check=True)
