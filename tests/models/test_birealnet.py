"""Bi-Real Net: the published layout, the forward against a float64 one, and what a checkpoint decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bnn_deploy.checkpoint import load_strict, misfits, read_checkpoint
from bnn_deploy.errors import InputRefused
from bnn_deploy.models.birealnet import BiRealBlock, BiRealNet, birealnet, birealnet18, birealnet34, configuration_of

Layout = dict[str, tuple[int, ...]]
State = dict[str, Tensor]

WIDTHS = (64, 128, 256, 512)


def norm_layout(prefix: str, channels: int) -> Layout:
    return {
        f"{prefix}.weight": (channels,),
        f"{prefix}.bias": (channels,),
        f"{prefix}.running_mean": (channels,),
        f"{prefix}.running_var": (channels,),
        f"{prefix}.num_batches_tracked": (),
    }


def published_layout(
    layers: Sequence[int], widths: Sequence[int] = WIDTHS, classes: int = 1000, kernel: int = 7
) -> Layout:
    """Keys and shapes of a published Bi-Real Net checkpoint, written out from its layout."""
    layout = {"conv1.weight": (widths[0], 3, kernel, kernel), **norm_layout("bn1", widths[0])}
    before = widths[0]
    for stage, (blocks, width) in enumerate(zip(layers, widths, strict=True), start=1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            layout[f"{prefix}.binary_conv.weights"] = (width * before * 9, 1)
            layout |= norm_layout(f"{prefix}.bn1", width)
            if stage > 1 and block == 0:
                layout[f"{prefix}.downsample.1.weight"] = (width, before, 1, 1)
                layout |= norm_layout(f"{prefix}.downsample.2", width)
            before = width
    return layout | {"fc.weight": (classes, before), "fc.bias": (classes,)}


def synthetic(layout: Layout, seed: int = 0) -> State:
    """A checkpoint of random values; variances are positive."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in layout.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(3)
        elif key.endswith("running_var"):
            state[key] = torch.rand(shape, generator=generator) + 0.5
        else:
            state[key] = torch.randn(shape, generator=generator) * 0.1
    return state


def float64_forward(state: State, layers: Sequence[int], x: Tensor, *, imagenet: bool) -> Tensor:
    """The published forward in float64, straight from the keys."""
    state = {key: value.double() for key, value in state.items()}

    def norm(y: Tensor, prefix: str) -> Tensor:
        mean, var, gamma, beta = (state[f"{prefix}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return (y - mean[:, None, None]) * (gamma / (var + 1e-5).sqrt())[:, None, None] + beta[:, None, None]

    y = F.conv2d(x.double(), state["conv1.weight"], stride=2 if imagenet else 1, padding=3 if imagenet else 1)
    y = norm(y, "bn1")
    if imagenet:
        y = F.max_pool2d(y, 3, 2, 1)
    for stage, blocks in enumerate(layers, start=1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            width = state[f"{prefix}.bn1.weight"].shape[0]
            weight = state[f"{prefix}.binary_conv.weights"].view(width, y.shape[1], 3, 3)
            alpha = weight.abs().mean(dim=(1, 2, 3))[:, None, None]
            z = alpha * F.conv2d(torch.sign(y), torch.sign(weight), stride=stride, padding=1)
            shortcut = y
            if stride == 2:
                pooled = F.conv2d(F.avg_pool2d(y, 2), state[f"{prefix}.downsample.1.weight"])
                shortcut = norm(pooled, f"{prefix}.downsample.2")
            y = norm(z, f"{prefix}.bn1") + shortcut
    return y.mean(dim=(2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def contained(state: State, form: str) -> dict[str, Any]:
    forms: dict[str, dict[str, Any]] = {
        "bare": state,
        "state_dict": {"epoch": 255, "state_dict": state},
        "net": {"net": state},
    }
    return forms[form]


def prefixed(state: State, place: str) -> State:
    if place == "leading":
        return {f"module.{key}": value for key, value in state.items()}
    if place == "middle":  # As where only a part of the network was wrapped.
        return {key.replace("layer1.", "layer1.module.", 1): value for key, value in state.items()}
    return state


@pytest.mark.parametrize(
    "form, place",
    [("bare", "none"), ("state_dict", "leading"), ("net", "leading"), ("state_dict", "middle"), ("net", "none")],
)
def test_published_18_layer_checkpoint_loads(tmp_path: Path, form: str, place: str) -> None:
    state = synthetic(published_layout((4, 4, 4, 4)))
    torch.save(contained(prefixed(state, place), form), tmp_path / "checkpoint.pth.tar")
    model = birealnet18()
    load_strict(model, read_checkpoint(tmp_path / "checkpoint.pth.tar"), "checkpoint")

    assert torch.equal(model.conv1.weight, state["conv1.weight"])
    last = model.layer4[3].binary_conv.weight
    assert torch.equal(last.reshape(-1, 1), state["layer4.3.binary_conv.weights"])
    assert torch.equal(model.layer3[0].downsample[2].running_var, state["layer3.0.downsample.2.running_var"])


@pytest.mark.parametrize("factory, layers", [(birealnet18, (4, 4, 4, 4)), (birealnet34, (6, 8, 12, 6))])
def test_every_published_key_has_its_place_and_none_is_over(
    factory: Callable[..., nn.Module], layers: Sequence[int]
) -> None:
    with torch.device("meta"):
        model = factory()
        state = {key: torch.empty(shape) for key, shape in published_layout(layers).items()}
    assert misfits(model, state) == ""
    del state["layer2.0.downsample.1.weight"]
    state["layer2.0.downsample.0.weight"] = state["fc.bias"]
    assert misfits(model, state) == (
        "1 missing (layer2.0.downsample.1.weight); 1 left over (layer2.0.downsample.0.weight)"
    )


@pytest.mark.parametrize("stem, kernel, side", [("imagenet", 7, 64), ("small", 3, 16)])
def test_forward_is_the_published_one(stem: str, kernel: int, side: int) -> None:
    layers, widths = (2, 1, 2), (5, 8, 12)
    state = synthetic(published_layout(layers, widths, classes=6, kernel=kernel), seed=3)
    model = BiRealNet(layers, widths, 6, stem=stem).eval()
    load_strict(model, state, "checkpoint")
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    expected = float64_forward(state, layers, x, imagenet=stem == "imagenet")
    # In double, so that no value near a threshold takes another side than in the reference.
    torch.testing.assert_close(model.double()(x.double()), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "zero, level",
    [
        ("one", 1.0),
        ("zero", 0.0),
    ],
)
def test_sign_of_an_exact_zero(zero: str, level: float) -> None:
    block = BiRealBlock(1, 1, 1, None, zero).eval()
    with torch.no_grad():
        block.binary_conv.weight.fill_(1.0)
    y = block(torch.tensor([0.0]).view(1, 1, 1, 1))
    assert y.item() == pytest.approx(level, abs=1e-4)  # BatchNorm's epsilon.


@given(
    layers=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    data=st.data(),
    kernel=st.sampled_from([3, 7]),
    classes=st.integers(1, 20),
)
@settings(deadline=None, max_examples=25)
def test_keys_and_shapes_say_the_variant(layers: Sequence[int], data: st.DataObject, kernel: int, classes: int) -> None:
    widths = data.draw(st.lists(st.integers(1, 40), min_size=len(layers), max_size=len(layers)))
    with torch.device("meta"):
        state = {key: torch.empty(s) for key, s in published_layout(layers, widths, classes, kernel).items()}
        model = birealnet(**configuration_of(state, "checkpoint"))
    assert configuration_of(state, "checkpoint") == {
        "layers": layers,
        "widths": widths,
        "num_classes": classes,
        "stem": "imagenet" if kernel == 7 else "small",
        "in_channels": 3,
    }
    assert misfits(model, state) == ""
    assert model.input_shape == ((3, 224, 224) if kernel == 7 else (3, 32, 32))


def test_own_4d_weights_say_the_variant_too() -> None:
    model = birealnet(widths=(3, 5, 7, 9))
    options = configuration_of(model.state_dict(), "checkpoint")
    assert options["widths"] == [3, 5, 7, 9]
    assert misfits(birealnet(**options), model.state_dict()) == ""


ONES = torch.ones(2)


@pytest.mark.parametrize(
    "state, named",
    [
        ({}, "it has no conv1.weight"),
        ({"conv1.weight": ONES, "fc.weight": ONES}, "it has no layer1.0.bn1.weight"),
        ({"conv1.weight": ONES, "fc.weight": ONES, "layer0.0.bn1.weight": ONES}, "it has no layer1.0.bn1.weight"),
        ({"conv1.weight": ONES, "fc.weight": ONES, "layer2.0.bn1.weight": ONES}, "it has no layer1.0.bn1.weight"),
        ({"layer1.0.bn1.weight": ONES, "layer1.0.move0.bias": ONES}, "it has layer1.0.move0.bias, a ReActNet's"),
    ],
)
def test_other_keys_are_refused(state: State, named: str) -> None:
    with pytest.raises(InputRefused, match=r"file\.pth: the keys are not those of a Bi-Real Net") as refusal:
        configuration_of(state, "file.pth")
    assert named in str(refusal.value)


def test_a_stem_that_is_no_convolution_is_refused() -> None:
    with pytest.raises(InputRefused, match=r"conv1\.weight has the shape \[2\]"):
        configuration_of({"conv1.weight": ONES, "fc.weight": ONES, "layer1.0.bn1.weight": ONES}, "file.pth")


@pytest.mark.parametrize("layers, widths", [((), ()), ((1, 2), (3,)), ((0, 1), (3, 4)), ((1, 1), (3, 0))])
def test_layers_and_widths_go_together(layers: Sequence[int], widths: Sequence[int]) -> None:
    with pytest.raises(InputRefused, match="layers="):
        BiRealNet(layers, widths, 10)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = birealnet(layers=(1, 1), widths=(4, 6))
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in model.parameters())
