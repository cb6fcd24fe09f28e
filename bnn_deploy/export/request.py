"""What the user asked `export` to do, as plain data: it crosses to the process that does it as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
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
        precision: `fp32`.
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
