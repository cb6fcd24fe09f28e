"""Whether anything runs here at all: the library loads, finds a GPU, one layer is right, a run of it can be recorded.

    python benchmarks/gpu/first_run.py --library build/gpu/cuda/libbnn_deploy_cuda.so \
        --plugin build/gpu/tensorrt/libbnn_deploy_tensorrt.so

Takes seconds, and says in a line of JSON a step what a later failure may come from. Exit status: 0 all is well; 1 a
step failed; 2 there is no GPU, or no library.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from slots import PLUGINS, Library, driver
from turns import GraphRecording

from bnn_deploy.bits import pack_bits
from bnn_deploy.reference import Geometry, accumulate_conv2d

GEOMETRY = Geometry(pads=(1, 1, 1, 1))
LAYER = driver.Conv2d(64, pads=(1, 1, 1, 1))


def first_layer(library: Library) -> dict[str, Any]:
    """A 3x3 layer of 64 channels on every kernel: those that take it, and those whose integers are wrong."""
    generator = np.random.default_rng()
    x, weight = (generator.choice((-1, 1), shape).astype(np.int8) for shape in ((2, 64, 9, 7), (32, 64, 3, 3)))
    packed, words = (pack_bits(np.ascontiguousarray(np.moveaxis(levels, 1, -1)) > 0) for levels in (x, weight))
    expected = accumulate_conv2d(x, weight, GEOMETRY)
    found: dict[str, Any] = {"right": [], "wrong": [], "refused": {}}
    for kernel in range(library.popcount + 1):
        try:
            made = library.conv2d(LAYER, packed, words, {}, ("accumulator",), kernel=kernel)["accumulator"]
        except driver.CudaKernelError as error:
            found["refused"][kernel] = str(error)
            continue
        found["right" if np.array_equal(made, expected) else "wrong"].append(kernel)
    if found["wrong"] or not found["right"]:
        raise ArithmeticError(f"kernels with wrong integers: {found['wrong']}; refused: {found['refused']}")
    return found


def first_recording(library: Library) -> dict[str, Any]:
    """Packing, recorded as a CUDA graph and replayed: microseconds of a run, and whether the replay packs."""
    x = np.ones((1, 32, 1, 1), np.float32)
    with library.memory() as memory:
        call = driver.PackCall(kind=driver.PACK_KINDS["bipolar"], batch=1, channels=32, pixels=1, x=memory.put(x))
        call.lower, call.lower_count = memory.put(np.zeros(1, np.float32)), 1
        packed = np.empty((1, 1, 1, 1), np.int32)
        call.packed = memory.poisoned(packed)

        def launch(_: int, stream: int | None) -> None:
            library.call("bnn_cuda_pack", ctypes.byref(call), ctypes.c_void_p(stream))

        recording = GraphRecording(library, launch, 1, 100)
        memory.write(packed, call.packed)  # over what the run before the recording packed
        run_us = 10 * recording.milliseconds()
        recording.close()
        memory.get(packed, call.packed)
    if packed.item() != -1:
        raise ArithmeticError(f"32 ones are packed as {packed.item():#x}")
    return {"us": run_us}


def first_plugin(plugin: Path) -> dict[str, Any]:
    """The TensorRT plugin, in TensorRT's part as it is played in tests."""
    sys.path.append(str(PLUGINS / "tests"))
    from plugin_host import PluginLibrary

    return {"ops": len(PluginLibrary(plugin.with_name("libbnn_plugin_host.so"), plugin).ops())}


def first_torch() -> dict[str, Any]:
    """What the peers run on, where it is there."""
    try:
        import torch
    except ImportError:
        return {"version": None}
    return {"version": torch.__version__, "cuda": torch.version.cuda, "sees_gpu": torch.cuda.is_available()}


def steps(library: Library, plugin: Path, *, dry: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Name -> what is tried."""
    yield "layer", lambda: first_layer(library)
    if not dry:
        yield "recording", lambda: first_recording(library)
    yield "plugin", lambda: first_plugin(plugin)
    yield "torch", first_torch


def main() -> int:
    """Goes through the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, required=True, help="the kernels")
    parser.add_argument("--plugin", type=Path, required=True, help="the TensorRT plugin")
    parser.add_argument("--dry-run", action="store_true", help="the host executor's libraries")
    options = parser.parse_args()
    try:
        library = Library(options.library)
        print(json.dumps({"step": "device", **vars(library.device())}), flush=True)
    except (OSError, driver.CudaKernelError) as error:
        print(f"error: nothing runs here: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    status = 0
    for name, step in steps(library, options.plugin, dry=options.dry_run):
        try:
            row = step()
        except Exception as error:  # the other steps tell more
            row, status = {"failure": f"{type(error).__name__}: {error}"}, 1
        print(json.dumps({"step": name, **row}), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
