"""Unpacks a GPU bundle, then tests and measures what is in it. Needs nothing but Python and what the bundle brings.

    ./run_bundle.sh --output results              on a machine with a GPU
    ./run_bundle.sh --output results --dry-run    anywhere: the host executor's libraries, no times

Pieces may come in several calls: each call keeps those that lie beside it, and the first that has all that is needed
goes on. Each stage is a process of its own; one that fails, hangs or breaks the GPU's context takes nothing else with
it. `gpu-bundle.json` is written before and after every stage, `gpu-bundle.log` has all that was printed, as it is
printed. A stage that is run again replaces what the file says of it. Where a call may take so long and no longer,
`--minutes` has all stages end before: what no time was left for is said, and can be run in another call. A stage that
the machine lacks something for is `not available`, which is no failure.

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
FEWEST_SECONDS = 5.0  # less is too little for any stage


def keep(items: list[Item], here: Path, kept: Path) -> list[str]:
    """Copies the pieces that are here to where they outlast the call; those of needed items that are still missing."""
    kept.mkdir(parents=True, exist_ok=True)
    for item in items:
        absent = set(missing(item, kept))
        if absent:
            for name in absent - set(missing(item, here)):
                shutil.copyfile(here / name, kept / name)
    return [name for item in items if item.needed for name in missing(item, kept)]


def unpack_all(items: list[Item], kept: Path, work: Path) -> dict[str, str]:
    """Unpacks what is complete and was not unpacked before. Item -> `unpacked`, or why it is not."""
    found = {}
    for item in items:
        done = work / f".{item.name}.unpacked"
        mark = "".join(piece.sha256 for piece in item.pieces)
        if done.is_file() and done.read_text() == mark:
            found[item.name] = "unpacked"
        elif absent := missing(item, kept):
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
    """The file and the log in the output folder, and copies in the work folder, which outlasts the call."""

    def __init__(self, work: Path, output: Path) -> None:
        self._work, self._output = work, output
        output.mkdir(parents=True, exist_ok=True)
        self.log = output / LOG
        if (work / LOG).is_file():
            shutil.copyfile(work / LOG, self.log)
        before = work / REPORT
        self.content: dict[str, Any] = json.loads(before.read_text("utf-8")) if before.is_file() else {"stages": {}}

    def write(self) -> None:
        """Both files. The report is written whole: a reader never sees half of it."""
        self.log.touch()
        shutil.copyfile(self.log, self._work / LOG)
        text = json.dumps(self.content, indent=1) + "\n"
        for folder in (self._work, self._output):
            half = folder / f".{REPORT}"
            half.write_text(text, "utf-8")
            half.replace(folder / REPORT)

    def run(self, stage: Stage, place: Workplace, seconds: float) -> bool:
        """Runs a stage, in so much time at the most, and writes what came of it. Whether that is no failure."""
        if seconds < FEWEST_SECONDS:
            outcome: dict[str, Any] = {"status": "not run", "last_line": "no time was left for it"}
        else:
            print(f"{stage.name} ...", file=sys.stderr, flush=True)
            self.content["stages"][stage.name] = {"status": "began"}
            self.write()
            outcome = run_stage(stage, place, self.log, seconds)
        print(f"{stage.name}: {outcome['status']}: {outcome['last_line']}", file=sys.stderr, flush=True)
        self.content["stages"][stage.name] = outcome
        self.write()
        return outcome["status"] in ("passed", "not available")


def main() -> int:
    """Unpacks, runs the stages, writes the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help=f"the folder that {REPORT} and {LOG} go to")
    default = Path(tempfile.gettempdir()) / "bnn-gpu-bundle"
    parser.add_argument("--work", type=Path, default=default, help="where it is unpacked (default: %(default)s)")
    parser.add_argument("--stage", action="append", choices=NAMES, help="only this one; may be repeated")
    parser.add_argument("--minutes", type=float, help="for this call, unpacking included")
    parser.add_argument("--quick", action="store_true", help="fewer measurements")
    parser.add_argument("--dry-run", action="store_true", help="the host executor's libraries, small cases, no times")
    options = parser.parse_args()

    begin = time.monotonic()
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
    end = begin + 60 * options.minutes if options.minutes else float("inf")
    chosen = [stage for stage in stages(place) if not options.stage or stage.name in options.stage]
    passed = [report.run(stage, place, end - time.monotonic()) for stage in chosen]
    print(f"{output / REPORT}, {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
