"""Whole networks on a GPU, held to golden bundles: every 1-bit layer's integers, every sign, every output.

    python benchmarks/gpu/end_to_end.py --plugin build/plugins/tensorrt/libbnn_deploy_tensorrt.so \
        --kernels build/plugins/cuda/libbnn_deploy_cuda.so --models build/gpu-models

Each network runs node by node on the plugin, called as TensorRT would call it (`plugins/tests/plugin_network.py`), in
both memory layouts. When all have, each runs as an engine of TensorRT, or TensorRT-RTX, where that takes this GPU. One
that it refuses is noted with its words, and is no failure. A folder of a model holds `golden`, as `bnn-deploy parity
--golden` writes it.

A line of JSON for each network, and one for each engine. Exit status: 0 all agree; 1 one does not, or cannot be run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from plugin_modules import PluginLibrary, PluginNetwork
from slots import Library

from bnn_deploy.errors import BnnDeployError
from bnn_deploy.parity.golden.reader import GoldenBundle, read_golden
from bnn_deploy.parity.golden.results import report_json
from bnn_deploy.parity.golden.verify import verify_golden
from bnn_deploy.runners.catalogue import factories

TENSORRT = "tensorrt"
SHOWN_FAILURES = 5


def summary(bundle: GoldenBundle, name: str, factory: Callable[[Any], Any]) -> dict[str, Any]:
    """One runner on all cases of a bundle."""
    (cases,) = report_json(verify_golden(bundle, {name: factory}))["runners"].values()
    failures = [failure for case in cases for failure in case["failures"]]
    counted = ("accumulators", "accumulator_mismatches", "levels", "level_mismatches", "ties")
    return {
        "passed": all(case["passed"] for case in cases),
        "samples": sum(case["samples"] for case in cases),
        **{what: sum(case[what] for case in cases) for what in counted},
        "failures": failures[:SHOWN_FAILURES],
    }


def on_plugins(bundle: GoldenBundle, plugins: PluginLibrary, device: Library) -> dict[str, Any]:
    """Node by node, in both layouts."""
    return {
        name: summary(bundle, name, partial(PluginNetwork, plugins=plugins, device=device, channels_last=last))
        for name, last in (("channels first", False), ("channels last", True))
    }


def on_tensorrt(bundle: GoldenBundle) -> dict[str, Any]:
    """As an engine; where TensorRT is not installed, or does not take the GPU, its words."""
    try:
        return summary(bundle, TENSORRT, factories([TENSORRT])[TENSORRT])
    except BnnDeployError as error:
        return {"refused": " ".join(str(error).split())}


def row_of(folder: Path, results: Callable[[GoldenBundle], dict[str, Any]]) -> dict[str, Any]:
    """Prints and returns what came of a network; of an error of the device, the host or a runner, what it says."""
    row: dict[str, Any] = {"model": folder.name}
    try:
        row |= results(read_golden(folder / "golden"))
    except Exception as error:  # the other networks still run
        row["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(row), flush=True)
    return row


def agrees(row: dict[str, Any]) -> bool:
    """Whether nothing in it is wrong; what was refused did not run."""
    return "error" not in row and all(value.get("passed", True) for value in row.values() if isinstance(value, dict))


def main() -> int:
    """Runs every network there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugin", type=Path, required=True, help="the TensorRT plugin")
    parser.add_argument("--kernels", type=Path, required=True, help="what has the memory that the plugin works on")
    parser.add_argument("--models", type=Path, required=True, help="the folder of the models")
    parser.add_argument("--dry-run", action="store_true", help="the host executor: the smallest model, no TensorRT")
    options = parser.parse_args()

    folders = sorted(folder.parent for folder in options.models.glob("*/golden"))
    if options.dry_run:
        folders = sorted(folders, key=lambda folder: sum(file.stat().st_size for file in folder.rglob("*")))[:1]
    if not folders:
        print(f"error: {options.models}: no folder in it has a golden bundle", file=sys.stderr)
        return 1
    plugins = PluginLibrary(options.plugin.with_name("libbnn_plugin_host.so"), options.plugin)
    device = Library(options.kernels)
    on_calls = [row_of(folder, lambda bundle: on_plugins(bundle, plugins, device)) for folder in folders]
    as_engines = [] if options.dry_run else folders
    engines = [row_of(folder, lambda bundle: {TENSORRT: on_tensorrt(bundle)}) for folder in as_engines]
    agreed, ran = sum(map(agrees, on_calls)), sum("passed" in row.get(TENSORRT, {}) for row in engines)
    print(f"{agreed} of {len(folders)} networks agree; {ran} of them ran as engines too")
    return 0 if agreed == len(folders) and all(map(agrees, engines)) else 1


if __name__ == "__main__":
    sys.exit(main())
