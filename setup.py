"""Builds the native library into the wheel, where cmake and a C++ compiler are there. The rest is in `pyproject.toml`.

Without them, or with `BNN_DEPLOY_BUILD_NATIVE=0`, the wheel is pure Python: everything works, through the function
bodies. An editable installation takes the library that `make plugins` builds in the tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
COMPILERS = ("c++", "g++", "clang++", "cl")


@cache
def builds_native() -> bool:
    """Whether the library can be built here, and nobody asked to leave it out."""
    if os.environ.get("BNN_DEPLOY_BUILD_NATIVE") == "0" or not (ROOT / "plugins").is_dir():
        return False
    compiler = os.environ.get("CXX") or next((name for name in COMPILERS if shutil.which(name)), None)
    if shutil.which("cmake") and compiler:
        return True
    print("no cmake or no C++ compiler: building without the native library", file=sys.stderr)
    return False


class BuildWithNativeLibrary(build_py):
    """Puts the library into `bnn_deploy/lib/`, where `bnn_deploy.native` looks first."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode and builds_native():
            build_native(Path(self.build_lib) / "bnn_deploy" / "lib")


def build_native(destination: Path) -> None:
    """Runs cmake in a folder of its own and copies the library out of it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cmake", "-S", str(ROOT / "plugins"), "-B", folder], check=True)
        subprocess.run(["cmake", "--build", folder, "--config", "Release", "--parallel", "2"], check=True)
        destination.mkdir(parents=True, exist_ok=True)
        for library in Path(folder).rglob("*bnn_deploy_ort.*"):
            if library.suffix in (".so", ".dylib", ".dll"):
                shutil.copy(library, destination / library.name)


class PlatformDistribution(Distribution):
    """Goes where packages of one platform go, once there is something of one platform in it."""

    def has_ext_modules(self) -> bool:
        return builds_native()


class PlatformWheel(bdist_wheel):
    """A wheel with the library in it fits one platform, but any Python: the library knows nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        return "py3", "none", platform


setup(distclass=PlatformDistribution, cmdclass={"build_py": BuildWithNativeLibrary, "bdist_wheel": PlatformWheel})
