"""Whole networks of the GPU benchmark, as far as they go without one: every contender runs on the host."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "build" / "plugins" / "tensorrt" / "libbnn_deploy_tensorrt_host.so"
sys.path += [str(ROOT / "benchmarks" / "gpu"), str(ROOT / "tests" / "plugins" / "cuda")]

import network_contenders  # noqa: E402
import network_engines  # noqa: E402
import network_peers  # noqa: E402
import network_work  # noqa: E402
import node_reference  # noqa: E402
import parts  # noqa: E402
import report  # noqa: E402
import torch_ops  # noqa: E402
import torch_peers  # noqa: E402
from cuda_builds import built  # noqa: E402
from floors import Ceilings  # noqa: E402
from measured_network import Network  # noqa: E402
from network_contenders import Contenders  # noqa: E402
from plugin_modules import Plugin  # noqa: E402
from slots import Library  # noqa: E402
from torch_memory import TorchMemory  # noqa: E402

from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's older exporter is quick, and says that it is old
IN_TORCH = {report.OURS, report.OURS_BINARY, report.TORCH_FLOAT16, report.CONVOLUTIONS_ALONE, report.INT8_MATMULS}
BATCH = 2


@pytest.fixture
def library() -> Library:
    """The plugin with its kernels in the host executor. Where the checks run it must have been built."""
    return Library(built(PLUGIN, "the TensorRT plugin"))


@pytest.fixture
def network(deployed: Callable[..., Any], golden: Callable[..., Path], tmp_path: Path) -> Callable[..., Network]:
    """An exported network with its golden bundle, by name."""

    def make(name: str) -> Network:
        golden(deployed(name, exporter="legacy"), folder=tmp_path / name / "golden")
        return Network(tmp_path / name)

    return make


@pytest.fixture
def contenders(library: Library) -> Iterator[Callable[..., Contenders]]:
    """The contenders of a network."""
    with ExitStack() as stack, torch.inference_mode():

        def make(network: Network, batch: int = BATCH, **changed: Any) -> Contenders:
            options = {"plugin": PLUGIN, "torch": True, "dry_run": True, "tensorrt": False} | changed
            return Contenders(network, batch, library, stack, argparse.Namespace(**options))

        yield make


# ---- contenders


@pytest.mark.parametrize("name", ["Residual", "Fused", "Unipolar", "Stemmed"])
@pytest.mark.parametrize("batch", [1, 3])
def test_all_run_and_are_right(network: Any, contenders: Any, name: str, batch: int) -> None:
    made = contenders(network(name), batch)
    found = made.all()
    assert made.failures == {} and set(found) == IN_TORCH
    assert made.floats.startswith("PyTorch ")
    assert all(agreement > 0.9 for agreement in made.agreement.values()) and len(made.agreement) == 3
    for one in found.values():
        recording = one.record(2)
        assert recording.milliseconds() == pytest.approx(2e-3) and one.slots == 1
        recording.close()


def test_without_torch_the_binary_part_alone(network: Any, contenders: Any) -> None:
    made = contenders(network("Residual"), torch=False)
    assert set(made.all()) == {report.OURS_BINARY} and made.failures == {} and made.floats == ""
    assert made.agreement[report.OURS_BINARY] > 0.9


def test_without_torch_our_library_records(network: Any, contenders: Any) -> None:
    made = contenders(network("Residual"), torch=False, dry_run=False)
    assert made.all() == {}
    assert made.failures == {report.OURS_BINARY: "CudaKernelError: the host executor measures no times"}


def test_a_float_node_that_is_wrong_is_not_timed(
    network: Any, contenders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(torch_ops.TABLE, "ReduceMean", lambda attributes, x, constants: x[0].amax((2, 3)))
    made = contenders(network("Residual"))
    assert set(made.all()) == {report.CONVOLUTIONS_ALONE, report.INT8_MATMULS}
    for name in (report.OURS, report.OURS_BINARY, report.TORCH_FLOAT16):
        assert "(ReduceMean): " in made.failures[name] and made.failures[name].endswith("; not timed")


def test_a_plugin_that_writes_nothing_is_not_timed(
    network: Any, contenders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, runs = Plugin.enqueue, []

    def idle(self: Plugin, tensors: Any, *rest: Any) -> None:
        runs.append(len(tensors))
        if len(tensors) < 5:  # a pack, and the layers that need no residual
            right(self, tensors, *rest)

    monkeypatch.setattr(Plugin, "enqueue", idle)
    made = contenders(network("Residual"))
    assert report.OURS not in made.all() and max(runs) >= 5
    assert "values differ" in made.failures[report.OURS]


@pytest.mark.usefixtures("no_cuda")
def test_what_another_run_has_left_does_not_stand_in(
    network: Any, contenders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replayed, "milliseconds", lambda self: 1.0)  # replays nothing
    made = contenders(network("Residual"), dry_run=False)
    made.all()
    assert "values differ" in made.failures[report.OURS_BINARY]


def test_an_operator_that_is_missing_is_said(network: Any, contenders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(torch_ops.TABLE, "Conv")
    made = contenders(network("Residual"))
    made.all()
    assert "Conv is not among the operators" in made.failures[report.OURS]


class Replayed(torch_peers.TorchRecording):
    """A replay runs what was recorded."""

    def __init__(self, runs_of_slots: list[Any], runs: int) -> None:
        super().__init__(runs_of_slots, runs)
        self.replay = runs_of_slots[0]

    def milliseconds(self) -> float:
        self.replay()
        return super().milliseconds()


@pytest.fixture
def no_cuda(fake_graphs: Any, monkeypatch: pytest.MonkeyPatch, library: Library) -> Iterator[None]:
    """What is of the GPU alone replaced; tensors lie where the host executor finds them."""
    monkeypatch.setattr(network_contenders, "TorchRecording", Replayed)
    for module in (network_contenders, network_engines):
        monkeypatch.setattr(module, "DEVICE", "cpu")
    with library.memory() as held:
        monkeypatch.setattr(Contenders, "_memory", lambda self, constants, _: TorchMemory(constants, "cpu", held))
        yield


@pytest.mark.usefixtures("no_cuda")
def test_as_on_a_gpu(network: Any, contenders: Any, fake_graphs: Any) -> None:
    before = fake_graphs.replays
    made = contenders(network("Residual"), dry_run=False)
    found = made.all()
    assert made.failures == {} and set(found) == IN_TORCH
    assert fake_graphs.replays == before + 6, "each of the three that are checked is replayed before"
    for one in found.values():
        recording = one.record(3)
        assert recording.milliseconds() == 4.0
        recording.close()


def test_launches_are_counted_where_something_can(
    network: Any, contenders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kept:
        def __init__(self, keep_graph: bool) -> None:
            assert keep_graph

        def raw_cuda_graph(self) -> int:
            return 77

    class Runtime:
        cudaGraph_t = int

        @staticmethod
        def cudaGraphGetNodes(graph: int) -> tuple[int, list[Any], int]:
            assert graph == 77
            return 0, [], 29

    ran: list[int] = []
    assert torch_peers.graph_nodes(lambda: ran.append(1)) is None and ran == []  # no CUDA, or none of its bindings
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(runtime=Runtime))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Kept)
    monkeypatch.setattr(torch.cuda, "graph", nullcontext)
    assert torch_peers.graph_nodes(lambda: ran.append(1)) == 29 and ran == [1]


def test_only_what_is_still_read_is_kept(network: Any, contenders: Any) -> None:
    given = network("Residual")
    running, reference, _ = contenders(given)._device_network(given.model)
    running.run(keep=True)
    names = {name for node in given.model.graph.node for name in node.output}
    assert names <= set(running._values) and reference.wrong_nodes(running.reader()) == []
    running.run()
    outputs = {output.name for output in given.model.graph.output}
    assert set(running._values) & names == outputs


# ---- operators in PyTorch

CASES: dict[str, tuple[str, list[tuple[int, ...]], dict[str, Any], list[Any]]] = {
    "conv": ("Conv", [(2, 3, 6, 5)], {"pads": [1, 0, 1, 0], "strides": [2, 1]}, [(4, 3, 3, 2), (4,)]),
    "conv, one side": ("Conv", [(2, 3, 6, 5)], {"pads": [0, 1, 1, 2]}, [(4, 3, 3, 2)]),
    "conv, groups": ("Conv", [(2, 4, 6, 5)], {"group": 2, "dilations": [2, 1]}, [(6, 2, 2, 2)]),
    "max-pool": ("MaxPool", [(2, 3, 6, 7)], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, []),
    "max-pool, one side": ("MaxPool", [(2, 3, 6, 7)], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}, []),
    "average": ("AveragePool", [(2, 3, 6, 6)], {"kernel_shape": [2, 2], "strides": [2, 2]}, []),
    "average, padded": ("AveragePool", [(2, 3, 6, 6)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, []),
    "flatten": ("Flatten", [(2, 3, 4, 5)], {"axis": 2}, []),
    "gemm": ("Gemm", [(2, 3)], {"transB": 1}, [(4, 3), (4,)]),
    "batch norm": ("BatchNormalization", [(2, 3, 4, 4)], {"epsilon": 0.1}, [(3,), (3,), (3,), np.full(3, 2.0)]),
    "mean": ("ReduceMean", [(2, 3, 4, 4)], {"keepdims": 0}, [np.array([2, 3])]),
    "reshape": ("Reshape", [(2, 3, 4)], {}, [np.array([0, -1])]),
    "pad": ("Pad", [(2, 3, 4, 4)], {}, [np.array([0, 0, 1, 2, 0, 0, 0, 3]), np.array(-1.0)]),
    "clip": ("Clip", [(2, 3)], {}, [np.array(-0.5), np.array(0.25)]),
    "prelu": ("PRelu", [(2, 3, 4, 4)], {}, [(3, 1, 1)]),
    "concat": ("Concat", [(2, 3, 4), (2, 1, 4)], {"axis": 1}, []),
    "compare": ("GreaterOrEqual", [(2, 3)], {}, [np.array(0.0)]),
    "to float16": ("Cast", [(2, 3)], {"to": int(onnx.TensorProto.FLOAT16)}, []),
    "sign": ("Sign", [(2, 3)], {}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_operators_equal_onnx_runtime(case: str) -> None:
    op_type, shapes, attributes, operands = CASES[case]
    generator = np.random.default_rng(0)
    fed = {f"x{i}": generator.standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes)}
    constants = {}
    for i, operand in enumerate(operands):
        array = generator.standard_normal(operand) if isinstance(operand, tuple) else operand
        constants[f"c{i}"] = array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)
    node = helper.make_node(op_type, [*fed, *constants], ["y"], **attributes)
    model = node_reference.one_node_model(_nothing(), node, fed | constants, constants)
    expected = OnnxRuntimeRunner(model).infer(fed)["y"]
    tensors = [torch.from_numpy(array) for array in (fed | constants).values()]
    found = torch_ops.compute(node, tensors, [None] * len(fed) + list(constants.values())).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def _nothing() -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 20)]
    return helper.make_model(helper.make_graph([], "nothing", [], []), opset_imports=imports, ir_version=9)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Softmax", {}),
        ("Conv", {"auto_pad": "SAME_UPPER"}),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
        ("Gemm", {"alpha": 2.0}),
        ("Cast", {"to": int(onnx.TensorProto.INT8)}),
        ("Reshape", {}),
    ],
)
def test_forms_of_operators_that_are_not_there(op_type: str, attributes: dict[str, Any]) -> None:
    node = helper.make_node(op_type, ["x", "w"], ["y"], **attributes)
    with pytest.raises(torch_ops.Unsupported):
        torch_ops.compute(node, [torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)], [None, None])


def test_differences_are_told_from_rounding() -> None:
    right = np.array([1.0, -200.0], np.float32)
    near, far = right + np.float32(0.5), right + np.float32(1.5)
    assert node_reference.difference(near, right, exact=False) == ""
    assert node_reference.difference(near, right, exact=True) == "2 of 2 values differ"
    assert node_reference.difference(far, right, exact=False) == "off by 1.5, 0.781 is rounding"
    assert node_reference.difference(far[:1], right, exact=False) == "float32 (1,), wanted float32 (2,)"
    assert node_reference.difference(np.array([np.nan], np.float32), right[:1], exact=False)
    assert node_reference.difference(np.array([1]), np.array([2]), exact=False) == "1 of 1 values differ"


# ---- work and floors


def test_work_of_a_network_by_hand(network: Any) -> None:
    given = network("Residual")
    shapes = network_work.shapes_of(given.model, 8)
    rows = {row["op"]: row for row in (one.as_row() for one in network_work.network_work(given.model, shapes))}
    stem, head = rows["Conv"], rows["Gemm"]
    assert stem["macs"] == 8 * 16 * 34 * 27 and head["macs"] == 8 * 34 * 5 and not stem["binary"]
    assert stem["bytes"] == 2 * (8 * 16 * (3 + 34) + 34 * 27 + 34)
    layer = rows["PackedConv2dAddPackFp16"]
    assert layer["binary"] and layer["macs"] == 8 * 16 * 34 * 34 * 9
    words = 8 * 16 * 2 + 34 * 9 * 2 + 8 * 16 * 2
    assert layer["bytes"] == 4 * words + 4 * 34 * 4 + 2 * 2 * 8 * 16 * 34
    assert "Reshape" not in rows


@pytest.mark.parametrize("name", ["Residual", "Fused", "Assorted", "UnipolarChain", "Stemmed"])
def test_shapes_are_those_of_a_run(network: Any, contenders: Any, name: str) -> None:
    given = network(name)
    shapes = network_work.shapes_of(given.model, BATCH)
    try:
        running, _, memory = contenders(given)._device_network(given.model)
    except ValueError as error:
        assert "there is no plugin for it" in str(error)  # 1-bit weights alone
        return
    running.run(keep=True)
    for node in given.model.graph.node:
        for output in node.output:
            found = memory.described(running._values[output])
            assert (found.shape, found.dtype) == shapes[output], output
    assert len(network_work.network_work(given.model, shapes)) <= len(given.model.graph.node)


def test_products_of_a_twin(network: Any) -> None:
    given = network("Residual")
    found = list(network_peers.products(given.twin, network_work.shapes_of(given.twin, BATCH)))
    assert [(one.x, one.weight, one.y, one.strides, one.pads) for one in found] == [
        ((2, 3, 4, 4), (34, 3, 3, 3), (2, 34, 4, 4), (1, 1), (1, 1)),
        ((2, 34, 4, 4), (34, 34, 3, 3), (2, 34, 4, 4), (1, 1), (1, 1)),
        ((2, 34, 4, 4), (34, 34, 3, 3), (2, 34, 2, 2), (2, 2), (1, 1)),
        ((2, 34, 1, 1), (5, 34, 1, 1), (2, 5, 1, 1), (1, 1), (0, 0)),
    ]
    assert [one.unfolded for one in found] == [(32, 32, 48), (32, 320, 48), (32, 320, 48), (32, 48, 16)]


LIMITS = Ceilings(bytes_per_second=1e12, binary_macs_per_second=1e15, int8_macs_per_second=2e14)


def network_row() -> dict[str, Any]:
    times = {report.OURS: 100.0, report.OURS_BINARY: 40.0, report.TORCH_FLOAT16: 300.0, report.INT8_MATMULS: 50.0}
    return {
        "model": "net",
        "batch": 8,
        "nodes": [
            {"op": "Conv", "bytes": 10**6, "macs": 2 * 10**9, "binary": False},  # 20 us at half of int8's rate
            {"op": "PackedConv2d", "bytes": 2 * 10**6, "macs": 10**9, "binary": True},  # 2 us of memory
        ],
        "times": {name: {f"p{p}_us": us for p in (10, 50, 90)} | {"runs": 3} for name, us in times.items()},
        "failures": {},
    }


def test_a_network_is_judged_by_its_floors_and_its_peers() -> None:
    judged = report.judge_network(network_row(), LIMITS, 1.5)
    assert judged["floor_us"] == pytest.approx(22.0) and judged["binary_floor_us"] == pytest.approx(2.0)
    assert (judged["fewest_launches"], judged["binary_fewest_launches"]) == (2, 1) and judged["launch_floor_us"] == 3.0
    ours, part = judged["judged"][report.OURS], judged["judged"][report.OURS_BINARY]
    assert ours["p50_ms"] == 0.1 and ours["images_per_second"] == pytest.approx(80_000)
    assert ours["of_floor"] == pytest.approx(0.22) and ours["of_launch_floor"] == pytest.approx(0.03)
    assert ours["times_as_fast_as"] == {report.TORCH_FLOAT16: 3.0, report.INT8_MATMULS: 0.5}
    assert part["of_floor"] == pytest.approx(0.05) and part["of_launch_floor"] == pytest.approx(1.5 / 40)
    assert "of_floor" not in judged["judged"][report.TORCH_FLOAT16] and "nodes" not in judged
    bare = report.judge_network(network_row(), None, None)
    assert set(bare["judged"][report.OURS]) & {"of_floor", "of_launch_floor"} == set()


# ---- TensorRT


def test_engines_of_all_three_are_built(network: Any) -> None:
    pytest.importorskip("tensorrt_rtx")
    given = network("Residual")
    plugin = network_engines_plugin()
    feeds = given.feeds(2)
    models = [(given.twin, None), (network_engines.int8_twin(given.twin32, feeds), None)]
    for model, library in [*models, *([(given.model, plugin)] if plugin else [])]:
        profile = network_engines.profile_for(model, {name: array.shape for name, array in feeds.items()})
        assert network_engines.build_serialized_engine(model, profiles=[profile], plugin=library).plan
    kinds = {node.op_type for node in models[1][0].graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def network_engines_plugin() -> Path | None:
    from bnn_deploy.native import TENSORRT_PLUGIN

    return TENSORRT_PLUGIN.find()


class FakeExecution:
    """Runs on the CPU what an engine would."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.runner, self.runs, self.closed = OnnxRuntimeRunner(model), 0, False

    def infer_device(self, feeds: dict[str, Any]) -> dict[str, Any]:
        self.runs += 1
        return self.runner.infer({name: tensor.numpy() for name, tensor in feeds.items()})

    def close(self) -> None:
        self.closed = True


@pytest.mark.usefixtures("no_cuda")
def test_engines_take_turns_too(network: Any, contenders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeExecution] = []

    def fake(model: onnx.ModelProto, feeds: Any, plugin: Path | None, *, graph: bool) -> FakeExecution:
        assert graph and (plugin is not None) == any(node.domain == "bnn_deploy" for node in model.graph.node)
        made.append(FakeExecution(model))
        return made[-1]

    monkeypatch.setattr(network_engines, "execution_of", fake)
    given = contenders(network("Residual"), dry_run=False, tensorrt=True)
    found = given.all()
    assert given.failures == {} and set(found) == IN_TORCH | {
        report.OURS_TENSORRT,
        report.TENSORRT_FLOAT16,
        report.TENSORRT_INT8,
    }
    recording = found[report.TENSORRT_INT8].record(5)
    before = made[-1].runs
    assert recording.milliseconds() == 4.0 and made[-1].runs == before + 6
    recording.close()


@pytest.mark.usefixtures("no_cuda")
def test_an_engine_that_is_wrong_is_not_timed(network: Any, contenders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(FakeExecution):
        def infer_device(self, feeds: dict[str, Any]) -> dict[str, Any]:
            found = super().infer_device(feeds)
            return {name: np.ascontiguousarray(array[:, ::-1]) for name, array in found.items()}

    monkeypatch.setattr(network_engines, "execution_of", lambda model, *_, **__: Wrong(model))
    given = contenders(network("Residual"), dry_run=False, tensorrt=True)
    given.all()
    assert "with the right ones; not timed" in given.failures[report.OURS_TENSORRT]


# ---- parts


@pytest.fixture
def source(tmp_path: Path) -> parts.NetworkSource:
    """Three networks of other sizes, and one whose float rest is float16 already."""
    for name, size, precision in (
        ("small", 1, ""),
        ("large", 3000, ""),
        ("middle", 300, ""),
        ("large16", 3000, "fp16"),
    ):
        model = _nothing()
        model.doc_string = "x" * size
        if precision:
            helper.set_model_props(model, {"bnn_deploy.precision": precision})
        (tmp_path / name / "golden").mkdir(parents=True)
        onnx.save(model, tmp_path / name / "golden" / "model.onnx")
    return parts.NetworkSource(Path("x.so"), Path("p.so"), tmp_path)


def test_parts_of_networks(source: parts.NetworkSource) -> None:
    full = parts.network_parts(source, quick=False, dry=False, tensorrt=True, more=["--no-torch"])
    assert [part.name for part in full] == ["networks large", "networks middle", "networks small"]
    assert {"--tensorrt", "--no-torch", "256"} <= set(full[0].command) and full[0].seconds > parts.MOST_SECONDS
    (quick,) = parts.network_parts(source, quick=True, dry=False, tensorrt=False, more=[])
    batches = [quick.command[i + 1] for i, word in enumerate(quick.command) if word == "--batch"]
    assert batches == ["1", "64"] and "--tensorrt" not in quick.command
    (dry,) = parts.network_parts(source, quick=False, dry=True, tensorrt=True, more=[])
    assert dry.name == "networks small" and "--dry-run" in dry.command and "--tensorrt" not in dry.command
    (probe,) = source.probe()
    assert probe.command[-1] == source.models / "small" and probe.seconds == parts.PROBE_SECONDS
    assert parts.NetworkSource(Path("x.so"), Path("p.so"), source.models / "nowhere").probe() == []
