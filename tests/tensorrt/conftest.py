"""TensorRT-RTX comes as wheels for Linux on x86-64 only, and is required there: nothing is skipped."""

from __future__ import annotations

import platform
import sys

collect_ignore_glob = [] if sys.platform == "linux" and platform.machine() == "x86_64" else ["test_*.py"]
