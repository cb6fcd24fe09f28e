"""ReActNet: the published layouts of both bodies, and their forwards against float64 ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnn_deploy.checkpoint import load_strict, misfits, read_checkpoint
from bnn_deploy.models.birealnet import BiRealNet
from bnn_deploy.models.reactnet import ReActMobileBlock, ReActNetA, ReActResNetBlock, reactnet, reactnet_resnet18

Layout = dict[str, tuple[int, ...]]
State = dict[str, Tensor]

CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


def norm_layout(prefix: str, channels: int) -> Layout:
    layout = {f"{prefix}.{name}": (channels,) for name in ("weight", "bias", "running_mean", "running_var")}
    return layout | {f"{prefix}.num_batches_tracked": ()}


def shift_layout(prefix: str, channels: int) -> Layout:
    return {f"{prefix}.bias": (1, channels, 1, 1)}


def mobile_block_layout(prefix: str, before: int, after: int) -> Layout:
    layout = {f"{prefix}.binary_3x3.weights": (before * before * 9, 1), **norm_layout(f"{prefix}.bn1", before)}
    for name in ("move11", "move12", "move13", "move21"):
        layout |= shift_layout(f"{prefix}.{name}", before)
    for name in ("move22", "move23"):
        layout |= shift_layout(f"{prefix}.{name}", after)
    layout |= {f"{prefix}.prelu1.weight": (before,), f"{prefix}.prelu2.weight": (after,)}
    if before == after:
        return layout | {f"{prefix}.binary_pw.weights": (before**2, 1)} | norm_layout(f"{prefix}.bn2", before)
    layout |= {f"{prefix}.binary_pw_down{half}.weights": (before**2, 1) for half in (1, 2)}
    return layout | norm_layout(f"{prefix}.bn2_1", before) | norm_layout(f"{prefix}.bn2_2", before)


def published_mobile_layout() -> Layout:
    layout = {"feature.0.conv1.weight": (32, 3, 3, 3), **norm_layout("feature.0.bn1", 32)}
    for index in range(1, len(CHANNELS)):
        layout |= mobile_block_layout(f"feature.{index}", CHANNELS[index - 1], CHANNELS[index])
    return layout | {"fc.weight": (1000, 1024), "fc.bias": (1000,)}


def published_resnet_layout() -> Layout:
    layout = {"conv1.weight": (64, 3, 7, 7), **norm_layout("bn1", 64)}
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(4):
            prefix = f"layer{stage}.{block}"
            layout[f"{prefix}.binary_conv.weight"] = (width, before, 3, 3)
            layout |= norm_layout(f"{prefix}.bn1", width) | shift_layout(f"{prefix}.move0", before)
            layout |= shift_layout(f"{prefix}.move1", width) | shift_layout(f"{prefix}.move2", width)
            layout[f"{prefix}.prelu.weight"] = (width,)
            if stage > 1 and block == 0:
                layout[f"{prefix}.downsample.1.weight"] = (width, before, 1, 1)
                layout |= norm_layout(f"{prefix}.downsample.2", width)
            before = width
    return layout | {"fc.weight": (1000, 512), "fc.bias": (1000,)}


def synthetic(layout: Layout, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    state = {key: torch.randn(shape, generator=generator) * 0.3 for key, shape in layout.items()}
    for key, value in state.items():
        if key.endswith("running_var"):
            value.abs_().add_(0.5)
    return {k: torch.tensor(1) if k.endswith("num_batches_tracked") else v for k, v in state.items()}


@pytest.mark.parametrize(
    "factory, layout", [(reactnet, published_mobile_layout()), (reactnet_resnet18, published_resnet_layout())]
)
def test_every_published_key_has_its_place_and_none_is_over(factory: Callable[..., nn.Module], layout: Layout) -> None:
    with torch.device("meta"):
        model = factory()
        state = {key: torch.empty(shape) for key, shape in layout.items()}
    assert misfits(model, state) == ""


@pytest.mark.parametrize(
    "factory, layout, key",
    [
        (reactnet, published_mobile_layout(), "feature.6.binary_3x3.weights"),
        (reactnet_resnet18, published_resnet_layout(), "layer4.0.binary_conv.weight"),
    ],
)
def test_published_checkpoint_loads(
    tmp_path: Path, factory: Callable[..., nn.Module], layout: Layout, key: str
) -> None:
    # One value a tensor: the files stay small, for torch stores an expanded tensor once.
    state = {name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(layout.items())}
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "model.pth.tar")
    model = factory()
    load_strict(model, read_checkpoint(tmp_path / "model.pth.tar"), "checkpoint")
    own = model.get_parameter(key.replace("weights", "weight"))
    assert (own == float(list(layout).index(key))).all()


class Reference:
    """The published equations in float64, on the keys below a prefix."""

    def __init__(self, state: State, prefix: str = "") -> None:
        self.state = {k.removeprefix(prefix): v.double() for k, v in state.items() if k.startswith(prefix)}

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var, gamma, beta = (self.state[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean[:, None, None]) * (gamma / (var + 1e-5).sqrt())[:, None, None] + beta[:, None, None]

    def shift(self, x: Tensor, name: str) -> Tensor:
        return x + self.state[f"{name}.bias"]

    def prelu(self, x: Tensor, name: str) -> Tensor:
        return torch.where(x > 0, x, x * self.state[f"{name}.weight"][:, None, None])

    def conv(self, x: Tensor, name: str, out: int, kernel: int, stride: int = 1) -> Tensor:
        key = f"{name}.weight" if f"{name}.weight" in self.state else f"{name}.weights"
        weight = self.state[key].reshape(out, x.shape[1], kernel, kernel)
        alpha = weight.abs().mean(dim=(1, 2, 3))[:, None, None]
        return alpha * F.conv2d(torch.sign(x), torch.sign(weight), stride=stride, padding=kernel // 2)

    def mobile_block(self, x: Tensor, before: int, after: int, stride: int) -> Tensor:
        y = self.norm(self.conv(self.shift(x, "move11"), "binary_3x3", before, 3, stride), "bn1")
        y = y + (F.avg_pool2d(x, 2) if stride == 2 else x)
        y = self.shift(self.prelu(self.shift(y, "move12"), "prelu1"), "move13")
        z = self.shift(y, "move21")
        if before == after:
            z = self.norm(self.conv(z, "binary_pw", before, 1), "bn2") + y
        else:
            halves = [self.norm(self.conv(z, f"binary_pw_down{i}", before, 1), f"bn2_{i}") + y for i in (1, 2)]
            z = torch.cat(halves, dim=1)
        return self.shift(self.prelu(self.shift(z, "move22"), "prelu2"), "move23")


@pytest.mark.parametrize("before, after, stride", [(5, 5, 1), (5, 10, 2), (6, 12, 1), (4, 4, 2)])
def test_mobile_block_is_the_published_one(before: int, after: int, stride: int) -> None:
    state = synthetic(mobile_block_layout("b", before, after), seed=before)
    state = {key.removeprefix("b."): value for key, value in state.items()}
    block = ReActMobileBlock(before, after, stride).eval()
    load_strict(block, state, "checkpoint")
    x = torch.randn(2, before, 8, 6, generator=torch.Generator().manual_seed(7)).double()
    expected = Reference(state).mobile_block(x, before, after, stride)
    torch.testing.assert_close(block.double()(x), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("before, after, stride", [(5, 5, 1), (5, 7, 2)])
def test_resnet_block_is_the_published_one(before: int, after: int, stride: int) -> None:
    downsample = None
    if stride == 2:
        downsample = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False))
    block = ReActResNetBlock(before, after, stride, downsample).eval().double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    reference = Reference(block.state_dict())
    x = torch.randn(2, before, 6, 8, generator=generator).double()
    shortcut = x if downsample is None else F.conv2d(F.avg_pool2d(x, 2), reference.state["downsample.1.weight"])
    y = reference.norm(reference.conv(reference.shift(x, "move0"), "binary_conv", after, 3, stride), "bn1") + shortcut
    expected = reference.shift(reference.prelu(reference.shift(y, "move1"), "prelu"), "move2")
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-9)


def test_whole_network_is_stem_blocks_mean_and_classes() -> None:
    torch.manual_seed(0)
    model = ReActNetA(5, width=0.125, stem="small").eval().double()
    x = torch.randn(2, 3, 32, 32).double()
    y = model.feature[0].bn1(model.feature[0].conv1(x))
    for index, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), start=1):
        before, after = (channels // 8 for channels in CHANNELS[index - 1 : index + 1])
        y = Reference(model.state_dict(), f"feature.{index}.").mobile_block(y, before, after, stride)
    assert y.shape == (2, 128, 2, 2)
    expected = y.mean(dim=(2, 3)) @ model.fc.weight.T + model.fc.bias
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-9)


def test_an_odd_width_keeps_or_doubles_in_every_block() -> None:
    model = ReActNetA(3, width=0.1, stem="small").eval()  # 32 * 0.1 rounds to 3, and 1024 * 0.1 is no multiple of it.
    assert model.fc.in_features == 3 * 32
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_stem_strides() -> None:
    with torch.device("meta"):
        assert reactnet().feature[0](torch.empty(1, 3, 224, 224)).shape == (1, 32, 112, 112)
        assert reactnet(stem="small").feature[0](torch.empty(1, 3, 32, 32)).shape == (1, 32, 32, 32)


def test_resnet_variant_is_bireal_net_with_other_blocks() -> None:
    with torch.device("meta"):
        model = reactnet_resnet18()
    assert isinstance(model, BiRealNet)
    blocks = [part for part in model.modules() if isinstance(part, ReActResNetBlock)]
    assert len(blocks) == 16


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = ReActNetA(4, width=0.125, stem="small")
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.any() for name, p in model.named_parameters() if "move" in name or "binary" in name)
