"""The main job, end to end: load, export, check parity, report. Runs in a process of its own (`export.supervise`)."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

import bnn_deploy
from bnn_deploy import digits
from bnn_deploy.accuracy import accuracy
from bnn_deploy.errors import InputRefused
from bnn_deploy.export.onnx_export import ExportedFile, export_onnx
from bnn_deploy.export.request import ExportRequest
from bnn_deploy.export.supervise import MODEL, REPORT
from bnn_deploy.export.worker import Progress, serve
from bnn_deploy.feeds import Preprocessing
from bnn_deploy.files import sha256, write_atomically
from bnn_deploy.inspection import inspect_file
from bnn_deploy.labelled import held_out_digits
from bnn_deploy.loading import LoadedModel, load
from bnn_deploy.models import IMAGENET, catalogue
from bnn_deploy.nn.sign_zero import set_sign_zero
from bnn_deploy.parity import RunnerResult, check
from bnn_deploy.runners.catalogue import exported_runners, factories
from bnn_deploy.runners.pytorch import PyTorchRunner
from bnn_deploy.samples import random_samples, sample_count

PARITY_DIGITS = 32
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def check_parity(
    model: nn.Module, runners: Sequence[str], inputs: NDArray[Any] | Sequence[NDArray[Any]]
) -> dict[str, RunnerResult]:
    """Exports `model` to a temporary file and compares runners of it with PyTorch, layer by layer and end to end.

    Args:
        model: A module built of `bnn_deploy.nn`.
        runners: Out of `runners.catalogue.names(Use.RUN)`.
        inputs: One array for each input, [N, C, *spatial] float32, N samples.

    Returns:
        Runner name -> result; `passed`, `failures` and every layer's figures are its attributes.

    Raises:
        InputRefused: The model cannot be exported, or a runner is not known.
    """
    arrays = [np.asarray(array) for array in ([inputs] if isinstance(inputs, np.ndarray) else inputs)]
    factories(runners)  # refuses one that is not known, or not installed, before the export
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        export_onnx(model, [torch.from_numpy(array[:1].copy()) for array in arrays], path)
        return _parity(model, path, list(runners), arrays)


def export_and_check(request: ExportRequest, folder: Path, progress: Progress) -> dict[str, Any]:
    """Does what `request` asks; writes the model and the report into `folder`.

    Returns:
        The report. `passed` says whether parity holds.
    """
    progress(f"loading {request.model}")
    loaded, changed = load_request(request)
    shapes = _input_shapes(request, loaded)
    generator = torch.Generator().manual_seed(request.seed)
    examples = [torch.randn(shape, generator=generator) for shape in shapes]
    _try_forward(loaded, examples)
    progress("exporting to ONNX")
    exported = export_onnx(
        loaded.module,
        examples,
        folder / MODEL,
        dynamic=request.dynamic,
        exporter=request.exporter,
        precision=request.precision,
        metadata=_preprocessing(loaded),
    )
    progress("checking parity with PyTorch, layer by layer and end to end")
    on_digits = loaded.weights == "shipped" and _takes_digits(shapes, request) and digits.available()
    inputs, source = _parity_inputs(shapes, request, on_digits)
    results = _parity(loaded.module, exported.path, exported_runners(), inputs)
    on_held_out = None
    if on_digits:
        progress("running the held-out digits")
        on_held_out = _accuracy(loaded.module, exported.path)
    report = _report(request, loaded, shapes, changed, exported, results, source, on_held_out)
    write_atomically(folder / REPORT, json.dumps(report, indent=2).encode())
    return report


def load_request(request: ExportRequest) -> tuple[LoadedModel, int]:
    """The PyTorch model that `request` names, as it is exported, and how many layers took another sign of 0 for that.

    Raises:
        InputRefused: It cannot be loaded.
    """
    loaded = load(
        request.model,
        checkpoint=request.checkpoint,
        kwargs=request.kwargs,
        sys_path=request.sys_path,
        prepare=request.prepare,
        trust_checkpoint=request.trust_checkpoint,
        seed=request.seed,
    )
    changed = set_sign_zero(loaded.module, request.sign_zero) if request.sign_zero != "auto" else 0
    return loaded, changed


def _input_shapes(request: ExportRequest, loaded: LoadedModel) -> list[list[int]]:
    shapes = request.inputs or [list(shape) for shape in loaded.input_shapes]
    if not shapes:
        raise InputRefused(
            request.model, "the shape of its input is not known", "one --input for each input", "--input 1x3x224x224"
        )
    return shapes


def _try_forward(loaded: LoadedModel, examples: Sequence[torch.Tensor]) -> None:
    """Runs the model once as it is, so that its own errors are told from the exporter's."""
    try:
        with torch.no_grad():
            loaded.module(*examples)
    except InputRefused:
        raise
    except (Exception, SystemExit) as error:
        shapes = ", ".join("x".join(map(str, example.shape)) for example in examples)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        raise InputRefused(
            loaded.name,
            f"its forward fails on input {shapes}: {type(error).__name__}: {error} ({place})",
            "a forward that runs",
            "check --input, --kwargs and the model",
        ) from error


def _preprocessing(loaded: LoadedModel) -> dict[str, str]:
    """How images are normalised, where the zoo knows: the shipped networks saw digits, the large ones ImageNet."""
    if loaded.weights == "shipped":
        return Preprocessing((digits.MEAN,), (digits.DEVIATION,)).to_metadata()
    if loaded.name in catalogue() and loaded.input_shapes[0][2:] == IMAGENET[1:]:
        return Preprocessing(IMAGENET_MEAN, IMAGENET_DEVIATION).to_metadata()
    return {}


def _takes_digits(shapes: Sequence[Sequence[int]], request: ExportRequest) -> bool:
    """Whether the exported file runs the digits, in batches or one by one."""
    return tuple(shapes[0][1:]) == digits.IMAGE_SHAPE and (request.dynamic != "none" or shapes[0][0] == 1)


def _parity_inputs(
    shapes: Sequence[Sequence[int]], request: ExportRequest, on_digits: bool
) -> tuple[list[NDArray[Any]], str]:
    """Samples for each input, and what they are. A file of fixed batch takes as many as it was exported with."""
    fixed = request.dynamic == "none"
    if on_digits:
        if fixed:
            return [digits.some_held_out(shapes[0][0])], "held-out digits"
        images = digits.some_held_out(PARITY_DIGITS - 1)
        return [np.concatenate([images, np.zeros_like(images[:1])])], "held-out digits, and a blank image"
    count = min(sample_count(shape) for shape in shapes)
    inputs = [
        random_samples(shape, shape[0] + 2 if fixed else count, request.seed + index)
        for index, shape in enumerate(shapes)
    ]
    if fixed:
        return [array[: shape[0]] for array, shape in zip(inputs, shapes, strict=True)], "random images"
    return inputs, "random images, a blank one and a constant one"


def _parity(
    model: nn.Module, path: Path, runners: Sequence[str], inputs: Sequence[NDArray[Any]]
) -> dict[str, RunnerResult]:
    proto = onnx.load(str(path))
    names = [value.name for value in proto.graph.input]
    reference = PyTorchRunner(model, names, [value.name for value in proto.graph.output])
    feeds = dict(zip(names, inputs, strict=True))
    return check(reference, proto, factories(runners), feeds)


def _accuracy(model: nn.Module, path: Path) -> dict[str, Any]:
    """PyTorch and the exported file side by side on the held-out digits."""
    proto = onnx.load(str(path))
    names, outputs = [value.name for value in proto.graph.input], [value.name for value in proto.graph.output]
    made = {name: make(proto) for name, make in factories(exported_runners()).items()}
    result = accuracy({"pytorch": PyTorchRunner(model, names, outputs), **made}, held_out_digits(proto))
    return result.to_json()


def _report(
    request: ExportRequest,
    loaded: LoadedModel,
    shapes: Sequence[Sequence[int]],
    sign_zero_changes: int,
    exported: ExportedFile,
    results: Mapping[str, RunnerResult],
    source: str,
    on_held_out: dict[str, Any] | None,
) -> dict[str, Any]:
    inspection = inspect_file(exported.path)
    failures = [f"{name}: {failure}" for name, result in results.items() for failure in result.failures]
    return {
        "model": request.model,
        "request": request.located().to_json(),
        "sha256": sha256(exported.path),
        "passed": not failures,
        "failures": failures,
        "weights": loaded.weights,
        "weights_description": loaded.description,
        "inputs": [list(shape) for shape in shapes],
        "dynamic": request.dynamic,
        "precision": request.precision,
        "exporter": request.exporter,
        "sign_zero": {"asked": request.sign_zero, "layers_changed": sign_zero_changes},
        "float_bytes": exported.float_bytes,
        "before": asdict(exported.before),
        **inspection.to_json(),
        "parity_inputs": source,
        "parity": {name: result.to_json() for name, result in results.items()},
        "accuracy": on_held_out,
        "passes": [asdict(record) for record in exported.records],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of this package, of Python, and of what the arithmetic is done with."""
    packages = {name: version(name) for name in ("torch", "onnx", "onnxruntime", "numpy")}
    return {"bnn_deploy": bnn_deploy.__version__, "python": platform.python_version(), **packages}


def main(folder: Path) -> int:
    """Reads the request from `folder`, does it, and writes the outcome there. The parent process reads it."""
    return serve(folder, lambda request, work, progress: export_and_check(ExportRequest(**request), work, progress))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
