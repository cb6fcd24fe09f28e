"""The questions that passes ask of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bnn_deploy.passes import graph
from bnn_deploy.passes.graph import (
    add_initializer,
    add_rounded,
    attribute,
    exact_value,
    is_op,
    nodes_of,
    only_consumer,
    remove_unread,
    replace,
)


def constant(value: ir.Value | None) -> Any:
    """Any rather than "an array or None"."""
    return graph.constant(value)


@pytest.fixture
def draft(toolbox: Any) -> Any:
    return toolbox.Draft(x=["batch", 4])


class TestNodesOf:
    def test_yields_by_type_and_domain_in_graph_order(self, draft: Any) -> None:
        first = draft.binarize(draft["x"])
        same_name = draft.op("Binarize", first, domain="else")
        relu = draft.op("Relu", same_name)
        second = draft.binarize(relu)
        model = draft.model(second)
        assert list(nodes_of(model, "Binarize")) == [first.producer(), second.producer()]
        assert list(nodes_of(model, "Binarize", "Relu", domain="")) == [relu.producer()]
        assert list(nodes_of(model, "Absent")) == []

    def test_the_graph_may_be_edited_on_the_way(self, draft: Any) -> None:
        y = draft.op("Relu", draft.op("Relu", draft["x"]))
        model = draft.model(y)
        for node in nodes_of(model, "Relu", domain=""):
            new = ir.node("Abs", [node.inputs[0]])
            replace(node, [new], new.outputs[0])
        assert [node.op_type for node in model.graph] == ["Abs", "Abs"]


def test_is_op(draft: Any) -> None:
    node = draft.binarize(draft["x"]).producer()
    assert is_op(node, "Conv", "Binarize")
    assert not is_op(node, "Binarize", domain="")
    assert not is_op(node, "Conv")
    assert not is_op(None, "Binarize")


def test_attribute_is_a_python_value(draft: Any) -> None:
    node = draft.op("Any", draft["x"], number=3, real=0.5, text="a", several=(1, 2)).producer()
    assert [attribute(node, name) for name in ("number", "real", "text", "several")] == [3, 0.5, "a", [1, 2]]
    assert attribute(node, "absent") is None
    assert attribute(node, "absent", 7) == 7


class TestConstant:
    def test_of_an_initializer(self, draft: Any) -> None:
        assert constant(draft.constant("c", [1.0, 2.0])).tolist() == [1.0, 2.0]

    def test_of_a_constant_node(self, draft: Any) -> None:
        assert constant(draft.op("Constant", value_ints=[3, 4])).tolist() == [3, 4]

    def test_through_a_chain_of_ops(self, draft: Any) -> None:
        column = draft.constant("column", np.arange(6, dtype=np.float32).reshape(6, 1))
        shape = draft.op("Concat", draft.op("Constant", value_ints=[2]), draft.op("Constant", value_ints=[3]), axis=0)
        reshaped = draft.op("Reshape", column, shape)
        value = draft.op("Transpose", draft.op("Neg", reshaped), perm=[1, 0])
        draft.model(value)
        assert constant(value).tolist() == [[0, -3], [-1, -4], [-2, -5]]

    def test_an_omitted_operand_is_no_obstacle(self, draft: Any) -> None:
        value = draft.op("Clip", draft.constant("c", [-2.0, 5.0]), None, draft.constant("high", np.float32(1)))
        draft.model(value)
        assert constant(value).tolist() == [-2.0, 1.0]

    def test_under_the_opset_of_the_graph(self, toolbox: Any) -> None:
        """Up to opset 12 the axes of Squeeze are an attribute, after that an input."""
        draft = toolbox.Draft(opset_version=12, x=[1])
        value = draft.op("Squeeze", draft.constant("c", [[1.0], [2.0]]), axes=[1])
        draft.model(value)
        assert constant(value).tolist() == [1.0, 2.0]

    def test_there_is_none_where_the_input_or_an_op_of_ours_is_upstream(self, draft: Any) -> None:
        c = draft.constant("c", [1.0])
        assert constant(None) is None
        assert constant(draft["x"]) is None
        assert constant(draft.op("Add", draft["x"], c)) is None
        assert constant(draft.op("Neg", draft.op("Mul", c, draft["x"]))) is None
        assert constant(draft.binarize(c)) is None


class TestOnlyConsumer:
    def test_is_the_one_reader(self, draft: Any) -> None:
        y = draft.op("Relu", draft["x"])
        z = draft.op("Neg", y)
        draft.model(z)
        assert only_consumer(y) is z.producer()

    def test_there_is_none_for_two_readers_or_two_reads_or_an_output(self, draft: Any) -> None:
        two_readers, two_reads, output = (draft.op("Relu", draft["x"]) for _ in range(3))
        ends = [draft.op("Neg", two_readers), draft.op("Abs", two_readers), draft.op("Add", two_reads, two_reads)]
        draft.model(*ends, draft.op("Neg", output), output)
        assert [only_consumer(value) for value in (two_readers, two_reads, output, ends[0])] == [None] * 4


class TestInitializers:
    def test_a_taken_name_gets_a_number(self, draft: Any) -> None:
        draft.constant("conv.scale", [1.0])
        model = draft.model(draft.op("Relu", draft["x"]))
        names = [add_initializer(model, "conv.scale", np.zeros(2, np.int64)).name for _ in range(2)]
        assert names == ["conv.scale.2", "conv.scale.3"]
        assert constant(model.graph.initializers["conv.scale"]).tolist() == [1.0]
        assert constant(model.graph.initializers["conv.scale.3"]).dtype == np.int64

    def test_any_memory_order(self, draft: Any) -> None:
        model = draft.model(draft.op("Relu", draft["x"]))
        array = np.arange(6).reshape(2, 3).T
        value = add_initializer(model, "a", array)
        proto = next(tensor for tensor in ir.to_proto(model).graph.initializer if tensor.name == "a")
        assert value.shape == (3, 2)
        assert (onnx.numpy_helper.to_array(proto) == array).all()

    def test_what_is_rounded_remembers_the_float64(self, draft: Any) -> None:
        model = draft.model(draft.op("Relu", draft["x"]))
        exact = np.array([1 / 3, 1e-300])
        value = add_rounded(model, "scale", exact)
        assert constant(value).dtype == np.float32
        assert (constant(value) == exact.astype(np.float32)).all()
        assert (exact_value(value) == exact).all()

    def test_any_other_constant_is_exact_as_it_stands(self, draft: Any) -> None:
        value = exact_value(draft.constant("c", [1 / 3]))
        assert value.dtype == np.float64
        assert value.tolist() == [float(np.float32(1 / 3))]

    def test_a_value_that_is_not_constant_has_no_float64(self, draft: Any) -> None:
        with pytest.raises(ValueError, match="x is not constant"):
            exact_value(draft["x"])
        with pytest.raises(ValueError, match="missing"):
            exact_value(None)


class TestReplace:
    def test_readers_name_type_and_shape_pass_on(self, draft: Any) -> None:
        y = draft.op("Relu", draft["x"], shape=["batch", 4])
        name = y.name
        end = draft.op("Neg", y, shape=["batch", 4])
        model = draft.model(y, end)
        new = ir.node("Abs", [draft["x"]])
        replace(y.producer(), [new], new.outputs[0])
        output = new.outputs[0]
        assert (output.name, output.dtype, output.shape) == (name, ir.DataType.FLOAT, ir.Shape(["batch", 4]))
        assert model.graph.outputs[0] is output
        assert end.producer().inputs[0] is output
        assert [node.op_type for node in model.graph] == ["Abs", "Neg"]
        onnx.checker.check_model(ir.to_proto(model))

    def test_an_output_that_has_a_shape_keeps_it(self, draft: Any) -> None:
        y = draft.op("Relu", draft["x"], shape=["batch", 4])
        model = draft.model(y)
        new = ir.node("ReduceSum", [draft["x"]])
        new.outputs[0].shape = ir.Shape(["batch", 1])
        replace(y.producer(), [new], new.outputs[0])
        assert model.graph.outputs[0].shape == ir.Shape(["batch", 1])

    def test_a_node_outside_any_graph_cannot_be_replaced(self, draft: Any) -> None:
        node = ir.node("Relu", [draft["x"]], name="alone")
        with pytest.raises(ValueError, match="alone belongs to no graph"):
            replace(node, [], draft["x"])


class TestRemoveUnread:
    def test_takes_what_only_the_dead_read(self, draft: Any) -> None:
        """neg and c go; abs, which someone else reads, and the shared constant stay."""
        c, shared = draft.constant("c", [1.0]), draft.constant("shared", [2.0])
        absolute = draft.op("Abs", draft["x"], shape=["batch", 4])
        total = draft.op("Add", draft.op("Neg", absolute), c)
        dead = draft.op("Mul", total, shared)
        model = draft.model(draft.op("Mul", absolute, shared, shape=["batch", 4]))
        remove_unread(dead, None)
        assert [node.op_type for node in model.graph] == ["Abs", "Mul"]
        assert list(model.graph.initializers) == ["shared"]
        assert only_consumer(absolute) is not None
        onnx.checker.check_model(ir.to_proto(model))

    def test_leaves_what_is_read_or_returned(self, draft: Any) -> None:
        y = draft.op("Relu", draft["x"], shape=["batch", 4])
        inner = draft.op("Abs", draft["x"], shape=["batch", 4])
        model = draft.model(y, draft.op("Neg", inner, shape=["batch", 4]))
        remove_unread(y, inner, draft["x"], model.graph.outputs[1])
        assert len(model.graph) == 3

    def test_a_node_lives_while_one_of_its_outputs_does(self, draft: Any) -> None:
        first = draft.op("Split", draft["x"], num_outputs=2, axis=1)
        node = first.producer()
        node.resize_outputs(2)
        node.outputs[1].name = "second"
        model = draft.model(node.outputs[1])
        remove_unread(first)
        assert len(model.graph) == 1

    def test_what_is_in_no_graph(self, draft: Any) -> None:
        remove_unread(ir.node("Relu", [draft["x"]]).outputs[0], ir.val("alone"))

    def test_a_node_that_is_gone_is_not_met_again(self, draft: Any) -> None:
        values = [draft.op("Relu", draft["x"]) for _ in range(3)]
        model = draft.model(draft["x"])
        met = []
        for node in nodes_of(model, "Relu", domain=""):
            met.append(node)
            remove_unread(*values)
        assert len(met) == 1
