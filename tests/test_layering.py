"""The import rule: which room of the tree may see which other room, and which packages.

Every import counts, wherever it stands: at the top of a file, inside a function, under `TYPE_CHECKING`, and as
`import_module` of a literal name. `bnn_deploy.__version__` is everyone's.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Room:
    """What the files of one room may import.

    Args:
        rooms: The rooms of ours; a room always sees itself.
        packages: The packages of others, beside the standard library. All the rest is forbidden.
    """

    rooms: str = ""
    packages: str = ""


CORE = "errors bits opset"
ONNX = "numpy onnx onnx_ir"
LIBRARY = (
    f"{CORE} native reference nn models digits samples images feeds labelled accuracy user_code checkpoint untrained "
    "loading train export passes runners runners.* parity reproduce inspection html files doctor pipeline "
    "error_analysis parity_cases parity_job quantisation bench tensorrt deployed contenders footprint_worker "
    "benchmarking"
)

# A room is a file or a folder of `bnn_deploy`; `front` is `bnn_deploy/__init__.py`. Each runner is a room of its own;
# `runners.*` in a list is all of them.
RULE = {
    # The contract, and the arithmetic that everything is held to.
    "errors": Room(),
    "files": Room(),
    "bits": Room("errors", "numpy"),
    "opset": Room("bits"),
    "native": Room("errors"),
    "reference": Room("", "numpy"),
    # The network, in PyTorch.
    "nn": Room(CORE, "torch"),
    "models": Room("errors nn", "torch"),
    "digits": Room("errors", "numpy"),
    "samples": Room("errors", "numpy"),
    "images": Room("errors", "numpy PIL"),
    "feeds": Room("errors images", "numpy onnx"),
    "labelled": Room("errors digits feeds images", "numpy onnx"),
    "accuracy": Room("errors labelled runners.base", "numpy"),
    "user_code": Room("errors"),
    "checkpoint": Room("errors", "torch safetensors"),
    "untrained": Room("errors nn", "torch"),
    "loading": Room("errors nn models digits user_code checkpoint untrained", "torch safetensors"),
    "train": Room("errors nn models digits checkpoint loading", "numpy torch safetensors rich"),
    # From PyTorch to ONNX, and on from there without PyTorch.
    "export": Room(f"{CORE} files nn passes inspection", f"{ONNX} onnxscript torch"),
    "functions": Room(CORE, "onnx"),
    "passes": Room(f"{CORE} functions", ONNX),
    "inspection": Room(CORE, "numpy onnx"),
    "reproduce": Room("", "numpy onnxruntime"),  # copied beside a reduced case: it stands alone
    "html": Room("inspection"),
    # What runs a file. A runner sees its own software and the protocol, never another runner.
    "runners": Room(f"{CORE} runners.*", "numpy"),
    "runners.base": Room(f"{CORE} reference", "numpy"),
    "error_analysis": Room("nn opset", "torch"),
    "runners.pytorch": Room(f"{CORE} reference runners.base nn error_analysis", "numpy torch"),
    "evaluator": Room(f"{CORE} reference", "numpy onnx"),
    "runners.reference": Room(f"{CORE} evaluator runners.base", ONNX),
    "runners.ort_session": Room(f"{CORE} runners.base", "numpy onnx onnxruntime"),
    "runners.onnxruntime": Room("runners.ort_session", "onnx"),
    "runners.native_cpu": Room("native runners.ort_session", "onnx"),
    "runners.onnxruntime_cuda": Room("errors runners.ort_session", "onnx onnxruntime"),
    "runners.tensorrt": Room("errors files gpu inspection native tensorrt runners.base", "numpy onnx"),
    "runners.catalogue": Room("errors files native loading runners.*", "onnx"),
    "runners.onnxruntime_float": Room("runners.ort_session", "onnx"),
    "runners.onnxruntime_int8": Room("runners.ort_session", "onnx"),
    "runners.openvino_model": Room(f"{CORE} runners.base", "numpy openvino"),
    "runners.openvino": Room("runners.openvino_model"),
    "runners.openvino_int8": Room("runners.openvino_model"),
    # What compares runners sees the protocol only.
    "bench": Room(f"{CORE} runners.base", "numpy"),
    "parity": Room(f"{CORE} files samples functions reference evaluator reproduce html runners.base", "numpy onnx"),
    "gpu": Room("errors", "numpy torch cuda pycuda"),
    "tensorrt": Room(f"{CORE} files gpu inspection native runners.base", f"{ONNX} tensorrt tensorrt_rtx"),
    # What puts all of it together.
    "quantisation": Room("errors", "numpy onnxruntime"),
    "deployed": Room("files inspection tensorrt", "onnx"),
    "contenders": Room("errors deployed files inspection passes quantisation runners.catalogue", "numpy onnx"),
    "footprint_worker": Room("errors bench runners.catalogue", "numpy"),
    "benchmarking": Room(
        "errors files native bench contenders footprint_worker runners.base runners.catalogue", "numpy"
    ),
    "doctor": Room("errors native"),
    "pipeline": Room(f"{LIBRARY} front", f"{ONNX} torch"),
    "parity_cases": Room("errors digits feeds images loading parity runners.base", "numpy onnx torch"),
    "parity_job": Room(LIBRARY, "numpy onnx torch"),
    "front": Room(LIBRARY),
    "cli": Room(f"{LIBRARY} front", "numpy onnx typer rich"),
}


def module_name(path: Path) -> str:
    """`bnn_deploy/nn/conv.py` is `bnn_deploy.nn.conv`, `models/nin.py` is `bnn_deploy.models.nin`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "bnn_deploy" else ("bnn_deploy", *parts))


SOURCES = {module_name(path): path for folder in ("bnn_deploy", "models") for path in (ROOT / folder).rglob("*.py")}


def room_of(module: str) -> str:
    """The room that a module of ours is in.

    Raises:
        LookupError: The table has no row for it.
    """
    parts = module.split(".")[1:]
    if not parts:
        return "front"
    if parts[0] == "__main__":
        return "cli"
    room = ".".join(parts[:2]) if parts[0] == "runners" else parts[0]
    if room not in RULE:
        raise LookupError(f"{module}: no room for it in the table of {Path(__file__).name}; give it a row")
    return room


def imported_modules(source: str, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Every import in `source`, as its line and the full name of what is imported."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def room_of_import(imported: str) -> str:
    """The room that the full name of something of ours, a module or what is in one, leads to."""
    parts = imported.split(".")[1:]
    rooms = (".".join(parts[:2]), parts[0] if parts else "")
    return next((room for room in rooms if room in RULE), "front")


def may_see(room: str, imported: str) -> bool:
    """Whether the files of `room` may import what has the full name `imported`."""
    top = imported.split(".")[0]
    if top != "bnn_deploy":
        return top in sys.stdlib_module_names or top in RULE[room].packages.split()
    if imported == "bnn_deploy.__version__":
        return True
    target = room_of_import(imported)
    allowed = RULE[room].rooms.split()
    return target == room or target in allowed or (target.startswith("runners.") and "runners.*" in allowed)


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What `source` imports against the rule, one line each."""
    room = room_of(module)
    return [
        f"{module}, line {line}: `{room}` may not import {imported}"
        for line, imported in imported_modules(source, module, is_package=is_package)
        if not may_see(room, imported)
    ]


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_file_keeps_the_import_rule(module: str) -> None:
    path = SOURCES[module]
    assert violations(path.read_text("utf-8"), module, is_package=path.name == "__init__.py") == []


def test_no_package_brings_torch_along() -> None:
    """A file that may not import torch does not load it by way of another package, or another room, either."""
    without = sorted(module for module in SOURCES if "torch" not in RULE[room_of(module)].packages.split())
    assert {"bnn_deploy", "bnn_deploy.passes.pipeline", "bnn_deploy.parity", "bnn_deploy.cli.main"} <= set(without)
    load = f"for name in {without!r}: importlib.import_module(name)"
    code = f"import importlib, sys\n{load}\nprint('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "False"


def test_sources_are_found() -> None:
    assert {"bnn_deploy", "bnn_deploy.bits", "bnn_deploy.cli.main", "bnn_deploy.models"} <= SOURCES.keys()


@pytest.mark.parametrize("room", sorted(RULE))
def test_table_names_rooms_that_it_has(room: str) -> None:
    assert set(RULE[room].rooms.split()) - {"runners.*"} <= RULE.keys()


def test_nobody_sees_the_command_line() -> None:
    assert [room for room in RULE if "cli" in RULE[room].rooms.split()] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bnn_deploy.errors", "import bnn_deploy.bits"),
        ("bnn_deploy.errors", "import numpy"),
        ("bnn_deploy.passes.planted", "import torch"),
        ("bnn_deploy.passes.planted", "from torch import nn"),
        ("bnn_deploy.passes.planted", "def late():\n    import torch.nn.functional as F"),
        ("bnn_deploy.passes.planted", "if TYPE_CHECKING:\n    from bnn_deploy.nn import conv"),
        ("bnn_deploy.passes.planted", "from bnn_deploy import errors, nn"),
        ("bnn_deploy.passes.planted", "from ..nn import layer"),
        ("bnn_deploy.passes.planted", "importlib.import_module('torch')"),
        ("bnn_deploy.nn.planted", "from bnn_deploy.cli import main"),
        ("bnn_deploy.nn.planted", "import bnn_deploy as bd"),
        ("bnn_deploy.parity.planted", "from bnn_deploy.runners import reference"),
        ("bnn_deploy.runners.pytorch", "from . import reference"),
        ("bnn_deploy.models.planted", "from bnn_deploy import export"),
    ],
)
def test_planted_violation_is_caught(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bnn_deploy.passes.planted", "import re, onnx_ir as ir"),
        ("bnn_deploy.passes.planted", "from .base import Pass"),
        ("bnn_deploy.passes.planted", "from bnn_deploy import __version__, errors"),
        ("bnn_deploy.models.planted", "from .birealnet import BiRealNet"),
        ("bnn_deploy.pipeline", "from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner"),
    ],
)
def test_import_within_the_rule_passes(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_file_without_a_row_is_refused() -> None:
    with pytest.raises(LookupError, match="give it a row"):
        violations("", "bnn_deploy.runners.planted")
