"""What the measurements were made on."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """What the system says the processor is."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
