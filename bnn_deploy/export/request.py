"""What the user asked `export` to do, as plain data: it crosses to the process that does it as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ExportRequest:
    """The options of `bnn-deploy export`.

    Attributes:
        model: A zoo name, `path/to/file.py:factory` or `package.module:factory`.
        out_dir: The folder that gets `model.onnx` and `report.json`.
        checkpoint: A file of weights, or None.
        inputs: One shape for each input; empty where the model knows its own.
        kwargs: For the factory.
        sys_path: Folders to import from.
        prepare: `module:function`, called with the model before it is exported, or None.
        precision: `fp32` or `fp16`, the type of what is not 1-bit.
        dynamic: `batch`, `batch,spatial` or `none`.
        sign_zero: `auto` (as the model says), `one` or `zero`.
        trust_checkpoint: Whether a checkpoint may run code when it is read.
        exporter: `dynamo` or `legacy`.
        seed: Of untrained weights and random inputs.
    """

    model: str
    out_dir: str
    checkpoint: str | None = None
    inputs: list[list[int]] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    sys_path: list[str] = field(default_factory=list)
    prepare: str | None = None
    precision: str = "fp32"
    dynamic: str = "batch"
    sign_zero: str = "auto"
    trust_checkpoint: bool = False
    exporter: str = "dynamo"
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    def located(self) -> ExportRequest:
        """The same with every path absolute, so that it can be carried out again from another folder."""
        return replace(
            self,
            model=_absolute_reference(self.model),
            out_dir=_absolute(self.out_dir),
            checkpoint=None if self.checkpoint is None else _absolute(self.checkpoint),
            sys_path=[_absolute(folder) for folder in self.sys_path],
            prepare=None if self.prepare is None else _absolute_reference(self.prepare),
        )


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _absolute_reference(spec: str) -> str:
    """`path/to/file.py:name` with an absolute path; `package.module:name` and zoo names as they are."""
    location, separator, name = spec.rpartition(":")
    return f"{_absolute(location)}:{name}" if separator and location.endswith(".py") else spec
