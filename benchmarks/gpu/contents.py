"""What goes into a GPU bundle: where each part of it is, or how it is made."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Name of the folder -> zoo model, precision.
MODELS = {
    "birealnet": ("birealnet", "fp32"),
    "birealnet18": ("birealnet18", "fp32"),
    "birealnet18-fp16": ("birealnet18", "fp16"),
    "vgg_small": ("vgg_small", "fp32"),
    "nin": ("nin", "fp32"),
}
GOLDEN = ("--no-adversarial", "--samples", "2", "--batch", "1", "--golden")
LIBRARIES = (
    "build/plugins/libbnn_deploy_ort.so",
    "build/plugins/cuda/libbnn_deploy_cuda.so",
    "build/plugins/cuda/host/libbnn_deploy_cuda_host.so",
    "build/plugins/tensorrt/libbnn_deploy_tensorrt.so",
    "build/plugins/tensorrt/libbnn_deploy_tensorrt_host.so",
    "build/plugins/tensorrt/libbnn_plugin_host.so",
)
PROGRAMS = "build/gpu/programs"
# The package, without the one library that makes up nearly all of it, and that library.
RTX_FOLDERS, RTX_LIBRARY = ("tensorrt_rtx", "tensorrt_rtx_libs"), "libtensorrt_rtx.so.1"
# Branches of x86 code become absolute addresses before they are compressed: the same call is then the same bytes.
FILTERS = [
    {"id": lzma.FILTER_X86},
    {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 256 * 1024 * 1024},
]


class Missing(Exception):
    """Something that belongs in the bundle, and how to come by it."""


def tell(stage: str) -> None:
    """Says what is being done."""
    print(stage, file=sys.stderr, flush=True)


def sources() -> list[tuple[str, Path]]:
    """Every file of the tree that is not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError) as error:
        raise Missing(f"the list of sources: {error}; a git repository is needed") from error
    return [(name, ROOT / name) for name in sorted(set(names)) if name and (ROOT / name).is_file()]


def libraries() -> list[tuple[str, Path]]:
    """What is built: libraries, and the programs that measure."""
    absent = [name for name in LIBRARIES if not (ROOT / name).is_file()]
    if absent:
        raise Missing(f"{', '.join(absent)}: make plugins, where there is an nvcc")
    programs = sorted(path for path in (ROOT / PROGRAMS).glob("*") if path.is_file())
    if not programs:
        raise Missing(f"{PROGRAMS}: make gpu-bundle GPU_ARCHITECTURE=90 builds them for compute capability 9.0")
    return [(name, ROOT / name) for name in LIBRARIES] + [(f"{PROGRAMS}/{path.name}", path) for path in programs]


def models(folder: Path, *, fresh: bool) -> list[tuple[str, Path]]:
    """Exports every model, and has PyTorch write what its layers compute; fresh: those that are there too."""
    for name, (model, precision) in MODELS.items():
        target = folder / name
        if (target / "golden").is_dir() and not fresh:
            continue
        tell(f"exporting {name}")
        shutil.rmtree(target, ignore_errors=True)
        for words in (
            ["export", model, "-o", target, "--precision", precision],
            ["parity", target, "-o", target / "parity", *GOLDEN, target / "golden"],
        ):
            command = [sys.executable, "-m", "bnn_deploy", *map(str, words)]
            ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if ran.returncode != 0:
                raise Missing(f"{name}: bnn-deploy {words[0]}: {(ran.stderr or ran.stdout).strip().splitlines()[-1]}")
    return [
        (str(path.relative_to(folder)), path)
        for name in MODELS
        for path in sorted((folder / name).rglob("*"))
        if path.is_file() and "parity" not in path.parts
    ]


def rtx_folder(name: str) -> Path:
    """Where a package of TensorRT-RTX is; none of it is imported."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Missing(f"the package {name}: pip install tensorrt-rtx-cu13")
    return Path(next(iter(spec.submodule_search_locations)))


def rtx_package() -> list[tuple[str, Path]]:
    """TensorRT-RTX without its library."""
    return [
        (f"{name}/{path.relative_to(rtx_folder(name))}", path)
        for name in RTX_FOLDERS
        for path in sorted(rtx_folder(name).rglob("*"))
        if path.is_file() and path.name != RTX_LIBRARY and "__pycache__" not in path.parts
    ]


def recompressed(library: Path, cache: Path) -> bytes:
    """The library as xz has it at its best; from the cache where it was made before."""
    content = library.read_bytes()
    kept = cache / f"{library.name}-{hashlib.sha256(content).hexdigest()[:16]}.xz"
    if not kept.is_file():
        tell(f"recompressing {library.name}, which takes minutes")
        cache.mkdir(parents=True, exist_ok=True)
        half = kept.with_suffix(".half")
        half.write_bytes(lzma.compress(content, lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=FILTERS))
        half.replace(kept)
    return kept.read_bytes()


def commit() -> str:
    """What the bundle is made of."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
