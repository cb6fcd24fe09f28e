"""What a file holds, layer by layer, against numbers worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from bnn_deploy.errors import InputRefused
from bnn_deploy.inspection import EXAMPLE_SHAPES, Inspection, LayerRow, inspect_file, inspect_model
from bnn_deploy.passes import run_float_passes, run_passes

HEADER = '<ir_version: 10, opset_import: ["" : 20, "bnn_deploy" : 1]>'
CONV = "pads = [1, 1, 1, 1], strides = [1, 1], dilations = [1, 1], group = 1, pad_value = 0.0, weight_clamp = 1"
LINEAR = "weight_clamp = 1"

NETWORK = f"""
network (float[batch, 3, height, width] x) => (float[batch, 5] y) {{
    a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, stem)
    b = bnn_deploy.Binarize <levels = "bipolar", layer = "conv1"> (a)
    c = bnn_deploy.BinaryConv2d <layer = "conv1", weight_scale = "channel", weight_zero = "one", {CONV}> (b, w1)
    d = bnn_deploy.Binarize <levels = "ternary", layer = "conv2"> (c)
    e = bnn_deploy.BinaryConv2d <layer = "conv2", weight_scale = "none", weight_zero = "one", pads = [1, 0, 1, 2],
        strides = [2, 1], dilations = [1, 1], group = 2, pad_value = -1.0, weight_clamp = 1> (d, w2)
    f = bnn_deploy.BinaryConv2d <layer = "wide", weight_scale = "tensor", weight_zero = "one", {CONV}> (e, w3)
    g = GlobalAveragePool (f)
    h = Flatten (g)
    i = bnn_deploy.Binarize <levels = "unipolar", layer = "fc1"> (h)
    j = bnn_deploy.BinaryLinear <layer = "fc1", weight_scale = "channel", weight_zero = "one", {LINEAR}> (i, w4)
    k = Relu (j)
    y = Gemm <transB = 1> (k, head, head_bias)
}}"""


def weights(*shape: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(len(shape)).uniform(0.1, 1, shape)
    return (drawn * np.where(np.arange(drawn.size).reshape(shape) % 3 == 0, -1, 1)).astype(np.float32)


PARAMETERS = {
    "stem": weights(8, 3, 3, 3),
    "w1": weights(40, 8, 3, 3),
    "w2": weights(6, 20, 3, 3),
    "w3": weights(7, 6, 3, 3),
    "w4": weights(4, 7),
    "head": weights(5, 4),
    "head_bias": weights(5),
}


def parse(
    text: str, parameters: Mapping[str, NDArray[Any]], *, example: str = "", names: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """A model from text. names: output of a node -> its name."""
    model = onnx.parser.parse_model(HEADER + text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in parameters.items())
    if example:
        onnx.helper.set_model_props(model, {EXAMPLE_SHAPES: example})
    for node in model.graph.node:
        node.name = (names or {}).get(node.output[0], node.name)
    return model


def deployed(model: onnx.ModelProto) -> onnx.ModelProto:
    converted = ir.from_proto(model)
    run_passes(converted)
    return ir.to_proto(converted)


def inspect(model: onnx.ModelProto) -> dict[str, LayerRow]:
    return {layer.name: layer for layer in inspect_model(model, file_bytes=0).layers}


@pytest.fixture(scope="module")
def file() -> onnx.ModelProto:
    return deployed(parse(NETWORK, PARAMETERS, example="1x3x20x16", names={"a": "stem", "y": "head"}))


@pytest.fixture(scope="module")
def inspection(file: onnx.ModelProto) -> Inspection:
    return inspect_model(file, file_bytes=len(file.SerializeToString()))


@pytest.fixture(scope="module")
def rows(inspection: Inspection) -> dict[str, LayerRow]:
    return {layer.name: layer for layer in inspection.layers}


def test_every_layer_in_order(rows: dict[str, LayerRow]) -> None:
    assert list(rows) == ["stem", "conv1", "conv2", "wide", "fc1", "head"]
    assert [row.kind for row in rows.values()] == ["conv2d"] * 4 + ["linear"] * 2


def test_which_are_binary_and_why_the_others_are_not(rows: dict[str, LayerRow]) -> None:
    assert {name: row.binary for name, row in rows.items()} == {
        "stem": False,
        "conv1": True,
        "conv2": True,
        "wide": False,
        "fc1": True,
        "head": False,
    }
    assert all((row.reason is None) == row.binary for row in rows.values())
    assert "1-bit weights with float activations" in (rows["wide"].reason or "")
    assert rows["stem"].reason == rows["head"].reason == "a float layer of the model"


def test_levels(rows: dict[str, LayerRow]) -> None:
    assert {name: row.levels for name, row in rows.items()} == {
        "stem": "float",
        "conv1": "bipolar",
        "conv2": "ternary",
        "wide": "float",
        "fc1": "unipolar",
        "head": "float",
    }


def test_shapes_are_of_true_channels(rows: dict[str, LayerRow]) -> None:
    assert {name: row.shape for name, row in rows.items()} == {
        "stem": (8, 3, 3, 3),
        "conv1": (40, 8, 3, 3),
        "conv2": (6, 20, 3, 3),
        "wide": (7, 6, 3, 3),
        "fc1": (4, 7),
        "head": (5, 4),
    }


def test_macs_for_one_image_of_the_size_in_the_metadata(rows: dict[str, LayerRow]) -> None:
    """20x16 becomes 10x8 in the stem, 5x8 in conv2."""
    assert {name: row.macs for name, row in rows.items()} == {
        "stem": 8 * 27 * (10 * 8),
        "conv1": 40 * 72 * (10 * 8),
        "conv2": 6 * 180 * (5 * 8),
        "wide": 7 * 54 * (5 * 8),
        "fc1": 4 * 7,
        "head": 5 * 4,
    }


def test_totals(inspection: Inspection, rows: dict[str, LayerRow]) -> None:
    assert inspection.binary_macs == sum(rows[name].macs or 0 for name in ("conv1", "conv2", "fc1"))
    assert inspection.total_macs == sum(row.macs or 0 for row in rows.values())
    assert inspection.opset == 20


def test_bits_and_bytes(rows: dict[str, LayerRow]) -> None:
    assert {name: (row.weight_bits, row.weight_bytes) for name, row in rows.items()} == {
        "stem": (32, 8 * 27 * 4),
        "conv1": (1, 40 * 9 * 4),
        "conv2": (1, 6 * 9 * 4),
        "wide": (1, 7 * 9 * 4),
        "fc1": (1, 4 * 4),
        "head": (32, 20 * 4),
    }


def test_scale(rows: dict[str, LayerRow]) -> None:
    scales = {name: rows[name].scale for name in ("conv1", "conv2", "wide", "fc1")}
    assert scales == {"conv1": "channel", "conv2": "none", "wide": "tensor", "fc1": "channel"}


def test_padding(rows: dict[str, LayerRow]) -> None:
    assert {name: row.padding for name, row in rows.items()} == {
        "stem": {"pads": [1, 1, 1, 1], "value": 0.0},
        "conv1": {"pads": [1, 1, 1, 1], "value": 0.0},
        "conv2": {"pads": [1, 0, 1, 2], "value": -1.0},
        "wide": {"pads": [1, 1, 1, 1], "value": 0.0},
        "fc1": None,
        "head": None,
    }


def test_float_weights_that_stay_largest_first(inspection: Inspection) -> None:
    sizes = [weight.bytes for weight in inspection.float_weights]
    assert sizes == sorted(sizes, reverse=True)
    found = {weight.name: weight for weight in inspection.float_weights}
    assert (found["stem"].shape, found["stem"].bytes, found["stem"].used_by) == ((8, 3, 3, 3), 864, ("stem",))
    assert found["head"].used_by == found["head_bias"].used_by == ("head",)
    assert found["conv1.scale"].used_by == ("conv1",)
    assert not {"w1", "w2", "w3", "w4"} & set(found), "latent weights of binary layers are not in the file"
    assert not any(name.endswith("weight_bits") for name in found)


def test_json(inspection: Inspection) -> None:
    document = json.loads(json.dumps(inspection.to_json()))
    assert document["binary_macs"] == inspection.binary_macs
    assert document["total_macs"] == inspection.total_macs
    assert document["file_bytes"] == inspection.file_bytes
    assert [layer["name"] for layer in document["layers"]] == [layer.name for layer in inspection.layers]
    wanted = {"name", "kind", "binary", "reason", "levels", "shape", "macs", "weight_bits", "scale", "padding"}
    assert all(wanted <= set(layer) for layer in document["layers"])
    assert {"name", "shape", "bytes", "used_by"} == set(document["float_weights"][0])


def test_inspecting_leaves_the_model_as_it_was(file: onnx.ModelProto) -> None:
    before = file.SerializeToString(deterministic=True)
    inspect_model(file, file_bytes=0)
    assert file.SerializeToString(deterministic=True) == before


class TestSizes:
    def text(self, shape: str) -> str:
        return f"net (float[{shape}] x) => (float[n, 4, h, w] y) {{ y = Conv (x, k) }}"

    @pytest.mark.parametrize(
        ("shape", "example", "pixels"),
        [
            ("n, 2, h, w", "1x2x6x5", 30),
            ("n, 2, h, w", "4x2x6x5", 30),
            ("n, 2, 7, 5", "", 35),
            ("3, 2, 7, 5", "", 35),
            ("n, 2, h, w", "", 1),
        ],
    )
    def test_free_sizes_come_from_the_metadata(self, shape: str, example: str, pixels: int) -> None:
        model = parse(self.text(shape), {"k": weights(4, 2, 1, 1)}, example=example, names={"y": "conv"})
        assert inspect(model)["conv"].macs == 4 * 2 * pixels

    def test_each_input_has_its_own(self) -> None:
        text = """net (float[n, 2, h, w] a, float[n, 3, h2, w2] b) => (float[n, 4, i, j] y, float[n, 4, k, l] z) {
            y = Conv (a, ka)
            z = Conv (b, kb)
        }"""
        parameters = {"ka": weights(4, 2, 1, 1), "kb": weights(4, 3, 1, 1)}
        rows = inspect(parse(text, parameters, example="1x2x3x3;1x3x5x5", names={"y": "a", "z": "b"}))
        assert {name: row.macs for name, row in rows.items()} == {"a": 4 * 2 * 9, "b": 4 * 3 * 25}

    def test_where_a_size_cannot_be_known_there_are_no_macs(self) -> None:
        text = """net (float[n, 3] x) => (float[n, 4] y) {
            i = NonZero (x)
            j = Cast <to = 1> (i)
            k = Transpose <perm = [1, 0]> (j)
            y = MatMul (k, w)
        }"""
        assert inspect(parse(text, {"w": weights(2, 4)}, names={"y": "fc"}))["fc"].macs is None

    def test_nor_where_the_number_of_axes_cannot(self) -> None:
        text = """net (float[n, 3] x, int64[4] sizes, bool[4] chosen) => (float[n, 4] y) {
            i = Compress (sizes, chosen)
            j = Reshape (x, i)
            y = MatMul (j, w)
        }"""
        assert inspect(parse(text, {"w": weights(2, 4)}, names={"y": "fc"}))["fc"].macs is None


class TestLinear:
    @pytest.mark.parametrize(
        ("op", "shape", "expected"),
        [
            ("MatMul (x, w)", (6, 4), (4, 6)),
            ("Gemm (x, w)", (6, 4), (4, 6)),
            ("Gemm <transB = 1> (x, w)", (4, 6), (4, 6)),
        ],
    )
    def test_shape_is_outputs_by_inputs_however_the_file_holds_it(
        self, op: str, shape: tuple[int, int], expected: tuple[int, int]
    ) -> None:
        model = parse(
            f"net (float[n, 6] x) => (float[n, 4] y) {{ y = {op} }}", {"w": weights(*shape)}, names={"y": "fc"}
        )
        row = inspect(model)["fc"]
        assert (row.shape, row.macs, row.kind) == (expected, 24, "linear")

    def test_on_more_axes_each_position_counts(self) -> None:
        text = f"""net (float[n, 9, 40] x) => (float[n, 9, 4] z) {{
            b = bnn_deploy.Binarize <levels = "bipolar", layer = "fc"> (x)
            y = bnn_deploy.BinaryLinear <layer = "fc", weight_scale = "none", weight_zero = "one", {LINEAR}> (b, w)
            z = MatMul (y, v)
        }}"""
        model = parse(text, {"w": weights(4, 40), "v": weights(4, 4)}, example="1x9x40", names={"z": "float"})
        rows = inspect(deployed(model))
        assert rows["fc"].binary
        assert (rows["fc"].macs, rows["float"].macs) == (4 * 40 * 9, 4 * 4 * 9)


class TestWhyFloat:
    def test_the_float_twin_is_found_out(self) -> None:
        """Its layers hold ±alpha: somebody binarised them and the file does not profit."""
        converted = ir.from_proto(parse(NETWORK, PARAMETERS, example="1x3x20x16", names={"a": "stem", "y": "head"}))
        run_float_passes(converted)
        rows = inspect(ir.to_proto(converted))
        assert {name for name, row in rows.items() if "±alpha" in (row.reason or "")} == {
            "conv1",
            "conv2",
            "wide",
            "fc1",
        }
        assert {row.binary for row in rows.values()} == {False}
        assert {row.weight_bits for row in rows.values()} == {32}
        assert rows["fc1"].shape == (4, 7)

    @pytest.mark.parametrize(
        ("kernel", "alpha"),
        [
            (np.array([[1, -1], [3, -3]]), True),
            (np.array([[1, -1], [3, 2]]), False),
            (np.array([[0, 0], [0, 0]]), False),
            (np.array([[1], [3]]), False),
        ],
        ids=["one magnitude an output", "two", "zeros", "one weight an output"],
    )
    def test_alpha_is_one_magnitude_an_output_and_not_0(self, kernel: NDArray[Any], alpha: bool) -> None:
        outputs, taps = kernel.shape
        text = f"net (float[n, {taps}, h, w] x) => (float[n, {outputs}, h, w] y) {{ y = Conv (x, k) }}"
        parameters = {"k": kernel.astype(np.float32).reshape(outputs, taps, 1, 1)}
        row = inspect(parse(text, parameters, names={"y": "conv"}))["conv"]
        assert ("±alpha" in (row.reason or "")) is alpha


def test_other_float_types_have_their_own_width() -> None:
    text = "net (float16[n, 2, h, w] x) => (float16[n, 4, h, w] y) { y = Conv (x, k) }"
    model = parse(text, {"k": weights(4, 2, 1, 1).astype(np.float16)}, names={"y": "conv"})
    assert (inspect(model)["conv"].weight_bits, inspect(model)["conv"].weight_bytes) == (16, 16)


def test_a_weight_that_is_no_initializer_is_no_layer() -> None:
    text = "net (float[n, 6] x, float[6, 4] w) => (float[n, 4] y) { y = MatMul (x, w) }"
    assert inspect(parse(text, {})) == {}


class TestFile:
    def test_reads_one(self, file: onnx.ModelProto, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        onnx.save(file, str(path))
        found = inspect_file(path)
        assert found.file_bytes == path.stat().st_size
        assert [layer.name for layer in found.layers] == ["stem", "conv1", "conv2", "wide", "fc1", "head"]

    def test_none_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputRefused, match=r"absent\.onnx: no such file"):
            inspect_file(tmp_path / "absent.onnx")

    @pytest.mark.parametrize(
        "content", [b"", b"PK\x03\x04 a zip file", b"hello", bytes(range(256)), b'{"a": 1}'], ids=repr
    )
    def test_not_an_onnx_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(InputRefused, match=r"model\.onnx: .*an ONNX file"):
            inspect_file(path)

    def test_half_a_file(self, file: onnx.ModelProto, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        content = file.SerializeToString()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(InputRefused, match="cannot be read as ONNX"):
            inspect_file(path)
