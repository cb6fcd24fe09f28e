from __future__ import annotations

import json
from pathlib import Path

from bnn_deploy.bench import describe_machine

X86 = """processor\t: 0
model name\t: Some Processor
flags\t\t: fpu avx2 avx512f amx_int8

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"


def test_linux_on_x86(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(X86, "utf-8")
    (tmp_path / "meminfo").write_text("MemTotal:   2048 kB\nMemFree: 1 kB\n", "utf-8")
    found = describe_machine(tmp_path / "cpuinfo", tmp_path / "meminfo")
    assert found["processor"] == "Some Processor"
    assert found["instruction_sets"] == ["avx2", "avx512f", "amx_int8"]
    assert found["memory_bytes"] == 2048 * 1024


def test_linux_on_arm(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(ARM, "utf-8")
    found = describe_machine(tmp_path / "cpuinfo", tmp_path / "none")
    assert found["instruction_sets"] == ["asimd", "asimddp"]
    assert found["processor"] and found["memory_bytes"] is None


def test_wherever_this_runs() -> None:
    found = describe_machine()
    assert json.loads(json.dumps(found)) == found
    assert found["cores"] >= 1 and found["processor"] and found["system"]
