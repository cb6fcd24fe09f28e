"""Bugs planted in the kernels are caught: as a fault of the executor, or as a result that is not the reference's.

Each of `plants.py` is put into a copy of the sources, which is compiled with a single size of tile to be quick.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, finish, packed_within, random_case, same_bits
from cuda_builds import PLUGINS
from driver import CudaKernelError, Library
from plants import PLANTS, Plant

from bnn_deploy.bits import Levels, binarize, pack_bits, pack_levels

TILE = 1  # 128 pixels and 64 outputs by 4 warps: several rows and columns of matrix instructions for each thread
OTHER_TILES = [
    (f"      case {i}: return launch_tile<{i}, Choice>(task, plan, device, stream);\n", "") for i in (0, 2)
] + [("return launch_tile<3, Choice>", "return launch_tile<1, Choice>")]
FLAGS = ("-std=c++17", "-O0", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-DBNN_HOST_EXECUTOR")
FLAGS += ("-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE")
SOURCES = (
    *sorted(path for end in ("cpp", "cu") for path in (PLUGINS / "cuda").glob(f"*.{end}")),
    PLUGINS / "core" / "conv_shape.cpp",
)


def replaced(text: str, right: str, wrong: str, where: str) -> str:
    """`text` with the piece replaced that must stand in it exactly once, however its lines are broken."""
    pattern = r"\s+".join(re.escape(word) for word in right.split())
    count = len(re.findall(pattern, text))
    assert count == 1, f"{where} has {count} times {right!r}: the plant has to follow the source"
    return re.sub(pattern, lambda _: wrong, text)


class Workshop:
    """Builds libraries from changed copies of the sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = self._copy("right")
        self.objects = {source.name: self._compile(self.tree, source.parent.name, source.name) for source in SOURCES}

    def build(self, plant: Plant | None = None) -> Library:
        """The library with a bug, or without."""
        objects, tree = dict(self.objects), self.tree
        if plant:
            tree = self._copy(plant.name.replace(" ", "-"))
            path = tree / "cuda" / plant.file
            path.write_text(replaced(path.read_text("utf-8"), plant.right, plant.wrong, plant.file), "utf-8")
            objects[plant.unit] = self._compile(tree, "cuda", plant.unit)
        library = tree / "library.so"
        exports = f"-Wl,--version-script={PLUGINS / 'cuda' / 'exports.map'}"
        self._compiler("-shared", exports, *objects.values(), "-o", library)
        return Library(library)

    def _copy(self, name: str) -> Path:
        tree = self.folder / name
        for room in ("core", "cuda"):
            shutil.copytree(PLUGINS / room, tree / room)
        launchers = tree / "cuda" / "conv.cu"
        text = launchers.read_text("utf-8")
        for right, wrong in OTHER_TILES:
            text = replaced(text, right, wrong, "conv.cu")
        launchers.write_text(text, "utf-8")
        return tree

    def _compile(self, tree: Path, room: str, source: str) -> Path:
        made = tree / f"{source}.o"
        self._compiler(*FLAGS, f"-I{tree}", "-x", "c++", "-c", tree / room / source, "-o", made)
        return made

    def _compiler(self, *arguments: Any) -> None:
        compiler = shutil.which(os.environ.get("CXX", "c++"))
        if compiler is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("no C++ compiler")
        ended = subprocess.run([compiler, *map(str, arguments)], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("planted"))


# ---- what every library is asked to do


@dataclass(frozen=True)
class Check:
    """A layer, and how it is run."""

    case: ConvCase
    options: dict[str, Any]

    def differences(self, library: Library) -> Iterator[str]:
        """Which outputs are not what they have to be."""
        generator = np.random.default_rng(1)
        accumulators = self.case.accumulators()
        outputs = accumulators.shape[1]
        operands = {name: generator.standard_normal(outputs).astype(np.float32) for name in ("scale", "bias")}
        operands["residual"] = generator.standard_normal(accumulators.shape).astype(np.float32)
        z = finish(accumulators, operands, "", (0, 0))
        bounds = {"lower": np.full(outputs, -1, np.float32), "upper": np.full(outputs, 9, np.float32)}
        expected = {"accumulator": accumulators, "y": np.moveaxis(z, 1, -1)}
        expected["bits"] = packed_within(bounds["lower"], z, bounds["upper"])
        operands = operands | bounds | {"residual": np.moveaxis(operands["residual"], 1, -1)}
        packed, weight = self.case.packed(), self.case.weight_bits()
        form = {"channels_last": True} | self.options
        found = library.conv2d(self.case.layer(), packed, weight, operands, tuple(expected), **form)
        yield from (f"wrong {name}" for name in expected if not same_bits(found[name], expected[name]))


def conv_checks() -> Iterator[Check]:
    """Few and small, and together they need every line of the kernels."""
    generator = np.random.default_rng(0)
    layers: list[tuple[Any, ...]] = [
        (Levels.BIPOLAR, (3, 64, 7, 9), 72, (3, 3), {"pads": (1, 1, 1, 1)}),
        (Levels.TERNARY, (2, 65, 8, 9), 40, (2, 3), {"pads": (1, 0, 2, 1), "strides": (2, 1), "dilations": (1, 2)}),
        (Levels.UNIPOLAR, (1, 128, 6, 60), 70, (3, 3), {"pads": (1, 2, 1, 1), "pad_value": 1}),  # two bands
    ]
    for levels, shape, outputs, kernel, geometry in layers:
        case = random_case(generator, levels, shape, outputs, kernel, **geometry)
        options = {"kernel": TILE, "shared_bytes": 18 << 10 if shape[1] == 128 else 99 << 10}
        yield from (Check(case, options | {"product": product}) for product in ("and", "xor", "int8"))
    grouped = random_case(generator, Levels.TERNARY, (1, 96, 5, 5), 6, (3, 3), pads=(1, 1, 1, 1), group=2)
    yield Check(grouped, {"kernel": 4})


def pack_differences(library: Library) -> Iterator[str]:
    x = np.random.default_rng(0).choice(np.array((0.5, -0.5, 0.0, -0.0, np.nan), np.float32), (2, 33, 3, 4))
    for levels in Levels:
        expected = pack_levels(np.moveaxis(binarize(x, levels), 1, -1), levels)
        bounds = () if levels is Levels.TERNARY else (np.zeros(1, np.float32),)
        for last in (False, True):
            found = library.pack(levels.value, np.moveaxis(x, 1, -1) if last else x, bounds, channels_last=last)
            if not np.array_equal(found, expected):
                yield f"wrong bits of {levels}"


def pool_differences(library: Library) -> Iterator[str]:
    bits = np.zeros((1, 3, 4, 40), bool)
    bits[:, :, 0] = True
    found = library.max_pool(pack_bits(bits), np.zeros(2, np.int32), 40, (2, 2), (1, 1), (0, 0, 0, 1))
    if not np.array_equal(found, pack_bits(bits[:, :2])):
        yield "wrong bits of a pool"


def differences(library: Library) -> Iterator[str]:
    """Everything that a library gets wrong. A fault ends it."""
    runs: list[Callable[[Library], Iterator[str]]] = [check.differences for check in conv_checks()]
    try:
        for run in [pack_differences, pool_differences, *runs]:
            yield from run(library)
    except CudaKernelError as error:
        yield str(error)


def test_nothing_is_found_where_nothing_is_planted(workshop: Workshop) -> None:
    assert list(differences(workshop.build())) == []


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name.replace(" ", "-"))
def test_planted_bug_is_caught(workshop: Workshop, plant: Plant) -> None:
    first = next(differences(workshop.build(plant)), "nothing")
    assert re.search(plant.caught, first), first
