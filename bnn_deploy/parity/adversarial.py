"""Values that are hard to binarise, given to every binarisation of a file itself.

No input of the network puts a value exactly on a threshold in layer 12. So each binarisation is taken out of the file,
with its thresholds, and given such values directly; what a runner writes must be what the bit contract says, for NaN
and infinities too.

A binarisation that a convolution does itself is probed through that convolution: with scale 0 its bias is what is
compared. Those that compare integers are left out, for an integer has no neighbours between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bnn_deploy import opset
from bnn_deploy.bits import words_for
from bnn_deploy.parity.compare import shaped
from bnn_deploy.parity.instrument import observed
from bnn_deploy.parity.points import PackPoint
from bnn_deploy.parity.results import ProbeResult
from bnn_deploy.parity.twins import attributes_of
from bnn_deploy.runners.base import Runner

Values = NDArray[np.float32]
_INFINITY = np.float32(np.inf)
_DENORMAL = np.float32(1e-45)  # the smallest
_PIXELS = 5  # in a row: more than one vector lane, and no power of two


def probe_values(point: PackPoint) -> dict[str, Values]:
    """Name -> what each channel is given, [C] float32."""
    everywhere = {
        "zeros": 0.0,
        "negative zeros": -0.0,
        "the smallest denormals": _DENORMAL,
        "the smallest negative denormals": -_DENORMAL,
        "1e-30": 1e-30,
        "-1e-30": -1e-30,
        "1e30": 1e30,
        "-1e30": -1e30,
        "infinities": _INFINITY,
        "negative infinities": -_INFINITY,
        "NaN": np.float32(np.nan),
    }
    values = {name: np.full(point.channels, value, np.float32) for name, value in everywhere.items()}
    edges = {"the threshold": point.threshold} if point.bounds is None else {}
    if point.bounds is not None:
        edges = {"the lower bound": point.bounds[0], "the upper bound": point.bounds[1]}
    for name, edge in edges.items():
        array = np.broadcast_to(np.asarray(edge, np.float32), point.channels)
        with np.errstate(over="ignore"):
            values[name] = array.copy()
            values[f"the float below {name}"] = np.nextafter(array, -_INFINITY)
            values[f"the float above {name}"] = np.nextafter(array, _INFINITY)
    return values


def probe(model: onnx.ModelProto, factory: Callable[[onnx.ModelProto], Runner]) -> list[ProbeResult]:
    """Probes every binarisation of `model` that compares floats.

    Args:
        model: The deployed file.
        factory: Makes a runner of a model.
    """
    probes = list(_probes(model))
    if not probes:
        return []
    with factory(_assembled(model, probes)) as runner:
        outputs = runner.infer({name: array for probe in probes for name, array in probe.feeds.items()})
    return [result for probe in probes for result in probe.judge(outputs)]


def probe_model(model: onnx.ModelProto, name: str) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """The probes of one binarisation as a model of their own, and what it is fed.

    Raises:
        KeyError: There is no such binarisation, or it compares integers.
    """
    chosen = {probe.point.name: probe for probe in _probes(model)}[name]
    return _assembled(model, [chosen]), chosen.feeds


@dataclass(frozen=True)
class _Probe:
    """Nodes that binarise given values, what they are fed, and where their results are.

    Attributes:
        point: The binarisation.
        nodes: In topological order.
        constants: Their initializers that are not those of the file.
        feeds: Input name -> array.
        bits: Output name of the words.
        condition: Output name of the values that were compared, or empty where they are the input `x` itself.
        values: Probe name -> its samples.
        decided_on: What is compared, where that is not `condition`: a layer on float16 rounds its y behind its bits.
    """

    point: PackPoint
    nodes: tuple[onnx.NodeProto, ...]
    constants: tuple[onnx.TensorProto, ...]
    feeds: dict[str, NDArray[Any]]
    bits: str
    condition: str
    values: dict[str, slice]
    decided_on: NDArray[np.float32] | None = None

    def judge(self, outputs: dict[str, NDArray[Any]]) -> Iterator[ProbeResult]:
        """One result for each kind of value."""
        condition = outputs[self.condition] if self.condition in outputs else self.feeds[self.condition]
        if self.decided_on is not None:
            condition = np.broadcast_to(self.decided_on, condition.shape)
        # By what the file says, not by the PyTorch network: docs/operators.md has where these two differ on NaN.
        expected = replace(self.point, plain=False).own_bits(condition, self.point.levels)
        wrong = expected != shaped(outputs[self.bits], expected.shape)
        for name, samples in self.values.items():
            count = int(wrong[samples].sum())
            yield ProbeResult(self.point.name, name, int(condition[samples].size), count, count == 0)


def _probes(model: onnx.ModelProto) -> Iterator[_Probe]:
    nodes = {node.output[-1]: node for node in model.graph.node if node.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.value_info}
    for index, point in enumerate(observed(model).packs):
        node = nodes[point.written]
        if node.op_type in opset.BITS_OPS:
            continue
        prefix = f"probe.{index}"
        if opset.float32_op(node.op_type) in opset.EPILOGUES:
            yield _through_convolution(point, node, prefix, weights)
        else:
            yield _alone(point, node, prefix, ranks.get(point.condition, 4))


def _alone(point: PackPoint, node: onnx.NodeProto, prefix: str, rank: int) -> _Probe:
    """All values in one call, a sample each."""
    values = probe_values(point)
    spatial = (1,) * (rank - 3) + (_PIXELS,) if rank > 2 else ()
    rows = np.stack(list(values.values())).reshape(len(values), -1, *[1] * len(spatial))
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name, copy.input[0], copy.output[0] = prefix, f"{prefix}.x", f"{prefix}.bits"
    x = np.ascontiguousarray(np.broadcast_to(rows, (*rows.shape[:2], *spatial)))
    samples = {name: slice(place, place + 1) for place, name in enumerate(values)}
    return _Probe(point, (copy,), (), {copy.input[0]: x}, copy.output[0], copy.input[0], samples)


def _through_convolution(
    point: PackPoint, node: onnx.NodeProto, prefix: str, weights: dict[str, onnx.TensorProto]
) -> _Probe:
    """A call for each kind of value: z = 0 * accumulator + value + 0, slope 1, shift 0."""
    values = probe_values(point)
    outputs, kernel_height, kernel_width = weights[node.input[1]].dims[:3]
    attributes = attributes_of(node)
    height, width = (
        attributes["dilations"][axis] * (size - 1) + 1 + 2 * attributes["strides"][axis]
        for axis, size in enumerate((kernel_height, kernel_width))
    )
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2, (1, height, width, words_for(attributes["channels"]))).astype(np.int32)
    epilogue = opset.EPILOGUES[opset.float32_op(node.op_type)]
    names = ("packed", "weight", "scale", "bias", *epilogue.operands)
    constants = {
        "scale": np.zeros(outputs, np.float32),
        "slope": np.ones(outputs, np.float32),
        "shift": np.zeros(outputs, np.float32),
    }
    tensors = [numpy_helper.from_array(array, f"{prefix}.{name}") for name, array in constants.items()]
    feeds: dict[str, NDArray[Any]] = {f"{prefix}.packed": bits}
    if epilogue.residual:
        top, left, bottom, right = attributes["pads"]
        size = tuple(
            (extent + pads - attributes["dilations"][axis] * (kernel - 1) - 1) // attributes["strides"][axis] + 1
            for axis, (extent, pads, kernel) in enumerate(
                ((height, top + bottom, kernel_height), (width, left + right, kernel_width))
            )
        )
        dtype = np.float16 if _is_half(node) else np.float32
        feeds[f"{prefix}.residual"] = np.zeros((1, outputs, *size), dtype)
    made, parts = [], []
    for place, value in enumerate(values.values()):
        tensors.append(numpy_helper.from_array(value, f"{prefix}.bias.{place}"))
        own = {"bias": f"{prefix}.bias.{place}", **{name: f"{prefix}.{name}" for name in constants}}
        own |= {"packed": f"{prefix}.packed", "residual": f"{prefix}.residual"}
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{prefix}.{place}"
        copy.input[:] = [own.get(name, node.input[index]) for index, name in enumerate(names)]
        copy.output[:] = [f"{prefix}.y.{place}", f"{prefix}.bits.{place}"]
        made.append(copy)
        parts.append(copy.output)
    for index, name in enumerate(("y", "bits")):
        joined = [part[index] for part in parts]
        made.append(helper.make_node("Concat", joined, [f"{prefix}.{name}"], name=f"{prefix}.{name}", axis=0))
    samples = {name: slice(place, place + 1) for place, name in enumerate(values)}
    decided_on = None
    if _is_half(node):
        decided_on = np.stack(list(values.values()))[:, :, None, None]
        if epilogue.activation == opset.CLIP:
            decided_on = np.clip(decided_on, attributes["clip_low"], attributes["clip_high"])
    return _Probe(point, tuple(made), tuple(tensors), feeds, f"{prefix}.bits", f"{prefix}.y", samples, decided_on)


def _assembled(model: onnx.ModelProto, probes: list[_Probe]) -> onnx.ModelProto:
    """One model of all probes, with the constants and the function bodies of the file."""
    nodes = [node for probe in probes for node in probe.nodes]
    read = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    constants += [tensor for probe in probes for tensor in probe.constants]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for probe in probes
        for name, array in probe.feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(probe.bits, TensorProto.INT32, None) for probe in probes]
    outputs += [
        helper.make_tensor_value_info(probe.condition, _float_type(probe), None)
        for probe in probes
        if probe.condition not in probe.feeds
    ]
    graph = helper.make_graph(nodes, "probes", inputs, outputs, initializer=constants)
    return helper.make_model(
        graph, ir_version=model.ir_version, opset_imports=model.opset_import, functions=list(model.functions)
    )


def _is_half(node: onnx.NodeProto) -> bool:
    return node.op_type.endswith(opset.FLOAT16_SUFFIX)


def _float_type(probe: _Probe) -> int:
    return int(TensorProto.FLOAT16 if any(map(_is_half, probe.nodes)) else TensorProto.FLOAT)
