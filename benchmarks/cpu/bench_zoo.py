"""What the passes are worth: every network of the zoo, before and after, as the table of the README.

    .venv/bin/python benchmarks/cpu/bench_zoo.py                       # all of the zoo
    .venv/bin/python benchmarks/cpu/bench_zoo.py birealnet nin --json build/zoo.json

*Before* is the float twin, the network as stock tools export it: its binary layers are float convolutions with ±alpha
weights. *After* is the deployed file. Both come from one export, of the shipped weights or of seeded ones, which cost
the same. ONNX Runtime fuses some of the twin's nodes when it loads it, and adds some that change layouts, so the count
after that stands beside the file's own.

Latency is of stock ONNX Runtime on the twin, and of ONNX Runtime with the native library on the file: one image, one
thread, no spinning, the two run in turns (A B A B). The medians are of the turns; the ratio is the median of the ratios
of neighbours, which a machine that slows down for a while does not move. Without the library these columns stay empty.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from machine import processor
from numpy.typing import NDArray

from bnn_deploy.export import export_onnx
from bnn_deploy.files import write_atomically
from bnn_deploy.inspection import inspect_file
from bnn_deploy.inspection.nodes import VIEWS
from bnn_deploy.loading import load
from bnn_deploy.models import catalogue
from bnn_deploy.native import find_library
from bnn_deploy.runners.native_cpu import NativeCpuRunner
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner
from bnn_deploy.runners.ort_session import OrtSessionRunner

TOLERANCE = 1e-2  # of the outputs, relative to the largest: a sign may flip where PyTorch's rounding makes a tie
WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """Medians of one image, in milliseconds, and the median ratio of neighbouring runs."""

    before_ms: float
    after_ms: float
    ratio: float
    turns: int


@dataclass(frozen=True)
class Row:
    """One network; `kernels_optimised` are those of the twin after ONNX Runtime's own fusions."""

    model: str
    weights: str
    input: list[int]
    nodes: tuple[int, int]
    kernels: tuple[int, int]
    kernels_optimised: int
    file_bytes: tuple[int, int]
    activation_bytes: tuple[int | None, int | None]
    latency: Latency | None


def measure(name: str, turns: int) -> Row:
    """Exports a network of the zoo into a temporary folder and looks at both files."""
    loaded = load(name)
    shape = loaded.input_shapes[0]
    image = np.random.default_rng(0).standard_normal(tuple(shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file, twin = Path(folder) / "model.onnx", Path(folder) / "float.onnx"
        exported = export_onnx(loaded.module, torch.from_numpy(image), file, float_path=twin)
        before, after = exported.before, inspect_file(file).graph
        return Row(
            model=name,
            weights=loaded.weights,
            input=list(shape),
            nodes=(before.nodes, after.nodes),
            kernels=(before.kernels, after.kernels),
            kernels_optimised=_optimised_kernels(twin),
            file_bytes=(exported.float_bytes, exported.file_bytes),
            activation_bytes=(before.activation_bytes, after.activation_bytes),
            latency=_latency(twin, file, image, turns) if find_library() is not None else None,
        )


def _optimised_kernels(path: Path) -> int:
    """The nodes with work to do in what ONNX Runtime makes of a file for this machine."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    written = path.with_suffix(".optimised.onnx")
    options.optimized_model_filepath = str(written)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return sum(node.op_type not in (*VIEWS, "Constant") for node in onnx.load(str(written)).graph.node)


def _latency(twin: Path, file: Path, image: NDArray[np.float32], turns: int) -> Latency:
    runners: list[OrtSessionRunner] = [OnnxRuntimeRunner(twin, threads=1), NativeCpuRunner(file, threads=1)]
    feeds = [{next(iter(runner.inputs)): image} for runner in runners]
    outputs = [next(iter(runner.infer(feed).values())) for runner, feed in zip(runners, feeds, strict=True)]
    apart = float(np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[0]).max())
    if apart > TOLERANCE:
        print(f"  outputs are {apart:.1e} apart, relative to the largest: not the same network?", file=sys.stderr)
    times: list[list[float]] = [[], []]
    for turn in range(WARM_UP + turns):
        for which, (runner, feed) in enumerate(zip(runners, feeds, strict=True)):
            started = time.perf_counter()
            runner.infer(feed)
            if turn >= WARM_UP:
                times[which].append((time.perf_counter() - started) * 1e3)
    ratios = [before / after for before, after in zip(*times, strict=True)]
    return Latency(statistics.median(times[0]), statistics.median(times[1]), statistics.median(ratios), turns)


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    headings = (
        "model", "nodes", "kernels", "kernels, twin in ONNX Runtime", "file", "activations an image", "latency"
    )  # fmt: skip
    lines = [f"| {' | '.join(headings)} |", "|---|" + "---:|" * (len(headings) - 1)]
    for row in rows:
        cells = [
            f"`{row.model}`",
            _pair(*row.nodes),
            _pair(*row.kernels),
            f"{row.kernels_optimised}",
            f"{_pair(*map(_size, row.file_bytes))} ({row.file_bytes[0] / row.file_bytes[1]:.1f}x)",
            _pair(*map(_size, row.activation_bytes)),
            "" if row.latency is None else _latency_cell(row.latency),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _latency_cell(latency: Latency) -> str:
    return f"{_pair(f'{latency.before_ms:.3g}', f'{latency.after_ms:.3g}')} ms ({latency.ratio:.1f}x)"


def _pair(before: object, after: object) -> str:
    return f"{before} → {after}"


def _size(value: int | None) -> str:
    if value is None:
        return "unknown"
    return f"{value / 1e6:.3g} MB" if value >= 1e6 else f"{value / 1e3:.3g} kB"


def main() -> int:
    """Prints the table, a row at a time on stderr first: the large networks take a while."""
    parser = argparse.ArgumentParser(description="Measures every network of the zoo, before and after the passes.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names of the zoo; all of it where none is given")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the numbers here too")
    parser.add_argument("--turns", type=int, default=30, help="timed runs of each (default: 30)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in options.models or catalogue():
        rows.append(measure(name, options.turns))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    if options.json is not None:
        machine = {"processor": processor(), "onnxruntime": onnxruntime.__version__}
        found = {**machine, "threads": 1, "rows": [asdict(row) for row in rows]}
        write_atomically(options.json, json.dumps(found, indent=2).encode())
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
