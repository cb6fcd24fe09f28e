"""Reads the machine code of every GPU that a library was built for, and fails where it is not what was written.

On some GPUs the compiler emulates a 1-bit matrix instruction with many ordinary ones, without a word. And a kernel
whose values do not fit into registers goes through memory. Both are slow and right: no test of results finds them.

    python check_sass.py build/plugins/cuda/libbnn_deploy_cuda.so

Exit status 0: all is well, with a table of what was found; 1: something is not; 2: the code cannot be read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Which instruction a GPU multiplies bits with, and how many make the product of 16 rows, 8 columns and 256 bits.
PRODUCTS = {75: ("BMMA.88128.XOR.POPC", 4), 80: ("BMMA.168256.XOR.POPC", 1), 90: ("BMMA.168256.AND.POPC", 1)}
EXPANDED = ("IMMA.16832.", 8)  # from compute capability 10.0 on

ARCHITECTURE = re.compile(r"^arch = sm_(\d+)")
FUNCTION = re.compile(r"^\s*Function : (\S+)")
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?\S+\s+)?([A-Z][A-Z0-9_.]*)")
TILE = re.compile(r"conv_tile\w*?NativeELi(\d+)ELi(\d+)ELi(\d+)E")


@dataclass(frozen=True)
class Kernel:
    """The machine code of a kernel for one GPU.

    Attributes:
        architecture: 90 is sm_90.
        name: As the linker knows it.
        instructions: How often each stands in it.
    """

    architecture: int
    name: str
    instructions: Counter[str]

    def count(self, start: str) -> int:
        """Instructions that begin with `start`."""
        return sum(count for name, count in self.instructions.items() if name.startswith(start))


def kernels(listing: str) -> Iterator[Kernel]:
    """Those of a listing by `cuobjdump -sass`."""
    architecture, kernel = 0, None
    for line in listing.splitlines():
        if match := ARCHITECTURE.match(line):
            architecture = int(match[1])
        elif match := FUNCTION.match(line):
            if kernel:
                yield kernel
            kernel = Kernel(architecture, match[1], Counter())
        elif kernel and (match := INSTRUCTION.match(line)):
            kernel.instructions[match[1]] += 1
    if kernel:
        yield kernel


def faults(kernel: Kernel) -> list[str]:
    """What is wrong with it."""
    found = []
    local = kernel.count("LDL") + kernel.count("STL")
    if local:
        found.append(f"{local} accesses to local memory: it spills, or indexes registers at run time")
    tile = TILE.search(kernel.name)
    if tile:
        pixels, outputs, warps = (int(number) for number in tile.groups())
        start, each = product_of(kernel.architecture)
        wanted = pixels // 16 // warps * (outputs // 8) * each
        if kernel.count(start) < wanted:
            found.append(f"{kernel.count(start)} {start}, wanted {wanted} or more: the product of bits is emulated")
    return found


def product_of(architecture: int) -> tuple[str, int]:
    """The instruction of a GPU and how many make one product."""
    if architecture >= 100:
        return EXPANDED
    return PRODUCTS[max(known for known in PRODUCTS if known <= architecture)]


def disassemble(library: Path) -> str:
    """The listing. Raises FileNotFoundError where a tool is missing, CalledProcessError where it fails."""
    folders = [os.environ.get("PATH", ""), f"{os.environ.get('CUDA_HOME', '/usr/local/cuda')}/bin"]
    folders += [str(Path(entry) / "nvidia" / "cu13" / "bin") for entry in sys.path]
    path = os.pathsep.join(folders)
    for tool in ("cuobjdump", "nvdisasm"):
        if shutil.which(tool, path=path) is None:
            raise FileNotFoundError(f"{tool} is missing; pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    command = [shutil.which("cuobjdump", path=path) or "", "-sass", str(library)]
    return subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True).stdout


def main(library: Path) -> int:
    """Checks a library; see the top of this file."""
    try:
        listing = disassemble(library)
    except FileNotFoundError as error:
        print(f"check_sass: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"check_sass: {error.stderr.strip()}", file=sys.stderr)
        return 2
    found, wrong = list(kernels(listing)), 0
    for kernel in found:
        for fault in faults(kernel):
            print(f"check_sass: sm_{kernel.architecture} {kernel.name}: {fault}", file=sys.stderr)
            wrong += 1
    tiles = [kernel for kernel in found if TILE.search(kernel.name)]
    architectures = sorted({kernel.architecture for kernel in found})
    names = ", ".join(f"sm_{architecture}" for architecture in architectures)
    print(f"{library.name}: {len(found)} kernels for {names}; {len(tiles)} with matrix instructions, {wrong} faults")
    return 1 if wrong or not tiles else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: check_sass.py LIBRARY", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1])))
