"""What a node of a network is to compute, by ONNX Runtime on the CPU; and whether a network on a GPU did.

Each node is held to what it was given there: 1-bit layers, bits and truth values bit for bit, float nodes up to the
rounding of float16. So that a sign which rounding turned early in the network is not taken for an error later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from plugin_modules import one_node_model
from slots import Array

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.native_cpu import NativeCpuRunner
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.ort_session import OrtSessionRunner

ROUNDING = 2.0**-8  # relative to the largest value of a tensor
SHOWN = 3


class NodeReference:
    """Nodes of a network on ONNX Runtime, with the native library where it is built.

    Args:
        model: The network.
        constants: Its constants.

    Attributes:
        constants: The same.
    """

    def __init__(self, model: onnx.ModelProto, constants: Mapping[str, Array]) -> None:
        self._model, self.constants = model, constants
        self._runners: dict[tuple[Any, ...], OrtSessionRunner] = {}

    def run(self, node: onnx.NodeProto, inputs: Mapping[str, Array]) -> list[Array]:
        """The outputs of a node. inputs: all of its inputs by name, constants too."""
        key = (node.output[0], *(array.dtype for array in inputs.values()))
        if key not in self._runners:
            self._runners[key] = _runner(one_node_model(self._model, node, inputs, self.constants))
        fed = {name: array for name, array in inputs.items() if name not in self.constants}
        found = self._runners[key].infer(fed)
        return [found[name] for name in node.output]

    def wrong_nodes(self, read: Callable[[str], Array]) -> list[str]:
        """What is wrong, for the first few nodes. read: the value of that name as the network on the GPU has it."""
        wrong: list[str] = []
        for node in self._model.graph.node:
            inputs = {
                name: self.constants[name] if name in self.constants else read(name) for name in node.input if name
            }
            for name, expected in zip(node.output, self.run(node, inputs), strict=True):
                message = difference(read(name), expected, exact=node.domain == opset.DOMAIN)
                if message:
                    wrong.append(f"{node.name or name} ({node.op_type}): {message}")
            if len(wrong) >= SHOWN:
                break
        return wrong


def difference(found: Array, expected: Array, *, exact: bool) -> str:
    """In words; empty where there is none."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"{found.dtype} {found.shape}, wanted {expected.dtype} {expected.shape}"
    if exact or not np.issubdtype(found.dtype, np.floating):
        count = int(np.count_nonzero(found != expected))
        return f"{count} of {found.size} values differ" if count else ""
    error = np.abs(found.astype(np.float64) - expected).max(initial=0.0)
    allowed = ROUNDING * np.abs(expected.astype(np.float64)).max(initial=0.0)
    return "" if error <= allowed else f"off by {error:.3g}, {allowed:.3g} is rounding"


def _runner(model: onnx.ModelProto) -> OrtSessionRunner:
    try:
        return NativeCpuRunner(model)
    except InputRefused:
        return OnnxRuntimeRunner(model, optimise=False)
