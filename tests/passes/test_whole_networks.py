"""Whole binary networks, drawn at random: whatever the passes do to them, they compute what PyTorch does.

In most of these tests every number is a multiple of a power of two and small, so that float32 arithmetic is exact in
any order. Then nothing may differ, not by one bit, and ties on a threshold, which abound, must come out the same too.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass
from torch import Tensor
from torch.nn import AvgPool2d, BatchNorm1d, BatchNorm2d, Conv2d, Hardtanh, Linear, MaxPool2d, Module, PReLU, ReLU

from bnn_deploy import nn
from bnn_deploy.export.capture import capture
from bnn_deploy.passes.attach_functions import AttachFunctionsPass
from bnn_deploy.passes.clear_records import ClearRecordsPass
from bnn_deploy.passes.fold_affine import FoldAffinePass
from bnn_deploy.passes.hoist_reshapes import HoistReshapesPass
from bnn_deploy.passes.lower_binarize import LowerBinarizePass
from bnn_deploy.passes.name_layers import NameLayersPass
from bnn_deploy.passes.pack_activations import PackActivationsPass
from bnn_deploy.passes.pack_weights import PackWeightsPass
from bnn_deploy.passes.pipeline import deploy_passes, float_passes

# A binarised ReLU is a poor network, and a good test.
pytestmark = pytest.mark.filterwarnings("ignore:.*reads a ReLU output")

Arrays = dict[str, NDArray[Any]]
CLASSES = 5
# An example takes a second or two, so a failing one is reported as it is.
SLOWLY: Any = {
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
# Float32 sums in another order, relative to the largest output.
ROUGH_TOLERANCE = 1e-5


class Sum(Module):
    """Two binary convolutions of one tensor, added."""

    def __init__(self, channels: int, config: nn.BinarizeConfig) -> None:
        super().__init__()
        self.wide = nn.BinaryConv2d(channels, channels, 3, padding=1, config=config)
        self.narrow = nn.BinaryConv2d(channels, channels, 1, config=config)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x) + self.narrow(x)


class ReActBlock(Module):
    """RSign, convolution, BatchNorm and shortcut, RPReLU; with `doubles`, two of the middle, joined."""

    def __init__(self, channels: int, zero: str, doubles: bool) -> None:
        super().__init__()
        config = nn.BinarizeConfig(bi_act_method=-1, zero=zero)
        count = 2 if doubles else 1
        self.sign = nn.RSign(channels, zero)
        self.convs = torch.nn.ModuleList(nn.BinaryConv2d(channels, channels, 1, config=config) for _ in range(count))
        self.norms = torch.nn.ModuleList(BatchNorm2d(channels) for _ in range(count))
        self.act = nn.RPReLU(count * channels)

    def forward(self, x: Tensor) -> Tensor:
        signs = self.sign(x)
        ends = [norm(conv(signs)) + x for conv, norm in zip(self.convs, self.norms, strict=True)]
        return self.act(torch.cat(ends, dim=1))


class BinaryHead(Module):
    """Two fully connected binary layers with BatchNorm between them."""

    def __init__(self, features: int, config: nn.BinarizeConfig) -> None:
        super().__init__()
        self.first, self.norm = nn.BinaryLinear(features, 34, True, config=config), BatchNorm1d(34)
        self.second = nn.BinaryLinear(34, CLASSES, config=config)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)))


class Network(Module):
    """A float stem, the layers of a plan, a head: global average or flattened, float or binary."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.stem = Conv2d(3, plan.first, 3, padding=1)
        self.layers = torch.nn.Sequential(*(build(layer) for layer in plan.layers))
        self.averages = plan.averages
        features = plan.channels * (1 if plan.averages else plan.size**2)
        config = nn.BinarizeConfig(zero=plan.zero)
        self.head = BinaryHead(features, config) if plan.binary_head else Linear(features, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.stem(x))
        return self.head(x.mean(dim=(2, 3)) if self.averages else x.flatten(1))


@dataclass
class Plan:
    """What a network is made of; `channels` and `size` are those that the next layer will see."""

    first: int
    image: int
    zero: str
    binary_head: bool = False
    averages: bool = True
    layers: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channels, self.size = self.first, self.image


def build(layer: tuple[str, dict[str, Any]]) -> Module:
    kind, options = layer
    makers: dict[str, Any] = {
        "conv": nn.BinaryConvBNReLU,
        "resnet": nn.BinaryResNetBlock,
        "vgg": nn.BinaryVggBlock,
        "react": ReActBlock,
        "sum": Sum,
        "max": MaxPool2d,
        "average": AvgPool2d,
        "norm": BatchNorm2d,
        "prelu": PReLU,
        "rprelu": nn.RPReLU,
        "relu": ReLU,
        "hardtanh": Hardtanh,
    }
    return makers[kind](**options)


def draw_layer(random: Random, plan: Plan) -> None:
    """Appends a layer that fits what is there."""
    channels, halves = plan.channels, plan.size % 2 == 0
    kinds = ["conv"] * 4 + ["resnet", "vgg", "react", "sum", "norm", "relu", "hardtanh", "prelu", "rprelu"]
    kind = random.choice(kinds + (["max", "max", "average"] if halves else []))
    config = nn.BinarizeConfig(bi_w_scale=random.choice([0, 1, 3]), zero=plan.zero)
    stride = random.choice([1, 2]) if halves else 1
    block = {
        "in_channels": channels,
        "out_channels": channels,
        "stride": stride,
        "layer_order": random.choice(nn.blocks.LAYER_ORDERS),
        "relu": random.random() < 0.5,
        "config": config,
    }
    options: dict[str, Any] = {}
    if kind == "conv":
        kernel, dilation = random.choice([1, 3]), random.choice([1, 2])
        window = {"kernel_size": kernel, "padding": dilation * (kernel // 2), "dilation": dilation}
        options = block | window | {"groups": random.choice([1, 2]), "shortcut": random.random() < 0.4}
    elif kind == "resnet":
        options = block | {"downsample": random.choice(nn.blocks.RESNET_DOWNSAMPLES)}
        options["out_channels"] *= 2 if stride == 2 and channels < 40 else 1
        plan.channels = options["out_channels"]
    elif kind == "vgg":
        options = block
    elif kind == "react":
        options = {"channels": channels, "zero": plan.zero, "doubles": channels < 40 and random.random() < 0.5}
        plan.channels *= 2 if options["doubles"] else 1
    elif kind == "sum":
        options = {"channels": channels, "config": config}
    elif kind in ("max", "average"):
        wide = {"kernel_size": 3, "stride": 2, "padding": 1}
        options = wide if kind == "max" and random.random() < 0.5 else {"kernel_size": 2, "stride": 2}
    elif kind in ("norm", "prelu", "rprelu"):
        name = {"norm": "num_features", "prelu": "num_parameters", "rprelu": "channels"}[kind]
        options = {name: 1 if kind == "prelu" and random.random() < 0.5 else channels}
    plan.size //= options.get("stride", 1)
    plan.layers.append((kind, options))


def draw_plan(random: Random) -> Plan:
    plan = Plan(random.choice([6, 34]), random.choice([8, 8, 8, 4, 1]), random.choice(["one", "one", "zero"]))
    for _ in range(random.randint(3, 6)):
        draw_layer(random, plan)
    plan.binary_head, plan.averages = random.random() < 0.5, random.random() < 0.5
    return plan


# Drawn from a seed of hypothesis' and not piece by piece: there is no time to shrink, and these vary more.
plans = st.builds(draw_plan, st.randoms(use_true_random=True))


def fill(model: Module, seed: int, *, exact: bool) -> Module:
    """Draws every parameter and statistic: gamma of both signs and 0, variances positive.

    With `exact`, multiples of small powers of two, and an epsilon of 0.
    """
    generator = np.random.default_rng(seed)

    def pick(tensor: Tensor, *values: float) -> None:
        tensor.copy_(torch.from_numpy(generator.choice(np.float32(values), tuple(tensor.shape))))

    with torch.no_grad():
        for module in model.modules():
            for name, tensor in itertools.chain(
                module.named_parameters(recurse=False), module.named_buffers(recurse=False)
            ):
                if name == "num_batches_tracked":
                    continue
                if not exact:
                    drawn = generator.normal(0, 0.7, tuple(tensor.shape)) + 0.01
                    tensor.copy_(torch.from_numpy(np.abs(drawn) + 0.3 if name == "running_var" else drawn))
                    if isinstance(module, BatchNorm1d | BatchNorm2d) and name == "weight":
                        tensor[1:2] = 0
                elif isinstance(module, BatchNorm1d | BatchNorm2d):
                    choices = {"weight": (1, -1, 0.5, 0), "bias": (-0.5, 0, 0.5), "running_mean": (-0.5, 0, 1)}
                    pick(tensor, *choices.get(name, (1, 4)))
                elif isinstance(module, nn.BinaryConv2d | nn.BinaryLinear) and name == "weight":
                    pick(tensor, -0.25, 0.25)
                elif isinstance(module, PReLU):
                    pick(tensor, 0.5, 0, -0.5)
                else:
                    pick(tensor, -0.5, 0, 0.5, 1)
            if exact and isinstance(module, BatchNorm1d | BatchNorm2d):
                module.eps = 0.0
    return model.eval()


def base_passes() -> tuple[ir.passes.PassBase, ...]:
    """The 1-bit layers alone, with nothing moved but constants."""
    return (
        NameLayersPass(),
        ClearRecordsPass(),
        PackWeightsPass(),
        HoistReshapesPass(),
        PackActivationsPass(),
        FoldAffinePass(),
        LowerBinarizePass(),
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
        AttachFunctionsPass(),
    )


class Deployed:
    """One network in its forms, and what they compute."""

    def __init__(self, toolbox: Any, plan: Plan, seed: int, *, exact: bool) -> None:
        self.toolbox = toolbox
        with torch.random.fork_rng(devices=[]):
            self.module = fill(Network(plan), seed, exact=exact)
        generator = np.random.default_rng(seed + 1)
        drawn = generator.choice(np.float32([-1, -0.5, -0.0, 0, 0.25, 0.5, 1]), (3, 3, plan.image, plan.image))
        self.x = drawn if exact else generator.standard_normal(drawn.shape).astype(np.float32)
        captured = capture(self.module, [torch.from_numpy(self.x[:1])])
        self.models = {}
        for name, steps in (("base", base_passes()), ("fused", deploy_passes()), ("float", float_passes())):
            self.models[name] = toolbox.copy(captured)
            for step in steps:
                step(self.models[name])

    def pytorch(self, *, double: bool = False) -> NDArray[Any]:
        module = copy.deepcopy(self.module).double() if double else self.module
        with torch.no_grad():
            return module(torch.from_numpy(self.x.astype(np.float64) if double else self.x)).numpy()

    def run(self, name: str, *, optimise: bool = True, images: slice = slice(None)) -> Arrays:
        """Every output, and every packed tensor under its name."""
        model = self.toolbox.copy(self.models[name])
        outputs = [value.name for value in model.graph.outputs]
        bits = [
            value
            for node in model.graph
            for value in node.outputs
            if value.dtype == ir.DataType.INT32 and not value.is_graph_output()
        ]
        model.graph.outputs.extend(bits)
        names = [*outputs, *(value.name for value in bits)]
        (input_name,) = [value.name for value in model.graph.inputs]
        found = self.toolbox.run_in_onnxruntime(model, {input_name: self.x[images]}, optimise=optimise)
        return dict(zip(names, found, strict=True))


def same_packed_tensors(base: Arrays, fused: Arrays) -> int:
    """Compares what both have, and says how many: fused layers keep the names of the tensors that they write."""
    both = [name for name in base if name in fused and base[name].dtype == np.int32]
    for name in both:
        expected, found = base[name], fused[name]
        if expected.shape != found.shape:  # ternary became unipolar: the plane of -1 is empty
            expected, negative = np.split(expected, 2, axis=-1)
            assert not negative.any(), name
        np.testing.assert_array_equal(found, expected, err_msg=name)
    return len(both)


@settings(max_examples=20, **SLOWLY)
@given(plans, st.integers(0, 2**16))
def test_exact_networks(toolbox: Any, rewriting: Any, plan: Plan, seed: int) -> None:
    network = Deployed(toolbox, plan, seed, exact=True)
    expected = network.pytorch()
    assume(np.array_equal(expected, network.pytorch(double=True)))  # else it was not exact
    results = {name: network.run(name) for name in network.models}
    for name, arrays in results.items():
        np.testing.assert_array_equal(arrays["output"], expected, err_msg=name)
    assert same_packed_tensors(results["base"], results["fused"]) > 0 or not results["base"].keys() - {"output"}
    for name, found in network.run("fused", optimise=False, images=slice(1)).items():
        np.testing.assert_array_equal(found, results["fused"][name][:1], err_msg=name)
    for kind in {node.op_type for node in network.models["fused"].graph if node.domain == "bnn_deploy"}:
        event(kind)


@settings(max_examples=8, derandomize=True, **SLOWLY)
@given(plans, st.integers(0, 2**16))
def test_rough_networks(toolbox: Any, plan: Plan, seed: int) -> None:
    """Any parameters: the same bits, and floats but for rounding.

    PyTorch is not asked. It adds up ±alpha and rounds, so what is 0 here is not 0 there, and its sign is anything.
    """
    network = Deployed(toolbox, plan, seed, exact=False)
    base, fused = network.run("base"), network.run("fused")
    same_packed_tensors(base, fused)
    assert toolbox.close(fused["output"], base["output"], tolerance=ROUGH_TOLERANCE)


@settings(max_examples=8, **SLOWLY)
@given(plans)
def test_the_passes_leave_a_sound_graph_and_nothing_to_do(toolbox: Any, rewriting: Any, plan: Plan) -> None:
    fused = Deployed(toolbox, plan, 0, exact=False).models["fused"]
    rewriting.check(fused)
    before = content(fused)
    for step in deploy_passes():
        step(fused)
    assert content(fused) == before


def content(model: ir.Model) -> tuple[list[bytes], ...]:
    """Nodes in order, initializers, functions."""
    proto: onnx.ModelProto = ir.to_proto(model)
    parts = (proto.graph.node, proto.graph.initializer, proto.functions)
    return tuple([part.SerializeToString(deterministic=True) for part in some] for some in parts)
