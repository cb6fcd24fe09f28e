"""Trains a small-image network of the zoo on handwritten digits: `python -m bnn_deploy.train MODEL`.

So were the shipped weights made. The images are those of `digits`; every epoch sees each shifted by up to
`MAX_SHIFT` pixels. Adam with a learning rate that falls to 0 along half a cosine; latent weights are clamped to ±1
after each step. The held-out images are looked at once, at the end.

The same seed on the same machine, software and number of threads gives the same weights, bit for bit. Progress goes to
stderr, the held-out accuracy to stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from bnn_deploy import digits
from bnn_deploy.errors import BnnDeployError, InputRefused
from bnn_deploy.models import ZooEntry, catalogue, find
from bnn_deploy.models.summary import build
from bnn_deploy.nn import clamp_latent_weights_

EPOCHS: Final = 15
BATCH: Final = 64
LEARNING_RATE: Final = 3e-3
MAX_SHIFT: Final = 2  # A digit keeps 6 pixels of border within 32x32, so none is cut.

Report = Callable[[int, float], None]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result.

    Args:
        model: A name of the zoo whose images are 3x32x32.
        epochs: Times each image is seen.
        seed: Of the initial weights, the order of the images and their shifts.
        batch: Images a step.
        learning_rate: At the first step.
    """

    model: str
    epochs: int = EPOCHS
    seed: int = 0
    batch: int = BATCH
    learning_rate: float = LEARNING_RATE

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("batch", self.batch), ("learning_rate", self.learning_rate)):
            if not value > 0:
                raise InputRefused("training", f"{name}={value}", f"{name} greater than 0")


def train(recipe: Recipe, images: Tensor, labels: Tensor, *, report: Report | None = None) -> nn.Module:
    """Trains from scratch; the caller's random state is left as it was.

    Args:
        recipe: What to train and how.
        images: [N, 3, 32, 32] float32.
        labels: [N] int64.
        report: Called after each epoch with its number from 1 and its mean loss.

    Returns:
        The network, in eval mode.

    Raises:
        InputRefused: The model is not in the zoo, or not made for such images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build(_trainable(recipe.model)).train()
        steps = -(-len(images) // recipe.batch)
        optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * recipe.epochs)
        for epoch in range(1, recipe.epochs + 1):
            loss_sum = 0.0
            for chosen in torch.randperm(len(images)).split(recipe.batch):
                loss = F.cross_entropy(model(shifted(images[chosen])), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                clamp_latent_weights_(model)
                loss_sum += loss.item() * len(chosen)
            if report is not None:
                report(epoch, loss_sum / len(images))
    return model.eval()


def shifted(images: Tensor) -> Tensor:
    """Each image moved by -MAX_SHIFT..MAX_SHIFT pixels both ways, at random. images: [N, C, H, W] -> the same shape.

    What leaves on one side comes in on the other: background either way, for the digits have a border of it.
    """
    count, _, height, width = images.shape
    offsets = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2, count, 1))
    rows = (torch.arange(height) + offsets[0]) % height
    columns = (torch.arange(width) + offsets[1]) % width
    first = torch.arange(count)[:, None, None]
    # Index arrays around a slice put their own axes first: [N, H, W, C].
    return images[first, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch: int = 250) -> float:
    """The share of images whose greatest logit is that of the label, 0 to 1."""
    parts = zip(images.split(batch), labels.split(batch), strict=True)
    right = sum(int((model(x).argmax(dim=1) == y).sum()) for x, y in parts)
    return right / len(images)


def save_weights(model: nn.Module, path: Path, recipe: Recipe, held_out_accuracy: float) -> None:
    """Writes a safetensors file with the recipe as metadata; a reader sees the old file or the whole new one."""
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    metadata = {
        **{key: json.dumps(value) for key, value in asdict(recipe).items() if key != "model"},
        "model": recipe.model,
        "held_out_accuracy": f"{held_out_accuracy:.4f}",
        "dataset": digits.SOURCE,
        "torch": torch.__version__,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save(tensors, metadata))
        temporary.replace(path)
    except OSError as error:
        raise InputRefused(str(path), f"cannot be written: {error.strerror}", fix="name another file") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _trainable(name: str) -> ZooEntry:
    entry = find(name)
    if entry.input_shape != digits.IMAGE_SHAPE:
        names = ", ".join(other.name for other in catalogue().values() if other.input_shape == digits.IMAGE_SHAPE)
        size = "x".join(map(str, entry.input_shape))
        raise InputRefused(f"model {name!r}", f"it is made for {size} images", f"one made for 3x32x32: {names}")
    return entry


def run(recipe: Recipe, path: Path) -> float:
    """Trains on the digits with a progress bar, writes the weights and returns the held-out accuracy."""
    from rich.console import Console
    from rich.progress import Progress

    _trainable(recipe.model)
    images, labels = (torch.from_numpy(array) for array in digits.training())
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"training {recipe.model}", total=recipe.epochs)

        def report(epoch: int, loss: float) -> None:
            progress.update(task, advance=1, description=f"epoch {epoch} of {recipe.epochs}, loss {loss:.4f}")

        model = train(recipe, images, labels, report=report)
    share = accuracy(model, *(torch.from_numpy(array) for array in digits.held_out()))
    save_weights(model, path, recipe, share)
    return share


def main(arguments: list[str] | None = None) -> int:
    """The command: 0, or the exit status of the error that it prints."""
    parser = argparse.ArgumentParser(prog="python -m bnn_deploy.train", description=__doc__.partition("\n\n")[0])
    parser.add_argument("model", help="a name of the zoo whose images are 3x32x32")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="times each image is seen (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default %(default)s)")
    parser.add_argument("--out", type=Path, help="the file to write (default build/train/MODEL.safetensors)")
    options = parser.parse_args(arguments)
    path = options.out or Path("build", "train", f"{options.model}.safetensors")
    try:
        share = run(Recipe(options.model, epochs=options.epochs, seed=options.seed), path)
    except BnnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(f"{options.model}: held-out accuracy {share:.2%}, weights in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
