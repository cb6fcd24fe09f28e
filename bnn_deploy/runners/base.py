"""What the harness and the benchmark know of a backend: it has a name and maps named arrays to named arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
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
class Exact:
    """What a tensor is in exact arithmetic, given the same bits.

    Attributes:
        value: float64.
        bound: float64: no evaluation of a deployed file is further from `value`; NaN where nothing is proven.
    """

    value: NDArray[np.float64]
    bound: NDArray[np.float64]


@dataclass(frozen=True)
class ChannelResponse:
    """What becomes of the accumulator of a 1-bit layer, channel by channel; all arrays [O] float64.

        z = scale * accumulator + bias, plus a shortcut unless `alone`;  y = z if z >= 0 else slope * z, plus shift

    Attributes:
        scale: The layer's own, and every BatchNorm or factor behind it.
        bias: Likewise.
        alone: Whether nothing else was added to z.
        prelu: (slope, shift); None where y is z.
    """

    scale: NDArray[np.float64]
    bias: NDArray[np.float64]
    alone: bool = True
    prelu: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    @property
    def affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(scale, bias)."""
        return self.scale, self.bias


@dataclass(frozen=True)
class BinarizationRecord:
    """One binarisation as the reference network computed it.

    Attributes:
        name: `layer/Binarize`, and which call of it.
        x: Real values as float32 has them, [N, C, *spatial].
        levels: What they become.
        exact: The same without rounding; None where the network cannot be analysed.
        source: The name of the 1-bit layer whose output x is, and what became of its accumulator; max-pools are left
            out. None where x is something else.
    """

    name: str
    x: NDArray[np.floating]
    levels: Levels
    exact: Exact | None = None
    source: tuple[str, ChannelResponse] | None = None


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
        exact_x: `x` without rounding, where it is real; None where it is levels, or the network cannot be analysed.
        responses: Every form that the accumulator goes through: the layer's own scale and bias, then with each
            BatchNorm, factor, offset or PReLU behind it. A file holds one of them, rounded once.
    """

    name: str
    x: NDArray[np.floating]
    weight: NDArray[np.int8]
    scale: NDArray[np.float64]
    bias: NDArray[np.float64]
    y: NDArray[np.floating]
    geometry: Geometry | None
    exact_x: Exact | None = None
    responses: tuple[ChannelResponse, ...] = ()

    @property
    def channel_axis(self) -> int:
        """Of what the layer reads and makes."""
        return 1 if self.geometry is not None else -1


@dataclass(frozen=True)
class Recording:
    """One run of the reference network, layer by layer, in call order.

    Attributes:
        outputs: As float32 has them.
        binarizations: Every binarisation.
        layers: Every 1-bit layer.
        exact_outputs: The outputs without rounding, given the same bits; empty where the network cannot be analysed.
        unproven: Why some bounds are missing: operators without a rule, or what went wrong.
    """

    outputs: Arrays
    binarizations: tuple[BinarizationRecord, ...]
    layers: tuple[LayerRecord, ...]
    exact_outputs: Mapping[str, Exact] = field(default_factory=dict)
    unproven: tuple[str, ...] = ()


@runtime_checkable
class RecordingRunner(Runner, Protocol):
    """A runner that can also say what every binary layer saw and made."""

    def record(
        self, feeds: Mapping[str, NDArray[Any]], *, precision: str = "fp32", given: Collection[str] = ()
    ) -> Recording:
        """Runs once and keeps everything.

        Args:
            feeds: Input name -> array.
            precision: Of the file whose rounding is bounded, `fp32` or `fp16`.
            given: The binarisations whose exact real values, rounded, the file is given to go on with.
        """
        ...


def check_feeds(runner: str, feeds: Mapping[str, Any], wanted: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises `InputRefused` unless `feeds` has just the inputs `wanted` names, each of the shape given there.

    Args:
        runner: Named in the message.
        feeds: Input name -> anything with a shape.
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
