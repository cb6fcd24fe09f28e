"""What the harness and the benchmark know of a backend: it has a name and maps named arrays to named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bnn_deploy.bits import Levels
from bnn_deploy.errors import InputRefused
from bnn_deploy.reference import Geometry

Arrays = dict[str, NDArray[Any]]


@runtime_checkable
class Runner(Protocol):
    """A network on a backend. A context manager: resources are freed on exit."""

    name: str

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Runs once. feeds: input name -> array; returns output name -> array.

        Raises:
            InputRefused: An input is missing, unknown, or of the wrong shape or type.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class RunnerBase:
    """The context-manager half of a runner that has nothing to free."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


@dataclass(frozen=True)
class BinarizationRecord:
    """One binarisation as the reference network computed it. x: real values, [N, C, *spatial]."""

    name: str
    x: NDArray[np.floating]
    levels: Levels


@dataclass(frozen=True)
class LayerRecord:
    """One 1-bit layer as the reference network computed it.

    Attributes:
        name: The layer, and which call of it (`conv#2`).
        x: [N, C, H, W] or [..., C]; levels if the layer is fully binary, else real values.
        weight: [O, C / group, KH, KW] or [O, C] int8, the signs of the latent weights.
        scale: [O] float64, alpha.
        bias: [O] float64.
        y: What the reference network itself computed, float32.
        geometry: None for a fully connected layer.
    """

    name: str
    x: NDArray[np.floating]
    weight: NDArray[np.int8]
    scale: NDArray[np.float64]
    bias: NDArray[np.float64]
    y: NDArray[np.floating]
    geometry: Geometry | None


@dataclass(frozen=True)
class Recording:
    """One run of the reference network, layer by layer, in call order."""

    outputs: Arrays
    binarizations: tuple[BinarizationRecord, ...]
    layers: tuple[LayerRecord, ...]


@runtime_checkable
class RecordingRunner(Runner, Protocol):
    """A runner that can also say what every binary layer saw and made."""

    def record(self, feeds: Mapping[str, NDArray[Any]]) -> Recording:
        """Runs once and keeps everything."""
        ...


def check_feeds(runner: str, feeds: Mapping[str, NDArray[Any]], wanted: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises `InputRefused` unless `feeds` has just the inputs `wanted` names, each of the shape given there.

    Args:
        runner: Named in the message.
        feeds: Input name -> array.
        wanted: Input name -> shape; an entry that is no int (a name, None) allows any size.
    """
    if set(feeds) != set(wanted):
        raise InputRefused(
            runner, f"inputs {sorted(feeds)}", f"inputs {sorted(wanted)}", "pass each input once, by its name"
        )
    for name, shape in wanted.items():
        found = feeds[name].shape
        fits = len(found) == len(shape) and all(
            not isinstance(size, int) or size == there for size, there in zip(shape, found, strict=True)
        )
        if not fits:
            text = "x".join(str(size) if size is not None else "any" for size in shape)
            raise InputRefused(f"{runner}: input {name!r}", f"shape {'x'.join(map(str, found))}", f"shape {text}")
