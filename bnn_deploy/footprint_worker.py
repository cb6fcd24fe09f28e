"""The process that takes one runner's load time and memory. It imports no more than the runner needs.

`python -m bnn_deploy.footprint_worker REQUEST.json`: the request names the runner, has the fields of its `Task`, and
the file with the inputs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.bench import measure_footprint
from bnn_deploy.errors import InputRefused
from bnn_deploy.runners.catalogue import Task, import_software, make_runner


def write_request(path: Path, runner: str, task: Task, feeds: Mapping[str, NDArray[Any]]) -> None:
    """Writes the request, and its inputs beside it."""
    arrays = path.with_suffix(".npz")
    names = list(feeds)
    np.savez(arrays, **{str(index): feeds[name] for index, name in enumerate(names)})  # type: ignore[arg-type]
    path.write_text(json.dumps({"runner": runner, "task": asdict(task), "feeds": str(arrays), "names": names}), "utf-8")


def main(path: Path) -> int:
    """Does what the request says and prints a line."""
    request = json.loads(path.read_text("utf-8"))
    with np.load(request["feeds"]) as arrays:
        feeds = {name: arrays[str(index)] for index, name in enumerate(request["names"])}
    try:
        import_software(request["runner"])
        task = Task(**request["task"])
        print(measure_footprint(lambda: make_runner(request["runner"], task), feeds).to_line())
    except InputRefused as refusal:
        print(" ".join(str(refusal).split()), file=sys.stderr)
        return refusal.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
