"""Unpacks a GPU bundle, then tests and measures what is in it. Needs nothing but Python and what the bundle brings.

    ./run_bundle.sh --output results              on a machine with a GPU
    ./run_bundle.sh --output results --dry-run    anywhere: the host executor's libraries, no times

Pieces may come in several calls: each call keeps those that lie beside it, and the first that has all that is needed
goes on. Each stage is a process of its own; one that fails, hangs or breaks the GPU's context takes nothing else with
it. `gpu-bundle.json` is written after every stage, `gpu-bundle.log` has all that was printed. A stage that is run again
replaces what the file says of it.

Exit status: 0 all is well; 1 a stage failed; 2 nothing can be done here; 3 pieces are still to come.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pieces import Item, PieceError, missing, read_manifest, unpack
from stages import NAMES, Stage, Workplace, run_stage, stages

REPORT, LOG = "gpu-bundle.json", "gpu-bundle.log"
NOTHING, INCOMPLETE = 2, 3


def keep(items: list[Item], here: Path, kept: Path) -> list[str]:
    """Copies the pieces that are here to where they outlast the call; those of needed items that are still missing."""
    kept.mkdir(parents=True, exist_ok=True)
    for item in items:
        absent = set(missing(item, kept))
        for name in absent - set(missing(item, here)):
            shutil.copyfile(here / name, kept / name)
    return [name for item in items if item.needed for name in missing(item, kept)]


def unpack_all(items: list[Item], kept: Path, work: Path) -> dict[str, str]:
    """Unpacks what is complete and was not unpacked before. Item -> `unpacked`, or why it is not."""
    found = {}
    for item in items:
        done = work / f".{item.name}.unpacked"
        mark = "".join(piece.sha256 for piece in item.pieces)
        absent = missing(item, kept)
        if done.is_file() and done.read_text() == mark:
            found[item.name] = "unpacked"
        elif absent:
            found[item.name] = f"{', '.join(absent)} missing"
        else:
            unpack(item, kept, work)
            done.write_text(mark)
            found[item.name] = "unpacked"
    return found


def graphics_card() -> str:
    """What nvidia-smi says, in a line; empty where there is none."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (answer.stdout.splitlines() or [""])[0]


class Report:
    """The file and the log, in the work folder and copied to the output folder."""

    def __init__(self, work: Path, output: Path) -> None:
        self._work, self._output = work, output
        output.mkdir(parents=True, exist_ok=True)
        self.log = work / LOG
        before = work / REPORT
        self.content: dict[str, Any] = json.loads(before.read_text("utf-8")) if before.is_file() else {"stages": {}}

    def write(self) -> None:
        """Both files, whole: a reader never sees half of one."""
        self.log.touch()
        (self._work / REPORT).write_text(json.dumps(self.content, indent=1) + "\n", "utf-8")
        for name in (REPORT, LOG):
            half = self._output / f".{name}"
            shutil.copyfile(self._work / name, half)
            half.replace(self._output / name)

    def run(self, stage: Stage, place: Workplace) -> bool:
        """Runs a stage and writes what came of it."""
        print(f"{stage.name} ...", file=sys.stderr, flush=True)
        outcome = run_stage(stage, place, self.log)
        print(f"{stage.name}: {outcome['status']}: {outcome['last_line']}", file=sys.stderr, flush=True)
        self.content["stages"][stage.name] = outcome
        self.write()
        return bool(outcome["status"] == "passed")


def main() -> int:
    """Unpacks, runs the stages, writes the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help=f"the folder that {REPORT} and {LOG} go to")
    default = Path(tempfile.gettempdir()) / "bnn-gpu-bundle"
    parser.add_argument("--work", type=Path, default=default, help="where it is unpacked (default: %(default)s)")
    parser.add_argument("--stage", action="append", choices=NAMES, help="only this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer measurements")
    parser.add_argument("--dry-run", action="store_true", help="the host executor's libraries, small cases, no times")
    options = parser.parse_args()

    here = Path(__file__).resolve().parent
    work, output = options.work.resolve(), options.output.resolve()
    card = graphics_card()
    try:
        if not card and not options.dry_run:
            raise PieceError("nvidia-smi finds no GPU; --dry-run does without")
        items, about = read_manifest(here)
        to_come = keep(items, here, work / "pieces")
        if to_come:
            print(f"still to come, or damaged: {', '.join(to_come)}", file=sys.stderr)
            return INCOMPLETE
        found = unpack_all(items, work / "pieces", work)
    except PieceError as error:
        print(f"error: {error}", file=sys.stderr)
        return NOTHING
    place = Workplace(work, dry=options.dry_run, quick=options.quick, commit=about["commit"])
    report = Report(work, output)
    report.content |= {
        "about": about,
        "gpu": card,
        "machine": f"{platform.platform()}, Python {platform.python_version()}",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "dry_run": options.dry_run,
        "items": found,
    }
    begin = time.monotonic()
    chosen = [stage for stage in stages(place) if not options.stage or stage.name in options.stage]
    passed = [report.run(stage, place) for stage in chosen]
    print(f"{output / REPORT}, {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
