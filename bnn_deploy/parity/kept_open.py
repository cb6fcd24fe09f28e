"""Runners that stay open: making a session costs more than running it, and every set of inputs needs the same few."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import onnx
from numpy.typing import NDArray

from bnn_deploy.runners.base import Arrays, Runner, RunnerBase


class KeptOpen:
    """A runner factory that makes one runner of each model and closes all of them when it is closed itself."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory
        self._stack = ExitStack()
        self._runners: dict[bytes, _Borrowed] = {}

    def __call__(self, model: onnx.ModelProto) -> Runner:
        """The runner of a model; leaving its `with` does not close it."""
        key = hashlib.sha256(model.SerializeToString(deterministic=True)).digest()
        if key not in self._runners:
            self._runners[key] = _Borrowed(self._stack.enter_context(self._factory(model)))
        return self._runners[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runners.clear()
        self._stack.close()


class _Borrowed(RunnerBase):
    """A runner whose owner is another."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self.name = runner, runner.name

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        return self._runner.infer(feeds)
