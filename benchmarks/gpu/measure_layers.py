"""Measures layers, or packing, in a process of its own: one line of JSON for each row, as soon as there is one.

    python benchmarks/gpu/measure_layers.py --library FILE (--pack | --layer 0 --layer 4) [--batch 64] [--l2-bytes N]

An error that breaks the GPU's context ends this process and leaves `bench_gpu.py` and the rows so far.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from floors import NETWORK, Layer, binary_work, int8_work, pack_work
from our_layers import OurLayer, pack_arrays, pack_contender
from slots import Library, Slots, cold_slots
from torch_peers import available, peers
from turns import Contender, Schedule, take_turns

LAYERS = list(NETWORK)
DRY_LAYERS = [Layer(64, 32, 6), Layer(64, 64, 8, stride=2)]  # for the host executor
LAYOUTS = {"NCHW": False, "NHWC": True}
PACK_LAYER = Layer(64, 64, 56)


def layer_row(library: Library, layer: Layer, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """Every kernel that takes the layer and is right, beside the peers, with the L2 cache cold and warm."""
    ours = OurLayer(library, layer, batch)
    row: dict[str, Any] = {
        "layer": str(layer),
        "count": NETWORK.get(layer, 0),
        "batch": batch,
        "bytes": binary_work(layer, batch).bytes,
        "macs": binary_work(layer, batch).macs,
        "int8_bytes": int8_work(layer, batch).bytes,
        "chosen": ours.name_of(ours.chosen),
    }
    cold = cold_slots(ours.set_bytes, options.l2_bytes)
    row["cold_slots"] = cold
    for state, count in {"cold": cold, "warm": 1}.items():
        if state == "warm" and cold == 1:
            continue  # no cache holds it: there is no warm
        with Slots(library, ours.arrays, count) as slots:
            ours.prepare(slots)
            if state == "cold":
                row["refused"], row["failures"] = ours.compare_kernels(slots)
            left_out = row["refused"] | row["failures"]
            kernels = [k for k in range(library.popcount + 1) if ours.name_of(k) not in left_out]
            contenders = ours.contenders(slots, kernels, dry=options.dry_run)
            contenders |= torch_contenders(layer, batch, options, row["failures"], cold=state == "cold")
            row[state], failures = take_turns(contenders, Schedule(options.rounds, options.recording_ms))
            row["failures"] |= failures
    return row


def torch_contenders(
    layer: Layer, batch: int, options: argparse.Namespace, failures: dict[str, str], *, cold: bool
) -> dict[str, Contender]:
    """PyTorch's; those that cannot be made are noted."""
    found: dict[str, Contender] = {}
    if options.dry_run or options.no_torch or not available():
        return found
    for name, make in peers(layer, batch, options.l2_bytes, cold=cold).items():
        try:
            found[name] = make()
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


def pack_row(library: Library, layer: Layer, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """Packing in every layout and type, with the L2 cache cold."""
    row: dict[str, Any] = {"layer": str(layer), "batch": batch, "failures": {}}
    for kind in (np.float32, np.float16):
        for layout, channels_last in LAYOUTS.items():
            name = f"{np.dtype(kind).name} {layout}"
            arrays = pack_arrays(layer, batch, kind, channels_last=channels_last)
            count = cold_slots(sum(array.nbytes for array in arrays.values()), options.l2_bytes)
            with Slots(library, arrays, count) as slots:
                one = pack_contender(library, layer, slots, arrays, channels_last=channels_last, dry=options.dry_run)
                times, failures = take_turns({name: one}, Schedule(options.rounds, options.recording_ms))
            row["failures"] |= failures
            work = pack_work(layer, batch, np.dtype(kind).itemsize)
            row |= {name: times[name] | {"bytes": work.bytes} for name in times}
    return row


def measure(options: argparse.Namespace) -> int:
    """Prints a row for each layer and batch; the exit status is 1 where one is missing."""
    library, status = Library(options.library), 0
    layers = DRY_LAYERS if options.dry_run else LAYERS
    packed = DRY_LAYERS[0] if options.dry_run else PACK_LAYER
    make = pack_row if options.pack else layer_row
    for layer in [packed] if options.pack else [layers[i] for i in options.layer]:
        for batch in options.batch:
            try:
                print(json.dumps(make(library, layer, batch, options)), flush=True)
            except Exception as error:
                print(f"{layer}, batch {batch}: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
                status = 1
    return status


def main() -> int:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--pack", action="store_true")
    parser.add_argument("--layer", type=int, action="append", default=[])
    parser.add_argument("--batch", type=int, action="append", default=[])
    parser.add_argument("--l2-bytes", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=Schedule.rounds)
    parser.add_argument("--recording-ms", type=float, default=Schedule.recording_ms)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="in the host executor, small layers, no times")
    return measure(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
