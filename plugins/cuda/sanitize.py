"""Every kernel on small layers under compute-sanitizer: accesses outside of memory, and races in shared memory.

    python plugins/cuda/sanitize.py build/gpu/cuda/libbnn_deploy_cuda.so

The tests would take hours there; this takes every kernel, width of copies, kind of activation and epilogue once, and
compares the tiles with the popcount kernel. compute-sanitizer is looked for on PATH, in $CUDA_HOME/bin and beside nvcc;
where it is in none of them the kernels run without it. Exit status: 0 all is well; 1 something is not; 2 there is no
library.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from driver import TERNARY, UNIPOLAR, Array, Conv2d, Library
from numpy.typing import NDArray

TOOLS = ("memcheck", "racecheck")
MINUTES = 5


@dataclass(frozen=True)
class Case:
    """A layer. outputs: of those that `Library.conv2d` has."""

    layer: Conv2d
    count: int
    size: tuple[int, int]
    kernel: int
    outputs: tuple[str, ...]
    channels_last: bool = True
    float16: bool = False
    batch: int = 2


# 1, 2 and 4 words are copied at once; rows of the pile cross images; the last tile is not full.
CASES = (
    Case(Conv2d(64, pads=(1, 1, 1, 1)), 64, (7, 7), 3, ("y", "bits"), float16=True),
    Case(Conv2d(128, strides=(2, 2), pads=(1, 1, 1, 1)), 96, (9, 12), 3, ("y",), channels_last=False),
    Case(Conv2d(33, UNIPOLAR, activation="PRelu"), 40, (5, 5), 1, ("y", "accumulator")),
    Case(
        Conv2d(96, TERNARY, pads=(2, 1, 0, 1), dilations=(2, 1), activation="Clip", clip=(-1, 1)), 33, (8, 6), 3, ("y",)
    ),
    Case(Conv2d(256, pads=(1, 1, 1, 1), pad_value=-1), 130, (6, 6), 3, ("bits",)),
)


def random_words(generator: np.random.Generator, shape: tuple[int, ...], channels: int) -> NDArray[np.int32]:
    """[..., planes * words] random bits; those that no channel uses are 0."""
    words = generator.integers(-(2**31), 2**31, shape, np.int32)
    if channels % 32:
        used, per_plane = np.int32((1 << channels % 32) - 1), -(-channels // 32)
        words[..., per_plane - 1 :: per_plane] &= used
    return words


def operands(case: Case, generator: np.random.Generator) -> dict[str, Array]:
    """What the epilogue of a case needs."""
    found: dict[str, Array] = {}
    real = "y" in case.outputs
    if real:
        found |= {name: generator.standard_normal(case.count, np.float32) for name in ("scale", "bias")}
    if case.layer.activation == "PRelu":
        found |= {name: generator.standard_normal(case.count, np.float32) for name in ("slope", "shift")}
    if "bits" in case.outputs:
        prefix, kind = ("", np.float32) if real else ("accumulator_", np.int32)
        found |= {f"{prefix}lower": np.zeros(case.count, kind), f"{prefix}upper": np.full(case.count, 1 << 20, kind)}
    if case.float16:
        height, width = case.layer.out_size((0, *case.size, 0), (0, case.kernel, case.kernel, 0))
        shape = (case.batch, height, width, case.count)
        found["residual"] = generator.standard_normal(shape, np.float32).astype(np.float16)
    return found


def wrong_tiles(library: Library, case: Case, generator: np.random.Generator) -> list[int]:
    """Runs a case with every kernel; the tiles that differ from the popcount kernel."""
    channels, planes = case.layer.channels, 2 if case.layer.levels == TERNARY else 1
    words = -(-channels // 32)
    packed = random_words(generator, (case.batch, *case.size, planes * words), channels)
    weight = random_words(generator, (case.count, case.kernel, case.kernel, words), channels)
    values = operands(case, generator)

    def run(kernel: int) -> dict[str, bytes]:
        made = library.conv2d(
            case.layer,
            packed,
            weight,
            values,
            case.outputs,
            channels_last=case.channels_last,
            float16=case.float16,
            kernel=kernel,
        )
        return {name: array.tobytes() for name, array in made.items()}

    expected = run(library.popcount)
    return [tile for tile in range(library.tiles) if run(tile) != expected]


def run_others(library: Library, generator: np.random.Generator) -> None:
    """Groups, packing and pooling, which have one kernel each."""
    grouped = Conv2d(64, group=2, pads=(1, 1, 1, 1))
    packed, weight = random_words(generator, (1, 5, 5, 2), 64), random_words(generator, (8, 3, 3, 1), 32)
    library.conv2d(grouped, packed, weight, {}, ("accumulator",))
    for kind, real in (("bipolar", np.float32), ("ternary", np.float16)):
        for channels_last in (False, True):
            x = generator.standard_normal((2, 5, 6, 37), np.float32).astype(real)
            bounds = () if kind == "ternary" else (np.zeros(1, np.float32),)
            library.pack(kind, x, bounds, channels_last=channels_last)
    library.max_pool(packed, np.zeros(2, np.int32), 64, (3, 3), (2, 2), (1, 1, 1, 1))


def run_all(library: Library) -> int:
    """Runs everything, on new data each time; the exit status."""
    generator, status = np.random.default_rng(), 0
    for number, case in enumerate(CASES):
        for tile in wrong_tiles(library, case, generator):
            print(f"sanitize: case {number}, tile {tile}: differs from the popcount kernel", file=sys.stderr)
            status = 1
    run_others(library, generator)
    print("every kernel ran" + (", and some are wrong" if status else ""))
    return status


def find_tool() -> str | None:
    """compute-sanitizer."""
    nvcc = shutil.which("nvcc")
    folders = [os.environ.get("PATH", ""), f"{os.environ.get('CUDA_HOME', '/usr/local/cuda')}/bin"]
    folders += [str(Path(nvcc).resolve().parent)] if nvcc else []
    return shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def main() -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--here", action="store_true", help="run the kernels in this process, which a tool may watch")
    options = parser.parse_args()
    if not options.library.is_file():
        print(f"sanitize: {options.library} is not there; make gpu-library", file=sys.stderr)
        return 2
    tool = None if options.here else find_tool()
    if tool is None:
        if not options.here:
            print("no compute-sanitizer found: the kernels run without it", file=sys.stderr)
        return run_all(Library(options.library.resolve()))
    status = 0
    for name in TOOLS:
        command = [
            tool,
            "--tool",
            name,
            "--error-exitcode",
            "1",
            sys.executable,
            __file__,
            str(options.library),
            "--here",
        ]
        print(f"compute-sanitizer --tool {name}", flush=True)
        try:
            status |= subprocess.run(command, timeout=60 * MINUTES, check=False).returncode != 0
        except subprocess.TimeoutExpired:
            print(f"sanitize: {name} was not done after {MINUTES} minutes", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
