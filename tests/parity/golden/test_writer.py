"""Writing a bundle: what is in it, whose hashes they are, and that a folder is never half one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bnn_deploy.bits import Levels
from bnn_deploy.errors import InputRefused
from bnn_deploy.parity.golden import writer
from bnn_deploy.parity.golden.reader import read_golden
from bnn_deploy.parity.golden.writer import GoldenCase, check_target, golden_cases, write_golden
from bnn_deploy.parity.inputs import InputCase
from bnn_deploy.runners.base import BinarizationRecord, Exact, Recording
from bnn_deploy.runners.pytorch import PyTorchRunner

Deployed = Callable[..., Any]
Golden = Callable[..., Path]


def manifest_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("network", ["Residual", "Fused", "Ternary", "UnipolarChain", "Assorted", "Repeated"])
def test_hashes_and_levels_are_those_of_pytorch(network: str, deployed: Deployed, golden: Golden, sums: Any) -> None:
    given = deployed(network)
    recording = given.record()
    bundle = read_golden(golden(given))
    (case,) = bundle.cases
    assert (bundle.description, bundle.versions, case.name, case.samples) == ("a test", {"x": "1"}, "samples", 6)
    assert bundle.model == given.proto()
    for kept, record in zip(case.binarizations, recording.binarizations, strict=True):
        assert (kept.name, kept.levels) == (record.name, record.levels)
        sign = np.sign(record.x) if record.levels == "ternary" else np.where(record.x >= 0, 1, -1)
        np.testing.assert_array_equal(kept.expected, sign)
        # Not further from 0 than the stated tolerance, and some are nearer by their proven bound.
        assert (np.abs(record.x)[kept.ties] <= 1e-5 * np.abs(record.x).max()).all()
        assert kept.ties.shape == record.x.shape
    for layer, record in zip(case.layers, recording.layers, strict=True):
        assert (layer.record.name, layer.record.geometry) == (record.name, record.geometry)
        np.testing.assert_array_equal(layer.record.weight, record.weight)
        if layer.record.name == "weights_only":
            assert layer.accumulator_sha256 is None and layer.record.x.size == 0
            continue
        np.testing.assert_array_equal(layer.record.x, record.x)
        expected = sums(record)
        assert layer.shape == expected.shape
        assert layer.accumulator_sha256 == hashlib.sha256(expected.astype("<i4").tobytes()).hexdigest()
    for found, expected in ((case.feeds, given.feeds), (case.outputs, recording.outputs)):
        assert list(found) == list(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


def test_the_manifest_hashes_every_file_and_the_size_is_returned(deployed: Deployed, tmp_path: Path) -> None:
    given = deployed("Residual")
    cases = [
        GoldenCase(InputCase(name, "", feeds), given.record(feeds))
        for name, feeds in (("all", given.feeds), ("two", {"x": given.feeds["x"][:2]}))
    ]
    size = write_golden(tmp_path / "golden", given.proto(), cases)
    files = contents(tmp_path / "golden")
    assert size == sum(map(len, files.values()))
    listed = manifest_of(tmp_path / "golden")["files"]
    assert set(files) == {*listed, "manifest.json"}
    assert {"model.onnx", "expected.npz", "case1/inputs.npz", "case2/outputs.npz"} <= set(files)
    for name, entry in listed.items():
        assert entry == {"bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
    assert [case.samples for case in read_golden(tmp_path / "golden").cases] == [6, 2]


def test_equal_arrays_are_kept_once_and_equal_bundles_are_equal_files(deployed: Deployed, golden: Golden) -> None:
    given = deployed("Repeated")
    folder = golden(given)
    first = contents(folder)
    (case,) = manifest_of(folder)["cases"]
    weights = {layer["weight"]["sha256"] for layer in case["layers"]}
    assert len(case["layers"]) == 6 and len(weights) == 3
    with np.load(folder / "expected.npz") as arrays:
        assert weights <= set(arrays.files)
    assert contents(golden(given)) == first


def test_names_that_numpy_would_take_for_its_own(deployed: Deployed, tmp_path: Path) -> None:
    """`file` and `allow_pickle` are parameters of numpy.savez."""
    given = deployed("Residual")
    recording = given.record()
    inputs = {"file": given.feeds["x"], "allow_pickle": given.feeds["x"]}
    write_golden(tmp_path / "golden", given.proto(), [GoldenCase(InputCase("", "", inputs), recording)])
    assert list(read_golden(tmp_path / "golden").cases[0].feeds) == ["file", "allow_pickle"]


def test_the_tolerance_of_an_output(deployed: Deployed, golden: Golden) -> None:
    given = deployed("Residual")
    (entry,) = manifest_of(golden(given))["cases"]
    largest = np.abs(given.record().outputs["output"]).max()
    assert entry["finite"] and entry["tolerances"] == {"output": pytest.approx(1e-5 * largest)}


class TestTies:
    """Four values that PyTorch binarised, and how far rounding may have moved each."""

    x = np.array([[1e-3, -1e-3, 0.0, 1.0]], np.float32)

    def ties(self, golden: Golden, deployed: Deployed, exact: Exact | None) -> list[bool]:
        def change(recording: Recording) -> Recording:
            one = BinarizationRecord("first/Binarize", self.x, Levels.BIPOLAR, exact)
            return replace(recording, binarizations=(one,))

        (kept,) = read_golden(golden(deployed("Residual"), change=change)).cases[0].binarizations
        (found,) = kept.ties.tolist()
        return found

    def test_by_the_stated_tolerance(self, deployed: Deployed, golden: Golden) -> None:
        assert self.ties(golden, deployed, None) == [False, False, True, False]

    def test_by_a_proven_bound(self, deployed: Deployed, golden: Golden) -> None:
        """The bound narrows the stated tolerance, to nothing where rounding cannot reach, and never widens it."""
        value = np.array([[1e-6, -1e-6, 0.0, 1.0]])
        bound = np.array([[1e-7, 2e-6, 0.0, 2.0]])
        assert self.ties(golden, deployed, Exact(value, bound)) == [False, True, False, False]

    def test_where_nothing_is_proven(self, deployed: Deployed, golden: Golden) -> None:
        value = np.array([[1e-6, -1e-6, 0.0, 1.0]])
        assert self.ties(golden, deployed, Exact(value, np.full((1, 4), np.nan))) == [True, True, True, False]

    def test_where_pytorch_itself_took_the_other_side(self, deployed: Deployed, golden: Golden) -> None:
        value = np.array([[-1e-3, 1e-3, -1e-9, np.nan]])
        assert self.ties(golden, deployed, Exact(value, np.zeros((1, 4)))) == [True, True, True, False]


class TestTheFolder:
    @pytest.mark.parametrize("there", ["nothing", "nothing, nor the folder around it", "an empty folder", "a bundle"])
    def test_is_taken(self, there: str, deployed: Deployed, golden: Golden, tmp_path: Path) -> None:
        given, folder = deployed("Residual"), tmp_path / "golden"
        if there == "an empty folder":
            folder.mkdir()
        elif there == "a bundle":
            golden(deployed("Ternary"), folder=folder)
            (folder / "left-over.txt").write_text("of the old one")
        elif there != "nothing":
            folder = tmp_path / "a" / "b" / "golden"
        golden(given, folder=folder)
        assert read_golden(folder).model == given.proto()
        assert not (folder / "left-over.txt").exists()
        assert [path.name for path in folder.parent.iterdir()] == ["golden"]

    @pytest.mark.parametrize("there", ["a file", "another folder", "a manifest of something else"])
    def test_is_refused(self, there: str, deployed: Deployed, golden: Golden, tmp_path: Path) -> None:
        folder = tmp_path / "golden"
        if there == "a file":
            folder.write_text("mine")
        else:
            folder.mkdir()
            (folder / "manifest.json" if "manifest" in there else folder / "thesis.txt").write_text('{"mine": 1}')
        before = contents(tmp_path)
        with pytest.raises(InputRefused, match=r"golden: .*name another folder"):
            golden(deployed("Residual"), folder=folder)
        with pytest.raises(InputRefused):
            check_target(folder)
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("failing", ["write_bytes", "rename"])
    def test_keeps_the_old_bundle_when_writing_fails(
        self, failing: str, deployed: Deployed, golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = deployed("Residual")
        folder = golden(given)
        before = contents(tmp_path)
        works, calls = getattr(Path, failing), []

        def fail_the_second_time(self: Path, *arguments: Any) -> Any:
            calls.append(self)
            if len(calls) == 2:
                raise OSError(28, "No space left on device")
            return works(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Path, failing, fail_the_second_time)
            with pytest.raises(InputRefused, match="cannot be written: No space left on device"):
                golden(given, folder=folder, feeds={"x": given.feeds["x"][:1]})
        assert contents(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["golden"]

    def test_is_not_touched_before_everything_is_computed(
        self, deployed: Deployed, golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "npz_bytes", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            golden(deployed("Residual"))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("room", "taken"), [(0, [6]), (6 * 48 * 4 - 1, [6]), (7 * 48 * 4, [6, 1]), (10**6, [6, 1, 4])])
def test_cases_are_taken_while_they_fit(room: int, taken: list[int], deployed: Deployed, tmp_path: Path) -> None:
    """An input of 48 float32 values; the first case is taken whatever its size."""
    given = deployed("Residual")
    model = given.proto()
    reference = PyTorchRunner(given.module, ["x"], ["output"])
    cases = [InputCase(str(count), "", {"x": given.feeds["x"][:count]}) for count in (6, 1, 4)]
    chosen = golden_cases(reference, model, cases, input_bytes=room)
    assert [len(case.recording.outputs["output"]) for case in chosen] == taken
    assert [case.inputs.name for case in chosen] == [str(count) for count in taken]
    write_golden(tmp_path / "golden", model, chosen)
    assert [case.samples for case in read_golden(tmp_path / "golden").cases] == taken


def test_the_model_is_a_file_that_anyone_can_run(deployed: Deployed, golden: Golden) -> None:
    given = deployed("Residual")
    assert onnx.load(str(golden(given) / "model.onnx")) == given.proto()
