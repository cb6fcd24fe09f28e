"""How fast the 1-bit layers are on a GPU, beside cuDNN and beside what the GPU can do at best.

    make bench-gpu [ARGS=--quick]

First the measurements that decide the design: rates of the matrix instructions, the gap between small kernels, the
bandwidth of a copy. Then packing, whole networks, and each distinct layer of Bi-Real-Net-18 with every kernel that
takes it. Each part is a process of its own; one that fails is noted and the rest goes on. The file is written after
every part.

Exit status: 0 all was measured; 1 a part failed; 2 there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import signal
import subprocess
import sys
import time
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from parts import Budget, NetworkSource, Part, layer_parts, network_parts, programs
from report import LAUNCH_GAP, ceilings, convolution_sums, judge_layer, judge_network, judge_pack, tables

from bnn_deploy.bench import describe_machine
from bnn_deploy.files import write_atomically

FULL_MINUTES, QUICK_MINUTES = 8.0, 2.0
PACKAGES = ("torch", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "numpy", "onnxruntime", "tensorrt", "tensorrt-rtx")
NO_MODELS = "whole networks are left out: no folder in --models has the golden bundle of a float32 file"
ROWS = ("pack", "layers", "networks")  # parts whose every line is a result
METHOD = (
    "A time is that of one run in a CUDA graph of many, by events, behind a replay that is not timed; percentiles are "
    "over rounds in which all contenders take turns. Cold: the runs go through copies of all their arrays that fill "
    "the L2 cache three times over; warm: one copy. Bytes: bits, weights and residual read, y and bits written, each "
    "once. The int8 floor is that of the same layer with int8 activations, weights and residual. The int8 matmul "
    "multiplies the unfolded input, which is a stand-in for a convolution. Networks: warm, one copy; what a run "
    "computes is compared node by node with ONNX Runtime before it is timed. The floor of a network is the sum over "
    "the nodes of its file, each by itself, of the larger of bytes / measured bandwidth and multiply-accumulates / "
    "measured rate, float ones at half the int8 rate; the launch floor is a small kernel of a CUDA graph for each node."
)


def software() -> dict[str, str]:
    """Versions of what took part."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def graphics_card() -> dict[str, str]:
    """What nvidia-smi says: the driver, and the state that the card was measured in. Nothing is changed."""
    names = (
        "driver_version",
        "clocks.sm",
        "clocks.max.sm",
        "clocks.mem",
        "power.limit",
        "temperature.gpu",
        "mig.mode.current",
    )
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(names, (value.strip() for value in answer.splitlines()[0].split(",")), strict=False))


def file_name(device: str, day: date) -> str:
    """`nvidia-h100-80gb-hbm3-2026-01-31.json`."""
    return f"{re.sub('[^a-z0-9]+', '-', device.lower()).strip('-')}-{day}.json"


def judged(content: dict[str, Any]) -> dict[str, Any]:
    """The content with all that follows from what was measured so far."""
    limits = ceilings(content["measurements"])
    program, figure = LAUNCH_GAP
    gap_us = content["measurements"].get(program, {}).get(figure)
    layers = [judge_layer(row, limits) for row in content["layers"]]
    return content | {
        "ceilings": vars(limits) if limits else None,
        "pack": [judge_pack(row, limits) for row in content["pack"]],
        "layers": layers,
        "convolution_sums": convolution_sums(layers),
        "networks": [judge_network(row, limits, gap_us) for row in content["networks"]],
    }


def measure(parts: list[Part], budget: Budget, content: dict[str, Any], output: Path) -> dict[str, Any]:
    """Runs the parts; writes and returns the judged content."""
    for part in parts:
        outcome = budget.run(part)
        if outcome.failure:
            content["failures"][part.name] = outcome.failure
        for row in outcome.rows:
            for name, why in row.get("failures", {}).items():
                content["failures"][f"{row.get('layer', row.get('model'))}, batch {row['batch']}, {name}"] = why
        kind = part.name.split()[0]
        if kind in ROWS:
            content[kind] += outcome.rows
        elif outcome.rows:
            content["measurements"][part.name] = outcome.rows[-1]
        write_atomically(output, json.dumps(judged(content), indent=1).encode() + b"\n")
    return judged(content)


def tensorrt_runs(source: NetworkSource, budget: Budget, content: dict[str, Any]) -> bool:
    """Asks, and notes the answer: TensorRT's title, or its words, or why the process that asked ended."""
    found = {}
    for part in source.probe():
        outcome = budget.run(part)
        found = outcome.rows[-1] if outcome.rows and not outcome.failure else {"refused": outcome.failure}
    content["tensorrt"] = found
    return "title" in found


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, required=True, help="the kernels, for a GPU")
    parser.add_argument("--programs", type=Path, required=True, help="the folder of the CUDA programs")
    parser.add_argument("--plugin", type=Path, required=True, help="the TensorRT plugin, which networks run on")
    parser.add_argument("--models", type=Path, required=True, help="the folder of the networks")
    parser.add_argument("--output", type=Path, required=True, help="the folder that the file goes to")
    parser.add_argument("--commit", default="", help="what was measured")
    parser.add_argument("--minutes", type=float, help="after which no part begins")
    parser.add_argument("--quick", action="store_true", help="two minutes: a few layers, one network, few rounds")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--dry-run", action="store_true", help="the host executor's library, small layers, no times")
    return parser.parse_args()


def all_parts(
    options: argparse.Namespace, device: dict[str, Any], budget: Budget, content: dict[str, Any]
) -> list[Part]:
    """What is to be measured, the most telling first: one network, then its layers, then the other networks."""
    more = ["--no-torch"] if options.no_torch else []
    source = NetworkSource(options.plugin if options.dry_run else options.library, options.plugin, options.models)
    pack, *layers = layer_parts(
        options.library, int(device.get("l2_bytes", 0)), quick=options.quick, dry=options.dry_run, more=more
    )
    if not source.networks(dry=options.dry_run):
        print(NO_MODELS, file=sys.stderr)
    runs = not options.dry_run and tensorrt_runs(source, budget, content)
    found = network_parts(source, quick=options.quick, dry=options.dry_run, tensorrt=runs, more=more)
    return [
        *programs(options.programs, int(device.get("compute_capability", 0))),
        pack,
        *found[:1],
        *layers,
        *found[1:],
    ]


def main() -> int:
    """Measures, prints the tables, writes the file."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that what was started is ended, too
    begin = time.monotonic()
    budget = Budget(60 * (options.minutes or (QUICK_MINUTES if options.quick else FULL_MINUTES)))
    facts = budget.run(Part("device_facts", [options.programs / "device_facts"]))
    device: dict[str, Any] = facts.rows[-1] if facts.rows else {}
    if not device and not options.dry_run:
        print(f"error: nothing to measure: {facts.failure}", file=sys.stderr)
        return 2
    content: dict[str, Any] = {
        "device": device | {"nvidia_smi": graphics_card()},
        "machine": describe_machine(),
        "software": software(),
        "commit": options.commit,
        "date": str(date.today()),
        "quick": options.quick,
        "dry_run": options.dry_run,
        "method": METHOD,
        "failures": {},
        "measurements": {},
        "tensorrt": {"refused": "a dry run"},
        **{kind: [] for kind in ROWS},
    }
    output = options.output / file_name(device.get("name", "dry run"), date.today())
    content = measure(all_parts(options, device, budget, content), budget, content, output)
    content["seconds"] = time.monotonic() - begin
    write_atomically(output, json.dumps(content, indent=1).encode() + b"\n")
    print(tables(content))
    print(f"{output}, {content['seconds']:.0f} s", file=sys.stderr)
    return 1 if content["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
