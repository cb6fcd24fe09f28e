"""What the user asked `parity` to do, as plain data: it crosses to the process that does it as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ParityRequest:
    """The options of `bnn-deploy parity`.

    Attributes:
        file: The deployed file.
        network: The fields of the `ExportRequest` that makes the PyTorch model.
        sha256: Of the file, as the report beside it has it; None where there is no report.
        out: The folder that gets `parity.json`.
        runners: Out of `runners.catalogue.names(Use.RUN)`; empty for those that can run here.
        inputs: Files of the user's, as `bnn-deploy run` takes them.
        images: A folder of images.
        mean: Of images, one number or one a channel; None where the file says.
        deviation: Likewise.
        batches: Batch sizes to try; empty for the usual ones.
        sizes: (height, width) to try; empty for the usual ones.
        samples: How many samples of digits or of random images; None for the usual number.
        adversarial: Whether inputs that are hard to binarise are tried.
        seed: Of random inputs.
        labels: A folder of labelled images to measure accuracy on.
        classes: A file of class names, in the order of the network's outputs.
        golden: A folder that gets a bundle which can be replayed elsewhere.
        bisect: A folder that gets the smallest failing case.
        html: A page to write.
        junit: A JUnit file to write.
    """

    file: str
    network: Mapping[str, Any]
    sha256: str | None
    out: str
    runners: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    images: str | None = None
    mean: list[float] | None = None
    deviation: list[float] | None = None
    batches: list[int] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)
    samples: int | None = None
    adversarial: bool = True
    seed: int = 0
    labels: str | None = None
    classes: str | None = None
    golden: str | None = None
    bisect: str | None = None
    html: str | None = None
    junit: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)
