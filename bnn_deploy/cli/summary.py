"""What `bnn-deploy export` prints when it has succeeded: its report in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnn_deploy.cli.accuracy_summary import accuracy_lines

# The passes whose declining leaves something in float that a user may have meant to be 1-bit. What the others declined
# is in the report.
_LEFT_FLOAT_BY = ("PackActivationsPass", "NarrowLevelsPass", "LowerBinarizePass")


def summary(report: Mapping[str, Any], folder: str) -> list[str]:
    """The lines, from the report and the folder that it is in."""
    return [*_file_lines(report, folder), *_parity_lines(report), *_accuracy_lines(report)]


def _file_lines(report: Mapping[str, Any], folder: str) -> list[str]:
    layers = report["layers"]
    binary = sum(layer["binary"] for layer in layers)
    ratio = report["float_bytes"] / report["file_bytes"]
    size, float_size = f"{report['file_bytes']:,}", f"{report['float_bytes']:,}"
    lines = [
        f"{folder}/model.onnx",
        f"  weights    {report['weights_description']}",
        f"  size       {size} bytes; with float weights it would be {float_size} ({ratio:.1f}x)",
        f"  layers     {binary} of {len(layers)} are 1-bit{_work_share(report)}",
    ]
    declined = [
        entry for record in report["passes"] if record["name"] in _LEFT_FLOAT_BY for entry in record["declined"]
    ]
    lines += [f"  left float {entry['layer']}: {entry['reason']}" for entry in declined]
    if report["sign_zero"]["layers_changed"]:
        changed, zero = report["sign_zero"]["layers_changed"], report["sign_zero"]["asked"]
        lines.append(f"  sign(0)    taken for {zero} in {changed} layers, as asked; PyTorch was run so too")
    return lines


def _work_share(report: Mapping[str, Any]) -> str:
    total = report["total_macs"]
    return f", {report['binary_macs'] / total:.1%} of the multiply-accumulates" if total else ""


def _parity_lines(report: Mapping[str, Any]) -> list[str]:
    lines, width = [], _width(report["parity"])
    for name, result in report["parity"].items():
        run = result["free_run"]
        text = f"{result['accumulator_mismatches']} of {result['accumulators']:,} accumulators differ"
        if run is not None:
            text += f", {result['sign_flips']} signs flip ({result['ties']} ties)"
            text += f", outputs within {run['max_abs_error']:.2g}"
            if run["first_divergence"] is not None:
                text += f"; running freely it parts at {run['first_divergence']}, by a tie"
        lines.append(f"  {name:<{width}}  {text}")
    samples = next(iter(report["parity"].values()))["samples"]
    return [f"parity with the exact reference: passed on {samples} samples ({report['parity_inputs']})", *lines]


def _accuracy_lines(report: Mapping[str, Any]) -> list[str]:
    return [] if report["accuracy"] is None else accuracy_lines(report["accuracy"], "held-out images")


def _width(names: Mapping[str, Any]) -> int:
    return max(map(len, names), default=0)
