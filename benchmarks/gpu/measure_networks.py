"""Measures a whole network, in a process of its own: one line of JSON for each batch, as soon as there is one.

    python benchmarks/gpu/measure_networks.py --library FILE --plugin FILE --model FOLDER [--batch 64] [--tensorrt]
    python benchmarks/gpu/measure_networks.py --plugin FILE --model FOLDER --probe

The folder has the golden bundle of a float32 file. Its float rest is brought to float16 here, and so is its float twin.
Every contender that computes the network is held to what it should compute before it is timed, in a recording as it is
timed in: node by node, or an engine by its outputs.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

from measured_network import Network
from network_contenders import Contenders
from network_work import network_work, shapes_of
from slots import Library
from torch_peers import available
from turns import Schedule, take_turns

FEWEST_RUNS = 2  # of a recording; a run takes long enough to be timed


def network_row(network: Network, batch: int, library: Library, options: argparse.Namespace) -> dict[str, Any]:
    """Every contender, beside what the network has to do at least."""
    work = network_work(network.model, shapes_of(network.model, batch))
    row: dict[str, Any] = {
        "model": network.name,
        "batch": batch,
        "input": [list(array.shape[1:]) for array in network.feeds(batch).values()],
        "nodes": [one.as_row() for one in work],
    }
    stack = ExitStack()
    try:
        made = Contenders(network, batch, library, stack, options)
        ready = made.all()
        row |= {"float_rest": made.floats, "agreement": made.agreement}
        schedule = Schedule(options.rounds, options.recording_ms, FEWEST_RUNS)
        row["times"], failures = take_turns(ready, schedule)
        row["launches"] = made.launches()
    finally:
        with suppress(Exception):  # after an error of the GPU nothing can be freed, which says nothing new
            stack.close()
    return row | {"failures": made.failures | failures}


def measure(options: argparse.Namespace) -> int:
    """Prints a row for each batch; the exit status is 1 where one is missing."""
    network, library, status = Network(options.model), Library(options.library), 0
    for batch in options.batch:
        try:
            with _without_gradients(options):
                print(json.dumps(network_row(network, batch, library, options)), flush=True)
        except Exception as error:
            print(f"{network.name}, batch {batch}: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
            status = 1
    return status


def _without_gradients(options: argparse.Namespace) -> Any:
    if not options.torch:
        return nullcontext()
    import torch

    return torch.inference_mode()


def probe(options: argparse.Namespace) -> int:
    """Prints which TensorRT runs the network, or why none does."""
    from network_engines import probe as run_once

    from bnn_deploy.errors import BnnDeployError

    network = Network(options.model)
    try:
        found = run_once(network.model, network.feeds(1), options.plugin)
    except BnnDeployError as error:
        found = {"refused": " ".join(str(error).split())}
    print(json.dumps(found), flush=True)
    return 0


def main() -> int:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, help="the kernels; in a dry run, the plugin itself")
    parser.add_argument("--plugin", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="a folder with a golden bundle")
    parser.add_argument("--batch", type=int, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=Schedule.rounds)
    parser.add_argument("--recording-ms", type=float, default=Schedule.recording_ms)
    parser.add_argument("--tensorrt", action="store_true", help="TensorRT runs here")
    parser.add_argument("--no-torch", dest="torch", action="store_false")
    parser.add_argument("--probe", action="store_true", help="only whether TensorRT runs here")
    parser.add_argument("--dry-run", action="store_true", help="in the host executor, no times")
    options = parser.parse_args()
    options.torch = options.torch and available(cuda=not options.dry_run)
    return probe(options) if options.probe else measure(options)


if __name__ == "__main__":
    sys.exit(main())
