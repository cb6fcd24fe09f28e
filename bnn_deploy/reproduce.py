"""Runs a reduced case of a failed comparison and says whether the failure is still there.

    python reproduce.py [FOLDER] [--library FILE]

This file is copied beside every case that the parity harness reduces, so it stands alone: NumPy and ONNX Runtime are
all that it needs. A case is `case.onnx` with `inputs.npz`, `expected.npz` and `case.json`.

Exit status: 1 while the failure is there, 0 when it is gone, 2 where the case cannot be run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]
SHOWN = 8  # differing elements
CARE = ".care"  # behind the name of an output, in expected.npz: the bits, or the values, that are compared


def differing(expected: Array, found: Array, tolerance: float, care: Array | None = None) -> NDArray[np.bool_]:
    """Where two arrays differ.

    Args:
        expected: Any shape. Integers must be equal; two NaNs agree, and two equal infinities.
        found: The same shape; of another one everything differs.
        tolerance: The largest absolute difference of floats that is rounding.
        care: The shape of `expected`: of integers, the bits that count; of floats, True where a value counts.

    Returns:
        The shape of `expected`.
    """
    if found.shape != expected.shape:
        return np.ones(expected.shape, np.bool_)
    if not np.issubdtype(expected.dtype, np.floating):
        apart = expected != found
        return apart if care is None else ((expected ^ found) & care) != 0
    wide_expected, wide_found = expected.astype(np.float64), found.astype(np.float64)
    agree = (wide_expected == wide_found) | (np.isnan(wide_expected) & np.isnan(wide_found))
    with np.errstate(invalid="ignore"):
        agree |= np.abs(wide_expected - wide_found) <= tolerance
    return ~agree if care is None else ~agree & care


def main(arguments: Sequence[str] | None = None, run: Run | None = None) -> int:
    """Runs the case in a folder and prints what differs.

    Args:
        arguments: Of the command line.
        run: What computes the outputs of `case.onnx`, in place of ONNX Runtime.
    """
    parser = argparse.ArgumentParser(description="Run a reduced case: 1 while it fails, 0 when it does not.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--library", metavar="FILE", help="the native library of bnn_deploy, for its kernels")
    chosen = parser.parse_args(arguments)
    case = json.loads((chosen.folder / "case.json").read_text("utf-8"))
    if run is None and case["session"]["library"] and chosen.library is None:
        print(f"{case['runner']} runs on the native library of bnn_deploy: --library FILE", file=sys.stderr)
        return 2
    print(case["summary"])
    with np.load(chosen.folder / "inputs.npz") as inputs, np.load(chosen.folder / "expected.npz") as expected:
        feeds, wanted = dict(inputs), dict(expected)
    try:
        found = (run or _session(chosen.folder / "case.onnx", case["session"], chosen.library))(feeds)
    except Exception as error:  # a runtime raises a dozen unrelated types
        print(f"it does not run: {error}", file=sys.stderr)
        return 1
    wrong = [_show(name, wanted, found[name], tolerance) for name, tolerance in case["tolerances"].items()]
    print("the failure is there" if any(wrong) else "the failure is gone")
    return int(any(wrong))


def _session(path: Path, options: Mapping[str, Any], library: str | None) -> Run:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    if not options["optimise"]:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if library is not None:
        settings.register_custom_ops_library(library)
    session = onnxruntime.InferenceSession(str(path), settings, providers=[options["provider"]])
    names = [value.name for value in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _show(name: str, wanted: Mapping[str, Array], found: Array, tolerance: float) -> bool:
    expected = wanted[name]
    apart = differing(expected, found, tolerance, wanted.get(name + CARE))
    print(f"{name}: {apart.sum()} of {expected.size} elements differ (tolerance {tolerance:.3g})")
    if found.shape != expected.shape:
        print(f"  shape {found.shape}, expected {expected.shape}")
        return True
    for at in np.argwhere(apart)[:SHOWN]:
        where = tuple(int(index) for index in at)
        print(f"  {list(where)}: expected {expected[where]}, found {found[where]}")
    return bool(apart.any())


if __name__ == "__main__":
    sys.exit(main())
