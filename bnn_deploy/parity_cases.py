"""The sets of inputs that `parity` tries: the user's, else digits or random images; batches; sizes; hard values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnn_deploy import digits
from bnn_deploy.errors import InputRefused
from bnn_deploy.feeds import Preprocessing, preprocessing_of, read_feeds, read_image
from bnn_deploy.images import SUFFIXES, images_below
from bnn_deploy.loading import LoadedModel
from bnn_deploy.parity.harness import precision_of
from bnn_deploy.parity.inputs import (
    InputCase,
    OpenShape,
    Shape,
    adversarial_cases,
    batches_of,
    concrete,
    is_finite,
    open_shapes,
    random_case,
    resized,
    sizes_of,
)
from bnn_deploy.parity.request import ParityRequest
from bnn_deploy.runners.base import check_feeds

HARD_VALUES = 8  # samples a batch


def cases(
    request: ParityRequest, model: onnx.ModelProto, exported: Sequence[Sequence[int]], loaded: LoadedModel
) -> Iterator[InputCase]:
    """Every set of inputs, the most telling one first.

    That one has as many samples as the largest batch; a batch that it covers is not tried again.

    Args:
        request: What the user asked for.
        model: The deployed file.
        exported: The shape that each input was exported with.
        loaded: The PyTorch model.

    Raises:
        InputRefused: Inputs cannot be read, or do not fit the file.
    """
    shapes = open_shapes(model)
    batches = batches_of(shapes, exported, request.batches, request.samples)
    fixed = next(iter(shapes.values()))[0]
    covered = 0
    if request.inputs:
        feeds = read_feeds(model, request.inputs, preprocessing(request, model))
        _check_feeds(feeds, shapes)
        yield InputCase("given inputs", ", ".join(request.inputs), feeds, is_finite(feeds))
    if request.images is not None:
        yield from _image_cases(request, model, request.images, max(batches_of(shapes, exported, [])))
    if not request.inputs and request.images is None:
        usual = fixed if fixed is not None else request.samples or max(batches)
        first = _usual_case(request, loaded, concrete(shapes, exported, usual))
        covered = first.samples
        yield first
    for batch in (batch for batch in batches if batch != covered):
        shape = concrete(shapes, exported, batch)
        yield random_case(f"batch {batch}", f"{batch} random images", shape, request.seed + batch)
    for height, width in [tuple(size) for size in request.sizes] or sizes_of(shapes, exported):
        shape = resized(concrete(shapes, exported, batches[0]), (height, width))
        check_feeds(f"--size {height}x{width}", {name: np.empty(sizes) for name, sizes in shape.items()}, shapes)
        yield random_case(f"size {height}x{width}", f"random images of {height}x{width}", shape, request.seed)
    if request.adversarial:
        hard = concrete(shapes, exported, fixed if fixed is not None else HARD_VALUES)
        yield from adversarial_cases(hard, request.seed, precision_of(model))


def _check_feeds(feeds: Mapping[str, NDArray[Any]], shapes: Mapping[str, OpenShape]) -> None:
    """Refuses what does not fit the file, and inputs without samples or of unequally many."""
    check_feeds("--input", feeds, shapes)
    counts = {name: array.shape[0] if array.ndim else 0 for name, array in feeds.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        found = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise InputRefused("--input", f"samples: {found}", "as many of each, and at least one")


def preprocessing(request: ParityRequest, model: onnx.ModelProto) -> Preprocessing | None:
    """How images become inputs: as asked, else as the file says."""
    if request.mean is None and request.deviation is None:
        return preprocessing_of(model)
    return Preprocessing(tuple(request.mean or [0.0]), tuple(request.deviation or [1.0]))


def takes_digits(model: onnx.ModelProto) -> bool:
    """Whether the one input of a file is of the shape of the digits."""
    shapes = open_shapes(model)
    return len(shapes) == 1 and next(iter(shapes.values()))[1:] == digits.IMAGE_SHAPE


def _usual_case(request: ParityRequest, loaded: LoadedModel, shapes: dict[str, Shape]) -> InputCase:
    """Digits for the networks that were trained on them, else random images."""
    (name, shape), *others = shapes.items()
    if loaded.weights == "shipped" and not others and shape[1:] == digits.IMAGE_SHAPE and digits.available():
        told = "handwritten digits that the network was not trained on"
        return InputCase("digits", told, {name: digits.some_held_out(shape[0])})
    return random_case("random images", "random images with structure", shapes, request.seed)


def _image_cases(request: ParityRequest, model: onnx.ModelProto, folder: str, most: int) -> Iterator[InputCase]:
    """The images of a folder, as many at a time as the file's batch is fixed to, else at most `most`."""
    paths = images_below(Path(folder))
    if not paths:
        raise InputRefused(f"--images {folder}", "no image in it", f"files that end in {', '.join(SUFFIXES)}")
    (value, *others) = model.graph.input
    if others:
        raise InputRefused(f"--images {folder}", f"images, and the network has {1 + len(others)} inputs", "--input")
    normalisation = preprocessing(request, model)
    images = [read_image(path, value, normalisation) for path in paths[: request.samples]]
    fixed = open_shapes(model)[value.name][0]
    batch = fixed or most
    for first in range(0, len(images), batch):
        chosen: list[NDArray[Any]] = list(images[first : first + batch])
        if fixed:
            chosen += [images[0]] * (batch - len(chosen))
        label = "images" if batch >= len(images) else f"images {first + 1} to {min(first + batch, len(images))}"
        yield InputCase(label, f"{len(images)} images of {folder}", {value.name: np.concatenate(chosen)})
