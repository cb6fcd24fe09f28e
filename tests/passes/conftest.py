"""Small graphs of training-level ops, and two ways to run a graph: by `definition.py`, and in ONNX Runtime."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from bnn_deploy.passes.attach_functions import AttachFunctionsPass
from bnn_deploy.passes.base import Declined, Pass, PassResult
from bnn_deploy.passes.name_layers import NameLayersPass
from bnn_deploy.passes.pack_activations import PackActivationsPass
from bnn_deploy.passes.pack_weights import PackWeightsPass

DOMAIN = "bnn_deploy"
Array = NDArray[Any]

# Evaluated in float64, a rewritten graph differs by what its scales and biases were rounded to float32. Relative to the
# largest output; more than one rounding for sums that cancel.
FOLDED_TOLERANCE = 8 * 2.0**-24


def load_definition() -> ModuleType:
    """`definition.py` stands beside this file and in no package."""
    spec = importlib.util.spec_from_file_location("definition", Path(__file__).with_name("definition.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


definition = load_definition()


class Draft:
    """A graph under construction. Sizes are ints, names (free sizes) or None."""

    def __init__(self, opset_version: int = 20, **inputs: Sequence[int | str | None]) -> None:
        self.inputs = {
            name: ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
            for name, shape in inputs.items()
        }
        self.opset_version = opset_version
        self.initializers: list[ir.Value] = []
        self.nodes: list[ir.Node] = []

    def __getitem__(self, name: str) -> ir.Value:
        return self.inputs[name]

    def constant(self, name: str, array: Any) -> ir.Value:
        """An initializer; lists become float32."""
        array = np.asarray(array, getattr(array, "dtype", np.float32))
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self.initializers.append(value)
        return value

    def op(self, op_type: str, *operands: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """A node named `node=`, or `op_type_i`. Returns its first output, which has the shape `shape=`."""
        name = attributes.pop("node", f"{op_type}_{len(self.nodes)}")
        shape = attributes.pop("shape", None)
        metadata = dict(attributes.pop("metadata", {}))
        count = attributes.pop("num_outputs", 1)
        made = ir.node(
            op_type, operands, attributes, domain=domain, name=name, num_outputs=count, metadata_props=metadata
        )
        made.outputs[0].name = f"{name}_out"
        made.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        made.outputs[0].shape = ir.Shape(shape) if shape is not None else None
        self.nodes.append(made)
        return made.outputs[0]

    def binarize(self, x: ir.Value, layer: str = "act", levels: str = "bipolar", **extra: Any) -> ir.Value:
        attributes = {"levels": levels, "ste": "identity", "clip": -1.0, "layer": layer, "shape": x.shape, **extra}
        return self.op("Binarize", x, domain=DOMAIN, **attributes)

    def conv(self, x: ir.Value, weight: Any, layer: str = "conv", bias: Any = None, **overrides: Any) -> ir.Value:
        attributes = {
            "strides": [1, 1],
            "pads": [0, 0, 0, 0],
            "dilations": [1, 1],
            "group": 1,
            "pad_value": 0.0,
            "weight_scale": "channel",
            "weight_clamp": 1,
            "weight_zero": "one",
            "layer": layer,
            **overrides,
        }
        return self.op("BinaryConv2d", *self._parameters(x, weight, layer, bias), domain=DOMAIN, **attributes)

    def linear(self, x: ir.Value, weight: Any, layer: str = "fc", bias: Any = None, **overrides: Any) -> ir.Value:
        attributes = {"weight_scale": "channel", "weight_clamp": 1, "weight_zero": "one", "layer": layer, **overrides}
        return self.op("BinaryLinear", *self._parameters(x, weight, layer, bias), domain=DOMAIN, **attributes)

    def batch_norm(self, y: ir.Value, parameters: Sequence[Any], name: str = "bn", **attributes: Any) -> ir.Value:
        """parameters: gamma, beta, running mean, running variance; [O] each, or values that exist."""
        names = ("weight", "bias", "running_mean", "running_var")
        operands = [
            parameter if isinstance(parameter, ir.Value) else self.constant(f"{name}.{label}", parameter)
            for label, parameter in zip(names, parameters, strict=True)
        ]
        return self.op("BatchNormalization", y, *operands, node=name, **{"epsilon": 1e-5, **attributes})

    def model(self, *outputs: ir.Value) -> ir.Model:
        graph = ir.Graph(
            list(self.inputs.values()),
            list(outputs),
            nodes=self.nodes,
            initializers=self.initializers,
            opset_imports={"": self.opset_version, DOMAIN: 1},
            name="draft",
        )
        return ir.Model(graph, ir_version=10)

    def _parameters(self, x: ir.Value, weight: Any, layer: str, bias: Any) -> list[ir.Value]:
        operands = [x, weight if isinstance(weight, ir.Value) else self.constant(f"{layer}.weight", weight)]
        if bias is not None:
            operands.append(bias if isinstance(bias, ir.Value) else self.constant(f"{layer}.bias", bias))
        return operands


def run_in_onnxruntime(
    model: ir.Model | onnx.ModelProto, feeds: Mapping[str, Array], *, optimise: bool = True
) -> list[Array]:
    """The outputs in stock ONNX Runtime, which knows none of our ops but by their function bodies."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = definition.as_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    outputs: Any = session.run(None, dict(feeds))
    return outputs


def adversarial(shape: Sequence[int], seed: int = 0, *, finite: bool = False) -> NDArray[np.float32]:
    """Normal values, every other one an edge: both zeros, the smallest denormals and, unless `finite`, NaN and inf."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(shape).astype(np.float32)
    edges = [0.0, -0.0, 1e-45, -1e-45, *([] if finite else [np.nan, np.inf, -np.inf])]
    chosen = generator.choice(np.array(edges, np.float32), size=x.shape)
    return np.where(generator.random(x.shape) < 0.5, chosen, x).astype(np.float32)


def close(found: Array, expected: Array, *, tolerance: float = FOLDED_TOLERANCE) -> bool:
    """Whether the difference is at most `tolerance` of the largest expected magnitude. NaN equals NaN."""
    finite = np.abs(expected[np.isfinite(expected)])
    limit = tolerance * max(float(finite.max(initial=0.0)), 1.0)
    return found.shape == expected.shape and np.allclose(found, expected, rtol=0, atol=limit, equal_nan=True)


def op_types(model: ir.Model) -> list[str]:
    """The op types of the nodes, in graph order."""
    return [node.op_type for node in model.graph]


class Toolbox:
    """What the tests of the passes share, as one fixture: functions cannot be imported from a conftest."""

    Draft = Draft
    FOLDED_TOLERANCE = FOLDED_TOLERANCE
    evaluate = staticmethod(definition.evaluate)
    run_in_onnxruntime = staticmethod(run_in_onnxruntime)
    adversarial = staticmethod(adversarial)
    close = staticmethod(close)
    op_types = staticmethod(op_types)
    binarize = staticmethod(definition.binarize)
    convolve = staticmethod(definition.convolve)
    bits_of = staticmethod(definition.bits_of)

    @staticmethod
    def node(model: ir.Model, name: str) -> ir.Node:
        """The one node of that name."""
        (found,) = [node for node in model.graph if node.name == name]
        return found

    @staticmethod
    def array(value: ir.Value | None) -> Array:
        """What an initializer holds."""
        assert value is not None and value.const_value is not None
        return value.const_value.numpy()

    @staticmethod
    def packed(model: ir.Model) -> ir.Model:
        """The model with its layers packed, in place: where the passes that fold begin."""
        for step in (NameLayersPass(), PackWeightsPass(), PackActivationsPass()):
            step(model)
        return model

    @classmethod
    def declined(cls, run: Callable[[ir.Model], PassResult], model: ir.Model, image: Sequence[int]) -> Declined:
        """What a pass that folds declines for `layer1.0.conv` of a model, which it must leave as it is.

        image: The shape of the model's input `x`.
        """
        x = adversarial(image).astype(np.float64)
        cls.packed(model)
        before = op_types(model)
        expected = definition.evaluate(model, x=x)
        result = run(model)
        assert not result.modified
        assert op_types(model) == before
        for found, wanted in zip(definition.evaluate(model, x=x), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
        (declined,) = result.declined
        assert declined.layer == "layer1.0.conv"
        return declined

    @staticmethod
    def copy(model: ir.Model) -> ir.Model:
        """Another model, the same content: passes work in place."""
        return ir.from_proto(ir.to_proto(model))

    @staticmethod
    def weights(*shape: int, seed: int = 1) -> NDArray[np.float32]:
        """Latent weights, a few beyond ±1, none of them 0."""
        drawn = np.random.default_rng(seed).normal(0, 0.6, shape).astype(np.float32)
        return np.where(drawn == 0, np.float32(0.1), drawn)

    @staticmethod
    def norm(outputs: int, seed: int = 2) -> tuple[Array, ...]:
        """gamma (every third negative, the second 0), beta, mean, variance: [O] float32 each."""
        generator = np.random.default_rng(seed)
        gamma = generator.uniform(0.2, 2, outputs) * np.where(np.arange(outputs) % 3 == 2, -1, 1)
        gamma[1:2] = 0
        beta, mean = generator.standard_normal((2, outputs))
        variance = generator.uniform(0.1, 3, outputs)
        return tuple(array.astype(np.float32) for array in (gamma, beta, mean, variance))


@pytest.fixture(scope="session")  # hypothesis wants no fixture that is made anew for each test
def toolbox() -> type[Toolbox]:
    return Toolbox


# What the tests of the passes that fuse share.


class Rewriting:
    """Applies a pass, checks what every pass must keep, and runs the graph in ONNX Runtime before and after."""

    @staticmethod
    def packed(model: ir.Model) -> ir.Model:
        """The model with its layers packed and nothing dead in it, in place: where the passes that fuse begin."""
        Toolbox.packed(model)
        RemoveUnusedNodesPass()(model)
        return model

    @staticmethod
    def outputs(model: ir.Model, **feeds: Array) -> list[Array]:
        """The outputs, which optimised and unoptimised must have in common to the last bit."""
        runnable = Toolbox.copy(model)
        AttachFunctionsPass()(runnable)
        optimised = run_in_onnxruntime(runnable, feeds)
        for found, plain in zip(optimised, run_in_onnxruntime(runnable, feeds, optimise=False), strict=True):
            np.testing.assert_array_equal(found, plain)
        return optimised

    @staticmethod
    def apply(model: ir.Model, step: Pass) -> PassResult:
        """Runs `step`, then again: the second run changes nothing. The graph is valid, and nothing in it is dead."""

        def interface() -> list[tuple[Any, ...]]:
            return [(value.name, value.type, value.shape) for value in (*model.graph.inputs, *model.graph.outputs)]

        before = interface()
        result = step(model)
        assert isinstance(result, PassResult)
        assert interface() == before
        Rewriting.check(model)
        content = ir.to_proto(model).SerializeToString(deterministic=True)
        again = step(model)
        assert isinstance(again, PassResult)
        assert (again.changes, again.modified) == (0, False)
        assert ir.to_proto(model).SerializeToString(deterministic=True) == content
        return result

    @staticmethod
    def check(model: ir.Model) -> None:
        """Types, shapes and order are right; every node and initializer is read; names are unique."""
        runnable = Toolbox.copy(model)
        AttachFunctionsPass()(runnable)
        onnx.checker.check_model(ir.to_proto(runnable), full_check=True)
        for node in model.graph:
            assert any(value.uses() or value.is_graph_output() for value in node.outputs), f"{node.name} is dead"
        for value in model.graph.initializers.values():
            assert value.uses() or value.is_graph_output(), f"{value.name} is left over"
        names = [value.name for node in model.graph for value in node.outputs]
        assert len(set(names)) == len(names)


@pytest.fixture(scope="session")
def rewriting() -> type[Rewriting]:
    return Rewriting
