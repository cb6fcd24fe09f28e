"""From a module to a graph of training-level ops, by either exporter; and what cannot be captured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor

from bnn_deploy import nn
from bnn_deploy.errors import InputRefused
from bnn_deploy.export.capture import capture
from bnn_deploy.passes import run_float_passes

EXPORTERS = pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
# Convolutions of ±alpha in float32, a hundred products each: relative to the largest output.
FLOAT_TOLERANCE = 1e-6

Session = onnxruntime.InferenceSession


def session(captured: ir.Model) -> Session:
    """The graph as plain float ops in ONNX Runtime."""
    run_float_passes(captured)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return Session(ir.to_proto(captured).SerializeToString(), options, providers=["CPUExecutionProvider"])


def leaves(value: Any) -> Iterator[Tensor]:
    """The tensors of nested dicts and tuples, in order."""
    if isinstance(value, Tensor):
        yield value
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)


def assert_equals_pytorch(running: Session, model: torch.nn.Module, *shapes: tuple[int, ...]) -> None:
    inputs = [torch.randn(shape, generator=torch.Generator().manual_seed(index)) for index, shape in enumerate(shapes)]
    feeds = {value.name: array.numpy() for value, array in zip(running.get_inputs(), inputs, strict=True)}
    with torch.no_grad():
        expected = [leaf.numpy() for leaf in leaves(model(*inputs))]
    found = running.run(None, feeds)
    assert [array.shape for array in found] == [array.shape for array in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=FLOAT_TOLERANCE * float(np.abs(other).max()))


@EXPORTERS
@pytest.mark.parametrize(
    ("dynamic", "wanted", "other_sizes"),
    [
        ("batch", ["batch", 3, 8, 10], [(1, 3, 8, 10), (5, 3, 8, 10)]),
        ("batch,spatial", ["batch", 3, "height", "width"], [(1, 3, 8, 10), (3, 3, 12, 6), (2, 3, 7, 13)]),
        ("none", [1, 3, 8, 10], [(1, 3, 8, 10)]),
    ],
)
def test_sizes_and_names(
    exporter: str, dynamic: str, wanted: list[object], other_sizes: list[tuple[int, ...]], networks: ModuleType
) -> None:
    model = networks.make("Spatial")
    running = session(capture(model, [torch.randn(1, 3, 8, 10)], dynamic=dynamic, exporter=exporter))
    (given,), (made,) = running.get_inputs(), running.get_outputs()
    assert (given.name, given.shape) == ("x", wanted)
    assert made.name == "output"
    for axis in (0, 2, 3):
        if isinstance(wanted[axis], int):
            assert isinstance(made.shape[axis], int)
        else:
            assert isinstance(made.shape[axis], str)
    if dynamic != "none":
        assert made.shape[0] == "batch"
    for size in other_sizes:
        assert_equals_pytorch(running, model, size)


def test_free_sizes_are_named_inside_expressions(networks: ModuleType) -> None:
    captured = capture(networks.make("Spatial"), [torch.randn(2, 3, 8, 10)], dynamic="batch,spatial")
    values = [output for node in captured.graph for output in node.outputs]
    sizes = {str(size.value) for value in values if value.shape for size in value.shape if not isinstance(size, int)}
    assert any("height" in size and "//" in size for size in sizes)
    assert not [size for size in sizes if size.startswith("s") and size[1:2].isdigit()]


@EXPORTERS
def test_several_inputs_and_outputs(exporter: str, networks: ModuleType) -> None:
    model = networks.make("TwoInputs")
    running = session(capture(model, [torch.randn(1, 3, 5, 5), torch.randn(1, 6)], exporter=exporter))
    assert [(value.name, value.shape) for value in running.get_inputs()] == [
        ("image", ["batch", 3, 5, 5]),
        ("vector", ["batch", 6]),
    ]
    assert [value.name for value in running.get_outputs()] == ["output_0", "output_1", "output_2"]
    assert_equals_pytorch(running, model, (4, 3, 5, 5), (4, 6))


class Sum(torch.nn.Module):
    """Inputs as `*args`."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.BinaryLinear(6, 4)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.fc(inputs[0]) + self.fc(inputs[1])


class Decorated(Sum):
    """`torch.no_grad` replaces forward by a function that takes anything."""

    @torch.no_grad()
    def forward(self, left: Tensor, right: Tensor, swap: bool = False) -> Tensor:
        return self.fc(right if swap else left) - 2 * self.fc(right)


@EXPORTERS
@pytest.mark.parametrize("kind", [Sum, Decorated])
def test_signatures_of_forward(kind: type[Sum], exporter: str) -> None:
    model = kind().eval()
    running = session(capture(model, [torch.randn(1, 6), torch.randn(1, 6)], exporter=exporter))
    assert [value.shape for value in running.get_inputs()] == [["batch", 6]] * 2
    if kind is Decorated:
        assert [value.name for value in running.get_inputs()] == ["left", "right"]
    assert_equals_pytorch(running, model, (3, 6), (3, 6))


@EXPORTERS
@pytest.mark.parametrize("fails", [False, True])
def test_every_module_is_left_in_the_mode_it_was_in(fails: bool, exporter: str, networks: ModuleType) -> None:
    model = networks.make("Residual").train()
    model.second_norm.eval()
    statistics = model.first_norm.running_mean.clone()
    modes = [module.training for module in model.modules()]
    if fails:
        model.head = Refused["fails"]()
        modes = [module.training for module in model.modules()]
        with pytest.raises(InputRefused):
            capture(model, [torch.randn(1, 3, 4, 4)], exporter=exporter)
    else:
        # Evaluation mode is what was captured: the outputs are those of the running statistics.
        running = session(capture(model, [torch.randn(1, 3, 4, 4)], exporter=exporter))
        assert_equals_pytorch(running, networks.make("Residual"), (3, 3, 4, 4))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.first_norm.running_mean, statistics)


def test_the_example_is_not_written_to_and_its_batch_may_be_1(networks: ModuleType) -> None:
    example = torch.randn(1, 4, 5, 5)
    before = example.clone()
    captured = capture(networks.make("InPlace"), [example])
    assert torch.equal(example, before)
    assert captured.graph.inputs[0].shape is not None
    assert not isinstance(captured.graph.inputs[0].shape[0], int)


def test_nothing_reaches_the_terminal(capfd: pytest.CaptureFixture[str], networks: ModuleType) -> None:
    class Talkative(networks.Spatial):  # type: ignore[misc, name-defined]
        def forward(self, x: Tensor) -> Tensor:
            print("forward says so")
            return super().forward(x)

    for exporter in ("dynamo", "legacy"):
        capture(Talkative(), [torch.randn(1, 3, 8, 10)], exporter=exporter)
    assert capfd.readouterr() == ("", "")


class Base(torch.nn.Module):
    """A binary layer; each subclass does with it what an exporter does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.BinaryConv2d(3, 3, 3, padding=1)


class Branch(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > 0 else x


class FixedBatch(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).reshape(2, -1)


class WritesToData(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.conv.weight.data = self.conv.weight.data.sign()
        return self.conv(x)


class Exits(Base):
    def forward(self, x: Tensor) -> Tensor:
        sys.exit("enough of this")


class Fails(Base):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such key")


class UnknownOp(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.conv(x))


class Refuses(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[:, :2])


Refused = {
    "branch": Branch,
    "fixed batch": FixedBatch,
    "writes": WritesToData,
    "exits": Exits,
    "fails": Fails,
    "unknown op": UnknownOp,
    "refuses": Refuses,
}
RUN_IT = "run model(example_inputs) on its own first"
CASES = {
    ("branch", "dynamo"): ("Branch", "data-dependent", "use torch.where"),
    ("fixed batch", "dynamo"): ("FixedBatch", "(2)", "fixes a size that --dynamic batch leaves free"),
    ("writes", "dynamo"): ("WritesToData", "fake tensor", "compute a new tensor instead"),
    ("exits", "dynamo"): ("Exits", "SystemExit: enough of this", RUN_IT),
    ("exits", "legacy"): ("Exits", "SystemExit: enough of this", RUN_IT),
    ("fails", "dynamo"): ("Fails", "KeyError: 'no such key'", RUN_IT),
    ("fails", "legacy"): ("Fails", "KeyError: 'no such key'", RUN_IT),
    ("unknown op", "dynamo"): ("UnknownOp", "bessel_j0", "try --exporter legacy"),
    ("unknown op", "legacy"): ("UnknownOp", "bessel_j0", "try --exporter dynamo"),
    # A refusal of ours comes through as it is, with the layer's name.
    ("refuses", "dynamo"): ("conv", "2 channels", ""),
    ("refuses", "legacy"): ("conv", "2 channels", ""),
}


@pytest.mark.parametrize(("case", "exporter"), CASES, ids=" ".join)
def test_what_cannot_be_captured_is_refused_with_a_hint(case: str, exporter: str) -> None:
    where, found, fix = CASES[case, exporter]
    model = Refused[case]()
    weight = model.conv.weight.detach().clone()
    with pytest.raises(InputRefused) as refused:
        capture(model, [torch.randn(1, 3, 4, 4)], exporter=exporter)
    error = refused.value
    assert error.where == where
    assert found in error.found
    assert fix in error.fix
    assert "\n" not in error.found
    assert len(str(error)) < 900
    if case != "writes":
        assert torch.equal(model.conv.weight, weight)


def test_what_dynamic_batch_refuses_a_fixed_one_takes() -> None:
    model = FixedBatch().eval()
    running = session(capture(model, [torch.randn(4, 3, 4, 4)], dynamic="none"))
    assert_equals_pytorch(running, model, (4, 3, 4, 4))


@pytest.mark.parametrize("option", ["dynamic", "exporter"])
def test_unknown_choices(option: str, networks: ModuleType) -> None:
    with pytest.raises(InputRefused, match=rf"--{option}: 'all'; wanted: one of "):
        capture(networks.make("Spatial"), [torch.zeros(1, 3, 8, 10)], **{option: "all"})


def test_layers_carry_their_names(networks: ModuleType) -> None:
    captured = capture(networks.make("Residual"), [torch.randn(1, 3, 4, 4)])
    names = [node.attributes["layer"].as_string() for node in captured.graph if node.domain == "bnn_deploy"]
    assert names == ["first", "first", "second", "second"]


def test_a_captured_graph_can_be_saved(networks: ModuleType, tmp_path: Path) -> None:
    captured = capture(networks.make("Assorted"), [torch.randn(1, 4, 9, 8)], exporter="legacy")
    ir.save(captured, tmp_path / "captured.onnx")
    read = onnx.load(str(tmp_path / "captured.onnx"))
    ours = {node.op_type for node in read.graph.node if node.domain == "bnn_deploy"}
    assert ours == {"Binarize", "BinaryConv2d", "BinaryLinear"}
