"""How fast a 1-bit layer is on this CPU, beside ONNX Runtime's float32 and int8 of the same layer.

    python benchmarks/cpu/bench_layers.py [--threads 1] [--batch 1] [--rounds 41] [--json FILE]

Every round times a few runs of each session, one session after the other, so that whatever slows the machine down slows
all of them; the table shows medians, and the median of the ratios within a round. Before anything is timed the result
of every set of kernels is compared with exact arithmetic.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from layer_models import BIREALNET18, Layer, binary_model, feeds, float_model, int8_model, scales, weights
from machine import processor
from openvino_layer import openvino_run

from bnn_deploy.native import KERNELS_VARIABLE, library
from bnn_deploy.reference import Geometry, accumulate_conv2d

BURST = 4  # runs of one session in a round


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


def count_rate(kernels: str) -> float:
    """The inner loop alone, 10^9 products a second: the best of a few measurements."""
    native, rate = ctypes.CDLL(str(library())), ctypes.c_double()
    rates = []
    for _ in range(20):
        native.bnn_count_rate(kernels.encode(), 2000, ctypes.byref(rate))
        rates.append(rate.value)
    return max(rates)


def check(layer: Layer, arrays: dict[str, Any], y: Any, kernels: str) -> None:
    """Ends the program unless `y` is the exact result."""
    x = np.where(arrays["x"] >= 0, 1, -1).astype(np.int8)
    geometry = Geometry((layer.stride,) * 2, (layer.pad,) * 4)
    sums = accumulate_conv2d(x, weights(layer), geometry).astype(np.float32)
    expected = scales(layer)[:, None, None] * sums + np.float32(0) + arrays["residual"]
    if not np.array_equal(y, expected):
        sys.exit(f"{layer}: the {kernels} kernels are wrong; nothing was timed")


def measure(layer: Layer, batch: int, threads: int, rounds: int, sets: list[str]) -> dict[str, Any]:
    """One row: medians in milliseconds, and ratios to float32."""
    arrays = feeds(layer, batch)
    sessions = {"float32": session(float_model(layer), threads), "int8": session(int8_model(layer), threads)}
    for kernels in sets:
        sessions[kernels] = session(binary_model(layer), threads, kernels)
        check(layer, arrays, sessions[kernels].run(None, arrays)[0], kernels)
    runs = {name: _bound_run(one, arrays) for name, one in sessions.items()}
    other = openvino_run(layer, arrays["x"], threads)
    if other is not None:
        runs["openvino binary"] = other
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(rounds + 2):
        for name, run in runs.items():
            run()  # brings its tensors into the cache, where a network would have them
            start = time.perf_counter()
            for _ in range(BURST):
                run()
            if round_number >= 2:  # the first rounds warm up
                times[name].append(1e3 * (time.perf_counter() - start) / BURST)
    row: dict[str, Any] = {"layer": str(layer), "products": batch * layer.products}
    row["p50_ms"] = {name: float(np.median(found)) for name, found in times.items()}
    row["ratio"] = {
        name: float(np.median(np.array(times["float32"]) / np.array(found))) for name, found in times.items()
    }
    return row


def _bound_run(one: onnxruntime.InferenceSession, arrays: dict[str, Any]) -> Callable[[], None]:
    """Inputs and output stay where they are, so that no copy is timed."""
    binding = one.io_binding()
    for name, array in arrays.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    output = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros_like(arrays["residual"]))
    binding.bind_ortvalue_output("y", output)
    return lambda: one.run_with_iobinding(binding)


def print_table(rows: list[dict[str, Any]], best: str, inner_rate: float) -> None:
    """A Markdown table: milliseconds, in brackets how many times as fast as float32, and the best set's share of its
    inner loop's own rate; packing, epilogue and residual are part of the layer's time."""
    names = list(rows[0]["p50_ms"])
    print(f"| layer | {' | '.join(names)} | {best}, of its inner loop's {inner_rate:.0f} G/s |")
    print("|---" * (len(names) + 2) + "|")
    for row in rows:
        cells = [f"{row['p50_ms'][name]:.3f} ({row['ratio'][name]:.1f}x)" for name in names]
        share = row["products"] / row["p50_ms"][best] / 1e6 / inner_rate
        print(f"| {row['layer']} | {' | '.join(cells)} | {share:.0%} |")


def main() -> None:
    """Measures, prints the table, writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    sets = kernel_sets()
    rows = [measure(layer, options.batch, options.threads, options.rounds, sets) for layer in BIREALNET18]
    rates = {kernels: count_rate(kernels) for kernels in sets}
    print_table(rows, sets[0], rates[sets[0]] * options.threads)
    if options.json:
        content = {
            "processor": processor(),
            "onnxruntime": onnxruntime.__version__,
            "threads": options.threads,
            "batch": options.batch,
            "rounds": options.rounds,
            "inner_loop_products_per_ns": rates,
            "rows": rows,
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
