"""The bundle for a GPU machine, as far as it goes without one: pieces, stages, and a run of a small bundle."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

GPU = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
sys.path.append(str(GPU))

import bundle  # noqa: E402
import contents  # noqa: E402
import end_to_end  # noqa: E402
import pieces  # noqa: E402
import run_bundle  # noqa: E402
import stages  # noqa: E402
from pieces import FILE, FOLDER, Item, PieceError  # noqa: E402

from bnn_deploy.errors import InputRefused  # noqa: E402
from bnn_deploy.parity.golden.reader import read_golden  # noqa: E402
from bnn_deploy.runners.onnxruntime import OnnxRuntimeRunner  # noqa: E402

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a bundle is run by a shell script")


# ---- pieces


@settings(max_examples=30)
@given(content=st.binary(max_size=4000), most=st.integers(1, 700))
def test_a_file_is_put_together_again(content: bytes, most: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cut")
    item = Item("big", FILE, "a/b", True, pieces.cut(lzma.compress(content), "big", folder, most))
    sizes = [(folder / piece.name).stat().st_size for piece in item.pieces]
    assert sizes == [piece.bytes for piece in item.pieces] and max(sizes) <= most
    pieces.unpack(item, folder, folder / "out")
    assert (folder / "out" / "a" / "b").read_bytes() == content


def small_folder(tmp_path: Path, most: int = 100) -> Item:
    """A folder of two files, one of which can be executed, in pieces."""
    (tmp_path / "plain").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "script").chmod(0o755)
    content = pieces.archive([("x/plain", tmp_path / "plain"), ("script", tmp_path / "script")])
    return Item("folder", FOLDER, "there", True, pieces.cut(content, "folder", tmp_path, most))


def test_a_folder_keeps_names_contents_and_rights(tmp_path: Path) -> None:
    item = small_folder(tmp_path)
    assert len(item.pieces) > 1
    pieces.unpack(item, tmp_path, tmp_path / "out")
    assert (tmp_path / "out" / "there" / "x" / "plain").read_bytes() == (tmp_path / "plain").read_bytes()
    assert os.access(tmp_path / "out" / "there" / "script", os.X_OK)


@pytest.mark.parametrize("kind", [FILE, FOLDER])
def test_damage_is_found_before_it_is_used(kind: str, tmp_path: Path) -> None:
    item = Item(**{**vars(small_folder(tmp_path)), "kind": kind})
    last = tmp_path / item.pieces[-1].name
    last.write_bytes(last.read_bytes()[:-1] + b"?")
    with pytest.raises(PieceError, match=r"folder\.0\d\d is damaged"):
        pieces.unpack(item, tmp_path, tmp_path / "out")
    last.unlink()
    assert pieces.missing(item, tmp_path) == [item.pieces[-1].name]
    with pytest.raises(PieceError, match="is missing"):
        pieces.unpack(item, tmp_path, tmp_path / "out")


def test_too_few_pieces_in_the_manifest(tmp_path: Path) -> None:
    item = small_folder(tmp_path)
    content = lzma.compress(os.urandom(1000))
    short = Item("file", FILE, "a", True, pieces.cut(content, "file", tmp_path, 500)[:1])
    with pytest.raises(PieceError, match="ends too early"):
        pieces.unpack(short, tmp_path, tmp_path / "out")
    pieces.write_manifest(tmp_path, [item, short], {"commit": "abc"})
    assert pieces.read_manifest(tmp_path) == ([item, short], {"commit": "abc"})


@pytest.mark.parametrize("text", ["", "[", '{"format": 0}'])
def test_no_manifest(text: str, tmp_path: Path) -> None:
    if text:
        (tmp_path / pieces.MANIFEST).write_text(text)
    with pytest.raises(PieceError, match=r"manifest\.json: "):
        pieces.read_manifest(tmp_path)


def test_pieces_are_kept_from_call_to_call(tmp_path: Path) -> None:
    item, kept = small_folder(tmp_path), tmp_path / "kept"
    names = [piece.name for piece in item.pieces]
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
    (tmp_path / names[0]).rename(tmp_path / "one" / names[0])
    for name in names[1:]:
        (tmp_path / name).rename(tmp_path / "two" / name)
    extra = Item("extra", FILE, "e", False, [pieces.Piece("extra.000", 1, "")])
    assert run_bundle.keep([item, extra], tmp_path / "two", kept) == names[:1]
    assert run_bundle.keep([item, extra], tmp_path / "one", kept) == []
    done = {"folder": "unpacked", "extra": "extra.000 missing"}
    assert run_bundle.unpack_all([item, extra], kept, tmp_path / "out") == done
    (tmp_path / "out" / "there" / "script").write_text("changed")
    assert run_bundle.unpack_all([item, extra], kept, tmp_path / "out") == done
    assert (tmp_path / "out" / "there" / "script").read_text() == "changed", "unpacked once"


# ---- what goes in


def test_no_piece_is_too_large_to_travel() -> None:
    assert pieces.PIECE_BYTES < 60 * 2**20


def test_what_is_recompressed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(b"\xe8\x00\x01\x02\x03" * 2000)
    made = contents.recompressed(library, tmp_path / "cache")
    assert lzma.decompress(made) == library.read_bytes()
    monkeypatch.setattr(lzma, "compress", lambda *_, **__: pytest.fail("compressed again"))
    assert contents.recompressed(library, tmp_path / "cache") == made


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(contents, "ROOT", tmp_path)
    with pytest.raises(contents.Missing, match=r"libbnn_deploy_ort\.so, .*: make plugins"):
        contents.libraries()
    for name in contents.LIBRARIES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(contents.Missing, match="GPU_ARCHITECTURE=90"):
        contents.libraries()
    monkeypatch.setattr(bundle, "sources", list)
    monkeypatch.setattr(sys, "argv", ["bundle.py", "--output", str(tmp_path / "out")])
    assert bundle.main() == 2
    assert capsys.readouterr().err.startswith("error: build/gpu/programs: ")


def test_models_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[Path, bool]] = []

    def models(folder: Path, *, fresh: bool) -> list[tuple[str, Path]]:
        asked.append((folder, fresh))
        return [("net/model.onnx", tmp_path)]

    monkeypatch.setattr(bundle, "models", models)
    words = ["--only-models", "--keep-models", "--models", str(tmp_path), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["bundle.py", *words])
    assert bundle.main() == 0 and asked == [(tmp_path, False)]
    assert capsys.readouterr().out == f"{tmp_path}: 1 files\n" and not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [[], ["--no-pycuda"]])
def test_pycuda_goes_in_unless_it_is_left_out(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(python: str, folder: Path) -> list[tuple[str, Path]]:
        (tmp_path / "source").write_text(python)
        return [("pycuda-1.tar.gz", tmp_path / "source")]

    for name in ("sources", "libraries"):
        monkeypatch.setattr(bundle, name, list)
    monkeypatch.setattr(bundle, "models", lambda folder, *, fresh: [])
    monkeypatch.setattr(bundle, "commit", lambda: "abc")
    monkeypatch.setattr(bundle, "pycuda", fetched)
    output = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["bundle.py", "--output", str(output), "--no-tensorrt-rtx", *words])
    assert bundle.main() == 0
    items = {item.name: item for item in pieces.read_manifest(output)[0]}
    assert ("pycuda" in items) != bool(words)
    if not words:
        assert not items["pycuda"].needed
        pieces.unpack(items["pycuda"], output, tmp_path / "there")
        assert (tmp_path / "there" / "pycuda" / "pycuda-1.tar.gz").read_text() == "3.12"


def test_scripts_of_the_bundle_stand_alone() -> None:
    """Outside of the tree, where nothing is installed: Python alone."""
    code = "import run_bundle, sys; print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'bnn_deploy')])"
    answer = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.append({str(GPU)!r}); {code}"],
                            capture_output=True, text=True, check=True)  # fmt: skip
    assert answer.stdout == "[]\n"


# ---- stages


def outcome(code: str, tmp_path: Path, seconds: float = 60, result: Path | None = None) -> dict[str, Any]:
    place = stages.Workplace(tmp_path)
    place.tree.mkdir(exist_ok=True)
    stage = stages.Stage("try", [sys.executable, "-c", code], seconds, {"WHAT": "this"}, result)
    return stages.run_stage(stage, place, tmp_path / "log")


def test_a_stage_and_its_log(tmp_path: Path) -> None:
    print_all = "import os; print('{\"a\": 1}'); print('{no'); print(os.environ['WHAT'], os.getcwd())"
    found = outcome(print_all, tmp_path)
    assert found["status"] == "passed" and found["rows"] == [{"a": 1}]
    assert found["last_line"] == f"this {tmp_path / 'tree'}"
    again = outcome("raise SystemExit('wrong')", tmp_path)
    assert (again["status"], again["last_line"], again["rows"]) == ("failed", "wrong", [])
    log = (tmp_path / "log").read_text()
    assert log.count("==== try: ") == 2 and log.index('{"a": 1}') < log.index("wrong")


def test_a_stage_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    hang = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)"
    wait = f"print('began', flush=True); {hang.replace('subprocess.run', 'subprocess.Popen')}.wait()"
    found = outcome(wait, tmp_path, seconds=2)
    assert (found["status"], found["last_line"]) == ("timed out", "began")


def test_a_stage_is_asked_before_it_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hears it can end what it has started elsewhere; one that does not is ended, with all of its group."""
    listen = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: {}); print('began', flush=True)"
    heard = outcome(listen.format("(print('ending', flush=True), exit(1))") + "; time.sleep(60)", tmp_path, seconds=2)
    assert (heard["status"], heard["last_line"]) == ("timed out", "ending")
    monkeypatch.setattr(stages, "GRACE_SECONDS", 0.5)
    deaf = outcome(listen.format("None") + "\nwhile True: time.sleep(60)", tmp_path, seconds=2)
    assert (deaf["status"], deaf["last_line"]) == ("timed out", "began") and deaf["seconds"] < 30


def test_a_stage_knows_how_much_time_there_is(tmp_path: Path) -> None:
    stage = stages.Stage("try", ["a", tmp_path], 90, minutes=True)
    assert stage.words(80) == ["a", str(tmp_path), "--minutes", "1.00"]
    place = stages.Workplace(tmp_path)
    place.tree.mkdir()
    slow = stages.Stage("try", [sys.executable, "-c", "import time; time.sleep(60)"], 60)
    found = stages.run_stage(slow, place, tmp_path / "log", seconds=1)
    assert found["status"] == "timed out" and found["seconds"] < 30


def test_a_stage_that_cannot_begin(tmp_path: Path) -> None:
    place = stages.Workplace(tmp_path)
    found = stages.run_stage(stages.Stage("try", [tmp_path / "nothing"], 1), place, tmp_path / "log")
    assert found["status"] == "failed" and "No such file" in found["last_line"]


def test_what_a_stage_writes_is_part_of_the_report(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    found = outcome(f"open({str(tmp_path / 'r' / 'a.json')!r}, 'w').write('[1]')", tmp_path, result=tmp_path / "r")
    assert found["files"] == {"a.json": [1]}


def test_stages_on_a_gpu_and_dry(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a.whl").touch()
    (tmp_path / "pycuda").mkdir()
    on_gpu = stages.stages(stages.Workplace(tmp_path))
    assert tuple(stage.name for stage in on_gpu) == stages.NAMES
    dry = stages.stages(stages.Workplace(tmp_path, dry=True))
    assert tuple(stage.name for stage in dry) == tuple(
        name for name in stages.NAMES if name not in ("wheels", "tensorrt", "sanitizer", "pycuda")
    )
    assert all("_host.so" in str(word) for stage in dry for word in stage.command if str(word).endswith(".so"))
    assert not any("_host.so" in str(word) for stage in on_gpu for word in stage.command)
    scripts = [word for stage in on_gpu for word in stage.command if str(word).endswith(".py")]
    assert {tmp_path / "tree" / "tests" / "plugins" / "cuda" / name for name in stages.EXECUTOR_TESTS} < set(scripts)
    assert all((GPU.parents[1] / word.relative_to(tmp_path / "tree")).is_file() for word in scripts) and scripts
    assert [stage.name for stage in on_gpu if stage.minutes] == ["bench"] and stages.PROBED in contents.MODELS


def test_packages_that_are_on_the_path_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {}
    for before in ("", "/brought/along"):
        monkeypatch.setenv("PYTHONPATH", before)
        paths[before] = stages.Workplace(tmp_path).environment()["PYTHONPATH"].split(os.pathsep)
    assert paths[""] == [str(tmp_path / "site"), str(tmp_path / "tree")]
    assert paths["/brought/along"] == [*paths[""], "/brought/along"]


def test_a_hang_before_the_figures_leaves_time_for_them(tmp_path: Path) -> None:
    """Ten minutes: whichever of the first stages takes all that it may, the next ones begin."""
    (tmp_path / "pycuda").mkdir()
    found = {stage.name: stage.seconds for stage in stages.stages(stages.Workplace(tmp_path))}
    before = list(found)[: list(found).index("bench")]
    assert before and max(found[name] for name in before) <= 150
    assert list(found)[-1] == "pycuda", "what a machine can do without takes no time from the others"


def test_what_the_machine_lacks_is_no_failure(tmp_path: Path) -> None:
    found = outcome(f"print('not available: this'); raise SystemExit({stages.NOT_AVAILABLE})", tmp_path)
    assert (found["status"], found["last_line"]) == ("not available", "not available: this")
    report = run_bundle.Report(tmp_path, tmp_path / "out")
    for status, well in (("not available", True), ("failed", False), ("timed out", False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run_bundle, "run_stage", lambda *_, made=status: {"status": made, "last_line": ""})
            assert report.run(stages.Stage("try", [], 1), stages.Workplace(tmp_path), 60) == well


# ---- whole networks


class Spoiled(OnnxRuntimeRunner):
    """Wrong where a tensor is largest."""

    def infer(self, feeds: Any) -> Any:
        return {name: array + (array.max() == array) for name, array in super().infer(feeds).items()}


def test_a_network_is_held_to_its_golden_bundle(deployed: Callable[..., Any], golden: Callable[..., Path]) -> None:
    found = read_golden(golden(deployed("Residual")))
    right, wrong = (end_to_end.summary(found, "x", runner) for runner in (OnnxRuntimeRunner, Spoiled))
    assert right["passed"] and right["accumulators"] > 0 and not right["failures"]
    assert not wrong["passed"] and wrong["failures"] and wrong["accumulator_mismatches"] > 0


def test_what_tensorrt_refuses_is_said_and_what_it_gets_wrong_is_a_failure(
    deployed: Callable[..., Any], golden: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: Any) -> Any:
        raise InputRefused("TensorRT", "not for\n this GPU")

    found = read_golden(golden(deployed("Residual")))
    for factory, wanted in ((refuse, {"refused": "TensorRT: not for this GPU"}), (Spoiled, None)):
        monkeypatch.setattr(end_to_end, "factories", lambda names, made=factory: dict.fromkeys(names, made))
        result = end_to_end.on_tensorrt(found)
        assert result == wanted if wanted else not result["passed"]


# ---- a run

TREE = {
    "benchmarks/gpu/first_run.py": 'print(\'{"step": "device"}\')',
    "tests/plugins/cuda/test_pack.py": "def test_this(): pass",
    "tests/plugins/tensorrt/test_fields.py": "def test_that(): assert False",
    "benchmarks/gpu/end_to_end.py": 'print(\'{"model": "m"}\')',
    "benchmarks/gpu/bench_gpu.py": (
        "import sys; open(sys.argv[sys.argv.index('--output') + 1] + '.json', 'w'); raise SystemExit('no GPU')"
    ),
}


@pytest.fixture
def small_bundle(tmp_path: Path) -> Path:
    """A bundle whose stages do next to nothing; two of them fail."""
    folder, files = tmp_path / "bundle", []
    folder.mkdir()
    for number, (name, text) in enumerate(TREE.items()):
        (tmp_path / f"{number}").write_text(text)
        files.append((name, tmp_path / f"{number}"))
    items = [Item("sources", FOLDER, "tree", True, pieces.cut(pieces.archive(files), "sources", folder, 300))]
    pieces.write_manifest(folder, items, {"commit": "abc"})
    for script in bundle.SCRIPTS:
        (folder / script).write_bytes((GPU / script).read_bytes())
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(folder / "run_bundle.sh"), "--work", str(folder / "work"), "--output", str(folder / "out")]
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)


def test_a_run_goes_on_where_a_stage_fails(small_bundle: Path) -> None:
    ran = run(small_bundle, "--dry-run")
    assert ran.returncode == 1, ran.stderr
    report = json.loads((small_bundle / "out" / "gpu-bundle.json").read_text())
    found = {name: stage["status"] for name, stage in report["stages"].items()}
    assert found == {
        "first run": "passed",
        "end to end": "passed",
        "kernels": "passed",
        "plugin host": "failed",
        "bench": "failed",
    }
    assert report["stages"]["end to end"]["rows"] == [{"model": "m"}] and report["about"] == {"commit": "abc"}
    assert report["stages"]["bench"]["last_line"] == "no GPU" and report["items"] == {"sources": "unpacked"}
    log = (small_bundle / "out" / "gpu-bundle.log").read_text()
    assert "test_that" in log and "==== bench: " in log
    assert {path.name for path in (small_bundle / "out").iterdir()} == {"gpu-bundle.json", "gpu-bundle.log"}

    again = run(small_bundle, "--dry-run", "--stage", "end to end")
    assert again.returncode == 0
    report = json.loads((small_bundle / "out" / "gpu-bundle.json").read_text())
    assert set(report["stages"]) == set(found), "what other calls found stays"


def test_what_no_time_is_left_for_is_said(small_bundle: Path) -> None:
    ran = run(small_bundle, "--dry-run", "--minutes", "0.01")
    assert ran.returncode == 1
    report = json.loads((small_bundle / "out" / "gpu-bundle.json").read_text())
    assert {stage["status"] for stage in report["stages"].values()} == {"not run"}


def test_a_call_that_is_killed_leaves_what_it_had(tmp_path: Path) -> None:
    """The report says which stage had begun, and the log what it had printed."""
    output = tmp_path / "out"
    (tmp_path / "work").mkdir()
    report = run_bundle.Report(tmp_path / "work", output)
    seen: list[str] = []

    def look(stage: Any, place: Any, log: Path, seconds: float) -> dict[str, Any]:
        log.write_text("printed")
        seen.append(json.loads((output / "gpu-bundle.json").read_text())["stages"]["try"]["status"])
        seen.append((output / "gpu-bundle.log").read_text())
        return {"status": "passed", "last_line": ""}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_bundle, "run_stage", look)
        assert report.run(stages.Stage("try", [], 1), stages.Workplace(tmp_path), 60)
    assert seen == ["began", "printed"]
    again = run_bundle.Report(tmp_path / "work", tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "gpu-bundle.log").read_text() == "printed" and "try" in again.content["stages"]


def test_pieces_that_are_still_to_come(small_bundle: Path) -> None:
    piece = small_bundle / "sources.001"
    kept = piece.read_bytes()
    piece.unlink()
    ran = run(small_bundle, "--dry-run")
    assert ran.returncode == 3 and ran.stderr == "still to come, or damaged: sources.001\n"
    piece.write_bytes(b"?" * len(kept))
    ran = run(small_bundle, "--dry-run")
    assert ran.returncode == 3 and ran.stderr == "still to come, or damaged: sources.001\n"
    piece.write_bytes(kept)
    assert run(small_bundle, "--dry-run", "--stage", "end to end").returncode == 0


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_without_a_gpu(small_bundle: Path) -> None:
    ran = run(small_bundle)
    assert ran.returncode == 2 and ran.stderr == "error: nvidia-smi finds no GPU; --dry-run does without\n"
