"""Whole networks on a GPU, held to golden bundles: every 1-bit layer's integers, every sign, every output.

    python benchmarks/gpu/end_to_end.py --plugin build/plugins/tensorrt/libbnn_deploy_tensorrt.so \
        --kernels build/plugins/cuda/libbnn_deploy_cuda.so --models build/gpu-models

Each network runs node by node on the plugin, called as TensorRT would call it (`plugins/tests/plugin_network.py`), in
both memory layouts; and as an engine of TensorRT, or TensorRT-RTX, where that takes this GPU. One that it refuses is
noted with its words, and is no failure. A folder of a model holds `golden`, as `bnn-deploy parity --golden` writes it.

A line of JSON for each network. Exit status: 0 all agree; 1 one does not, or cannot be run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
sys.path[:0] = [str(PLUGINS / "tests"), str(PLUGINS / "cuda")]  # neither is in a package

from driver import Library  # noqa: E402
from plugin_host import PluginLibrary  # noqa: E402
from plugin_network import PluginNetwork  # noqa: E402

from bnn_deploy.errors import BnnDeployError  # noqa: E402
from bnn_deploy.parity.golden.reader import GoldenBundle, read_golden  # noqa: E402
from bnn_deploy.parity.golden.results import report_json  # noqa: E402
from bnn_deploy.parity.golden.verify import verify_golden  # noqa: E402
from bnn_deploy.runners.catalogue import factories  # noqa: E402

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


def main() -> int:
    """Runs every network there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugin", type=Path, required=True, help="the TensorRT plugin")
    parser.add_argument("--kernels", type=Path, required=True, help="what has the memory that the plugin works on")
    parser.add_argument("--models", type=Path, required=True, help="the folder of the models")
    parser.add_argument("--dry-run", action="store_true", help="the host executor: the smallest model, no TensorRT")
    options = parser.parse_args()

    plugins = PluginLibrary(options.plugin.with_name("libbnn_plugin_host.so"), options.plugin)
    device = Library(options.kernels)
    folders = sorted(folder.parent for folder in options.models.glob("*/golden"))
    if options.dry_run:
        folders = sorted(folders, key=lambda folder: sum(file.stat().st_size for file in folder.rglob("*")))[:1]
    if not folders:
        print(f"error: {options.models}: no folder in it has a golden bundle", file=sys.stderr)
        return 1
    agreed = ran = 0
    for folder in folders:
        row: dict[str, Any] = {"model": folder.name}
        try:
            bundle = read_golden(folder / "golden")
            row |= on_plugins(bundle, plugins, device)
            row[TENSORRT] = {"refused": "a dry run"} if options.dry_run else on_tensorrt(bundle)
        except Exception as error:  # of the device, the host, or a runner: the other networks still run
            row["error"] = f"{type(error).__name__}: {error}"
        results = [value for value in row.values() if isinstance(value, dict) and "passed" in value]
        agreed += bool(results) and all(result["passed"] for result in results) and "error" not in row
        ran += "passed" in row.get(TENSORRT, {})
        print(json.dumps(row), flush=True)
    print(f"{agreed} of {len(folders)} networks agree; {ran} of them ran as engines too")
    return 0 if agreed == len(folders) else 1


if __name__ == "__main__":
    sys.exit(main())
