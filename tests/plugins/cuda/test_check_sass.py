"""The check of the machine code: it passes what was built, and fails where it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import check_sass
import pytest
from cuda_builds import BUILT, PLUGINS

ARCHITECTURES = "sm_75, sm_80, sm_86, sm_89, sm_90, sm_120"
TILE = "_ZN3bnn4cuda9conv_tileINS0_6NativeELi128ELi64ELi4EEEvNS0_8ConvTaskENS0_8TilePlanE"
PACK = "_ZN3bnn4cuda18pack_channels_lastENS0_8PackTaskE"
XOR, AND = "BMMA.168256.XOR.POPC", "BMMA.168256.AND.POPC"
# What products of 128 pixels and 64 outputs by 4 warps take, for each thread and step: 2 x 8 of them.
COMPLETE = [
    (75, "BMMA.88128.XOR.POPC", 64),
    (80, XOR, 16),
    (86, XOR, 16),
    (89, XOR, 16),
    (90, AND, 16),
    (100, "IMMA.16832.S8.S8.SAT", 128),
    (120, "IMMA.16832.S8.S8", 128),
    (120, "IMMA.16832.U8.U8", 128),
]


def listing(architecture: int, *functions: tuple[str, dict[str, int]]) -> str:
    """What cuobjdump prints of functions that have each instruction so many times."""
    lines = ["Fatbin elf code:", "================", f"arch = sm_{architecture}", "code version = [1,8]"]
    for name, instructions in functions:
        lines += [f"\t\tFunction : {name}", '\t.headerflags\t@"EF_CUDA_TEXMODE_UNIFIED"']
        rows = [mnemonic for mnemonic, count in instructions.items() for _ in range(count)]
        for number, mnemonic in enumerate(rows):
            guard = "@!P0 " if number % 2 else ""
            lines.append(
                f"        /*{16 * number:04x}*/                   {guard}{mnemonic} R44, R48, R82 ;   /* 0x00 */"
            )
            lines.append("                                                                       /* 0x000fe200 */")
    return "\n".join(lines)


def tool(folder: Path, name: str, prints: str, status: int = 0) -> None:
    """A program that prints to stdout, or, where it fails, to stderr."""
    path = folder / name
    stream = "stderr" if status else "stdout"
    path.write_text(f"#!{sys.executable}\nimport sys\nprint({prints!r}, file=sys.{stream})\nsys.exit({status})\n")
    path.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the only one in which tools are looked for."""
    for name in ("PATH", "CUDA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    return tmp_path


def check(folder: Path, text: str) -> int:
    """The exit status where cuobjdump prints `text`."""
    tool(folder, "cuobjdump", text)
    tool(folder, "nvdisasm", "")
    return check_sass.main(Path("library.so"))


@pytest.mark.parametrize(("architecture", "mnemonic", "count"), COMPLETE)
def test_right_instructions_pass(
    folder: Path, capsys: pytest.CaptureFixture[str], architecture: int, mnemonic: str, count: int
) -> None:
    text = listing(architecture, (PACK, {"LDG.E": 3, "VOTE.ANY": 2}), (TILE, {mnemonic: count, "LDS.64": 9}))
    assert check(folder, text) == 0
    said = capsys.readouterr()
    assert said.out == f"library.so: 2 kernels for sm_{architecture}; 1 with matrix instructions, 0 faults\n"
    assert said.err == ""


@pytest.mark.parametrize(("architecture", "mnemonic", "count"), COMPLETE)
def test_missing_instructions_fail(
    folder: Path, capsys: pytest.CaptureFixture[str], architecture: int, mnemonic: str, count: int
) -> None:
    assert check(folder, listing(architecture, (TILE, {mnemonic: count - 1}))) == 1
    assert f"{count - 1} {check_sass.product_of(architecture)[0]}, wanted {count}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("architecture", "instructions"),
    [(90, {XOR: 16}), (80, {AND: 16}), (90, {"POPC": 900}), (90, {"IMMA.16832.S8.S8": 128}), (120, {AND: 16})],
)
def test_another_instruction_is_an_emulation(
    folder: Path, capsys: pytest.CaptureFixture[str], architecture: int, instructions: dict[str, int]
) -> None:
    assert check(folder, listing(architecture, (TILE, instructions))) == 1
    said = capsys.readouterr().err
    assert f"sm_{architecture} {TILE}: 0 " in said
    assert "the product of bits is emulated" in said


@pytest.mark.parametrize("mnemonic", ["LDL", "STL.64"])
@pytest.mark.parametrize("kernel", [TILE, PACK])
def test_spills_fail(folder: Path, capsys: pytest.CaptureFixture[str], kernel: str, mnemonic: str) -> None:
    functions = {TILE: {AND: 16}, PACK: {}}
    functions[kernel] = functions[kernel] | {mnemonic: 2}
    assert check(folder, listing(90, *functions.items())) == 1
    assert f"sm_90 {kernel}: 2 accesses to local memory" in capsys.readouterr().err


def test_one_bad_gpu_among_good_ones_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(listing(architecture, (TILE, {XOR: 16})) for architecture in (80, 86, 90))
    assert check(folder, text) == 1
    said = capsys.readouterr()
    assert said.out.endswith("3 kernels for sm_80, sm_86, sm_90; 3 with matrix instructions, 1 faults\n")
    assert "sm_90" in said.err and "sm_86" not in said.err


@pytest.mark.parametrize("text", ["", listing(90, (PACK, {"LDG.E": 3}))])
def test_a_library_without_the_convolution_fails(folder: Path, text: str) -> None:
    assert check(folder, text) == 1


@pytest.mark.parametrize("missing", ["cuobjdump", "nvdisasm"])
def test_missing_tool(folder: Path, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    for name in {"cuobjdump", "nvdisasm"} - {missing}:
        tool(folder, name, "")
    assert check_sass.main(Path("library.so")) == 2
    assert capsys.readouterr().err.startswith(f"check_sass: {missing} is missing; pip install")


def test_what_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool(folder, "cuobjdump", "cuobjdump fatal: could not open", status=255)
    tool(folder, "nvdisasm", "")
    assert check_sass.main(Path("library.so")) == 2
    assert capsys.readouterr().err == "check_sass: cuobjdump fatal: could not open\n"


def test_it_wants_one_library() -> None:
    ended = subprocess.run([sys.executable, PLUGINS / "cuda" / "check_sass.py"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("usage:")


def test_what_was_built() -> None:
    """All that are supported, unless the build was narrowed; no emulation, and no spill."""
    library = BUILT / "libbnn_deploy_cuda.so"
    if not library.is_file():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("the kernels for GPUs are not built: there was no nvcc")
    command = [sys.executable, PLUGINS / "cuda" / "check_sass.py", library]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    narrowed = "CMAKE_CUDA_ARCHITECTURES:" in (BUILT.parent / "CMakeCache.txt").read_text("utf-8")
    assert narrowed or f" kernels for {ARCHITECTURES}; 24 with matrix instructions, 0 faults" in ended.stdout
