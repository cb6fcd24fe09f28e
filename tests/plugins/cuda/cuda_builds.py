"""Where the GPU's kernels are, in source and built."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
BUILT = PLUGINS.parent / "build" / "plugins" / "cuda"


def built(path: Path, what: str) -> Path:
    """`path`, or the end of the test. Where the checks run it must have been built."""
    if not path.is_file():
        message = f"{what} is not built; make plugins"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
