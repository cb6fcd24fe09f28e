"""The training script: it learns, repeats itself given the seed, and writes what it says it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bnn_deploy import digits
from bnn_deploy.checkpoint import load_strict, read_checkpoint, read_metadata
from bnn_deploy.errors import InputRefused
from bnn_deploy.models.birealnet import birealnet
from bnn_deploy.train import Recipe, accuracy, main, save_weights, shifted, train

RECIPE = Recipe("birealnet", epochs=1, batch=16)


@pytest.fixture
def some_images() -> tuple[torch.Tensor, torch.Tensor]:
    """64 images of ten classes, told apart by the place of a bright patch."""
    labels = torch.arange(64) % 10
    images = torch.zeros(64, 3, 32, 32)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 3 + 9 * (label // 4), 2 + 7 * (label % 4)
        image[:, row : row + 5, column : column + 5] = 3.0
    return images, labels


def test_an_epoch_runs_reports_and_repeats(some_images: tuple[torch.Tensor, torch.Tensor]) -> None:
    reports: list[tuple[int, float]] = []
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first = train(RECIPE, *some_images, report=lambda epoch, loss: reports.append((epoch, loss)))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(77)
    second = train(RECIPE, *some_images)
    other = train(Recipe("birealnet", epochs=1, batch=16, seed=1), some_images[0][:16], some_images[1][:16])

    assert [epoch for epoch, _ in reports] == [1] and 0 < reports[0][1] < 10
    assert not first.training
    state = first.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in second.state_dict().items())
    assert not torch.equal(other.conv1.weight, first.conv1.weight)
    assert all(torch.isfinite(value).all() for value in state.values())


def test_it_learns(some_images: tuple[torch.Tensor, torch.Tensor]) -> None:
    losses: list[float] = []
    recipe = Recipe("vgg_small", epochs=6, batch=16)
    train(recipe, *some_images, report=lambda _, loss: losses.append(loss))
    assert len(losses) == 6 and losses[-1] < 0.5 * losses[0]


def test_latent_weights_stay_within_one(some_images: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = train(Recipe("vgg_small", epochs=1, batch=16, learning_rate=2.0), *some_images)
    largest = max(p.abs().max().item() for name, p in model.named_parameters() if "conv.weight" in name)
    assert largest == 1


def test_shifts_move_each_image_as_a_whole() -> None:
    torch.manual_seed(0)
    images = torch.zeros(200, 2, 32, 32)
    images[:, 0, 10, 20], images[:, 1, 11, 20] = 1.0, 2.0
    moved = shifted(images)
    assert moved.shape == images.shape
    first = moved[:, 0].flatten(1).argmax(dim=1)
    second = moved[:, 1].flatten(1).argmax(dim=1)
    assert torch.equal(second, first + 32)
    offsets = {(place // 32 - 10, place % 32 - 20) for place in first.tolist()}
    assert offsets == {(row, column) for row in range(-2, 3) for column in range(-2, 3)}


def test_accuracy_counts_also_the_last_part() -> None:
    images = torch.nn.functional.one_hot(torch.arange(7)).float()
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 0])
    assert accuracy(torch.nn.Identity(), images, labels, batch=3) == pytest.approx(6 / 7)


def test_saved_weights_load_and_say_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "new" / "birealnet.safetensors"
    model = birealnet()
    save_weights(model, path, RECIPE, 0.97531)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert read_metadata(path) == {
        "model": "birealnet",
        "epochs": "1",
        "seed": "0",
        "batch": "16",
        "learning_rate": "0.003",
        "held_out_accuracy": "0.9753",
        "dataset": digits.SOURCE,
        "torch": torch.__version__,
    }
    other = birealnet()
    load_strict(other, read_checkpoint(path), str(path))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputRefused, match="cannot be written"):
        save_weights(torch.nn.Identity(), tmp_path / "file" / "w.safetensors", RECIPE, 0.5)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch": -1}, {"learning_rate": 0.0}])
def test_recipes_that_make_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(InputRefused, match=next(iter(options))):
        Recipe("birealnet", **options)


def digits_of(images: torch.Tensor, labels: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = images.numpy().astype(np.float32), labels.numpy().astype(np.int64)
    monkeypatch.setattr(digits, "training", lambda: arrays)
    monkeypatch.setattr(digits, "held_out", lambda: arrays)


def test_the_command(
    some_images: tuple[torch.Tensor, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    digits_of(*some_images, monkeypatch)
    path = tmp_path / "nin.safetensors"
    assert main(["nin", "--epochs", "1", "--seed", "3", "--out", str(path)]) == 0
    out, err = capsys.readouterr()
    metadata = read_metadata(path)
    assert out == f"nin: held-out accuracy {float(metadata['held_out_accuracy']):.2%}, weights in {path}\n"
    assert "epoch 1 of 1" in err
    assert (metadata["seed"], metadata["epochs"]) == ("3", "1")


def test_without_out_the_shipped_weights_stay(
    some_images: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits_of(*some_images, monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert main(["vgg_small", "--epochs", "1"]) == 0
    assert (tmp_path / "build" / "train" / "vgg_small.safetensors").is_file()


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["birealnet18"], "made for 3x224x224 images"),
        (["birealnot"], "did you mean birealnet?"),
        (["nin", "--epochs", "0"], "epochs=0"),
    ],
)
def test_the_command_refuses_on_stderr(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and named in err
