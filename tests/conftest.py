"""What all tests share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

# Before anything imports torch: the tests run side by side, a process a core, so each takes one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


class Outcome(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def repository() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `bnn-deploy` with the given arguments in this process."""
    from bnn_deploy.cli.main import main

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        status = main(arguments)
        return Outcome(status, *capsys.readouterr())

    return run


class HtmlReader(HTMLParser):
    """A page: refuses tags that are not closed in order; keeps tags, classes, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.classes: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.classes += [name for key, value in attrs if key == "class" for name in (value or "").split()]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture
def html_reader() -> type[HtmlReader]:
    """Reads a page."""
    return HtmlReader


@pytest.fixture(scope="session")
def networks() -> ModuleType:
    """The small networks of `networks.py`, which stands beside this file and in no package."""
    spec = importlib.util.spec_from_file_location("networks", Path(__file__).with_name("networks.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Deployed:
    """A network of `networks.py`, the file that it was exported to, and inputs with exact zeros among them."""

    module: Any
    path: Path
    feeds: dict[str, Any]

    def proto(self) -> Any:
        """The file as a ModelProto, a new one each time: tests change it."""
        import onnx

        return onnx.load(str(self.path))

    def reference(self) -> Any:
        """The network as the harness runs it, with the names of the file."""
        from bnn_deploy.runners.pytorch import PyTorchRunner

        graph = self.proto().graph
        return PyTorchRunner(self.module, [value.name for value in graph.input], [value.name for value in graph.output])

    def record(self, feeds: dict[str, Any] | None = None) -> Any:
        """What the network does with `feeds`, or with its own."""
        return self.reference().record(feeds if feeds is not None else self.feeds)


@pytest.fixture(scope="session")
def deployed(networks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Deployed]:
    """Exports a network by name; once a session for each name and option, for it takes a second."""
    folder = tmp_path_factory.mktemp("deployed")

    @cache
    def export(name: str, *, seed: int = 0, exporter: str = "dynamo", precision: str = "fp32") -> Deployed:
        import onnx
        import torch

        from bnn_deploy.export import export_onnx
        from bnn_deploy.samples import random_samples

        module, path = networks.make(name, seed), folder / f"{name}-{seed}-{exporter}-{precision}.onnx"
        example = [torch.zeros(shape) for shape in module.shapes]
        export_onnx(module, example, path, exporter=exporter, precision=precision)
        names = [value.name for value in onnx.load(str(path)).graph.input]
        arrays = [random_samples(shape, 6, seed + index) for index, shape in enumerate(module.shapes)]
        return Deployed(module, path, dict(zip(names, arrays, strict=True)))

    return export


@pytest.fixture
def sums() -> Callable[[Any], Any]:
    """The accumulators of a layer, by PyTorch in float64."""
    import torch
    import torch.nn.functional as F

    def sums(layer: Any) -> Any:
        x, weight = torch.from_numpy(layer.x).double(), torch.from_numpy(layer.weight).double()
        if layer.geometry is None:
            return (x @ weight.T).numpy()
        top, left, bottom, right = layer.geometry.pads
        framed = F.pad(x, (left, right, top, bottom), value=layer.geometry.pad_value)
        geometry = layer.geometry
        return F.conv2d(framed, weight, None, geometry.strides, 0, geometry.dilations, geometry.group).numpy()

    return sums


@pytest.fixture
def golden(tmp_path: Path) -> Callable[..., Path]:
    """Writes a golden bundle of an exported network, or of a changed copy of the file, and returns its folder."""

    def write(
        given: Deployed,
        model: Any = None,
        *,
        folder: Path | None = None,
        feeds: dict[str, Any] | None = None,
        finite: bool = True,
        change: Callable[[Any], Any] = lambda recording: recording,
    ) -> Path:
        from bnn_deploy.parity.golden.writer import GoldenCase, write_golden
        from bnn_deploy.parity.inputs import InputCase

        model = model if model is not None else given.proto()
        feeds = feeds if feeds is not None else given.feeds
        cases = [GoldenCase(InputCase("samples", "random", feeds, finite), change(given.record(feeds)))]
        folder = folder or tmp_path / "golden"
        write_golden(folder, model, cases, description="a test", versions={"x": "1"})
        return folder

    return write
