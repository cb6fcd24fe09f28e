"""What a benchmark of a file needs besides runners: its inputs, and the files that the runners load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.helper import tensor_dtype_to_np_dtype

from bnn_deploy.deployed import load_deployed
from bnn_deploy.errors import InputRefused
from bnn_deploy.files import write_atomically
from bnn_deploy.inspection import inspect_model, load_model, read_history
from bnn_deploy.passes import float_twin
from bnn_deploy.quantisation import quantise
from bnn_deploy.runners.catalogue import Source

Feeds = dict[str, NDArray[Any]]

CALIBRATION_RUNS = 8


class Network:
    """The file that is measured, and inputs for it.

    Args:
        path: The file.
        given: Input name -> samples, [N, ...]; None for random ones.

    Raises:
        InputRefused: Neither ONNX file nor engine, inputs whose size or type it does not say, or samples that are not
            its inputs.
    """

    def __init__(self, path: Path, given: Mapping[str, NDArray[Any]] | None = None) -> None:
        self.path, self.proto = path, load_deployed(path)
        found = inspect_model(self.proto, file_bytes=path.stat().st_size)
        self.outputs = list(found.outputs)
        values = {value.name: value.type.tensor_type for value in self.proto.graph.input if value.name in found.inputs}
        if given is not None and set(given) != set(values):
            raise InputRefused("inputs", f"{sorted(given)}", f"{sorted(values)}, the inputs of {path}")
        self._given = given
        self._kinds = values
        self._shapes = {name: () if size is None else size.shape for name, size in found.inputs.items()}

    def shapes(self, batch: int) -> dict[str, list[int]]:
        """Input name -> shape with that batch.

        Raises:
            InputRefused: The file takes another batch, or does not say how large an input is.
        """
        return {name: list(array.shape) for name, array in self.feeds(batch).items()}

    def feeds(self, batch: int, seed: int = 0) -> Feeds:
        """Input name -> array of that batch: the given samples, again and again, or random ones."""
        generator = np.random.default_rng(seed)
        return {name: self._array(name, batch, seed, generator) for name in self._kinds}

    @property
    def fixed_batch(self) -> int:
        """The only batch that the file takes; 0 where it takes any."""
        return max((kind.shape.dim[0].dim_value for kind in self._kinds.values() if kind.shape.dim), default=0)

    def _array(self, name: str, batch: int, first: int, generator: np.random.Generator) -> NDArray[Any]:
        kind = self._kinds[name]
        fixed = kind.shape.dim[0].dim_value if kind.shape.dim else 0
        if fixed and fixed != batch:
            fix = f"--batch {fixed}, or export with --dynamic batch"
            raise InputRefused(str(self.path), f"input {name!r} has a fixed batch of {fixed}", f"batch {batch}", fix)
        dtype = tensor_dtype_to_np_dtype(kind.elem_type)
        if self._given is not None:
            samples = self._given[name]
            return np.ascontiguousarray(samples[np.arange(first, first + batch) % len(samples)])
        if not _is_real(dtype) or not self._shapes[name]:
            found = (
                f"input {name!r} is of type {dtype}" if self._shapes[name] else f"the size of input {name!r} is free"
            )
            raise InputRefused(str(self.path), found, "samples of it", "give the inputs")
        return generator.standard_normal((batch, *self._shapes[name][1:])).astype(dtype)


@dataclass
class Files:
    """The files that runners load, each made when the first runner asks for it.

    Attributes:
        network: What is measured.
        folder: Where they go.
        float_path: A float twin that is there; None to make one of the deployed file, in float32.
        model: The PyTorch model, as `load` takes it; None for what the report beside the file says.
        progress: Told what is being made.
    """

    network: Network
    folder: Path
    float_path: Path | None
    model: str | None
    progress: Callable[[str], None]
    _made: dict[Source, Path] = field(default_factory=dict)

    def path(self, source: Source) -> Path | None:
        """The file of that kind; None for the PyTorch model, which is none.

        Raises:
            InputRefused: It cannot be made.
        """
        if source is Source.MODULE:
            return None
        if source is Source.DEPLOYED:
            return self.network.path
        if source not in self._made:
            self._made[source] = self._float() if source is Source.FLOAT else self._int8()
        return self._made[source]

    def feeds(self, source: Source, feeds: Feeds) -> Feeds:
        """Inputs of the network in the float types that the file of that kind takes.

        A twin that was given may take float16 where the deployed file takes float32, or the other way round.
        """
        types = self._given_types if source in (Source.FLOAT, Source.INT8) else {}
        return {
            name: array.astype(types[name], copy=False) if name in types and _is_real(array.dtype) else array
            for name, array in feeds.items()
        }

    @cached_property
    def _given_types(self) -> dict[str, np.dtype[Any]]:
        """Input name -> type, of the inputs of a given twin that are real numbers."""
        values = load_model(self.float_path).graph.input if self.float_path is not None else ()
        types = {value.name: tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in values}
        return {name: dtype for name, dtype in types.items() if _is_real(dtype)}

    def module(self) -> str:
        """What PyTorch loads.

        Raises:
            InputRefused: Neither given nor known.
        """
        if self.model is not None:
            return self.model
        history = read_history(self.network.path)
        if history is None:
            raise InputRefused(
                "runner pytorch",
                f"no report beside {self.network.path} says which model it is of",
                "the model that was exported",
                "--model birealnet, or path/to/file.py:factory",
            )
        return history.model

    def _float(self) -> Path:
        if self.float_path is not None:
            load_model(self.float_path)
            return self.float_path
        self.progress("making the float32 twin")
        path = self.folder / "float.onnx"
        write_atomically(path, float_twin(self.network.proto).SerializeToString())
        return path

    def _int8(self) -> Path:
        source = self.path(Source.FLOAT)
        if source is None:
            raise ValueError("a float twin is a file")
        self.progress("quantising it to 8 bits")
        path = self.folder / "int8.onnx"
        batch = self.network.fixed_batch or 1
        samples = (self.network.feeds(batch, seed) for seed in range(CALIBRATION_RUNS))
        quantise(source, path, (self.feeds(Source.INT8, sample) for sample in samples))
        return path


def _is_real(dtype: np.dtype[Any]) -> bool:
    return np.issubdtype(dtype, np.floating)
