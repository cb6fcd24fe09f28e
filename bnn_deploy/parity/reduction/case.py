"""A reduced case, and the folder that it is written to: a model, its inputs, what to expect, and a script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bnn_deploy.files import write_atomically
from bnn_deploy.parity.npz import npz_bytes
from bnn_deploy.parity.reduction.oracle import Expected
from bnn_deploy.parity.reduction.trial import DIFFERS, PASSES, Part, Trial, outcome
from bnn_deploy.reproduce import CARE, SHOWN
from bnn_deploy.runners.base import Arrays

FILE, RUNNER = "file", "runner"  # what is wrong
STOCK = {"optimise": True, "library": False, "provider": "CPUExecutionProvider"}
SESSIONS: dict[str, dict[str, Any]] = {
    "onnxruntime-unoptimised": STOCK | {"optimise": False},
    "native-cpu": STOCK | {"library": True},
    "onnxruntime-cuda": STOCK | {"provider": "CUDAExecutionProvider"},
}
"""How `reproduce.py` stands in for a runner; for any other it is ONNX Runtime as it is installed."""


@dataclass(frozen=True)
class ReducedCase:
    """The smallest part of a file, and the smallest input, that still fails.

    Attributes:
        runner: On which.
        kind: `differs`, `has another shape` or `raises`.
        layers: The nodes, by name.
        ops: Their op types.
        cause: `file` where it holds something else than the PyTorch network, `runner` where it is right.
        model: The nodes as a model of their own.
        inputs: What they are given.
        expected: What they should make of it.
        differences: Output -> {`elements`, `differ`, `first`: where, expected and found}.
        message: What the runner raised, if that is how it fails.
        runs: Of the runner, that it took.
    """

    runner: str
    kind: str
    layers: tuple[str, ...]
    ops: tuple[str, ...]
    cause: str
    model: onnx.ModelProto
    inputs: Arrays
    expected: Mapping[str, Expected]
    differences: Mapping[str, dict[str, Any]]
    message: str
    runs: int

    @classmethod
    def of(cls, part: Part, runner: str, trial: Trial) -> ReducedCase:
        """Runs `part`, which fails, once more to see how."""
        found = trial.run(part.model, part.inputs)
        raised = isinstance(found, Exception)
        return cls(
            runner=runner,
            kind=part.kind,
            layers=tuple(part.names),
            ops=tuple(node.op_type for node in part.nodes),
            cause=_cause(part),
            model=part.model,
            inputs=part.inputs,
            expected=part.expected,
            differences={} if isinstance(found, Exception) else _differences(part.expected, found),
            message=str(found) if raised else "",
            runs=trial.budget.spent,
        )

    @property
    def summary(self) -> str:
        """One line: where, what and how much."""
        nodes = " -> ".join(f"{name} ({op})" for name, op in zip(self.layers, self.ops, strict=True))
        which = "the file holds" if len(self.layers) == 1 else "one of them holds"
        wrong = (
            f"{which} something else than the PyTorch network"
            if self.cause == FILE
            else f"the file is right, and {self.runner} computes something else"
        )
        if self.kind != DIFFERS:
            return f"{nodes}: {self.kind} {self.message}".rstrip() + f"; {wrong}"
        counted = ", ".join(
            f"{entry['differ']} of {entry['elements']} elements of {name!r} differ"
            for name, entry in self.differences.items()
            if entry["differ"]
        )
        return f"{nodes}: {counted}; {wrong}"

    def to_json(self) -> dict[str, Any]:
        """What `case.json` holds."""
        return {
            "summary": self.summary,
            "runner": self.runner,
            "session": SESSIONS.get(self.runner, STOCK),
            "kind": self.kind,
            "cause": self.cause,
            "nodes": [{"name": name, "op": op} for name, op in zip(self.layers, self.ops, strict=True)],
            "inputs": {name: f"{array.dtype} {list(array.shape)}" for name, array in self.inputs.items()},
            "tolerances": {name: expected.tolerance for name, expected in self.expected.items()},
            "differences": dict(self.differences),
            "runs": self.runs,
            "versions": {name: version(name) for name in ("numpy", "onnx")},
        }

    def write(self, folder: Path) -> Path:
        """Writes `case.onnx`, `inputs.npz`, `expected.npz`, `case.json`, `README.txt` and `reproduce.py`."""
        cares = {name + CARE: wanted.care for name, wanted in self.expected.items() if wanted.care is not None}
        write_atomically(folder / "case.onnx", self.model.SerializeToString(deterministic=True))
        write_atomically(folder / "inputs.npz", npz_bytes(self.inputs))
        write_atomically(
            folder / "expected.npz", npz_bytes({name: wanted.values for name, wanted in self.expected.items()} | cares)
        )
        write_atomically(folder / "case.json", json.dumps(self.to_json(), indent=2, allow_nan=False).encode())
        write_atomically(folder / "README.txt", self._readme().encode())
        write_atomically(folder / "reproduce.py", files("bnn_deploy").joinpath("reproduce.py").read_bytes())
        return folder

    def _readme(self) -> str:
        library = " --library PATH/TO/libbnn_deploy_ort.so" if SESSIONS.get(self.runner, STOCK)["library"] else ""
        known = self.runner in (*SESSIONS, "onnxruntime")
        stand_in = "" if known else f"\nIt runs ONNX Runtime. To see {self.runner} fail, run case.onnx on that.\n"
        return f"""{self.summary}

    python reproduce.py{library}

exits with 1 while the failure is there and with 0 when it is gone. NumPy and ONNX Runtime are all that it needs.
{stand_in}
case.onnx      the nodes that fail; what they read from the rest of the network are inputs
inputs.npz     the smallest input found; it is what the reference network has there, or zero
expected.npz   what they should make of it; '{CARE}' behind a name: the bits that count
case.json      which layer, which op, how many elements differ, the first {SHOWN} of them
"""


def _cause(part: Part) -> str:
    own = part.subject.compute(part.chosen, part.inputs, list(part.expected), mended=False)
    return RUNNER if outcome({name: made.values for name, made in own.items()}, part.expected) == PASSES else FILE


def _differences(expected: Mapping[str, Expected], found: Arrays) -> dict[str, dict[str, Any]]:
    table = {}
    for name, wanted in expected.items():
        apart = wanted.differing(found[name])
        same_shape = found[name].shape == wanted.values.shape
        places = [tuple(int(index) for index in at) for at in np.argwhere(apart)[:SHOWN]] if same_shape else []
        first = [[list(at), str(wanted.values[at]), str(found[name][at])] for at in places]
        table[name] = {"elements": int(apart.size), "differ": int(apart.sum()), "first": first}
    return table
