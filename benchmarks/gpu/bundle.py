"""Fills a folder with all that a GPU machine without a network needs to test and measure; `make gpu-bundle` calls it.

    python benchmarks/gpu/bundle.py --output build/gpu-bundle

In it: this source tree, the built libraries, exported models with golden bundles, TensorRT-RTX, wheels, pycuda as
source, and `run_bundle.sh`, which unpacks and runs all of it. No file in the folder is larger than 60 MiB. To
recompress TensorRT-RTX takes minutes and 3 GiB of memory; the result is kept in `--cache`.

Exit status: 0 the folder is complete; 2 something that belongs in it is missing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from contents import (
    ROOT,
    RTX_FOLDERS,
    RTX_LIBRARY,
    Missing,
    commit,
    libraries,
    models,
    recompressed,
    rtx_folder,
    rtx_package,
    sources,
)
from packages import PYCUDA, pycuda, wheels
from pieces import FILE, FOLDER, Item, archive, cut, write_manifest

HERE = Path(__file__).resolve().parent
SCRIPTS = ("run_bundle.sh", "run_bundle.py", "stages.py", "pieces.py")


def fill(options: argparse.Namespace) -> list[Item]:
    """Everything into the folder; returns what is in it."""
    output: Path = options.output
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    folders = [
        ("sources", "tree", True, sources()),
        ("libraries", "tree", True, libraries()),
        ("models", "tree/build/gpu-models", True, models(options.models, fresh=not options.keep_models)),
    ]
    compressed: list[tuple[str, str, str, bool, bytes]] = []
    if options.tensorrt_rtx:
        folders.append(("tensorrt-rtx-package", "site", False, rtx_package()))
        folders.append(("wheels", "wheels", False, wheels(options.python, options.wheel, options.cache / "wheels")))
        library = rtx_folder(RTX_FOLDERS[1]) / RTX_LIBRARY
        path = f"site/{RTX_FOLDERS[1]}/{RTX_LIBRARY}"
        compressed.append(("tensorrt-rtx", FILE, path, False, recompressed(library, options.cache)))
    if options.pycuda:
        folders.append(("pycuda", "pycuda", False, pycuda(options.python, options.cache / "pycuda")))
    compressed += [(name, FOLDER, path, needed, archive(files)) for name, path, needed, files in folders]
    items = [
        Item(name, kind, path, needed, cut(content, name, output)) for name, kind, path, needed, content in compressed
    ]
    for script in SCRIPTS:
        shutil.copy(HERE / script, output / script)
    about = {"commit": commit(), "python": options.python, "libraries": sorted(name for name, _ in libraries())}
    write_manifest(output, items, about)
    return items


def main() -> int:
    """Fills the folder and says what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    build = ROOT / "build"
    parser.add_argument("--output", type=Path, default=build / "gpu-bundle", help="the folder; what is in it goes")
    parser.add_argument("--cache", type=Path, default=build / "gpu-bundle-cache", help="what takes minutes")
    parser.add_argument("--models", type=Path, default=build / "gpu-models", help="where the models are exported to")
    parser.add_argument("--keep-models", action="store_true", help="do not export again what is there")
    parser.add_argument("--only-models", action="store_true", help="export them, and fill no folder")
    parser.add_argument("--python", default="3.12", help="the Python of the GPU machine (default: %(default)s)")
    parser.add_argument("--wheel", action="append", default=[], help="NAME==VERSION of another wheel; may be repeated")
    parser.add_argument(
        "--tensorrt-rtx", action=argparse.BooleanOptionalAction, default=True, help="whether it goes in"
    )
    parser.add_argument(
        "--pycuda", action=argparse.BooleanOptionalAction, default=True, help=f"whether {PYCUDA} goes in, as source"
    )
    options = parser.parse_args()
    try:
        if options.only_models:
            print(f"{options.models}: {len(models(options.models, fresh=not options.keep_models))} files")
            return 0
        items = fill(options)
    except Missing as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for item in items:
        sizes = ", ".join(f"{piece.name} {piece.bytes / 2**20:.1f} MiB" for piece in item.pieces)
        print(f"{item.name}: {sizes}")
    print(f"{options.output}: {sum(piece.bytes for item in items for piece in item.pieces) / 2**20:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
