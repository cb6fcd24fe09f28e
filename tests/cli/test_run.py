"""`bnn-deploy run`: one inference from files, printed, saved or as JSON; every mistake is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from bnn_deploy.runners.base import RunnerBase
from bnn_deploy.runners.catalogue import RUNNERS
from bnn_deploy.tensorrt.interface import describe_tensors
from bnn_deploy.tensorrt.metadata import FORMAT, EngineMetadata, sha256_of, write_engine

Cli = Callable[..., Any]
Deployed = Callable[..., Any]


@pytest.fixture
def residual(deployed: Deployed) -> Any:
    """A network of one input, [N, 3, 4, 4], and five class scores."""
    return deployed("Residual")


def expected(given: Any, feeds: dict[str, Any] | None = None) -> dict[str, Any]:
    import torch

    with torch.no_grad():
        return given.module(*(torch.from_numpy(x) for x in (feeds or given.feeds).values()))


def save(path: Path, array: Any) -> str:
    np.save(path, array)
    return str(path)


@pytest.mark.parametrize("runner", ["onnxruntime", "onnxruntime-unoptimised", "reference"])
def test_every_runner_prints_what_pytorch_computes(runner: str, residual: Any, cli: Cli, tmp_path: Path) -> None:
    x = save(tmp_path / "x.npy", residual.feeds["x"])
    status, out, err = cli("run", str(residual.path), "--input", x, "--runner", runner, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["runner"] == runner
    scores = expected(residual).numpy()
    # Float stem and head, summed in other orders: relative to the largest score.
    np.testing.assert_allclose(found["outputs"]["output"], scores, rtol=0, atol=1e-5 * np.abs(scores).max())


def test_the_largest_scores_of_each_sample(residual: Any, cli: Cli, tmp_path: Path) -> None:
    x = residual.feeds["x"][:2]
    status, out, err = cli("run", str(residual.path), "-i", save(tmp_path / "x.npy", x.astype(np.float64)))
    assert (status, err) == (0, "")
    head, heading, rule, *rows = out.splitlines()
    assert head == "output: 2x5 float32"
    assert heading.split() == ["sample", "class", "score"] and set(rule) == {"-", " "}
    scores = expected(residual, {"x": x}).numpy()
    wanted = [(sample, index) for sample in range(2) for index in np.argsort(-scores[sample])]
    assert [tuple(map(int, row.split()[:2])) for row in rows] == wanted
    shown = [float(row.split()[2]) for row in rows]
    np.testing.assert_allclose(shown, [scores[place] for place in wanted], atol=1e-3 + 1e-5 * np.abs(scores).max())


def test_other_outputs_by_their_first_values(deployed: Deployed, cli: Cli, tmp_path: Path) -> None:
    given = deployed("Spatial")
    status, out, _ = cli("run", str(given.path), "-i", save(tmp_path / "x.npy", given.feeds["x"]))
    first, values = out.splitlines()
    assert status == 0
    assert first == "output: 6x7x2x3 float32"
    found = expected(given).numpy().ravel()[:8]
    np.testing.assert_allclose([float(value) for value in values.split()], found, rtol=1e-4, atol=1e-4)


def test_the_folder_that_export_wrote(residual: Any, cli: Cli, tmp_path: Path) -> None:
    shutil.copy(residual.path, tmp_path / "model.onnx")
    assert cli("run", str(tmp_path), "-i", save(tmp_path / "x.npy", residual.feeds["x"])).status == 0


@pytest.mark.parametrize("form", ["in order", "by name", "npz"])
def test_several_inputs_and_outputs(form: str, deployed: Deployed, cli: Cli, tmp_path: Path) -> None:
    given = deployed("TwoInputs")
    paths = {name: save(tmp_path / f"{name}.npy", x) for name, x in given.feeds.items()}
    np.savez(tmp_path / "all.npz", **given.feeds)
    options = {
        "in order": list(paths.values()),
        "by name": [f"{name}={path}" for name, path in reversed(paths.items())],
        "npz": [str(tmp_path / "all.npz")],
    }[form]
    words = [word for option in options for word in ("--input", option)]
    saved = tmp_path / "out.npz"
    status, out, err = cli("run", str(given.path), *words, "--save", str(saved))
    assert (status, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("output")] == [
        "output_0",
        "output_1",
        "output_2",
    ]
    wanted = expected(given)
    with np.load(saved) as found:
        assert sorted(found.files) == ["output_0", "output_1", "output_2"]
        np.testing.assert_allclose(found["output_0"], wanted["features"].numpy(), rtol=1e-4, atol=1e-4)


def with_metadata(given: Any, path: Path, **values: str) -> str:
    model = given.proto()
    for key, value in values.items():
        model.metadata_props.add(key=f"bnn_deploy.{key}", value=value)
    onnx.save(model, str(path))
    return str(path)


def test_an_image_is_normalised_as_the_file_says(residual: Any, cli: Cli, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    x = ((pixels / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype(np.float32)
    scores = expected(residual, {"x": x}).numpy()
    file = with_metadata(residual, tmp_path / "m.onnx", preprocessing='{"mean": [0.5], "deviation": [0.25]}')
    image = str(tmp_path / "x.png")
    for words in (
        (file, "-i", image),
        (str(residual.path), "-i", image, "--mean", "0.5", "--deviation", "0.25,0.25,0.25"),
        (file, "-i", image, "--mean", "0.5,0.5,0.5", "--deviation", "0.25"),
    ):
        status, out, _ = cli("run", *words, "--json")
        assert status == 0
        found = json.loads(out)["outputs"]["output"]
        np.testing.assert_allclose(found, scores, rtol=0, atol=1e-4 * np.abs(scores).max())


MISTAKES = {
    "wrong shape": (("-i", "{bad_shape}"), "onnxruntime: input 'x': shape 1x3x5x4; wanted: shape batchx3x4x4"),
    "wrong shape, reference": (("-i", "{bad_shape}", "--runner", "reference"), "reference: input 'x': shape 1x3x5x4"),
    "integers": (("-i", "{integers}"), "{integers}: values of type int64; wanted: float32"),
    "pickled": (("-i", "{pickled}"), "{pickled}: cannot be read: "),
    "broken": (("-i", "{broken}"), "{broken}: cannot be read: "),
    "no file": (("-i", "{folder}/none.npy"), "{folder}/none.npy: no such file; wanted: an .npy file or an image"),
    "too many": (("-i", "{good}", "-i", "{good}"), "--input: 2 given; wanted: one for each of x"),
    "unknown name in npz": (("-i", "{npz}"), "onnxruntime: inputs ['y']; wanted: inputs ['x']"),
    "image, no normalisation": (("-i", "{png}"), "{png}: an image, and the file does not say how images are"),
    "image, two means": (("-i", "{png}", "--mean", "0,0"), "the mean of images: 2 numbers"),
    "no number": (("-i", "{png}", "--mean", "grey"), "--mean 'grey': not numbers; wanted: one number, or one a"),
    "nowhere to save": (("-i", "{good}", "--save", "{folder}/no/such/out.npz"), "--save {folder}/no/such/out.npz: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake: str, residual: Any, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY no more of it")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(tmp_path / "named.npz", y=residual.feeds["x"])
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "x.png")
    places = {
        "folder": str(tmp_path),
        "good": save(tmp_path / "good.npy", residual.feeds["x"]),
        "bad_shape": save(tmp_path / "bad_shape.npy", np.zeros((1, 3, 5, 4))),
        "integers": save(tmp_path / "integers.npy", np.zeros((1, 3, 4, 4), np.int64)),
        "pickled": str(tmp_path / "pickled.npy"),
        "broken": str(tmp_path / "broken.npy"),
        "npz": str(tmp_path / "named.npz"),
        "png": str(tmp_path / "x.png"),
    }
    words, message = MISTAKES[mistake]
    status, out, err = cli("run", str(residual.path), *(word.format(**places) for word in words))
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message.format(**places)}"), err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.onnx", None, "no such file"),
        ("empty.onnx", b"", "no node in it"),
        ("text.onnx", b"this is no model", "cannot be read as ONNX: "),
    ],
)
@pytest.mark.parametrize("command", [("run", "-i", "x.npy"), ("inspect",)])
def test_no_model(
    command: tuple[str, ...], name: str, content: bytes | None, message: str, cli: Cli, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    status, out, err = cli(command[0], str(tmp_path / name), *command[1:])
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / name}: {message}")
    assert err.count("\n") == 1


def test_a_model_that_onnxruntime_does_not_load(residual: Any, cli: Cli, tmp_path: Path) -> None:
    model = residual.proto()
    model.graph.node[0].op_type = "NoSuchOp"
    onnx.save(model, str(tmp_path / "m.onnx"))
    x = save(tmp_path / "x.npy", residual.feeds["x"])
    status, out, err = cli("run", str(tmp_path / "m.onnx"), "-i", x)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / 'm.onnx'}: ONNX Runtime") and "NoSuchOp" in err and err.count("\n") == 1
    status, out, err = cli("run", str(tmp_path / "m.onnx"), "-i", x, "--runner", "reference")
    assert (status, out) == (2, "")
    assert "NoSuchOp" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("runner", "message"),
    [
        ("tpu", "runner 'tpu': no such runner; wanted: one of reference, onnxruntime, "),
        ("openvino", "runner 'openvino': does not load a deployed file; wanted: one of reference, "),
    ],
)
def test_a_runner_that_there_is_not(runner: str, message: str, residual: Any, cli: Cli) -> None:
    status, out, err = cli("run", str(residual.path), "-i", "x.npy", "--runner", runner)
    assert (status, out, err.count("\n")) == (2, "", 1) and err.startswith(f"error: {message}")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("runner", "message"),
    [("onnxruntime-cuda", "runner onnxruntime-cuda: "), ("tensorrt", "")],
)
def test_a_runner_without_a_gpu_says_so_in_a_line(
    runner: str, message: str, residual: Any, cli: Cli, tmp_path: Path
) -> None:
    x = save(tmp_path / "x.npy", residual.feeds["x"])
    status, out, err = cli("run", str(residual.path), "-i", x, "--runner", runner)
    assert (status, out, err.count("\n")) == (2, "", 1) and err.startswith(f"error: {message}"), err


@pytest.fixture
def engine(residual: Any, tmp_path: Path) -> Path:
    """An engine whose plan is no plan, with the metadata of a network."""
    model, plan = residual.proto(), b"plan"
    values: dict[str, Any] = {entry.name: "" for entry in fields(EngineMetadata)}
    values |= {"engine_sha256": sha256_of(plan), "properties": {}, "format": FORMAT}
    values |= {name: describe_tensors(getattr(model.graph, name[:-1])) for name in ("inputs", "outputs")}
    metadata = EngineMetadata(**values)
    write_engine(tmp_path / "x.engine", plan, metadata)
    return tmp_path / "x.engine"


def test_an_engine_runs_on_tensorrt(
    engine: Path, residual: Any, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Made(RunnerBase):
        name = "tensorrt"

        def __init__(self, file: Any) -> None:
            assert file == engine

        def infer(self, feeds: Any) -> Any:
            assert list(feeds) == ["x"] and feeds["x"].shape == residual.feeds["x"].shape
            return {"output": np.zeros((1, 5), np.float32)}

    x = save(tmp_path / "x.npy", residual.feeds["x"])
    monkeypatch.setitem(RUNNERS, "tensorrt", replace(RUNNERS["tensorrt"], make=lambda module, task: Made(task.file)))
    status, out, err = cli("run", str(engine), "-i", x, "--json")
    assert (status, err) == (0, "") and json.loads(out)["runner"] == "tensorrt"
    status, _, err = cli("run", str(engine), "-i", x, "--runner", "onnxruntime")
    assert status == 2 and err.startswith(f"error: runner onnxruntime: {engine} is an engine; wanted: an ONNX file")


@pytest.mark.parametrize("command", ["inspect", "parity", "engine"])
def test_a_command_that_takes_no_engine(command: str, engine: Path, cli: Cli) -> None:
    status, out, err = cli(command, str(engine))
    assert (status, out) == (2, "")
    assert err == f"error: {engine}: an engine; wanted: the ONNX file that it was built of\n"
