"""The catalogue: every entry can be built and run, and reading it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from bnn_deploy.errors import InputRefused
from bnn_deploy.models import catalogue, find
from bnn_deploy.models.summary import build

NAMES = (
    "birealnet",
    "birealnet18",
    "birealnet34",
    "xnor_resnet18",
    "vgg_small",
    "nin",
    "reactnet",
    "reactnet_resnet18",
)


def test_names() -> None:
    assert tuple(catalogue()) == NAMES
    assert all(entry.name == name for name, entry in catalogue().items())


def test_reading_the_catalogue_imports_no_torch() -> None:
    code = "import sys; from bnn_deploy.models import catalogue; catalogue(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_catalogue_cannot_be_changed_through_what_it_returns() -> None:
    catalogue().clear()
    assert tuple(catalogue()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_factory_makes_what_the_entry_says(name: str) -> None:
    entry = find(name)
    with torch.device("meta"):
        model = build(entry).eval()
        logits = model(torch.empty(2, *entry.input_shape))
    assert model.input_shape == entry.input_shape
    assert logits.shape == (2, 1000 if entry.input_shape[1] == 224 else 10)


@pytest.mark.parametrize("name", NAMES)
def test_one_image_gives_one_row_of_finite_logits(name: str) -> None:
    entry = find(name)
    small = {} if entry.input_shape[1] == 32 else {"stem": "small"}
    torch.manual_seed(0)
    model = build(entry, num_classes=7, **small).eval()
    assert model.input_shape == (3, 32, 32)
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 32, 32))
    assert logits.shape == (1, 7)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("zero", ["one", "zero"])
def test_zero_reaches_every_layer_that_binarises(name: str, zero: str) -> None:
    with torch.device("meta"):
        model = build(find(name), zero=zero)
    seen = {part.zero for part in model.modules() if hasattr(part, "zero")}
    seen |= {part.config.zero for part in model.modules() if hasattr(part, "config")}
    assert seen == {zero}


def test_in_channels() -> None:
    for name in NAMES:
        with torch.device("meta"):
            model = build(find(name), in_channels=1)
        assert model.input_shape[0] == 1


def test_shipped_entries_have_a_path_and_the_others_none() -> None:
    shipped = {name for name, entry in catalogue().items() if entry.weights_path() is not None}
    assert shipped == {"birealnet", "vgg_small", "nin"}
    assert find("nin").weights_path().name == "nin.safetensors"


def test_an_unknown_name_lists_the_names_and_the_closest() -> None:
    with pytest.raises(InputRefused) as refusal:
        find("birealnet81")
    message = str(refusal.value)
    assert all(name in message for name in NAMES)
    assert "did you mean birealnet18?" in message


def test_a_name_like_no_other_suggests_nothing() -> None:
    with pytest.raises(InputRefused) as refusal:
        find("zzz")
    assert "did you mean" not in str(refusal.value)
