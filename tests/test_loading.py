"""Loading: zoo names and the user's own code, with every source of weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bnn_deploy as bd
from bnn_deploy import loading
from bnn_deploy import nn as bnn
from bnn_deploy.errors import InputRefused
from bnn_deploy.loading import load, load_model
from bnn_deploy.models import ZooEntry, find
from bnn_deploy.models.summary import build

USER_CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=2, *, half=False):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1)
        if half:
            self.half()

    def forward(self, x):
        return self.conv(x)


net = Net(3)
number = 5


def make(**kwargs):
    return Net(**kwargs).train()


def make_two():
    return Net(), Net()


def broken():
    raise RuntimeError("no data")


def double(model):
    assert not model.training
    with torch.no_grad():
        model.conv.weight.mul_(2)


def replace(model):
    assert isinstance(model, Net)
    return nn.Sequential(model, nn.Dropout())


def spoil(model):
    return 3


def fail(model):
    return model.no_such_layer
"""


@pytest.fixture(autouse=True)
def _leave_imports_as_they_were() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if not name.startswith(("torch", "bnn_deploy", "numpy")):
            del sys.modules[name]


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "user_net.py"
    path.write_text(USER_CODE)
    return path


def refused(*arguments: Any, **options: Any) -> str:
    with pytest.raises(InputRefused) as refusal:
        load(*arguments, **options)
    return str(refusal.value)


def same_state(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[key]) for key, value in first.state_dict().items())


# The zoo


def test_shipped_weights() -> None:
    loaded = load("birealnet")
    assert (loaded.name, loaded.weights, loaded.input_shapes) == ("birealnet", "shipped", ((1, 3, 32, 32),))
    assert "MNIST" in loaded.description and "held-out accuracy 9" in loaded.description
    assert not any(part.training for part in loaded.module.modules())
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}
    assert same_state(loaded.module, load("birealnet", seed=9).module)


def test_layers_are_named() -> None:
    names = {part.layer_name for part in load("birealnet").module.modules() if isinstance(part, bnn.BinaryLayer)}
    assert {"layer1.0.binary_activation", "layer1.0.binary_conv", "layer4.1.binary_conv"} <= names


@pytest.mark.parametrize(
    "kwargs, weights",
    [
        ({"zero": "zero"}, "shipped"),
        ({"num_classes": 10, "widths": [32, 64, 96, 96]}, "shipped"),
        ({"num_classes": 11}, "untrained"),
        ({"layers": [1, 1, 1, 1]}, "untrained"),
        ({"stem": "imagenet", "layers": [1], "widths": [4]}, "untrained"),
    ],
)
def test_keyword_arguments_decide_whether_shipped_weights_fit(kwargs: dict[str, Any], weights: str) -> None:
    assert load("birealnet", kwargs=kwargs).weights == weights


def test_zero_reaches_the_shipped_network() -> None:
    assert load("birealnet", kwargs={"zero": "zero"}).module.layer1[0].binary_activation.zero == "zero"


def test_input_shape_follows_the_stem() -> None:
    options = {"stem": "small", "num_classes": 4, "width": 0.125}
    assert load("reactnet", kwargs=options).input_shapes == ((1, 3, 32, 32),)
    options = {"stem": "imagenet", "layers": [1, 1], "widths": [4, 8], "in_channels": 1}
    assert load("birealnet", kwargs=options).input_shapes == ((1, 1, 224, 224),)


SMALL = {"stem": "small", "width": 0.125, "num_classes": 10}


def test_untrained_is_seeded_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = load("xnor_resnet18", kwargs=SMALL)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert same_state(first.module, load("xnor_resnet18", kwargs=SMALL).module)
    assert not same_state(first.module, load("xnor_resnet18", kwargs=SMALL, seed=1).module)
    assert first.weights == "untrained" and "untrained" in first.description and "seed 0" in first.description


def test_untrained_batch_norms_are_calibrated_and_no_binary_weight_is_zero() -> None:
    module = load("xnor_resnet18", kwargs=SMALL).module
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all((norm.running_var != 1).all() and norm.momentum == 0.1 for norm in norms)
    layers = [part for part in module.modules() if isinstance(part, bnn.LatentWeightLayer)]
    assert len(layers) == 16 and all((layer.weight != 0).all() for layer in layers)
    signs = [torch.where(part >= 0, 1.0, -1.0).mean().item() for part in inputs_of_binary_layers(module)]
    # Calibrated, the last layers still see both signs.
    assert all(abs(mean) < 0.9 for mean in signs)


def inputs_of_binary_layers(module: nn.Module) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    for part in module.modules():
        if isinstance(part, bnn.BinaryConv2d):
            part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        module(torch.randn(4, 3, 32, 32))
    return seen


def test_a_checkpoint_decides_the_variant_of_the_family(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = build(find("birealnet"), layers=(1, 2), widths=(4, 6), num_classes=3)
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "c.pth.tar")
    loaded = load("birealnet", checkpoint=tmp_path / "c.pth.tar", kwargs={"zero": "zero"})
    assert loaded.weights == "checkpoint" and str(tmp_path / "c.pth.tar") in loaded.description
    assert same_state(source, loaded.module)
    assert loaded.module.layer2[1].binary_activation.zero == "zero"


def test_published_imagenet_checkpoint_of_the_family(tmp_path: Path) -> None:
    state = build(find("birealnet18")).state_dict()
    for key in [key for key in state if key.endswith("binary_conv.weight")]:
        state[f"{key}s"] = state.pop(key).reshape(-1, 1)
    torch.save(state, tmp_path / "c.pth.tar")
    family, name = (load(spec, checkpoint=tmp_path / "c.pth.tar") for spec in ("birealnet", "birealnet18"))
    assert family.input_shapes == name.input_shapes == ((1, 3, 224, 224),)
    assert same_state(family.module, name.module)
    assert torch.equal(name.module.layer2[3].binary_conv.weight.reshape(-1, 1), state["layer2.3.binary_conv.weights"])


def test_a_checkpoint_of_another_zoo_model_is_named(tmp_path: Path) -> None:
    torch.save(build(find("nin")).state_dict(), tmp_path / "c.pth")
    message = refused("vgg_small", checkpoint=tmp_path / "c.pth")
    assert "missing" in message and "left over" in message and "it fits the model 'nin'" in message
    torch.save(build(find("birealnet"), num_classes=7).state_dict(), tmp_path / "c.pth")
    assert "it fits the model 'birealnet'" in refused("nin", checkpoint=tmp_path / "c.pth")


def test_a_checkpoint_of_no_zoo_model(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "c.pth")
    assert "1 left over (w)" in refused("nin", checkpoint=tmp_path / "c.pth")
    assert "not those of a Bi-Real Net" in refused("birealnet", checkpoint=tmp_path / "c.pth")


def test_a_checkpoint_that_needs_trust(tmp_path: Path, user_file: Path) -> None:
    # The class is the user's: found only with the folder on the path.
    sys.path.insert(0, str(user_file.parent))
    module = __import__("user_net")
    torch.save({"state_dict": module.Net().state_dict(), "model": module.Net()}, tmp_path / "c.pth")
    sys.path.remove(str(user_file.parent))
    del sys.modules["user_net"]
    options: dict[str, Any] = {"checkpoint": tmp_path / "c.pth", "sys_path": [user_file.parent]}
    assert "--trust-checkpoint" in refused("user_net:Net", **options)
    assert load("user_net:Net", trust_checkpoint=True, **options).weights == "checkpoint"


def test_missing_shipped_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ZooEntry, "weights_path", lambda self: tmp_path / "gone.safetensors")
    assert "not installed" in refused("birealnet")


def test_unknown_names_and_keyword_arguments() -> None:
    assert "did you mean vgg_small?" in refused("vgg_smal")
    message = refused("birealnet", kwargs={"width": 2})
    assert "'width'" in message and "did you mean widths?" in message
    assert "stem='cifar'" in refused("birealnet18", kwargs={"stem": "cifar"})
    assert "TypeError" in refused("birealnet18", kwargs={"num_classes": "many"})
    seven_stages = {"layers": [1] * 7, "widths": [2] * 7}  # 32 pixels halved six times are less than one.
    assert "too small" in refused("birealnet", kwargs=seven_stages)


# The user's own code


@pytest.mark.parametrize("factory", ["Net", "make"])
def test_user_factories(user_file: Path, factory: str) -> None:
    loaded = load(f"{user_file}:{factory}", kwargs={"width": 4, "half": True})
    assert loaded.weights == "user" and loaded.input_shapes == () and loaded.name == f"{user_file}:{factory}"
    assert loaded.module.conv.out_channels == 4 and loaded.module.conv.weight.dtype == torch.float32
    assert not loaded.module.training


def test_user_module_from_a_package(user_file: Path) -> None:
    loaded = load("user_net:net", sys_path=[user_file.parent])
    assert loaded.module.conv.out_channels == 3


def test_user_weights_are_seeded(user_file: Path) -> None:
    first, again, other = (load(f"{user_file}:Net", seed=seed).module for seed in (0, 0, 1))
    assert same_state(first, again) and not same_state(first, other)


def test_user_checkpoint(user_file: Path, tmp_path: Path) -> None:
    weights = {"net": {"module.conv.weight": torch.ones(2, 3, 1, 1), "module.conv.bias": torch.ones(2)}}
    torch.save(weights, tmp_path / "c.pth")
    loaded = load(f"{user_file}:Net", checkpoint=str(tmp_path / "c.pth"))
    assert loaded.weights == "checkpoint" and (loaded.module.conv.weight == 1).all()
    message = refused(f"{user_file}:Net", checkpoint=tmp_path / "c.pth", kwargs={"width": 5})
    assert "conv.weight [2, 3, 1, 1] where the model has [5, 3, 1, 1]" in message


def test_prepare_may_change_or_replace_the_model(user_file: Path) -> None:
    plain = load(f"{user_file}:Net").module
    doubled = load(f"{user_file}:Net", prepare=f"{user_file}:double").module
    assert torch.equal(doubled.conv.weight, 2 * plain.conv.weight)
    replaced = load(f"{user_file}:Net", prepare=f"{user_file}:replace").module
    assert isinstance(replaced, nn.Sequential) and not replaced[1].training


@pytest.mark.parametrize(
    "prepare, named",
    [
        ("spoil", "it returned a int"),
        ("fail", "no_such_layer"),
        ("number", "a int; wanted: a function"),
        ("doubel", "did you mean double"),
    ],
)
def test_what_prepare_does_wrong(user_file: Path, prepare: str, named: str) -> None:
    assert named in refused(f"{user_file}:Net", prepare=f"{user_file}:{prepare}")


@pytest.mark.parametrize(
    "factory, kwargs, named",
    [
        ("number", {}, "a int; wanted: a class, a function or an nn.Module"),
        ("make_two", {}, "it returned a tuple; wanted: an nn.Module"),
        ("broken", {}, "RuntimeError: no data"),
        ("Net", {"depth": 3}, "no keyword argument 'depth'"),
        ("Net", {"width": "wide"}, "TypeError"),
        ("net", {"width": 3}, "takes no keyword arguments"),
        ("Nett", {}, "did you mean Net"),
    ],
)
def test_what_a_factory_does_wrong(user_file: Path, factory: str, kwargs: dict[str, Any], named: str) -> None:
    assert named in refused(f"{user_file}:{factory}", kwargs=kwargs)


def test_a_broken_factory_shows_its_line(user_file: Path) -> None:
    line = USER_CODE.splitlines().index('    raise RuntimeError("no data")') + 1
    assert f"({user_file}, line {line})" in refused(f"{user_file}:broken")


def test_short_form() -> None:
    module = load_model("nin", kwargs=json.loads('{"zero": "zero"}'))
    assert isinstance(module, bnn.NIN)
    assert bd.load_model is loading.load_model
