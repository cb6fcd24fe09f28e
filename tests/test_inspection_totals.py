"""Nodes, kernels, bytes of activations, advice and history, against numbers worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from bnn_deploy import inspection
from bnn_deploy.inspection import EXAMPLE_SHAPES, GraphTotals, Inspection, NodeRow, TensorSize, read_history

HEADER = '<ir_version: 10, opset_import: ["" : 20, "bnn_deploy" : 1]>'
GEOMETRY = (
    "channels = 40, low = -1, pads = [1, 1, 1, 1], strides = [1, 1], dilations = [1, 1], group = 1, pad_value = 0.0"
)

WINDOW = "kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0]"

# 40 channels: two words. 6x4 becomes 3x2 in the pool.
FUSED = f"""
network (float[batch, 40, height, width] x) => (float[batch, 5] y) {{
    a = bnn_deploy.PackInterval <channels = 40> (x, lower, upper)
    b, c = bnn_deploy.PackedConv2dAddPack <{GEOMETRY}> (a, w1, scale, bias, x, lower, upper)
    d = bnn_deploy.PackedMaxPool2d <channels = 40, {WINDOW}> (c, flip)
    e = bnn_deploy.PackedConv2dBits <{GEOMETRY}> (d, w1, low, high)
    f = bnn_deploy.PackedConv2d <{GEOMETRY}> (e, w1, scale, bias)
    g = GlobalAveragePool (f)
    shape = Shape <start = 0, end = 1> (g)
    target = Concat <axis = 0> (shape, rest)
    h = Reshape (g, target)
    i = bnn_deploy.PackTernary <channels = 40> (h)
    j = bnn_deploy.PackedTernaryLinear <channels = 40> (i, w2, scale5, scale5)
    k = Cast <to = 10> (j)
    y = Cast <to = 1> (k)
    l = ReduceMean (b)
}}"""

CONSTANTS = {
    "lower": np.zeros(40, np.float32),
    "upper": np.ones(40, np.float32),
    "scale": np.linspace(1, 2, 40, dtype=np.float32),
    "bias": np.zeros(40, np.float32),
    "scale5": np.linspace(1, 2, 5, dtype=np.float32),
    "low": np.zeros(40, np.int32),
    "high": np.ones(40, np.int32),
    "flip": np.zeros(2, np.int32),
    "w1": np.zeros((40, 3, 3, 2), np.int32),
    "w2": np.zeros((5, 2), np.int32),
    "rest": np.array([40]),
}


def parse(text: str, constants: dict[str, Any], example: str = "") -> onnx.ModelProto:
    model = onnx.parser.parse_model(HEADER + text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    for node in model.graph.node:
        node.name = node.name or node.output[0]
    onnx.helper.set_model_props(model, {EXAMPLE_SHAPES: example})
    return model


def inspect(text: str, constants: dict[str, Any], example: str = "") -> Inspection:
    return inspection.inspect_model(parse(text, constants, example), file_bytes=1000)


@pytest.fixture(scope="module")
def fused() -> Inspection:
    return inspect(FUSED, CONSTANTS, "1x40x6x4")


@pytest.fixture(scope="module")
def nodes(fused: Inspection) -> dict[str, NodeRow]:
    return {node.name: node for node in fused.nodes}


class TestSizes:
    def test_of_bits_are_of_their_words(self, nodes: dict[str, NodeRow]) -> None:
        bits = {name: size for node in nodes.values() for name, size in node.outputs.items() if size and size.bits}
        assert bits == {
            "a": TensorSize((1, 6, 4, 2), "int32", 192, bits=True),
            "c": TensorSize((1, 6, 4, 2), "int32", 192, bits=True),
            "d": TensorSize((1, 3, 2, 2), "int32", 48, bits=True),
            "e": TensorSize((1, 3, 2, 2), "int32", 48, bits=True),
            "i": TensorSize((1, 4), "int32", 16, bits=True),  # two planes of two words
        }

    def test_of_floats(self, nodes: dict[str, NodeRow]) -> None:
        assert nodes["b"].outputs["b"] == TensorSize((1, 40, 6, 4), "float32", 3840)
        assert nodes["f"].outputs["f"] == TensorSize((1, 40, 3, 2), "float32", 960)
        assert nodes["j"].outputs["j"] == TensorSize((1, 5), "float32", 20)
        assert nodes["k"].outputs["k"] == TensorSize((1, 5), "float16", 10)

    def test_of_inputs(self, fused: Inspection) -> None:
        assert fused.inputs == {"x": TensorSize((1, 40, 6, 4), "float32", 3840)}
        assert fused.outputs == ("y",)

    def test_of_a_fixed_batch_are_for_one_image(self) -> None:
        found = inspect("net (float[4, 3, 8] x) => (float[4, 3, 8] y) { y = Relu (x) }", {})
        assert found.inputs["x"] == TensorSize((1, 3, 8), "float32", 96)
        assert found.graph.activation_bytes == 96

    def test_that_cannot_be_known(self) -> None:
        found = inspect("net (float[n, 3] x) => (int64[2, m] y) { y = NonZero (x) }", {})
        assert found.nodes[0].outputs == {"y": None}
        assert found.nodes[0].written_bytes is None and found.graph.activation_bytes is None

    def test_a_half_precision_input_does_not_make_half_precision_accumulators(self) -> None:
        text = f"""net (float16[1, 40, 6, 4] x) => (float[1, 40, 6, 4] y) {{
            a = bnn_deploy.PackInterval <channels = 40> (x, lower, upper)
            y = bnn_deploy.PackedConv2d <{GEOMETRY}> (a, w1, scale, bias)
        }}"""
        (pack, layer) = inspect(text, CONSTANTS).nodes
        assert (pack.outputs["a"], layer.outputs["y"]) == (
            TensorSize((1, 6, 4, 2), "int32", 192, bits=True),
            TensorSize((1, 40, 6, 4), "float32", 3840),
        )

    def test_of_a_layer_on_float16(self) -> None:
        text = f"""net (float[1, 40, 6, 4] x) => (float16[1, 40, 6, 4] y, int32[1, 6, 4, 2] bits) {{
            a = bnn_deploy.PackInterval <channels = 40> (x, lower, upper)
            y, bits = bnn_deploy.PackedConv2dPackFp16 <{GEOMETRY}> (a, w1, scale, bias, lower, upper)
        }}"""
        found = inspect(text, CONSTANTS)
        assert found.nodes[1].outputs == {
            "y": TensorSize((1, 40, 6, 4), "float16", 1920),
            "bits": TensorSize((1, 6, 4, 2), "int32", 192, bits=True),
        }
        (layer,) = found.layers
        assert (layer.binary, layer.levels, layer.weight_bits) == (True, "bipolar", 1)

    def test_precision_is_what_the_file_says(self, fused: Inspection) -> None:
        model = parse("net (float[n, 3] x) => (float[n, 3] y) { y = Relu (x) }", {})
        model.metadata_props.add(key="bnn_deploy.precision", value="fp16")
        assert inspection.inspect_model(model, file_bytes=1).to_json()["precision"] == "fp16"
        assert fused.precision == "fp32"


class TestLayers:
    def test_that_write_bits_have_their_work_counted(self, fused: Inspection) -> None:
        assert {layer.name: layer.macs for layer in fused.layers} == {
            "b": 40 * 360 * 24,
            "e": 40 * 360 * 6,
            "f": 40 * 360 * 6,
            "j": 5 * 40,
        }
        assert {layer.name: layer.scale for layer in fused.layers} == {
            "b": "channel",
            "e": "thresholds",
            "f": "channel",
            "j": "channel",
        }

    def test_bytes_beside_float32(self, fused: Inspection) -> None:
        assert {layer.name: (layer.weight_bytes, layer.float_bytes) for layer in fused.layers} == {
            **dict.fromkeys(("b", "e", "f"), (40 * 9 * 2 * 4, 40 * 40 * 9 * 4)),
            "j": (5 * 2 * 4, 5 * 40 * 4),
        }
        assert fused.binary_weight_bytes == 3 * 2880 + 40
        assert fused.float_weight_bytes == 4 * 160 + 20
        assert (fused.float_macs, fused.binary_macs) == (0, fused.total_macs)


class TestGraph:
    def test_kernels_are_what_works_on_the_image(self, nodes: dict[str, NodeRow]) -> None:
        assert [name for name, node in nodes.items() if not node.kernel] == ["shape", "target", "h"]

    def test_kinds(self, nodes: dict[str, NodeRow]) -> None:
        assert {name: node.kind for name, node in nodes.items()} == {
            **dict.fromkeys(("a", "d", "i"), "bits"),
            **dict.fromkeys(("b", "e", "f", "j"), "binary"),
            **dict.fromkeys(("g", "k", "y", "l"), "float"),
            **dict.fromkeys(("shape", "target", "h"), "shape"),
        }

    def test_totals(self, fused: Inspection) -> None:
        packs, convolutions = 192 + 48 + 16, (3840 + 192) + 48 + 960
        rest = 160 + 20 + 10 + 20 + 4  # the pooled image, the linear layer, two casts, the mean
        assert fused.graph == GraphTotals(14, 11, packs + convolutions + rest, fused.graph.ops)
        assert fused.graph.ops["Cast"] == 2 and sum(fused.graph.ops.values()) == 14
        assert next(iter(fused.graph.ops)) == "Cast"

    def test_what_a_node_reads(self, nodes: dict[str, NodeRow]) -> None:
        assert nodes["b"].inputs == ("a", "x")
        assert nodes["b"].constant_bytes == 2880 + 4 * 160
        assert nodes["shape"].written_bytes == nodes["h"].written_bytes == 0

    def test_of_a_standard_float_network(self) -> None:
        text = """net (float[n, 2, h, w] x) => (float[n, 3, h, w] y) {
            a = Conv (x, k)
            b = Identity (a)
            two = Add (one, one)
            y = Mul (b, two)
        }"""
        constants = {"k": np.ones((3, 2, 1, 1), np.float32), "one": np.ones((), np.float32)}
        found = inspection.graph_totals(parse(text, constants, "1x2x5x5"))
        assert found == GraphTotals(4, 2, 2 * 300, {"Conv": 1, "Identity": 1, "Add": 1, "Mul": 1})


class TestFloatOps:
    """A stem of 11x12 becomes 6x6 and, in its pool, 3x3; a pool leaves 1x2 of that."""

    WINDOW = "kernel_shape = [3, 2], strides = [2, 1]"
    OURS = f"""net (float[n, 3, 11, 12] x) => (float[n, 5, 1, 2] y, float[n, 4, 1, 2] z) {{
        s = bnn_deploy.StemConv2dMaxPool <pads = [3, 3, 3, 3]> (x, k_stem, b_stem)
        y = bnn_deploy.AveragePoolConv2d <{WINDOW}> (s, k_down, b_down)
        z = bnn_deploy.AveragePool2d <{WINDOW}> (s)
    }}"""
    STANDARD = f"""net (float[n, 3, 11, 12] x) => (float[n, 5, 1, 2] y, float[n, 4, 1, 2] z) {{
        c = Conv <strides = [2, 2], pads = [3, 3, 3, 3]> (x, k_stem, b_stem)
        s = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (c)
        p = AveragePool <{WINDOW}> (s)
        y = Conv (p, k_down, b_down)
        z = AveragePool <{WINDOW}> (s)
    }}"""

    @pytest.fixture
    def constants(self) -> dict[str, Any]:
        drawn = np.random.default_rng(0)
        shapes = {"k_stem": (4, 3, 7, 7), "b_stem": (4,), "k_down": (5, 4, 1, 1), "b_down": (5,)}
        return {name: drawn.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}

    def test_layers_in_them_are_listed_as_by_themselves(self, constants: dict[str, Any]) -> None:
        ours, standard = inspect(self.OURS, constants), inspect(self.STANDARD, constants)
        assert [layer.macs for layer in ours.layers] == [4 * 147 * 36, 5 * 4 * 2]
        assert [layer.reason for layer in ours.layers] == ["a float layer of the model"] * 2
        assert [replace(layer, name="") for layer in ours.layers] == [
            replace(layer, name="") for layer in standard.layers
        ]
        assert (ours.total_macs, ours.float_macs) == (standard.total_macs, standard.float_macs)
        assert ours.float_weight_bytes == standard.float_weight_bytes

    def test_nodes(self, constants: dict[str, Any]) -> None:
        found = inspect(self.OURS, constants)
        assert [(node.name, node.kind, node.kernel) for node in found.nodes] == [
            ("s", "float_layer", True),
            ("y", "float_layer", True),
            ("z", "float", True),
        ]
        assert [size for node in found.nodes for size in node.outputs.values()] == [
            TensorSize((1, 4, 3, 3), "float32", 144),
            TensorSize((1, 5, 1, 2), "float32", 40),
            TensorSize((1, 4, 1, 2), "float32", 32),
        ]
        assert found.graph.activation_bytes == 144 + 40 + 32


class TestAdvice:
    """Each kind of layer gets the advice for its place."""

    TEXT = """net (float[n, 3, 8, 8] x) => (float[n, 4] y) {
        stem = Conv <pads = [1, 1, 1, 1]> (x, k_stem)
        act = Relu (stem)
        deep = Conv <pads = [1, 1, 1, 1], group = 4> (act, k_deep)
        short = Conv (deep, k_short)
        norm = BatchNormalization (short, ones, ones, ones, ones)
        middle = Conv <pads = [1, 1, 1, 1]> (deep, k_middle)
        sum = Add (norm, middle)
        low = Sign (sum)
        padded = Pad (low, pads)
        alpha = Conv (padded, k_alpha)
        half = Conv <pads = [1, 1, 1, 1]> (alpha, k_alpha)
        pooled = GlobalAveragePool (half)
        flat = Flatten (pooled)
        y = Gemm (flat, w)
    }"""

    @pytest.fixture
    def advice(self) -> dict[str, str | None]:
        drawn = np.random.default_rng(0)
        constants: dict[str, Any] = {
            name: drawn.standard_normal(shape).astype(np.float32)
            for name, shape in {
                "k_stem": (4, 3, 3, 3),
                "k_deep": (4, 1, 3, 3),
                "k_short": (4, 4, 1, 1),
                "k_middle": (4, 4, 3, 3),
                "w": (4, 4),
            }.items()
        }
        constants["k_alpha"] = np.where(drawn.random((4, 4, 3, 3)) < 0.5, -0.25, 0.25).astype(np.float32)
        constants["ones"] = np.ones(4, np.float32)
        constants["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1])
        return {layer.name: layer.advice for layer in inspect(self.TEXT, constants).layers}

    @pytest.mark.parametrize(
        ("layer", "words"),
        [
            ("stem", "reads the input itself"),
            ("deep", "depthwise"),
            ("short", "on a shortcut"),
            ("middle", "with a BatchNorm behind it and a skip over it"),
            ("alpha", "no training is needed"),
            ("half", "its input is not binarised"),
            ("y", "makes the outputs"),
        ],
    )
    def test_of_float_layers(self, layer: str, words: str, advice: dict[str, str | None]) -> None:
        assert words in (advice[layer] or "")
        assert [name for name, text in advice.items() if words in (text or "")] == [layer]

    def test_of_1_bit_layers(self, fused: Inspection) -> None:
        advice = {layer.name: layer.advice for layer in fused.layers}
        assert "--sign-zero one" in (advice.pop("j") or "")
        assert set(advice.values()) == {None}

    def test_of_a_shortcut_into_a_fused_layer(self) -> None:
        text = f"""net (float[1, 40, 6, 4] x) => (float[1, 40, 6, 4] y) {{
            stem = Conv (x, k)
            a = bnn_deploy.PackInterval <channels = 40> (stem, lower, upper)
            short = Conv (stem, k)
            y = bnn_deploy.PackedConv2dAdd <{GEOMETRY}> (a, w1, scale, bias, short)
        }}"""
        kernel = np.random.default_rng(0).standard_normal((40, 40, 1, 1)).astype(np.float32)
        advice = {layer.name: layer.advice or "" for layer in inspect(text, {**CONSTANTS, "k": kernel}).layers}
        assert "on a shortcut" in advice["short"] and "reads the input itself" in advice["stem"]

    def test_of_1_bit_weights_with_float_activations(self) -> None:
        text = """net (float[1, 40] x) => (float[1, 5] y) {
            y = bnn_deploy.BinaryWeightLinear <channels = 40> (x, w2, scale5, scale5)
        }"""
        (layer,) = inspect(text, CONSTANTS).layers
        assert "bi_act_method=1" in (layer.advice or "") and "reads the input itself" in (layer.advice or "")


class TestHistory:
    def report(self, path: Path) -> dict[str, Any]:
        return {
            "model": "net",
            "file_bytes": path.stat().st_size,
            "float_bytes": 99,
            "before": asdict(GraphTotals(3, 2, 100, {"Conv": 3})),
            "passes": [{"name": "APass", "changes": 2, "declined": [{"layer": "conv", "reason": "why"}]}],
        }

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(b"12345")
        return path

    def test_is_read_from_the_report(self, file: Path) -> None:
        file.with_name("report.json").write_text(json.dumps(self.report(file)))
        history = read_history(file)
        assert history is not None
        assert (history.model, history.float_bytes) == ("net", 99)
        assert history.before == GraphTotals(3, 2, 100, {"Conv": 3})
        assert [(record.name, record.changes, record.declined) for record in history.passes] == [
            ("APass", 2, (("conv", "why"),))
        ]

    @pytest.mark.parametrize("change", [{"file_bytes": 4}, {"before": None}, {"passes": [{}]}])
    def test_another_files_report_is_not_believed(self, change: dict[str, Any], file: Path) -> None:
        file.with_name("report.json").write_text(json.dumps(self.report(file) | change))
        assert read_history(file) is None

    @pytest.mark.parametrize("text", ["", "[]", "{", "null"])
    def test_neither_is_what_is_no_report(self, text: str, file: Path) -> None:
        file.with_name("report.json").write_text(text)
        assert read_history(file) is None

    def test_without_a_report_there_is_none(self, file: Path) -> None:
        assert read_history(file) is None


def test_the_export_knows_what_was_before(deployed: Callable[..., Any], tmp_path: Path) -> None:
    """The float twin's totals are those of the twin's file."""
    import torch

    from bnn_deploy.export import export_onnx

    module = deployed("Residual").module
    twin = tmp_path / "float.onnx"
    exported = export_onnx(module, torch.zeros(module.shapes[0]), tmp_path / "model.onnx", float_path=twin)
    found = inspection.inspect_file(twin)
    assert exported.before == found.graph
    after = inspection.inspect_file(exported.path).graph
    assert after.kernels < exported.before.kernels
    assert (after.activation_bytes or 0) < (exported.before.activation_bytes or 0)
