"""The model carries the bodies of the ops it uses, and of no others."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import IdentityEliminationPass

from bnn_deploy.passes.attach_functions import AttachFunctionsPass


@pytest.fixture
def model(toolbox: Any) -> ir.Model:
    draft = toolbox.Draft(x=["batch", 3, 4, 4])
    y = draft["x"]
    for name in ("first", "second"):
        y = draft.conv(draft.binarize(y, name), toolbox.weights(3, 3, 1, 1), name)
    y.shape = ir.Shape(["batch", 3, 4, 4])
    packed = toolbox.packed(draft.model(y))
    packed.graph.remove([node for node in packed.graph if node.op_type == "Binarize"], safe=True)
    return packed


def functions(model: ir.Model) -> list[str]:
    return sorted(function.name for function in ir.to_proto(model).functions)


def test_one_body_for_each_op_in_use(model: ir.Model) -> None:
    result: Any = AttachFunctionsPass()(model)
    assert result.changes == 2
    assert functions(model) == ["PackBipolar", "PackedConv2d"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_the_model_imports_our_domain(model: ir.Model) -> None:
    del model.graph.opset_imports["bnn_deploy"]
    AttachFunctionsPass()(model)
    assert model.graph.opset_imports["bnn_deploy"] == 1


def test_with_its_bodies_the_model_runs_anywhere(toolbox: Any, model: ir.Model) -> None:
    x = toolbox.adversarial((2, 3, 4, 4))
    (expected,) = toolbox.evaluate(model, x=x)
    AttachFunctionsPass()(model)
    (found,) = toolbox.run_in_onnxruntime(model, {"x": x})
    assert toolbox.close(found, expected)


@pytest.mark.parametrize("version", [20, 21, 23])
def test_a_body_runs_under_the_opset_of_the_model(model: ir.Model, version: int) -> None:
    model.graph.opset_imports[""] = version
    AttachFunctionsPass()(model)
    proto = ir.to_proto(model)
    assert {entry.version for body in proto.functions for entry in body.opset_import if not entry.domain} == {version}
    onnx.checker.check_model(proto, full_check=True)


def test_a_body_that_a_general_pass_has_rewritten_is_put_back(model: ir.Model) -> None:
    AttachFunctionsPass()(model)
    before = ir.to_proto(model)
    IdentityEliminationPass()(model)
    function = next(iter(model.functions.values()))
    function.attributes.pop(next(iter(function.attributes)))
    AttachFunctionsPass()(model)
    assert ir.to_proto(model) == before


def test_a_second_time_changes_nothing(model: ir.Model) -> None:
    AttachFunctionsPass()(model)
    before = ir.to_proto(model)
    assert not AttachFunctionsPass()(model).modified
    assert ir.to_proto(model) == before


def test_a_model_without_our_ops_gets_none(toolbox: Any) -> None:
    draft = toolbox.Draft(x=["batch", 3])
    plain = draft.model(draft.op("Relu", draft["x"]))
    del plain.graph.opset_imports["bnn_deploy"]
    assert not AttachFunctionsPass()(plain).modified
    assert functions(plain) == []
    assert "bnn_deploy" not in plain.graph.opset_imports
