"""The job of `parity`: the PyTorch model again, the file, every runner on every set of inputs, and the reports of it.

Runs in a process of its own, as an export does (`export.supervise`): the model is the user's code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnn_deploy import digits
from bnn_deploy.errors import InputRefused
from bnn_deploy.export.request import ExportRequest
from bnn_deploy.export.worker import Progress, serve
from bnn_deploy.feeds import Preprocessing, preprocessing_of, read_feeds, read_image
from bnn_deploy.files import sha256, write_atomically
from bnn_deploy.images import SUFFIXES
from bnn_deploy.inspection import load_model
from bnn_deploy.loading import LoadedModel
from bnn_deploy.parity.golden import check_target, golden_cases, write_golden
from bnn_deploy.parity.harness import Harness, precision_of
from bnn_deploy.parity.inputs import (
    InputCase,
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
from bnn_deploy.parity.reducer import Reducer
from bnn_deploy.parity.request import ParityRequest
from bnn_deploy.parity.results import CaseResult, ParityReport
from bnn_deploy.parity.spread import spread
from bnn_deploy.pipeline import load_request, versions
from bnn_deploy.runners.base import Recording
from bnn_deploy.runners.catalogue import exported_runners, factories
from bnn_deploy.runners.pytorch import PyTorchRunner
from bnn_deploy.samples import sample_count

PARITY = "parity.json"
DIGITS = 31


def check_file(request: ParityRequest, progress: Progress) -> ParityReport:
    """Does what `request` asks, and writes `parity.json` and whatever else it names.

    Raises:
        InputRefused: The file is not the one that was exported, the model cannot be loaded or does not fit the file,
            a runner is not known or cannot run here, inputs cannot be read.
    """
    path = Path(request.file)
    if request.golden is not None:
        check_target(Path(request.golden))
    digest = _checked_hash(path, request.sha256)
    model = load_model(path)
    chosen = factories("--runner", request.runners or [*exported_runners(), "onnxruntime-unoptimised"])
    for name, factory in chosen.items():  # before anything takes time: each is there and loads the file
        progress(f"loading the file in {name}")
        with factory(model):
            pass
    network = ExportRequest(**{"out_dir": request.out, **request.network})
    progress(f"loading {network.model}")
    loaded, _ = load_request(network)
    names, outputs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    reference = PyTorchRunner(loaded.module, names, outputs)
    exported = network.inputs or [list(shape) for shape in loaded.input_shapes]
    if len(exported) != len(names):
        found = f"{len(names)} inputs, and {network.model} has {len(exported)}"
        raise InputRefused(request.file, found, "the file of that model", "name the model with --model")
    job = _Job(request, model, reference, network.model, progress)
    with Harness(reference, model, chosen) as harness:
        cases = job.run(harness, list(_cases(request, model, exported, loaded)))
        failures = harness.file_failures
    accuracy = job.accuracy(loaded)
    report = ParityReport(
        network.model, str(path), digest, precision_of(model), tuple(cases), accuracy, versions(), failures
    )
    job.write(report)
    return report


def _checked_hash(path: Path, wanted: str | None) -> str:
    digest = sha256(path)
    if wanted is not None and digest != wanted:
        raise InputRefused(
            str(path),
            f"its SHA-256 is {digest[:12]}..., and the report beside it is of a file {wanted[:12]}...",
            "the file that was exported with that report",
            "export again; or name the PyTorch model with --model",
        )
    return digest


class _Job:
    """One run of the harness over all cases, with what hangs on it."""

    def __init__(
        self, request: ParityRequest, model: onnx.ModelProto, reference: PyTorchRunner, name: str, progress: Progress
    ) -> None:
        self._request, self._model, self._reference, self._name = request, model, reference, name
        self._progress = progress
        self._cases: list[InputCase] = []

    def run(self, harness: Harness, cases: Sequence[InputCase]) -> list[CaseResult]:
        """Every case in turn; the first tells PyTorch's spread as well; the binarisations themselves come last."""
        results, reducer = [], self._reducer(harness)
        for index, case in enumerate(cases):
            self._progress(f"{case.name}: {case.description}")
            recording = self._recorded(harness, case)
            case = _judged_as(case, recording)
            result = harness.check(case, recording)
            if index == 0:
                result = replace(result, spread=spread(recording, self._reference.variants(case.feeds)))
            if reducer is not None:
                reducer.case(case, result, recording)
            self._cases.append(case)
            results.append(result)
        if self._request.adversarial:
            self._progress("values that are hard to binarise, at every binarisation")
            probed = tuple(harness.probe(name) for name in harness.runners)
            description = "each binarisation of the file is given zeros, thresholds, their neighbours, infinities, NaN"
            results.append(CaseResult("binarisations", description, 0, probed))
            if reducer is not None:
                for found in probed:
                    reducer.probes(found)
        return results

    def _recorded(self, harness: Harness, case: InputCase) -> Recording:
        try:
            return harness.record(case)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = ", ".join("x".join(map(str, array.shape)) for array in case.feeds.values())
            raise InputRefused(
                self._name,
                f"it does not run on inputs {shapes} of {self._request.file}: {type(error).__name__}: {error}",
                "the model that the file was exported from, and sizes that it takes",
                "check --model, --size and --input",
            ) from error

    def _reducer(self, harness: Harness) -> Reducer | None:
        if self._request.bisect is None:
            return None
        chosen = factories("--bisect", harness.runners)
        return Reducer(self._model, chosen, Path(self._request.bisect), self._progress)

    def accuracy(self, loaded: LoadedModel) -> dict[str, Any] | None:
        """Top-1 of every runner on labelled images: the user's, or the digits that a shipped network was not shown."""
        from bnn_deploy.accuracy import accuracy
        from bnn_deploy.labelled import held_out_digits, labelled_folder, read_classes

        if self._request.labels is not None:
            classes = None if self._request.classes is None else read_classes(Path(self._request.classes))
            dataset = labelled_folder(
                Path(self._request.labels),
                self._model,
                preprocessing=_preprocessing(self._request, self._model),
                classes=classes,
            )
        elif loaded.weights == "shipped" and digits.available() and _takes_digits(open_shapes(self._model)):
            dataset = held_out_digits(self._model)
        else:
            return None
        self._progress(f"accuracy on {dataset.source}")
        names = self._request.runners or exported_runners()
        made = {name: make(self._model) for name, make in factories("--runner", names).items() if name != "reference"}

        def tell(done: int, total: int) -> None:
            self._progress(f"accuracy: {done:,} of {total:,} images")

        return accuracy({self._reference.name: self._reference, **made}, dataset, progress=tell).to_json()

    def write(self, report: ParityReport) -> None:
        """`parity.json`, and the page, the JUnit file and the golden bundle where they were asked for."""
        request = self._request
        content = json.dumps(report.to_json(), indent=2, allow_nan=False)
        write_atomically(Path(request.out) / PARITY, content.encode())
        if request.html is not None:
            from bnn_deploy.parity.page import render_report

            write_atomically(Path(request.html), render_report(report).encode())
        if request.junit is not None:
            from bnn_deploy.parity.junit import render_junit

            write_atomically(Path(request.junit), render_junit(report))
        if request.golden is not None:
            kept = golden_cases(self._reference, self._model, self._cases)
            write_golden(Path(request.golden), self._model, kept, description=report.model, versions=report.versions)


def _judged_as(case: InputCase, recording: Recording) -> InputCase:
    """The case; as one that is not finite where the network made infinities or NaN of finite inputs."""
    arrays = {**recording.outputs, **{record.name: record.x for record in recording.binarizations}}
    if not case.finite or is_finite(arrays):
        return case
    return InputCase(case.name, f"{case.description} (PyTorch overflows)", case.feeds, finite=False)


def _cases(
    request: ParityRequest, model: onnx.ModelProto, exported: Sequence[Sequence[int]], loaded: LoadedModel
) -> Iterator[InputCase]:
    """What to run: the user's inputs, else digits or random images; batches; sizes; values that are hard."""
    shapes = open_shapes(model)
    batches = batches_of(shapes, exported, request.batches)
    usual = request.samples or min(sample_count(shape) for shape in exported)
    fixed = next(iter(shapes.values()))[0]
    usual = fixed if fixed is not None else usual
    if request.inputs:
        feeds = read_feeds(model, request.inputs, _preprocessing(request, model))
        yield InputCase("given inputs", ", ".join(request.inputs), feeds, is_finite(feeds))
    if request.images is not None:
        yield from _image_cases(request, model, request.images)
    if not request.inputs and request.images is None:
        yield _usual_case(request, loaded, concrete(shapes, exported, usual))
    for batch in batches:
        shape = concrete(shapes, exported, batch)
        yield random_case(f"batch {batch}", f"{batch} random images", shape, request.seed + batch)
    for height, width in [tuple(size) for size in request.sizes] or sizes_of(shapes, exported):
        shape = resized(concrete(shapes, exported, batches[0]), (height, width))
        yield random_case(f"size {height}x{width}", f"random images of {height}x{width}", shape, request.seed)
    if request.adversarial:
        yield from adversarial_cases(
            concrete(shapes, exported, fixed if fixed is not None else 8), request.seed, precision_of(model)
        )


def _usual_case(request: ParityRequest, loaded: LoadedModel, shapes: dict[str, Shape]) -> InputCase:
    (name, shape), *others = shapes.items()
    if loaded.weights == "shipped" and not others and shape[1:] == digits.IMAGE_SHAPE and digits.available():
        images, _ = digits.held_out()
        count = request.samples or (DIGITS if shape[0] > 1 else 1)
        return InputCase("digits", "handwritten digits that the network was not trained on", {name: images[:count]})
    return random_case("random images", "random images with structure", shapes, request.seed)


def _image_cases(request: ParityRequest, model: onnx.ModelProto, folder: str) -> Iterator[InputCase]:
    """The images of a folder, in one batch, or one by one where the file's batch is fixed."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise InputRefused(f"--images {folder}", "no image in it", f"files that end in {', '.join(SUFFIXES)}")
    (value, *others) = model.graph.input
    if others:
        raise InputRefused(f"--images {folder}", f"images, and the network has {1 + len(others)} inputs", "--input")
    preprocessing = _preprocessing(request, model)
    images = [read_image(path, value, preprocessing) for path in paths[: request.samples]]
    batch = open_shapes(model)[value.name][0] or len(images)
    for first in range(0, len(images), batch):
        chosen: list[NDArray[Any]] = list(images[first : first + batch])
        chosen += [images[0]] * (batch - len(chosen))
        label = "images" if batch >= len(images) else f"images {first + 1} to {first + batch}"
        yield InputCase(label, f"{len(images)} images of {folder}", {value.name: np.concatenate(chosen)})


def _preprocessing(request: ParityRequest, model: onnx.ModelProto) -> Preprocessing | None:
    if request.mean is None and request.deviation is None:
        return preprocessing_of(model)
    return Preprocessing(tuple(request.mean or [0.0]), tuple(request.deviation or [1.0]))


def _takes_digits(shapes: dict[str, tuple[int | None, ...]]) -> bool:
    return len(shapes) == 1 and next(iter(shapes.values()))[1:] == digits.IMAGE_SHAPE


def main(folder: Path) -> int:
    """Reads the request from `folder`, does it, and writes the outcome there. The parent process reads it."""

    def job(request: dict[str, Any], _: Path, progress: Progress) -> dict[str, Any]:
        return check_file(ParityRequest(**request), progress).to_json()

    return serve(folder, job)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
