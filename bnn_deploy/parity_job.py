"""The job of `parity`: the PyTorch model again, the file, every runner on every set of inputs, and the reports of it.

Runs in a process of its own, as an export does (`export.supervise`): the model is the user's code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from bnn_deploy import digits, parity_cases
from bnn_deploy.accuracy import accuracy, check_classes
from bnn_deploy.errors import InputRefused
from bnn_deploy.export.request import ExportRequest
from bnn_deploy.export.worker import Progress, serve
from bnn_deploy.files import sha256, write_atomically
from bnn_deploy.inspection import load_model
from bnn_deploy.labelled import LabelledImages, held_out_digits, labelled_folder, read_classes
from bnn_deploy.loading import LoadedModel
from bnn_deploy.parity.golden.writer import check_target, golden_cases, write_golden
from bnn_deploy.parity.harness import Harness, precision_of
from bnn_deploy.parity.inputs import InputCase, is_finite
from bnn_deploy.parity.reduction.reducer import Reducer
from bnn_deploy.parity.request import ParityRequest
from bnn_deploy.parity.results import CaseResult, ParityReport
from bnn_deploy.parity.spread import spread
from bnn_deploy.pipeline import load_request, versions
from bnn_deploy.runners.base import Recording
from bnn_deploy.runners.catalogue import exported_runners, factories
from bnn_deploy.runners.pytorch import PyTorchRunner

PARITY = "parity.json"


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
    chosen = factories(request.runners or [*exported_runners(), "onnxruntime-unoptimised"])
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
    labelled = job.labelled(loaded)
    with Harness(reference, model, chosen) as harness:
        cases = job.run(harness, list(parity_cases.cases(request, model, exported, loaded)))
        failures = harness.file_failures
    accuracy = None if labelled is None else job.accuracy(labelled)
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
        chosen = factories(harness.runners)
        return Reducer(self._model, chosen, Path(self._request.bisect), self._progress)

    def labelled(self, loaded: LoadedModel) -> LabelledImages | None:
        """Images to measure accuracy on: the user's, or the digits that a shipped network was not shown.

        Raises:
            InputRefused: The user's cannot be read, or are not of as many classes as the network tells apart.
        """
        if self._request.labels is not None:
            classes = None if self._request.classes is None else read_classes(Path(self._request.classes))
            dataset = labelled_folder(
                Path(self._request.labels),
                self._model,
                preprocessing=parity_cases.preprocessing(self._request, self._model),
                classes=classes,
            )
            check_classes(self._reference, dataset)
            return dataset
        if loaded.weights == "shipped" and digits.available() and parity_cases.takes_digits(self._model):
            return held_out_digits(self._model)
        return None

    def accuracy(self, dataset: LabelledImages) -> dict[str, Any]:
        """Top-1 of every runner. The reference is left out: it is slow, and its layers are compared one by one."""
        self._progress(f"accuracy on {dataset.source}")
        names = self._request.runners or exported_runners()
        made = {name: make(self._model) for name, make in factories(names).items() if name != "reference"}

        def tell(done: int, total: int) -> None:
            self._progress(f"accuracy: {done:,} of {total:,} images")

        return accuracy({self._reference.name: self._reference, **made}, dataset, progress=tell).to_json()

    def write(self, report: ParityReport) -> None:
        """`parity.json`, and the page, the JUnit file and the golden bundle where they were asked for."""
        request = self._request
        content = json.dumps(report.to_json(), indent=2, allow_nan=False)
        write_atomically(Path(request.out) / PARITY, content.encode())
        if request.html is not None:
            from bnn_deploy.parity.report.page import render_report

            write_atomically(Path(request.html), render_report(report).encode())
        if request.junit is not None:
            from bnn_deploy.parity.report.junit import render_junit

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


def main(folder: Path) -> int:
    """Reads the request from `folder`, does it, and writes the outcome there. The parent process reads it."""

    def job(request: dict[str, Any], _: Path, progress: Progress) -> dict[str, Any]:
        return check_file(ParityRequest(**request), progress).to_json()

    return serve(folder, job)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
