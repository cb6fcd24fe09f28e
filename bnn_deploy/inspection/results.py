"""What looking into a file brings: a row for each layer, each node, each float weight, and what they add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        name: Its name in the file; for a 1-bit layer, its path in the PyTorch model.
        kind: `conv2d` or `linear`.
        binary: Whether weights and activations are both 1-bit (or ternary, for activations).
        reason: Why not, where `binary` is false.
        levels: Of its activations: `bipolar`, `unipolar`, `ternary` or `float`.
        shape: Of its weight: [O, C / group, KH, KW] or [O, C].
        macs: Multiply-accumulates for one image of the size it was exported with; None where that is not known.
        weight_bits: 1, or 32 or 16 for float.
        weight_bytes: What its weight takes in the file.
        scale: `channel`, `tensor` or `none`: how the epilogue's scale varies, with all that was folded into it;
            `thresholds` for a layer that compares its accumulator with integers and writes bits alone.
        padding: Pads (top, left, bottom, right) and the value of padded pixels; None for a fully connected layer.
        advice: What to change in training to have it 1-bit, or cheaper; None where there is nothing to say.
    """

    name: str
    kind: str
    binary: bool
    reason: str | None
    levels: str
    shape: tuple[int, ...]
    macs: int | None
    weight_bits: int
    weight_bytes: int
    scale: str
    padding: dict[str, Any] | None
    advice: str | None = None

    @property
    def float_bytes(self) -> int:
        """What its weight would take as float32."""
        return prod(self.shape) * 4

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {**asdict(self), "float_bytes": self.float_bytes}


@dataclass(frozen=True)
class FloatWeight:
    """A float tensor that stays in the file, and which nodes read it."""

    name: str
    shape: tuple[int, ...]
    bytes: int
    used_by: tuple[str, ...]


@dataclass(frozen=True)
class TensorSize:
    """A tensor, for one image of the size that the file was exported with.

    Attributes:
        shape: [N, C, *spatial] with N = 1; bits are [N, *spatial, words].
        dtype: `float32`, `int64`...
        bytes: What writing it costs.
        bits: Whether it holds packed bits.
    """

    shape: tuple[int, ...]
    dtype: str
    bytes: int
    bits: bool = False


@dataclass(frozen=True)
class NodeRow:
    """One node of the graph.

    Attributes:
        name: Its name in the file.
        op_type: Without the domain.
        kind: `binary` (a 1-bit layer), `binary_weight` (1-bit weights, float activations), `bits` (makes or pools
            packed bits), `float_layer`, `float` (whatever else computes) or `shape` (no kernel, see below).
        kernel: Whether it has work to do: it reads what was computed from the input, and does more than rename or
            reshape it. See `nodes`.
        inputs: The tensors that it reads, constants left out.
        outputs: The tensors that it writes, with their sizes; None where that is not known.
        constant_bytes: What the constants that it reads take.
    """

    name: str
    op_type: str
    kind: str
    kernel: bool
    inputs: tuple[str, ...]
    outputs: dict[str, TensorSize | None]
    constant_bytes: int

    @property
    def written_bytes(self) -> int | None:
        """Bytes that it writes for one image; 0 for a node that is no kernel, None where a size is not known."""
        if not self.kernel:
            return 0
        sizes = [size.bytes for size in self.outputs.values() if size is not None]
        return sum(sizes) if len(sizes) == len(self.outputs) else None


@dataclass(frozen=True)
class GraphTotals:
    """What the nodes add up to.

    Attributes:
        nodes: How many there are.
        kernels: How many of them have work to do.
        activation_bytes: What these write for one image, packed bits and floats; None where a size is not known.
        ops: How often each op stands in the graph, the most frequent first.
    """

    nodes: int
    kernels: int
    activation_bytes: int | None
    ops: dict[str, int]

    @classmethod
    def of(cls, nodes: Sequence[NodeRow]) -> GraphTotals:
        """Adds the nodes up."""
        written = [node.written_bytes for node in nodes]
        known = [size for size in written if size is not None]
        ops = dict(Counter(node.op_type for node in nodes).most_common())
        kernels = sum(node.kernel for node in nodes)
        return cls(len(nodes), kernels, sum(known) if len(known) == len(written) else None, ops)


@dataclass(frozen=True)
class PassRow:
    """What one pass did when the file was exported: (layer, reason) for each place that it left alone."""

    name: str
    changes: int
    declined: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ExportHistory:
    """What `bnn-deploy export` noted down about the file.

    Attributes:
        model: What was exported, as the user named it.
        float_bytes: The size of the float twin, the same network as stock tools export it.
        before: The float twin's graph.
        passes: What each pass did, in order.
    """

    model: str
    float_bytes: int
    before: GraphTotals
    passes: tuple[PassRow, ...]


@dataclass(frozen=True)
class Inspection:
    """A file as a whole: its `inputs` with the sizes that it was exported with, and the names of its `outputs`.

    `precision` is the type of what is not 1-bit: `fp32`, or `fp16` where the file says so.
    """

    layers: tuple[LayerRow, ...]
    float_weights: tuple[FloatWeight, ...]
    file_bytes: int
    opset: int
    nodes: tuple[NodeRow, ...]
    inputs: dict[str, TensorSize | None]
    outputs: tuple[str, ...]
    precision: str = "fp32"

    @property
    def binary_macs(self) -> int:
        """Multiply-accumulates of the 1-bit layers, for one image."""
        return sum(layer.macs or 0 for layer in self.layers if layer.binary)

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of all layers, for one image."""
        return sum(layer.macs or 0 for layer in self.layers)

    @property
    def float_macs(self) -> int:
        """Multiply-accumulates of the layers that are not 1-bit on both sides, for one image."""
        return self.total_macs - self.binary_macs

    @property
    def binary_weight_bytes(self) -> int:
        """What the 1-bit weights take."""
        return sum(layer.weight_bytes for layer in self.layers if layer.weight_bits == 1)

    @property
    def float_weight_bytes(self) -> int:
        """What all float tensors take: weights of float layers, scales, biases, thresholds."""
        return sum(weight.bytes for weight in self.float_weights)

    @property
    def graph(self) -> GraphTotals:
        """What the nodes add up to."""
        return GraphTotals.of(self.nodes)

    def to_json(self) -> dict[str, Any]:
        """Totals, layers, float weights; `nodes` are left to who wants them."""
        return {
            "file_bytes": self.file_bytes,
            "opset": self.opset,
            "precision": self.precision,
            "binary_macs": self.binary_macs,
            "float_macs": self.float_macs,
            "total_macs": self.total_macs,
            "binary_weight_bytes": self.binary_weight_bytes,
            "float_weight_bytes": self.float_weight_bytes,
            "graph": asdict(self.graph),
            "layers": [layer.to_json() for layer in self.layers],
            "float_weights": [asdict(weight) for weight in self.float_weights],
        }
