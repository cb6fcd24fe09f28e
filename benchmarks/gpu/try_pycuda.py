"""Builds pycuda from what a GPU bundle brings, and tests what `bnn_deploy.gpu` does with it.

    python benchmarks/gpu/try_pycuda.py --packages /tmp/bnn-gpu-bundle/pycuda

Takes NumPy, a C++ compiler, Python's headers and NVIDIA's driver; CUDA's headers are among the packages. All goes into
folders beside these, where no other stage finds it. What is built is not built again.

Exit status: 0 all is well; 1 it does not build or open the GPU, or a test fails; 77 the machine lacks what it takes.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from pathlib import Path

from packages import PYCUDA, PYCUDA_BUILD
from stages import INSTALL, NOT_AVAILABLE, PYTEST

TESTS = Path(__file__).resolve().parents[2] / "tests" / "gpu" / "device_pycuda.py"
DRIVER = "libcuda.so.1"
OPEN = """
import json
from bnn_deploy.gpu.pycuda import PyCudaGpu
print(json.dumps({"step": "open", "compute_capability": PyCudaGpu().compute_capability}))
"""


def compiler() -> str:
    """What setuptools compiles C++ with."""
    command = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++"
    return str(command).split()[0]


def driver() -> Path | None:
    """The file of NVIDIA's driver that a program gets, wherever the loader looks; None where there is none."""
    try:
        ctypes.CDLL(DRIVER)
        mapped = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    files = (Path(line.split(maxsplit=5)[-1]) for line in mapped)
    return next((path for path in files if path.name.startswith("libcuda.so")), None)


def lacking() -> list[str]:
    """What the machine has not got of what building takes."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    there = {
        f"a C++ compiler ({compiler()})": shutil.which(compiler()) is not None,
        f"Python's headers ({header})": header.is_file(),
        f"NVIDIA's driver ({DRIVER})": driver() is not None,
    }
    return [name for name, found in there.items() if not found]


def environment(*folders: Path) -> dict[str, str]:
    """With folders that Python looks for packages in first."""
    paths = [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def build(packages: Path, site: Path) -> None:
    """Installs pycuda and what it imports into `site`.

    Raises:
        OSError: There is no such folder, or the source is not in it.
        subprocess.CalledProcessError: pip or the compiler refuses something, and has said what.
    """
    tools, source = packages / "tools", packages / PYCUDA.replace("==", "-")
    python: list[str | Path] = [sys.executable]
    found: list[str | Path] = ["--find-links", packages]
    subprocess.run([*python, *INSTALL, tools, *found, *PYCUDA_BUILD], check=True)
    with tarfile.open(packages / f"{source.name}.tar.gz") as archive:
        archive.extractall(packages, filter="data")
    settings = {
        "CUDA_INC_DIR": [str(path) for path in sorted(tools.glob("nvidia/*/include"))],
        "CUDADRV_LIBNAME": [],  # by its path instead: a driver without a toolkit has no libcuda.so for -lcuda to find
        "LDFLAGS": [str(driver())],
        "CUDA_ENABLE_CURAND": False,
    }
    (source / "siteconf.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    offline: list[str | Path] = ["-q", "--no-index", *found]
    wheel = [*python, "-m", "pip", "wheel", *offline, "--no-build-isolation", "--no-deps", "-w", packages, source]
    subprocess.run(wheel, env=environment(tools), check=True)
    subprocess.run([*python, "-m", "pip", "install", *offline, "--upgrade", "--target", site, PYCUDA], check=True)


def main() -> int:
    """Builds, opens the GPU, tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="the source of pycuda, and wheels")
    packages = parser.parse_args().packages.resolve()
    absent = lacking()
    if absent:
        print(f"{' and '.join(absent)} missing")
        return NOT_AVAILABLE
    site = packages / "site"
    try:
        if not (site / "pycuda").is_dir():
            begin = time.monotonic()
            build(packages, site)
            print(json.dumps({"step": "build", "seconds": round(time.monotonic() - begin, 1)}), flush=True)
        for words in (["-c", OPEN], [*PYTEST, TESTS]):
            subprocess.run([sys.executable, *words], env=environment(site), check=True)
    except subprocess.CalledProcessError:  # whichever it was has said why
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
