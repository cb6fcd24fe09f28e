"""Reading checkpoints of every layout, refusing what is none, and matching keys and shapes without mercy."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bnn_deploy.checkpoint import load_strict, misfits, read_checkpoint, read_metadata, strip_wrappers
from bnn_deploy.errors import InputRefused


class Extra:
    """Something in a checkpoint that is no tensor."""


class Intruder:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def weights() -> dict[str, Tensor]:
    return {"weight": torch.arange(6.0).view(2, 3), "bias": torch.tensor([1.0, -1.0])}


def saved(tmp_path: Path, content: Any, name: str = "file.pth", **options: Any) -> Path:
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InputRefused) as refusal:
        read_checkpoint(path, **options)
    assert refusal.value.where == str(path)
    assert len(str(refusal.value)) < 600 and "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "before-1.6"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("form", ["bare", "state_dict", "net", "model", "model_state_dict", "nested"])
def test_containers_and_prefixes(tmp_path: Path, form: str, prefix: str, zip_file: bool) -> None:
    state = OrderedDict((prefix + key, value) for key, value in weights().items())
    content: Any = {form: state, "epoch": 3, "best": torch.tensor(0.5), "optimizer": {"lr": 0.1}}
    content = {"bare": state, "nested": {"model": {"state_dict": state}}}.get(form, content)
    read = read_checkpoint(saved(tmp_path, content, _use_new_zipfile_serialization=zip_file))
    assert list(read) == ["weight", "bias"]
    assert all(torch.equal(read[key], value) for key, value in weights().items())


@pytest.mark.parametrize(
    "key, expected",
    [
        ("module.conv.weight", "conv.weight"),
        ("features.module.conv.weight", "features.conv.weight"),
        ("module.features.module.0.bias", "features.0.bias"),
        ("submodule.weight", "submodule.weight"),
        ("module_list.0.weight", "module_list.0.weight"),
        ("module", "module"),
    ],
)
def test_strip_wrappers(key: str, expected: str) -> None:
    assert strip_wrappers(key) == expected


def test_keys_that_differ_in_a_wrapper_alone_stay_apart(tmp_path: Path) -> None:
    state = {"weight": torch.zeros(1), "module.weight": torch.ones(1)}
    assert set(read_checkpoint(saved(tmp_path, state))) == set(state)


def test_safetensors_with_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({f"module.{key}": value for key, value in weights().items()}, path, {"model": "nin"})
    read = read_checkpoint(path)
    assert torch.equal(read["weight"], weights()["weight"]) and len(read) == 2
    assert read_metadata(path) == {"model": "nin"}
    save_file(weights(), path)
    assert read_metadata(path) == {}


def test_more_than_tensors_needs_trust(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": weights(), "extra": Extra()})
    message = refused(path)
    assert "Extra" in message and "--trust-checkpoint" in message
    assert list(read_checkpoint(path, trust=True)) == ["weight", "bias"]


def test_without_trust_no_code_in_the_file_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = saved(tmp_path, {"state_dict": weights(), "extra": Intruder(mark)})
    refused(path)
    assert not mark.exists()
    read_checkpoint(path, trust=True)
    assert mark.exists()


def test_a_whole_model_needs_trust_and_gives_its_weights(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": nn.DataParallel(nn.Linear(3, 2))})
    assert "--trust-checkpoint" in refused(path)
    assert list(read_checkpoint(path, trust=True)) == ["weight", "bias"]


def test_trusted_classes_that_are_not_here_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    payload = pickle.dumps(Extra(), protocol=2).replace(b"Extra", b"Gone!")
    path.write_bytes(payload)
    # Not torch's own layout, and read as far as the missing class by the unpickler alone.
    message = refused(path, trust=True)
    assert "--sys-path" in message or "damaged" in message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.jit.save(torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3)), str(path))
    assert "TorchScript" in refused(path)


@pytest.mark.parametrize("name", ["missing.pth", "missing.safetensors"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    assert "no such file" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["folder", "folder.safetensors"])
def test_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert "directory" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["empty.pth", "empty.safetensors"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "empty" in refused(tmp_path / name)


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<html>", "version https://git-lfs.github.com/spec/v1\noid", "\n"])
def test_text_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "file.pth").write_text(text)
    message = refused(tmp_path / "file.pth")
    assert "not a checkpoint" in message and text.splitlines()[0] in message


@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "before-1.6"])
@pytest.mark.parametrize("kept", [3, 4, 50, 200, -300, -10, -1])
def test_truncated_file(tmp_path: Path, kept: int, zip_file: bool) -> None:
    path = saved(tmp_path, {"state_dict": weights()}, _use_new_zipfile_serialization=zip_file)
    path.write_bytes(path.read_bytes()[:kept])
    message = refused(path)
    assert "damaged or cut short" in message or "not a checkpoint" in message


@pytest.mark.parametrize("kept", [4, 40, -1])
def test_truncated_safetensors(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "file.safetensors"
    save_file(weights(), path)
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged or cut short" in refused(path)
    with pytest.raises(InputRefused, match="damaged"):
        read_metadata(path)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("content", [b"\x80\x02", b"\x80\x02rubbish", b"PK\x03\x04rubbish"])
def test_rubbish_behind_a_good_beginning(tmp_path: Path, content: bytes, trust: bool) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    assert "damaged or cut short" in refused(tmp_path / "file.pth", trust=trust)


@pytest.mark.parametrize(
    "content, named",
    [
        ({}, "nothing"),
        ([1, 2], "a list"),
        (torch.zeros(3), "a Tensor"),
        ({"epoch": 3, "lr": 0.1}, "epoch, lr"),
        ({"state_dict": {"weight": torch.zeros(1), "step": 4}}, "step"),
        ({f"k{i}": i for i in range(30)}, "and 20 more"),
        ({0: torch.zeros(1)}, "0"),
    ],
)
def test_other_contents(tmp_path: Path, content: Any, named: str) -> None:
    assert named in refused(saved(tmp_path, content))


def small_model() -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 1), bn=nn.BatchNorm2d(4)))


def test_load_strict_copies_every_value() -> None:
    source, target = small_model(), small_model()
    state = {key: value + 1 for key, value in source.state_dict().items()}
    load_strict(target, state, "file.pth")
    assert all(torch.equal(value, state[key]) for key, value in target.state_dict().items())


def test_load_strict_takes_other_float_types() -> None:
    target = small_model()
    load_strict(target, {key: value.half() for key, value in small_model().state_dict().items()}, "file.pth")
    assert target.conv.weight.dtype == torch.float32


def test_checkpoints_may_lack_num_batches_tracked() -> None:
    target = small_model()
    state = small_model().state_dict()
    del state["bn.num_batches_tracked"]
    load_strict(target, state, "file.pth")
    assert torch.equal(target.conv.weight, state["conv.weight"])


def test_a_model_with_a_wrapper_inside_takes_keys_without_it() -> None:
    target = nn.Sequential(OrderedDict(features=nn.DataParallel(nn.Linear(3, 2)), head=nn.Linear(2, 1)))
    state = {strip_wrappers(key): value + 1 for key, value in target.state_dict().items()}
    load_strict(target, state, "file.pth")
    assert torch.equal(target.features.module.weight, state["features.weight"])


def test_everything_that_does_not_fit_is_listed_and_nothing_is_loaded() -> None:
    target = small_model()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    del state["conv.bias"]
    state["fc.weight"] = torch.zeros(1)
    state["bn.weight"] = torch.zeros(9)
    with pytest.raises(InputRefused) as refusal:
        load_strict(target, state, "file.pth")
    message = str(refusal.value)
    assert message.startswith("file.pth: the weights do not fit the model: ")
    assert "1 missing (conv.bias)" in message
    assert "1 left over (fc.weight)" in message
    assert "1 of another shape (bn.weight [9] where the model has [4])" in message
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_long_lists_end_with_a_count() -> None:
    found = misfits(nn.Identity(), {f"layer{i}": torch.zeros(1) for i in range(25)})
    assert found.startswith("25 left over (layer0, ") and found.endswith("layer9, and 15 more)")


def test_a_shape_that_would_broadcast_is_no_fit() -> None:
    assert misfits(nn.Linear(1, 1, bias=False), {"weight": torch.zeros(1)}) != ""
