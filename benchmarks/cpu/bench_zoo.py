"""What the passes and the native library are worth on whole networks: size, work, latency, load time, memory.

    python benchmarks/cpu/bench_zoo.py                               # the project's own set
    python benchmarks/cpu/bench_zoo.py all --threads 1               # all of the zoo, as the table of the README
    python benchmarks/cpu/bench_zoo.py birealnet --json build/zoo.json

*Before* is the float twin, the network as stock tools export it: its binary layers are float convolutions with ±alpha
weights. *After* is the deployed file. Both come from one export, of the shipped weights or of seeded ones, which cost
the same. ONNX Runtime fuses some of the twin's nodes when it loads it, and adds some that change layouts, so the count
after that stands beside the file's own. Everything that takes time is measured by `bnn_deploy.benchmark`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch

from bnn_deploy import benchmark
from bnn_deploy.bench import BenchmarkRow, describe_machine
from bnn_deploy.benchmarking import software
from bnn_deploy.export import export_onnx
from bnn_deploy.files import write_atomically
from bnn_deploy.inspection import inspect_file
from bnn_deploy.inspection.nodes import VIEWS
from bnn_deploy.loading import load
from bnn_deploy.models import catalogue
from bnn_deploy.native import find_library

# The project's own set: network -> batches.
OWN_SET = {"birealnet18": (1, 8), "reactnet": (1,), "vgg_small": (1,), "nin": (1,)}
BEFORE, AFTER = "onnxruntime-float", "native-cpu"
RUNNERS = (BEFORE, "onnxruntime-int8", "openvino", "openvino-int8", AFTER)
MIB = 1024 * 1024


@dataclass(frozen=True)
class Structure:
    """One network, before and after; `kernels_optimised` are those of the twin after ONNX Runtime's own fusions."""

    model: str
    weights: str
    input: list[int]
    nodes: tuple[int, int]
    kernels: tuple[int, int]
    kernels_optimised: int
    file_bytes: tuple[int, int]
    activation_bytes: tuple[int | None, int | None]


def measure(name: str, batches: Sequence[int], options: argparse.Namespace) -> tuple[Structure, list[BenchmarkRow]]:
    """Exports a network of the zoo into a temporary folder, looks at both files and runs them."""
    loaded = load(name)
    shape = loaded.input_shapes[0]
    with tempfile.TemporaryDirectory() as folder:
        file, twin = Path(folder) / f"{name}.onnx", Path(folder) / "float.onnx"
        exported = export_onnx(loaded.module, torch.zeros(shape), file, float_path=twin)
        before, after = exported.before, inspect_file(file).graph
        structure = Structure(
            model=name,
            weights=loaded.weights,
            input=list(shape),
            nodes=(before.nodes, after.nodes),
            kernels=(before.kernels, after.kernels),
            kernels_optimised=_optimised_kernels(twin),
            file_bytes=(exported.float_bytes, exported.file_bytes),
            activation_bytes=(before.activation_bytes, after.activation_bytes),
        )
        rows = benchmark(
            file,
            options.runner,
            batches,
            options.threads,
            seconds=options.seconds,
            float_path=twin,
            progress=lambda stage: print(f"{name}: {stage}", file=sys.stderr, flush=True),
        )
    return structure, rows


def _optimised_kernels(path: Path) -> int:
    """The nodes with work to do in what ONNX Runtime makes of a file for this machine."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    written = path.with_suffix(".optimised.onnx")
    options.optimized_model_filepath = str(written)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return sum(node.op_type not in (*VIEWS, "Constant") for node in onnx.load(str(written)).graph.node)


def structure_table(structures: Sequence[Structure], rows: Sequence[BenchmarkRow]) -> str:
    """Markdown, a row a network. The latency is that of one image on one thread, where it was measured."""
    headings = (
        "model", "nodes", "kernels", "kernels, twin in ONNX Runtime", "file", "activations an image", "latency"
    )  # fmt: skip
    lines = [_line(headings), "|---|" + "---:|" * (len(headings) - 1)]
    for found in structures:
        cells = (
            f"`{found.model}`",
            _pair(*found.nodes),
            _pair(*found.kernels),
            f"{found.kernels_optimised}",
            f"{_pair(*map(_size, found.file_bytes))} ({found.file_bytes[0] / found.file_bytes[1]:.1f}x)",
            _pair(*map(_size, found.activation_bytes)),
            _latency(found.model, rows),
        )
        lines.append(_line(cells))
    return "\n".join(lines)


def latency_table(rows: Sequence[BenchmarkRow]) -> str:
    """Markdown: for each network, batch and number of threads the median of each runner, and how many times as fast as
    the first; then what loading takes, and what the network adds to the memory of a process, first runner and last."""
    runners = list(dict.fromkeys(row.runner for row in rows))
    headings = ("model", "batch", "threads", *(f"{name}, ms" for name in runners), "load, ms", "memory, MiB")
    lines = [_line(headings), "|---|" + "---:|" * (len(headings) - 1)]
    for start in range(0, len(rows), len(runners)):
        block = rows[start : start + len(runners)]
        first, last = block[0], block[-1]
        cells = (
            f"`{Path(first.model).stem}`",
            f"{first.batch}",
            f"{first.threads}",
            *(f"{row.p50_ms:.3g} ({row.ratio:.1f}x)" for row in block),
            _pair(f"{first.load_ms:.0f}", f"{last.load_ms:.0f}"),
            _pair(_mib(first.network_rss_bytes), _mib(last.network_rss_bytes)),
        )
        lines.append(_line(cells))
    return "\n".join(lines)


def _latency(model: str, rows: Sequence[BenchmarkRow]) -> str:
    found = {row.runner: row for row in rows if Path(row.model).stem == model and (row.batch, row.threads) == (1, 1)}
    if not {BEFORE, AFTER} <= found.keys() or found[BEFORE].ratio != 1:
        return ""
    before, after = found[BEFORE], found[AFTER]
    return f"{_pair(f'{before.p50_ms:.3g}', f'{after.p50_ms:.3g}')} ms ({after.ratio:.1f}x)"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _pair(before: object, after: object) -> str:
    return f"{before} → {after}"


def _size(value: int | None) -> str:
    if value is None:
        return "unknown"
    return f"{value / 1e6:.3g} MB" if value >= 1e6 else f"{value / 1e3:.3g} kB"


def _mib(value: int | None) -> str:
    return "unknown" if value is None else f"{value / MIB:.0f}"


def main() -> int:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description="Measures networks of the zoo, before and after the passes.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names of the zoo, or `all`; else the own set")
    parser.add_argument("--batch", type=int, nargs="+", help="of every network (default: 1; birealnet18 also 8)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runner", nargs="+", help=f"the first is compared with (default: {' '.join(RUNNERS)})")
    parser.add_argument("--seconds", type=float, default=8.0, help="for one network, batch and number of threads")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the numbers here too")
    options = parser.parse_args()
    if options.runner is None:
        options.runner = [name for name in RUNNERS if name != AFTER or find_library() is not None]
    models = catalogue() if options.models == ["all"] else options.models or OWN_SET
    torch.set_num_threads(1)
    structures, rows = [], []
    for name in models:
        batches = options.batch or (OWN_SET[name] if not options.models else (1,))
        structure, found = measure(name, batches, options)
        structures.append(structure)
        rows += found
    print(f"{structure_table(structures, rows)}\n\n{latency_table(rows)}")
    if options.json is not None:
        content = {
            "machine": describe_machine(),
            "software": software(),
            "networks": [asdict(structure) for structure in structures],
            "rows": [{**asdict(row), "model": Path(row.model).stem} for row in rows],
        }
        write_atomically(options.json, json.dumps(content, indent=2).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
