"""What the measurements were made on. A figure without its machine says nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")

# Instruction sets that decide how fast binary, 8-bit and float kernels are, as Linux names them.
INSTRUCTION_SETS = (
    "avx2", "avx512f", "avx512bw", "avx512_vpopcntdq", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "sve",
)  # fmt: skip


def describe_machine(cpuinfo: Path = CPUINFO, meminfo: Path = MEMINFO) -> dict[str, Any]:
    """Processor, instruction sets, cores that this process may use, memory, system, and how busy it was."""
    lines = _entries(cpuinfo)
    flags = (lines.get("flags") or lines.get("Features") or "").split()
    memory = _entries(meminfo).get("MemTotal", "").split()
    return {
        "processor": lines.get("model name") or platform.processor() or platform.machine(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": int(memory[0]) * 1024 if memory else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _entries(path: Path) -> dict[str, str]:
    """`name : value` lines; of a name that comes again, the first. Nothing where there is no such file."""
    found: dict[str, str] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return found
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found
