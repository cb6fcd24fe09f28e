"""How fast a 1-bit layer is on this CPU, beside float32 and int8 of the same layer in ONNX Runtime and OpenVINO.

    python benchmarks/cpu/bench_layers.py [--threads 1 2] [--batch 1] [--rounds 41] [--json FILE]

The contenders take turns of a few runs each (`bnn_deploy.bench.interleave`); the table shows medians, and the median of
the ratios within a round. Before anything is timed the result of every set of kernels is compared with exact
arithmetic.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from layer_models import BIREALNET18, Layer, aligned, binary_model, feeds, float_model, int8_model, scales, weights
from openvino_layer import openvino_runs

from bnn_deploy.bench import Schedule, Times, describe_machine, interleave
from bnn_deploy.benchmarking import software
from bnn_deploy.errors import InputRefused
from bnn_deploy.files import write_atomically
from bnn_deploy.native import KERNELS_VARIABLE, library
from bnn_deploy.reference import Geometry, accumulate_conv2d

BASELINE = "onnxruntime float32"
BURST = 4  # runs of one contender in a turn
RATE_SECONDS = 5e-3  # of an inner loop at a time


def kernel_sets() -> list[str]:
    """The sets of kernels that run here, best first, without the scalar one if there is another."""
    native = ctypes.CDLL(str(library()))
    native.bnn_kernels_name.restype = ctypes.c_char_p
    names = [native.bnn_kernels_name(i).decode() for i in range(native.bnn_kernels_count())]
    supported = [name for i, name in enumerate(names) if native.bnn_kernels_supported(i)]
    return supported[:-1] or supported


def session(model: bytes, threads: int, kernels: str | None = None) -> onnxruntime.InferenceSession:
    """A session that does not spin; with our library where `kernels` names a set."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if kernels is None:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    options.register_custom_ops_library(str(library()))
    os.environ[KERNELS_VARIABLE] = kernels
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    finally:
        del os.environ[KERNELS_VARIABLE]


@dataclass(frozen=True)
class Speeds:
    """Of one thread, in 10^9 one-bit products a second: the best of some measurements that take turns."""

    vector_ceiling: float  # the inner loop's instructions on registers alone
    inner_loop: float  # the inner loop itself, on data in the nearest cache

    @classmethod
    def of(cls, kernels: str) -> Speeds | None:
        """Measures a set of kernels; None for the scalar one, which has no vectors."""
        native, rate = ctypes.CDLL(str(library())), ctypes.c_double()
        best = {"bnn_vector_ceiling": 0.0, "bnn_count_rate": 0.0}
        runs = dict.fromkeys(best, 1000)
        for _ in range(20):
            for function in best:
                begin = time.perf_counter()
                if getattr(native, function)(kernels.encode(), runs[function], ctypes.byref(rate)):
                    return None
                best[function] = max(best[function], rate.value)
                # Both for as long: after a while of wide vectors, or tiles, the clock goes down.
                runs[function] = 1 + int(runs[function] * RATE_SECONDS / (time.perf_counter() - begin))
        return cls(*best.values())


def check(layer: Layer, arrays: dict[str, Any], y: Any, kernels: str) -> None:
    """Ends the program unless `y` is the exact result."""
    x = np.where(arrays["x"] >= 0, 1, -1).astype(np.int8)
    geometry = Geometry((layer.stride,) * 2, (layer.pad,) * 4)
    sums = accumulate_conv2d(x, weights(layer), geometry).astype(np.float32)
    expected = scales(layer)[:, None, None] * sums + np.float32(0) + arrays["residual"]
    if not np.array_equal(y, expected):
        sys.exit(f"{layer}: the {kernels} kernels are wrong; nothing was timed")


def measure(layer: Layer, batch: int, threads: int, rounds: int, sets: list[str]) -> dict[str, Any]:
    """One row: percentiles in milliseconds, and ratios to float32, for each contender."""
    arrays = feeds(layer, batch)
    sessions = {BASELINE: session(float_model(layer), threads), "onnxruntime int8": session(int8_model(layer), threads)}
    for kernels in sets:
        sessions[kernels] = session(binary_model(layer), threads, kernels)
        check(layer, arrays, sessions[kernels].run(None, arrays)[0], kernels)
    runs = {name: _bound_run(one, arrays) for name, one in sessions.items()}
    runs |= openvino_runs(layer, arrays, threads)
    times = interleave(runs, Schedule(rounds, seconds=float("inf"), repeats=BURST))
    found = {name: asdict(Times.of(own, times[BASELINE])) for name, own in times.items()}
    return {"layer": str(layer), "threads": threads, "batch": batch, "products": batch * layer.products, "times": found}


def _bound_run(one: onnxruntime.InferenceSession, arrays: dict[str, Any]) -> Callable[[], None]:
    """Inputs and output stay where they are, so that no copy is timed."""
    binding = one.io_binding()
    for name, array in arrays.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    output = onnxruntime.OrtValue.ortvalue_from_numpy(aligned(np.zeros_like(arrays["residual"])))
    binding.bind_ortvalue_output("y", output)
    return lambda: one.run_with_iobinding(binding)


def share_of_ceiling(row: dict[str, Any], kernels: str, speeds: Speeds) -> float:
    """How much of what the vector units could count the whole layer does, with packing, epilogue and residual."""
    return float(row["products"] / row["times"][kernels]["p50_ms"] / 1e6 / (speeds.vector_ceiling * row["threads"]))


def table(rows: Sequence[dict[str, Any]], speeds: dict[str, Speeds]) -> str:
    """Markdown: milliseconds, in brackets how many times as fast as float32, and shares of the vector ceiling; then the
    inner loops alone."""
    names, sets = list(rows[0]["times"]), list(speeds)
    headings = [f"{kernels}, of its ceiling" for kernels in sets]
    lines = [f"| layer | threads | {' | '.join([*names, *headings])} |", "|---" * (2 + len(names) + len(sets)) + "|"]
    for row in rows:
        cells = [f"{row['times'][name]['p50_ms']:.3f} ({row['times'][name]['ratio']:.1f}x)" for name in names]
        cells += [f"{share_of_ceiling(row, kernels, speeds[kernels]):.0%}" for kernels in sets]
        lines.append(f"| {row['layer']} | {row['threads']} | {' | '.join(cells)} |")
    for kernels, speed in speeds.items():
        lines.append(
            f"\n{kernels}: the inner loop alone counts {speed.inner_loop:.0f} of the ceiling's "
            f"{speed.vector_ceiling:.0f} G/s a thread, {speed.inner_loop / speed.vector_ceiling:.0%}"
        )
    return "\n".join(lines)


def main() -> int:
    """Measures, prints the table, writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    try:
        sets = kernel_sets()
    except InputRefused as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return refusal.exit_status
    rows = []
    for threads in options.threads:
        for layer in BIREALNET18:
            print(f"{layer}, {threads} threads", file=sys.stderr, flush=True)
            rows.append(measure(layer, options.batch, threads, options.rounds, sets))
    speeds = {kernels: speed for kernels in sets if (speed := Speeds.of(kernels))}
    for row in rows:
        row["share_of_ceiling"] = {name: share_of_ceiling(row, name, speed) for name, speed in speeds.items()}
    print(table(rows, speeds))
    if options.json:
        content = {
            "machine": describe_machine(),
            "software": software(),
            "rounds": options.rounds,
            "products_per_ns": {kernels: asdict(speed) for kernels, speed in speeds.items()},
            "rows": rows,
        }
        write_atomically(options.json, json.dumps(content, indent=2).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
